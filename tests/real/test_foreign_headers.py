"""A header's name that is not UTF-8 stops nobody (laws 1, 4): not the reader, nor the first stage, nor what is read back."""

from __future__ import annotations

import base64
import json
import sys
import time
from pathlib import Path

import pytest
import trio

from tests.contracts.source import Notebook
from tests.real import output
from tests.real.brokers import Broker
from tests.real.daemon import Daemon, Group, file_spans, until
from tests.real.foreign import produce_foreign
from tests.real.kafka_world import KafkaWorld
from tests.real.test_lifecycle import AGE_SECS, make_world, some_traces, spans
from tss.core.partition import Commit
from tss.edges.kafka.source import KafkaSource
from tss.edges.kafka_output.output_topic import open_topic
from tss.settings import KafkaExporter

NAME = b"\xff\xfe"
HEADERS = [(b"tenant", b"a"), (NAME, b"b")]
REASON = rb"a header's name is not UTF-8: b'\xff\xfe'"
READS_HEADERS = """
import sys
from confluent_kafka import Consumer
from tss.edges.kafka_client.headers import headers_of
client = Consumer({"bootstrap.servers": sys.argv[1], "group.id": "headers", "auto.offset.reset": "earliest"})
client.subscribe([sys.argv[2]])
count = 0
while count < 100:
    for message in client.consume(100, 1.0):
        if message.error() is None:
            [(name, _)] = headers_of(message)
            print(name)
            count += 1
client.close()
"""


def letters_of(daemon: Daemon) -> list[dict[str, object]]:
    path = daemon.directory / "dead-letters.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def aged_ms() -> int:
    return round((time.time() - AGE_SECS) * 1000)


def test_law_4_a_record_that_cannot_be_read_is_put_aside_and_reading_goes_on(broker: Broker, tmp_path: Path) -> None:
    place = make_world(broker, tmp_path)
    traces = some_traces(4)
    place.send(*traces[:2])
    produce_foreign(broker.bootstrap, place.topic, b"no spans", HEADERS, timestamp_ms=aged_ms())
    place.sent += 1
    place.send(*traces[2:])
    with place.daemon as daemon:
        place.run_until_done(daemon)
        assert {*file_spans(place.kept)} == spans(traces)
        [letter] = letters_of(daemon)
        assert letter["payload"] == base64.b64encode(b"no spans").decode()
        assert letter["headers"] == [["tss-headers-unreadable", base64.b64encode(REASON).decode()]]
        assert not [line for line in daemon.log if line["level"] in ("error", "critical")]

        daemon.start()  # the replay reads it again
        daemon.ready()
        more = some_traces(1)
        place.send(*more)
        with place.group() as group:
            group.wait_until_done(20, daemon.tail, {0: place.sent})
        assert daemon.metric("records_unreadable_total") == 0, "put aside once"
        daemon.stop()
        assert {*file_spans(place.kept)} >= spans(more)
        assert len(letters_of(daemon)) == 1


def test_law_1_the_first_stage_splits_a_record_without_its_headers(apache: Broker, tmp_path: Path) -> None:
    place = make_world(apache, tmp_path)
    config = place.config
    config["kafka"] |= {"rekey": {"enabled": True, "transactionTimeoutSecs": 3}}
    traces = some_traces(2)
    for trace in traces:
        for message in trace.messages:
            produce_foreign(apache.bootstrap, place.topic, message.value, HEADERS, timestamp_ms=aged_ms())
    produce_foreign(apache.bootstrap, place.topic, b"no spans", HEADERS, timestamp_ms=aged_ms())
    records = sum(len(trace.messages) for trace in traces)
    with Daemon(tmp_path / "daemon", config) as daemon:
        daemon.ready()
        until(lambda: {*file_spans(place.kept, written=False)} == spans(traces), 30, daemon.tail)
        until(lambda: len(letters_of(daemon)) == 1, 10, daemon.tail)
        assert daemon.metric("rekey_unreadable_headers_total") == records + 1
        assert daemon.said("split by trace without their headers")
        daemon.stop()
    for written in output.committed(apache.bootstrap, f"{place.topic}.by-trace"):
        headers = dict(written.headers() or [])
        assert headers.keys() == {"tss-headers-unreadable", "tss-source"}
        assert headers["tss-headers-unreadable"] == REASON


async def test_what_strangers_wrote_to_the_output_topic_is_passed_over(apache: Broker) -> None:
    world = KafkaWorld(apache)
    source, target = await world.make_topic(), await world.make_topic()
    named = [(b"tss-covers", b"{}"), (b"tss-decision", b"[" * 100_000)]
    for headers in (HEADERS, named):
        await trio.to_thread.run_sync(produce_foreign, apache.bootstrap, target, b"x", headers)
    kafka = world.kafka(source)
    exporter = KafkaExporter(name="topic", topic=target)
    async with open_topic(exporter, kafka, "a", world.meter) as topic:
        for _ in range(2):  # the second time there is an offset, and beside it since when the topic is to be read
            book = Notebook(commits_starts=True)
            async with KafkaSource.open(kafka, "a", book, world.meter, world.health, outbox=topic) as book.member:
                await book.poll_until(lambda: bool(book.starts))  # noqa: B023  # asked before it changes
                await book.member.commit({0: Commit(0, 0, since_ms=0)})
    with Group.watch(apache, {"kafka": {"consumerGroup": kafka.consumer_group, "inputTopic": source}}, 1) as group:
        assert group.committed() == {0: 0}


@pytest.mark.parametrize("headers", [HEADERS, [(NAME, b""), (b"\xc3", b"")]])
async def test_of_headers_only_the_reason_is_given(broker: Broker, headers: list[tuple[bytes, bytes]]) -> None:
    world = KafkaWorld(broker)
    topic, book = await world.make_topic(), Notebook()
    await trio.to_thread.run_sync(produce_foreign, broker.bootstrap, topic, b"no spans", headers)
    async with world.open(topic, book) as book.member:
        await book.poll_until(lambda: any(poll.dead_letters for poll in book.polls))
    [letter] = [letter for poll in book.polls for letter in poll.dead_letters]
    [(name, reason)] = letter.headers
    assert name == "tss-headers-unreadable"
    assert reason is not None and reason.startswith(b"a header's name is not UTF-8")


async def test_a_bad_name_after_many_good_ones_is_found_as_well(apache: Broker) -> None:
    """CPython specialises calls that run often, and then no longer checks what the client returns. In a process of its own,
    because a mistake here ends the process."""
    topic = await KafkaWorld(apache).make_topic()
    for number in range(100):
        headers = [(NAME if number == 99 else b"name", b"value")]
        await trio.to_thread.run_sync(produce_foreign, apache.bootstrap, topic, b"x", headers)
    command = [sys.executable, "-c", READS_HEADERS, apache.bootstrap, topic]
    done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    assert done.returncode == 0, done.stderr
    *good, bad = done.stdout.decode().splitlines()
    assert good == ["name"] * 99 and bad == "tss-headers-unreadable"
