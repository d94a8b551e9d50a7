"""A dead-letter topic that cannot be had: reading goes on at its pace, nothing is lost, and the topic is found when it comes."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin._resource import ResourceType

from tests.contracts.source import Sent
from tests.real.brokers import STRANGER, STRANGER_PASSWORD, ApacheKafka, Broker
from tests.real.daemon import Daemon, Group, Section, settings, until
from tests.real.kafka_world import produce

KEPT: list[Section] = [{"name": "file", "type": "file", "path": "kept.jsonl"}]
POLLS = 12
PACE_SECS = 60.0  # one poll with letters took 17.5 s; they would take 210


def config(apache: Broker, name: str, **kafka: object) -> dict[str, Any]:
    apache.create_topic(f"{name}-spans", 1)
    letters = {"type": "topic", "topic": f"{name}-letters"}
    return settings(apache.bootstrap, f"{name}-spans", kafka=kafka, deadLetter=letters, exporters=KEPT)


def denied(apache: Broker) -> dict[str, Any]:
    assert isinstance(apache, ApacheKafka)
    apache.create_topic("denied-letters", 1)
    apache.deny(STRANGER, ResourceType.TOPIC, "denied-letters")
    user = {"saslMechanism": "PLAIN", "saslUsername": STRANGER, "saslPassword": STRANGER_PASSWORD}
    brokers = f"127.0.0.1:{apache.sasl_port}"
    return config(apache, "denied", brokers=brokers, securityProtocol="SASL_PLAINTEXT", **user)


def bad(number: int) -> bytes:
    return b"\xff no span " + str(number).encode()


def send(apache: Broker, topic: str, number: int) -> None:
    produce(apache.bootstrap, topic, [Sent(bad(number), timestamp_ms=round(time.time() * 1000))])


def in_log(daemon: Daemon) -> list[bytes]:
    """The payloads, in order."""
    return [
        base64.b64decode(json.loads(line["text"])["payload"]) for line in daemon.said("dead letter") if "text" in line
    ]


def in_topic(apache: Broker, topic: str) -> Iterator[bytes]:
    reader = Consumer({"bootstrap.servers": apache.bootstrap, "group.id": "reader", "auto.offset.reset": "earliest"})
    reader.assign([TopicPartition(topic, 0, 0)])
    try:
        while (message := reader.poll(5)) is not None:
            if message.error() is None:
                yield message.value() or b""
    finally:
        reader.close()


def reads_on(apache: Broker, daemon: Daemon, topic: str) -> None:
    """Poll after poll has a letter, and none waits long for a topic that cannot be had."""
    began = time.monotonic()
    for number in range(POLLS):
        send(apache, topic, number)
        until(lambda: daemon.metric("dead_letters_total") > number, PACE_SECS, daemon.tail)  # noqa: B023
    took = time.monotonic() - began
    assert took < PACE_SECS, f"{POLLS} letters took {took:.1f} s"
    print(f"{POLLS} letters took {took:.1f} s")
    component = daemon.health()["components"]["dead letters"]
    assert component["state"] == "degraded" and component["next_try_secs"] <= 60, component
    assert daemon.is_ready
    assert in_log(daemon) == [bad(number) for number in range(POLLS)]


@pytest.mark.parametrize("why", ["missing", "denied"])
def test_reading_goes_on_without_the_topic_for_letters(apache: Broker, tmp_path: Path, why: str) -> None:
    made = config(apache, "missing") if why == "missing" else denied(apache)
    topic = made["kafka"]["inputTopic"]
    with Daemon(tmp_path, made) as daemon, Group.watch(apache, made, 1) as group:
        daemon.ready()
        reads_on(apache, daemon, topic)
        group.wait_until_done(30, daemon.tail)
        [first, *_] = daemon.said("so they go to the log")
        assert ("it does not exist: create it" if why == "missing" else "allow the daemon's user to write") in first[
            "reason"
        ]
        if why == "missing":
            comes_back(apache, daemon, topic)
        daemon.stop()


def comes_back(apache: Broker, daemon: Daemon, topic: str) -> None:
    apache.create_topic("missing-letters", 1)
    number = POLLS
    deadline = time.monotonic() + 150
    while daemon.health()["components"]["dead letters"]["state"] != "up":
        assert time.monotonic() < deadline, daemon.tail()
        send(apache, topic, number)
        number += 1
        until(lambda: daemon.metric("dead_letters_total") >= number, PACE_SECS, daemon.tail)  # noqa: B023
        time.sleep(0.5)
    kept = [*in_log(daemon), *in_topic(apache, "missing-letters")]
    assert {*kept} == {bad(each) for each in range(number)}, "each is in the log or in the topic"
    assert daemon.said("their file or topic takes them again")
