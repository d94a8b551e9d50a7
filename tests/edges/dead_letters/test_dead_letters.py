"""Dead letters: kept whole in their place, or in the log, but kept."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import random
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog.testing
import trio
from confluent_kafka import Consumer

from tests.fakes.meter import FakeMeter
from tests.real.brokers import Tansu, free_ports, running
from tss.core import measures
from tss.core.deadletter import DeadLetter
from tss.core.formats.dead_letter import as_object
from tss.core.health import DEAD_LETTERS, Health, State
from tss.edges import logs
from tss.edges.dead_letters import breaker, topic, writer
from tss.edges.dead_letters import log as letter_log
from tss.edges.dead_letters.breaker import DeadLetterBreaker
from tss.edges.dead_letters.errors import NotKept
from tss.edges.dead_letters.log import DeadLetterLog
from tss.edges.dead_letters.topic import DeadLetterTopic
from tss.edges.dead_letters.writer import DeadLetterWriter, open_dead_letters
from tss.edges.files.dead_letters import DeadLetterFile
from tss.edges.files.lines import CannotOpen
from tss.edges.kafka_client.config import client_config
from tss.settings import DeadLetterSettings as Settings
from tss.settings import Kafka

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC)
FULL = DeadLetter(
    "unreadable", "no protobuf", b"\x00\xffpayload", "spans", 3, 17, 1_700_000_000_123, b"\xfe key",
    (("a", b"\x01"), ("b", None), ("a", b"again")), "0123", "backend",
)  # fmt: skip
BARE = DeadLetter("empty", "", b"")
LETTERS = [FULL, BARE]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(writer, "PAUSES_SECS", (0.01, 0.02))
    monkeypatch.setattr(topic, "DELIVERY_SECS", 0.3)
    monkeypatch.setattr(topic, "_PRODUCER", {**topic._PRODUCER, "delivery.timeout.ms": 300, "socket.timeout.ms": 1000})


class Wayward:
    """A place that fails as often as told, each time keeping the first `keeps` letters."""

    name = "file"

    def __init__(self, failures: int, keeps: int = 0, error: type[Exception] = NotKept) -> None:
        self.failures, self.keeps, self.error = failures, keeps, error
        self.letters: list[DeadLetter] = []
        self.tries = 0

    def keep(self, letters: Sequence[DeadLetter]) -> None:
        self.tries += 1
        if self.tries <= self.failures:
            if self.error is not NotKept:
                raise self.error("surprise")
            self.letters += letters[: self.keeps]
            raise NotKept(letters[self.keeps :], "full")
        self.letters += letters

    def close(self) -> None:
        pass


def office(place, health: Health | None = None) -> tuple[DeadLetterWriter, FakeMeter]:
    meter = FakeMeter()
    desk = DeadLetterWriter(place, meter, trio.CapacityLimiter(1), health or Health(), random.Random(1))
    return desk, meter


async def put(place, letters: Sequence[DeadLetter] = LETTERS) -> tuple[dict, list]:
    """What was counted, and what was logged."""
    desk, meter = office(place)
    with structlog.testing.capture_logs() as logged:
        await desk.put(letters)
    return meter.by_label(measures.DEAD_LETTERS), logged


def put_together(logged: list) -> list[bytes]:
    """The payloads of the letters in the log. One without its last part was tried again."""
    texts: dict[str, list[str]] = {}
    whole = []
    for entry in logged:
        if entry["event"] == "dead letter":
            parts = texts.setdefault(entry["letter"], [])
            parts.append(entry["text"])
            assert entry["part"] == len(parts)
            if entry["part"] == entry["parts"]:
                whole.append(base64.b64decode(json.loads("".join(parts))["payload"]))
    return whole


def trouble(logged: list) -> str:
    """Why the place did not take the letters, at the first try."""
    return next(str(entry["detail"]) for entry in logged if entry["event"] == "dead letters not taken")


def test_as_object():
    assert as_object(FULL, NOW) == {
        "time": "2026-01-02T03:04:05.678+00:00",
        "reason": "unreadable",
        "detail": "no protobuf",
        "topic": "spans",
        "partition": 3,
        "offset": 17,
        "timestamp": "2023-11-14T22:13:20.123+00:00",
        "key": base64.b64encode(b"\xfe key").decode(),
        "headers": [["a", "AQ=="], ["b", None], ["a", "YWdhaW4="]],
        "trace_id": "0123",
        "destination": "backend",
        "payload": base64.b64encode(b"\x00\xffpayload").decode(),
    }
    assert as_object(BARE, NOW) | {
        "topic": None,
        "offset": None,
        "timestamp": None,
        "key": None,
        "payload": "",
    } == as_object(BARE, NOW)


@pytest.mark.parametrize("timestamp_ms", [-1, 0, 2**63 - 1, -(2**63)])
def test_any_timestamp_can_be_written(timestamp_ms):
    letter = DeadLetter("r", "d", b"", timestamp_ms=timestamp_ms)
    assert json.dumps(as_object(letter, NOW)["timestamp"])


async def test_file(tmp_path):
    path = tmp_path / "below" / "dead.jsonl"
    meter = FakeMeter()
    async with open_dead_letters(Settings(path=str(path)), {}, meter, Health()) as desk:
        await desk.put(LETTERS)
        await desk.put([FULL])
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [line["reason"] for line in lines] == ["unreadable", "empty", "unreadable"]
    assert base64.b64decode(lines[0]["payload"]) == FULL.payload
    assert datetime.fromisoformat(lines[0]["time"]).tzinfo is not None
    assert meter.by_label(measures.DEAD_LETTERS) == {("unreadable", "file"): 2, ("empty", "file"): 1}


@pytest.mark.parametrize("found", [
    b"somebody's", b"somebody's\n", b'{"resourceSpans":[]}\n', b'{"time":"2026-11-29T12:00:00.123456789Z","level":"INFO","msg":"a"}\n',
    b'{"time":"2026-11-29T12:00:00.123+00:00","level":"INFO","msg":"a"}\n{"time":"2026-11-2', b'{"time":"soon"}\n',
])  # fmt: skip
async def test_somebody_elses_file_is_refused_at_the_start_and_left_as_it_is(tmp_path, found):
    path = tmp_path / "dead.jsonl"
    path.write_bytes(found)
    with pytest.raises(CannotOpen, match="somebody else's"):
        async with open_dead_letters(Settings(path=str(path)), {}, FakeMeter(), Health()):
            pass
    assert path.read_bytes() == found


async def test_a_torn_letter_of_ours_is_cut_off(tmp_path):
    path = tmp_path / "dead.jsonl"
    for tail in (b'{"tim', b'{"time":"2026-', b'{"time":"2026-11-29T12:00:00.123+00:00","rea'):
        with path.open("ab") as file:
            file.write(tail)
        async with open_dead_letters(Settings(path=str(path)), {}, FakeMeter(), Health()) as desk:
            await desk.put([FULL])
    assert [json.loads(line)["reason"] for line in path.read_bytes().splitlines()] == [FULL.reason] * 3


async def test_letters_of_the_version_before_are_ours(tmp_path):
    path = tmp_path / "dead.jsonl"
    old = b'{"time":"2026-11-01T00:00:00.000+00:00","reason":"empty","detail":"","topic":null}\n'
    path.write_bytes(old)
    async with open_dead_letters(Settings(path=str(path)), {}, FakeMeter(), Health()) as desk:
        await desk.put([FULL])
    assert path.read_bytes().startswith(old) and path.read_bytes().count(b"\n") == 2


async def test_file_that_cannot_be_opened_is_said_at_the_start(tmp_path):
    with pytest.raises(CannotOpen):
        async with open_dead_letters(Settings(path=str(tmp_path)), {}, FakeMeter(), Health()):
            pass


async def test_what_is_no_text_is_kept_too(tmp_path):
    """A detail may quote half a surrogate pair."""
    place = DeadLetterFile(str(tmp_path / "dead.jsonl"))
    counted, _ = await put(place, [DeadLetter("unreadable", "\ud800", b"x", headers=(("\ud801", b"y"),))])
    place.close()
    assert counted == {("unreadable", "file"): 1}


async def test_log():
    meter = FakeMeter()
    async with open_dead_letters(Settings(type="log"), {}, meter, Health()) as desk:
        with structlog.testing.capture_logs() as logged, trio.fail_after(30):
            await desk.put(LETTERS)
    assert [entry["log_level"] for entry in logged] == ["error", "error"]
    assert put_together(logged) == [FULL.payload, b""]
    assert meter.by_label(measures.DEAD_LETTERS) == {("unreadable", "log"): 1, ("empty", "log"): 1}


async def test_a_large_letter_survives_a_log_that_cuts_long_lines(capsys):
    """Container runtimes cut at 16 KiB, and our own log cuts every text there."""
    large = DeadLetter("http_413", "too large", bytes(range(256)) * 200)
    logs.configure("info", True, "tss", "one")
    try:
        await office(DeadLetterLog())[0].put([large])
    finally:
        structlog.reset_defaults()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 5 and all(len(line) < 16_384 for line in lines)
    assert put_together([json.loads(line) for line in lines]) == [large.payload]


async def test_a_letter_waits_for_a_log_that_nobody_reads(monkeypatch):
    """Other lines are dropped then. A letter that is dropped would be lost, for its record is settled after it."""
    monkeypatch.setattr(letter_log, "LOG_SECS", 0.02)
    large = DeadLetter("http_413", "too large", bytes(range(256)) * 6000)  # more than may wait in the log
    read_fd, write_fd = os.pipe()
    os.write(write_fd, b"." * (fcntl.fcntl(write_fd, fcntl.F_GETPIPE_SZ) - 1) + b"\n")  # from here on it blocks
    with os.fdopen(read_fd) as reader, os.fdopen(write_fd, "w") as writer:
        monkeypatch.setattr(sys, "stderr", writer)
        logs.configure("info", True, "tss", "one")
        desk, meter = office(DeadLetterLog())
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(desk.put, [large])
                await trio.sleep(1)  # some tries
                assert not meter.by_label(measures.DEAD_LETTERS)
                assert logs.dropped() == 0
                assert desk._health.components[DEAD_LETTERS].state is State.DOWN
                monkeypatch.setattr(letter_log, "LOG_SECS", 30)
                reading = threading.Thread(target=lambda: lines.extend(reader))
                lines: list[str] = []
                reading.start()
            assert meter.by_label(measures.DEAD_LETTERS) == {("http_413", "log"): 1}
            assert desk._health.components[DEAD_LETTERS].state is State.UP
        finally:
            assert logs.flush(30)
            structlog.reset_defaults()
            writer.close()
            reading.join()
    assert put_together([json.loads(line) for line in lines[1:]]) == [large.payload]


@pytest.mark.parametrize("failures", [1, 2])
async def test_a_place_that_fails_for_a_moment(failures):
    place = Wayward(failures)
    counted, _ = await put(place)
    assert place.letters == LETTERS
    assert counted == {("unreadable", "file"): 1, ("empty", "file"): 1}


@pytest.mark.parametrize("error", [NotKept, RuntimeError])
async def test_a_place_that_fails_for_good(error):
    place = Wayward(99, error=error)
    counted, logged = await put(place)
    assert place.tries == 3
    assert counted == {("unreadable", "log"): 1, ("empty", "log"): 1}
    assert put_together(logged) == [FULL.payload, b""]


async def test_a_place_that_keeps_some():
    """None is kept twice, none is lost."""
    place = Wayward(99, keeps=1)
    letters = [DeadLetter("r", str(number), b"") for number in range(5)]
    counted, logged = await put(place, letters)
    assert counted == {("r", "file"): 3, ("r", "log"): 2}
    in_log = [entry["detail"] for entry in logged if entry["event"] == "dead letter"]
    assert [letter.detail for letter in place.letters] + in_log == ["0", "1", "2", "3", "4"]


# A place that is away


class Hanging(Wayward):
    """A place that answers only when it is let go, and keeps what it was given then."""

    def __init__(self) -> None:
        super().__init__(0)
        self.go = threading.Event()

    def keep(self, letters: Sequence[DeadLetter]) -> None:
        self.tries += 1
        self.go.wait()
        self.letters += letters


def numbered(first: int, last: int) -> list[DeadLetter]:
    return [DeadLetter("r", str(number), str(number).encode()) for number in range(first, last)]


@pytest.fixture
def probes_at_once(monkeypatch):
    monkeypatch.setattr(breaker, "FIRST_PROBE_SECS", 0.0)
    monkeypatch.setattr(breaker, "MAX_PROBE_SECS", 0.0)


@pytest.fixture
def no_probes(monkeypatch):
    monkeypatch.setattr(breaker, "FIRST_PROBE_SECS", 1000.0)
    monkeypatch.setattr(breaker, "MAX_PROBE_SECS", 1000.0)


@pytest.mark.usefixtures("no_probes")
async def test_law_4_a_place_that_is_away_is_tried_three_times_and_not_at_each_poll():
    place, health = Wayward(99), Health()
    desk, meter = office(place, health)
    with structlog.testing.capture_logs() as logged:
        for poll in range(20):
            await desk.put(numbered(poll, poll + 1))
    assert place.tries == 3
    assert put_together(logged) == [str(number).encode() for number in range(20)], "in order, each once"
    assert meter.by_label(measures.DEAD_LETTERS) == {("r", "log"): 20}
    assert [entry["reason"] for entry in logged if "they go to the log" in entry["event"]] == ["full"]
    component = health.components["dead letters"]
    assert component.state is State.DEGRADED and component.detail.endswith(": full")
    wait_secs = health.particular("dead letters")["next_try_secs"]
    assert isinstance(wait_secs, float) and 700 < wait_secs <= 1000


@pytest.mark.usefixtures("probes_at_once")
async def test_a_place_comes_back_by_itself():
    place, health = Wayward(4), Health()
    desk, meter = office(place, health)
    with structlog.testing.capture_logs() as logged:
        for poll in range(5):  # three tries, a probe that fails, one that does not
            await desk.put(numbered(poll, poll + 1))
    assert [letter.detail for letter in place.letters] == ["2", "3", "4"]
    assert put_together(logged) == [b"0", b"1"]
    assert meter.by_label(measures.DEAD_LETTERS) == {("r", "log"): 2, ("r", "file"): 3}
    assert health.components["dead letters"].state is State.UP and not health.particular("dead letters")
    assert [entry["event"] for entry in logged].count("dead letters: their file or topic takes them again") == 1


@pytest.mark.usefixtures("probes_at_once")
async def test_law_1_a_place_that_hangs_holds_nobody_and_loses_nothing(monkeypatch):
    """Nor is it called a second time meanwhile, by whomever."""
    monkeypatch.setattr(writer, "TRIES_SECS", 0.2)
    place, health = Hanging(), Health()
    desk, meter = office(place, health)
    try:
        with structlog.testing.capture_logs() as logged, trio.fail_after(60):
            await desk.put(numbered(0, 2))
            async with trio.open_nursery() as nursery:  # the reader's, and those of destinations
                for number in range(2, 12):
                    nursery.start_soon(desk.put, numbered(number, number + 1))
        assert place.tries == 1
        in_log = put_together(logged)
        assert in_log[:2] == [b"0", b"1"]
        assert sorted(map(int, in_log)) == [*range(12)]
        assert "no answer within 0.2 s" in health.components["dead letters"].detail
        assert meter.by_label(measures.DEAD_LETTERS) == {("r", "log"): 12}
    finally:
        place.go.set()
    with trio.fail_after(60):
        while len(place.letters) < 2 or desk._limiter.borrowed_tokens:
            await trio.sleep(0.01)
        await desk.put(numbered(12, 13))
    assert place.letters[-1].detail == "12"
    assert health.components["dead letters"].state is State.UP


@pytest.mark.usefixtures("probes_at_once")
async def test_a_probe_that_hangs_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(writer, "PROBE_SECS", 0.1)

    class FailsThenHangs(Hanging):
        def keep(self, letters: Sequence[DeadLetter]) -> None:
            if self.tries < 3:
                self.tries += 1
                raise NotKept(letters, "full")
            super().keep(letters)

    place = FailsThenHangs()
    desk, meter = office(place)
    try:
        with trio.fail_after(60):
            for poll in range(5):
                await desk.put(numbered(poll, poll + 1))
        assert place.tries == 4
        assert meter.by_label(measures.DEAD_LETTERS) == {("r", "log"): 5}
    finally:
        place.go.set()


async def test_letters_that_are_refused_for_good_say_nothing_of_the_place():
    """One that is too large for the topic is not tried again, and does not send the others to the log."""

    class Narrow(Wayward):
        def keep(self, letters: Sequence[DeadLetter]) -> None:
            self.tries += 1
            large = [each for each in letters if len(each.payload) > 3]
            self.letters += [each for each in letters if each not in large]
            if large:
                raise NotKept(large, "too large", for_good=True)

    place, health = Narrow(0), Health()
    desk, meter = office(place, health)
    for letter in (DeadLetter("r", "", b"large"), DeadLetter("r", "", b"1")):
        await desk.put([letter])
    assert place.tries == 2
    assert meter.by_label(measures.DEAD_LETTERS) == {("r", "log"): 1, ("r", "file"): 1}
    assert health.components["dead letters"].state is State.UP


async def test_pauses_between_probes_grow_and_have_a_limit(mock_clock):
    shut = DeadLetterBreaker(Health(), random.Random(2))
    assert not shut.is_open and not shut.takes_probe()
    shut.fails("away")
    pauses: list[float] = []
    while len(pauses) < 8:
        began = trio.current_time()
        while not shut.takes_probe():
            assert shut.is_open
            mock_clock.jump(0.1)
        pauses.append(trio.current_time() - began)
        assert not shut.takes_probe(), "one at a time"
        shut.fails("still away")
    for pause, most in zip(pauses, [5, 10, 20, 40, 60, 60, 60, 60], strict=True):
        assert 0.8 * most - 0.2 <= pause <= most + 0.2
    assert len({round(pause) for pause in pauses[4:]}) > 1, "replicas that fail together do not come back together"
    shut.works()
    shut.fails("again")
    mock_clock.jump(5.0)
    assert shut.takes_probe(), "it begins anew"


async def test_a_full_disk(tmp_path, monkeypatch):
    place = DeadLetterFile(str(tmp_path / "dead.jsonl"))

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tss.edges.files.lines.os.write", full)
    counted, logged = await put(place)
    assert counted == {("unreadable", "log"): 1, ("empty", "log"): 1}
    assert "No space left" in trouble(logged)
    place.close()


async def test_law_1_a_letter_is_on_the_disk_before_its_offset_may_go(tmp_path, monkeypatch):
    """Or the machine, and not only the process, could lose what no commit will bring again."""
    path = tmp_path / "dead" / "letters.jsonl"
    synced: list[tuple[str, int]] = []

    def fsync(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, os.fstat(descriptor).st_size))
        real(descriptor)

    real = os.fsync
    monkeypatch.setattr("tss.edges.files.lines.os.fsync", fsync)
    place = DeadLetterFile(str(path))
    assert [name for name, _ in synced] == ["dead"], "the name of the file, too"
    for _ in range(2):
        await put(place)
        assert synced[-1] == ("letters.jsonl", path.stat().st_size)
    place.close()


async def test_law_1_what_cannot_be_brought_to_the_disk_is_not_kept_there(tmp_path, monkeypatch):
    place = DeadLetterFile(str(tmp_path / "letters.jsonl"))

    def fsync(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("tss.edges.files.lines.os.fsync", fsync)
    counted, logged = await put(place)
    assert counted == {("unreadable", "log"): 1, ("empty", "log"): 1}
    assert "Input/output error" in trouble(logged)
    assert (tmp_path / "letters.jsonl").read_bytes() == b"", "nor is it there once more"
    place.close()


# The topic, on a real broker


@pytest.fixture(scope="module")
def broker():
    with running(Tansu) as broker:
        yield broker


def read(broker, topic: str, count: int) -> list:
    consumer = Consumer(
        {
            "bootstrap.servers": broker.bootstrap,
            "group.id": f"reader of {topic}",
            "auto.offset.reset": "earliest",
            "session.timeout.ms": 6000,
        }
    )
    from confluent_kafka import TopicPartition

    consumer.assign([TopicPartition(topic, 0, 0)])
    found: list = []
    for _ in range(100):
        message = consumer.poll(0.1)
        if message is not None and not message.error():
            found.append(message)
        if len(found) >= count:
            break
    consumer.close()
    return found


async def test_topic(broker, monkeypatch):
    monkeypatch.setattr(topic, "DELIVERY_SECS", 10)
    monkeypatch.setattr(topic, "_PRODUCER", {**topic._PRODUCER, "delivery.timeout.ms": 10_000})
    broker.create_topic("dead")
    connection = client_config(Kafka(brokers=broker.bootstrap), "tss")  # with all that a consumer has
    meter = FakeMeter()
    async with open_dead_letters(Settings(type="topic", topic="dead"), connection, meter, Health()) as desk:
        await desk.put(LETTERS)
    assert meter.by_label(measures.DEAD_LETTERS) == {("unreadable", "topic"): 1, ("empty", "topic"): 1}
    full, bare = read(broker, "dead", 2)
    assert (full.value(), full.key()) == (FULL.payload, FULL.key)
    headers = full.headers()
    assert headers[:3] == list(FULL.headers)
    own = dict(headers[3:])
    assert own["tss-reason"] == b"unreadable" and own["tss-detail"] == b"no protobuf"
    assert json.loads(own["tss-source"]) == {
        "topic": "spans", "partition": 3, "offset": 17, "timestamp": 1_700_000_000_123, "trace_id": "0123", "destination": "backend",
    }  # fmt: skip
    assert bare.key() is None and dict(bare.headers())["tss-source"] == b"{}"


async def test_a_trace_larger_than_a_client_would_send(broker, monkeypatch):
    """The client's own limit (1 MB) is for the uncompressed record; only the broker's word counts."""
    monkeypatch.setattr(topic, "DELIVERY_SECS", 10)
    monkeypatch.setattr(topic, "_PRODUCER", {**topic._PRODUCER, "delivery.timeout.ms": 10_000})
    broker.create_topic("large")
    large = DeadLetter("http_413", "", b"span " * 600_000)
    counted, _ = await put(DeadLetterTopic("large", {"bootstrap.servers": broker.bootstrap}), [large])
    assert counted == {("http_413", "topic"): 1}
    assert read(broker, "large", 1)[0].value() == large.payload


async def test_topic_without_a_broker(monkeypatch):
    connection = {"bootstrap.servers": f"127.0.0.1:{free_ports(1)[0]}"}
    began = trio.current_time()
    counted, logged = await put(DeadLetterTopic("dead", connection))
    assert counted == {("unreadable", "log"): 1, ("empty", "log"): 1}
    assert trio.current_time() - began < 8
    assert "topic dead: " in trouble(logged)


async def test_topic_with_a_setting_that_no_client_takes():
    counted, logged = await put(DeadLetterTopic("dead", {"no.such.property": "x"}))
    assert counted == {("unreadable", "log"): 1, ("empty", "log"): 1}
    assert "no.such.property" in trouble(logged)


async def test_where_the_default_file_cannot_be_letters_go_to_the_log(tmp_path, monkeypatch) -> None:
    """A pod of the guide has a read-only root; who has named no file must not be kept from starting by it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / Settings().path).mkdir()
    meter = FakeMeter()
    with structlog.testing.capture_logs() as lines:
        async with open_dead_letters(Settings(), {}, meter, Health()) as desk:
            await desk.put(LETTERS)
    assert "deadLetter.path" in lines[0]["event"]
    assert meter.by_label(measures.DEAD_LETTERS) == {("unreadable", "log"): 1, ("empty", "log"): 1}
