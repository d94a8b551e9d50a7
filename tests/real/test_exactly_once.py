"""Exactly once on the real thing: `kill -9` at twenty random moments under load, and a reader of what is committed finds
every span of every kept trace, and finds it once."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import pytest

from tests.real import output
from tests.real.brokers import Broker
from tests.real.daemon import Daemon, Group, daemons, settings, until
from tests.real.load import Load
from tests.real.test_replicas import share, take_all

pytestmark = pytest.mark.alone

KILLS = int(os.environ.get("EXACTLY_ONCE_KILLS", "20"))  # four seconds each
PARTITIONS = 4
SEED = int(os.environ.get("KILL_SEED", "1"))


def config_of(broker: Broker, topic: str, session_ms: int, **more: Any) -> dict[str, Any]:
    """Short batches, so that there are many transactions to be killed in."""
    return settings(
        broker.bootstrap,
        topic,
        kafka={"sessionTimeoutMs": session_ms},
        exporters=[
            {"name": "topic", "type": "kafka", "topic": f"{topic}-kept", "batchTimeoutSecs": 0.05,
             "transactionTimeoutSecs": 3},
        ],
        **more,
    )  # fmt: skip


def check(load: Load, broker: Broker, topic: str) -> str:
    """Returns what there is to tell."""
    messages = output.committed(broker.bootstrap, f"{topic}-kept")
    counts = output.counts(messages)
    kept = load.kept()
    lost, wrong = kept - counts.keys(), counts.keys() - kept
    twice = {span: count for span, count in counts.items() if count > 1}
    said = (
        f"{load.records} records, {len(load.traces)} traces, kept {len({trace for trace, _ in kept})} with {len(kept)} "
        f"spans, in {len(messages)} records of the topic; lost {len(lost)}, wrong {len(wrong)}, twice {len(twice)}"
    )
    if twice:  # where it is, when it was produced, and of which records
        span = next(iter(twice))
        for message in messages:
            if span in output.spans_of(message):
                print(message.partition(), message.offset(), message.timestamp(), message.headers())
    assert not lost and not wrong and not twice, said
    for message in messages:
        assert {trace.hex().encode() for trace, _ in output.spans_of(message)} == {message.key()}
    return said


def test_many_kills(apache: Broker, tmp_path: Path) -> None:
    began = time.monotonic()
    chance = Random(SEED)
    topic = f"once-{SEED}"
    apache.create_topic(topic, PARTITIONS)
    apache.create_topic(f"{topic}-kept", 3)
    config = config_of(apache, topic, 1000)  # a killed member's partitions are free when its session ends
    ready: list[float] = []
    read_back: list[tuple[int, float]] = []
    with Group.watch(apache, config, PARTITIONS) as group, Load(apache.bootstrap, topic, SEED) as load:
        daemon = Daemon(tmp_path / "daemon", config)
        with daemon:
            for _ in range(KILLS):
                if chance.random() < 0.2:  # in the middle of starting
                    moment = time.monotonic() + chance.uniform(0.1, 2.0)
                else:
                    ready.append(daemon.ready())
                    moment = time.monotonic() + chance.uniform(0, 1.5)
                until(lambda: time.monotonic() >= moment, 10)  # noqa: B023  # asked before it changes
                assert daemon.running, daemon.tail()
                daemon.kill()
                read_back += [(line["traces"], line["secs"]) for line in daemon.said("read back")]
                daemon.start()
            ready.append(daemon.ready())
            load.finish()
            group.wait_until_done(60, daemon.tail)
            daemon.stop()
    said = check(load, apache, topic)
    print(
        f"\nseed {SEED}: {KILLS} kills in {time.monotonic() - began:.0f} s, {said}; start to ready "
        f"{min(ready):.2f} / {median(ready):.2f} / {max(ready):.2f} s; of {len(read_back)} readings back "
        f"{sum(traces > 0 for traces, _ in read_back)} found traces, {sum(traces for traces, _ in read_back)} in all, "
        f"in {max(secs for _, secs in read_back):.2f} s at most"
    )
    assert sum(traces for traces, _ in read_back) > 0, "no kill hit a trace that was produced and not yet passed"


def test_two_replicas(apache: Broker, tmp_path: Path) -> None:
    """Partitions change hands in order, by a kill, and from one that stood still past its session and goes on."""
    topic = f"once-replicas-{SEED}"
    apache.create_topic(topic, PARTITIONS)
    apache.create_topic(f"{topic}-kept", 3)
    a, b = (Daemon(tmp_path / name, config_of(apache, topic, 2000)) for name in "ab")
    with (
        daemons(a, b),
        Group.watch(apache, a.config, PARTITIONS) as group,
        Load(apache.bootstrap, topic, SEED) as load,
    ):
        a.start()
        a.ready()
        take_all(a)
        b.start()
        b.ready()
        share(a, b)
        for _ in range(2):
            time.sleep(2)
            b.kill()
            take_all(a)
            b.start()
            b.ready()
            share(a, b)
        for _ in range(3):
            time.sleep(2)
            a.signal(signal.SIGSTOP)
            take_all(b)
            time.sleep(1)
            a.signal(signal.SIGCONT)
            share(a, b)
        a.stop()
        take_all(b)
        load.finish()
        group.wait_until_done(60, lambda: f"{a.tail()}\n\n{b.tail()}")
        b.stop()
    print(f"\nseed {SEED}: {check(load, apache, topic)}")
    fenced = [line for line in a.log if re.search("group_moved|fenced", str(line.get("reason")))]
    print(f"fenced: {len(fenced)}")


def test_the_broker_dies(apache: Broker, tmp_path: Path) -> None:
    """The only broker, with a transaction under way whose time is over before it is back: its end may be forgotten in
    the topic, so that it stays open there or is committed by the next one; and an answer may be lost, so that the topic
    itself has to tell what became of it."""
    topic = f"once-broker-{SEED}"
    chance = Random(SEED)
    apache.create_topic(topic, PARTITIONS)
    apache.create_topic(f"{topic}-kept", 3)
    config = config_of(apache, topic, 30_000)
    with (
        Group.watch(apache, config, PARTITIONS) as group,
        Load(apache.bootstrap, topic, SEED) as load,
        Daemon(tmp_path / "daemon", config) as daemon,
    ):
        daemon.ready()
        for _ in range(2):
            time.sleep(3 + chance.random())
            apache.kill()
            apache.start()
        time.sleep(2)
        load.finish()
        # The client's call is left behind after ten seconds, if it does not return, and what was held up goes by then.
        took = group.wait_until_done(30, daemon.tail)
        daemon.stop()
    failed = [line["reason"] for line in daemon.said("destination did not take a batch")]
    print(f"\nseed {SEED}: {check(load, apache, topic)}; done after {took:.1f} s; failed tries told: {failed}")
    assert failed, "no kill hit a transaction"
