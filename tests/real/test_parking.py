"""Long traces through real daemons, a real Kafka and a real Redis: parked, taken over, lost, away, handed over.

Records are dated ahead, so that hours of stream time pass as fast as the test sends them, and stand still between.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.contracts.source import Sent
from tests.core.spans import message, span, trace_id
from tests.real.brokers import Broker
from tests.real.daemon import Daemon, Group, daemons, file_spans, settings, until
from tests.real.kafka_world import produce
from tests.real.load import Load, SpanId
from tests.real.redis_server import RedisServer, running
from tests.real.test_lifecycle import BRIEF, to_sink
from tests.sinks import OtlpSink, Reply

pytestmark = pytest.mark.alone

HOUR = 3600
LONG = trace_id(0)
SHORT_EVERY = 30  # seconds of stream time
LONG_EVERY = 210
PARK_AFTER = 60
# What holds the low water: what is younger than that, and was not there when it was last looked.
HELD_BACK = PARK_AFTER + 2 * SHORT_EVERY
STOP_SECS = 10.0
DATED_AHEAD_SECS = 8 * HOUR  # brokers allow one, unless told
_topics = count(1)


@attrs.define
class Log:
    """One partition: a trace that goes on and on, and one short trace every half minute, of which every fourth is kept."""

    broker: Broker
    topic: str
    began_ms: int = attrs.field(factory=lambda: round(time.time() * 1000))
    now: int = 0  # seconds of stream time
    times: list[int] = attrs.field(factory=list)  # by offset
    kept: set[SpanId] = attrs.field(factory=set)
    record_bytes: int = 0  # of the last one

    @property
    def long(self) -> set[SpanId]:
        return {each for each in self.kept if each[0] == LONG}

    def go_on(self, secs: int, *, ends: bool = False) -> None:
        """Send so many seconds of it; ``ends``: with the root of the long trace at the end of that."""
        records = []
        for at in range(self.now, self.now + secs, SHORT_EVERY):
            number = 1 + at // SHORT_EVERY
            if at % LONG_EVERY == 0:
                records.append(self._record(at, 0, number, parent=0))
            records.append(self._record(at, number, number, error=number % 4 == 0))
        self.now += secs
        if ends:
            records.append(self._record(self.now, 0, 0, error=True))
        self.send(records)

    def open_some(self, first: int, traces: int) -> None:
        """So many traces whose roots do not come."""
        self.send([self._record(self.now, first + each, each, parent=0, error=True) for each in range(traces)])

    def send(self, records: list[Sent]) -> None:
        produce(self.broker.bootstrap, self.topic, records)

    def _record(self, at: int, trace: int, number: int, *, parent: int | None = None, error: bool = False) -> Sent:
        made = span(trace, number, parent, start_ms=self.began_ms + 1000 * at, ms=10, error=error)
        for name in ("http.route", "db.query.text", "user.id"):
            made.attributes.add(key=name).value.string_value = f"the {name} of span {number} " * 5
        if error or trace == 0:
            self.kept.add((made.trace_id, made.span_id))
        self.times.append(at)
        value = message([made])
        self.record_bytes = len(value)
        return Sent(value, key=made.trace_id.hex().encode(), timestamp_ms=self.began_ms + 1000 * at)


@attrs.define
class World:
    """A topic, a Redis, a file where all replicas write, and the group."""

    directory: Path
    log: Log
    redis: RedisServer
    config: dict[str, Any]
    group: Group
    _names: Iterator[int] = attrs.field(factory=lambda: count(1))

    def daemon(self) -> Daemon:
        return Daemon(self.directory / f"owner-{next(self._names)}", self.config)

    def arrived(self) -> Counter[SpanId]:
        return Counter(file_spans(self.directory / "kept.jsonl", written=False))

    def has_long(self) -> bool:
        return self.log.long <= self.arrived().keys()

    def lines_with_long(self) -> int:
        """A line of the file is what was exported together."""
        lines = (self.directory / "kept.jsonl").read_text().splitlines()
        return sum(LONG.hex() in line for line in lines)

    def parked_bytes(self) -> int:
        """Memory that Redis takes for it."""
        with self.redis.client() as client:
            (key,) = client.scan_iter("tss:1:*parked:0")
            return int(client.memory_usage(key, samples=0) or 0)

    def low_water(self) -> int:
        """What is committed, as stream time."""
        offset = self.group.committed()[0]
        return self.log.times[offset] if offset < len(self.log.times) else self.log.now

    def is_parked(self) -> bool:
        return self.low_water() >= self.log.now - HELD_BACK

    def wait_until_parked(self, owner: Daemon) -> None:
        until(self.is_parked, 15, lambda: f"{self.low_water()} of {self.log.now}\n{owner.tail()}")

    def wait_for_long(self, owner: Daemon) -> None:
        until(self.has_long, 15, lambda: f"{len(self.log.long - self.arrived().keys())} spans missing\n{owner.tail()}")

    def wait_until_committed(self, owner: Daemon) -> None:
        """All of it, when nothing is open any more."""
        self.group.wait_until_done(15, owner.tail)


@contextmanager
def made(broker: Broker, directory: Path, **app: object) -> Iterator[World]:
    topic = f"parking-{next(_topics)}"
    broker.create_topic(topic, 1, **{"message.timestamp.after.max.ms": str(1000 * DATED_AHEAD_SECS)})
    with running() as redis:
        config = settings(
            broker.bootstrap,
            topic,
            app={
                "rootQuietSecs": 30,
                "inactivityTimeoutSecs": 600,
                "parkAfterSecs": PARK_AFTER,
                "replaySecs": 60,
                # The long trace goes on after its root, in some tests for an hour: those are late spans.
                "decisionMemorySecs": 2 * HOUR,
                "maxClockSkewSecs": DATED_AHEAD_SECS,
                "shutdownTimeoutSecs": STOP_SECS,
            }
            | app,
            kafka={"sessionTimeoutMs": 1500, "commitIntervalSecs": 0.2},
            redis={"url": redis.url, "connectionTimeoutSecs": 0.5},
            sampling={"sampleLatency": False},
            exporters=[
                {"name": "file", "type": "file", "path": str(directory / "kept.jsonl"), "batchTimeoutSecs": 0.1}
            ],
        )
        with Group.watch(broker, config, 1) as group:
            yield World(directory, Log(broker, topic), redis, config, group)


def once(spans: Mapping[SpanId, int], of: set[SpanId]) -> None:
    """Each of these, and each once."""
    found = Counter({each: times for each, times in spans.items() if each in of})
    assert found == Counter(of), f"{len(of - found.keys())} missing, {found.total() - len(found)} twice"


def test_law_1_and_2_a_three_hour_trace_holds_the_low_water_back_a_minute_and_survives_three_owners(
    apache: Broker, tmp_path: Path
) -> None:
    with made(apache, tmp_path) as world:
        log, (first, second, third) = world.log, (world.daemon() for _ in range(3))
        plain = Daemon(tmp_path / "plain", _without_redis(world))
        with daemons(first, second, third, plain), Group.watch(apache, plain.config, 1) as other:
            plain.start()
            first.start()
            lags = []
            for _ in range(4):
                log.go_on(900)
                world.wait_until_parked(first)
                lags.append(log.now - world.low_water())
            parked, parkings = first.metric("parked_bytes_total"), first.metric("parkings_total")
            assert first.metric("parked_traces") == 1
            first.kill()
            second.start()
            for _ in range(2):
                log.go_on(1800)
                world.wait_until_parked(second)
                lags.append(log.now - world.low_water())
            second.stop()
            assert world.group.committed() == world.group.ends(), "what is open is handed over"
            third.start()
            log.go_on(2730, ends=True)
            until(lambda: other.committed()[0] > 0 or plain.metric("kafka_uncommitted_records") > 300, 20, plain.tail)
            held = log.now - log.times[other.committed()[0]]
            log.go_on(120)
            world.wait_for_long(third)
            assert third.metric("partitions_reread_total") == third.metric("late_spans_total") == 0
            replayed = third.metric("kafka_records_replayed_total")
            third.stop()
        once(world.arrived(), log.kept)
        assert world.lines_with_long() == 1, "all of it together, as one trace"
        print(
            f"\nlow water behind by {max(lags)} s at most with parking, by {held} s without; {parked / parkings:.0f} "
            f"bytes a parking of {900 // LONG_EVERY} spans; the third owner read {replayed:.0f} records again"
        )
        assert held > 2 * HOUR, "else it is not parking that this shows"


def _without_redis(world: World) -> dict[str, Any]:
    exporters = [{"name": "file", "type": "file", "path": str(world.directory / "plain.jsonl")}]
    kafka = world.config["kafka"] | {"consumerGroup": f"{world.log.topic}-plain"}
    return world.config | {"kafka": kafka, "exporters": exporters, "redis": {}}


@pytest.mark.parametrize("protocol", [{}, {"groupProtocol": "consumer"}])
def test_law_1_redis_flushed_under_a_live_owner_the_partition_is_read_again(
    apache: Broker, tmp_path: Path, protocol: dict[str, object]
) -> None:
    with made(apache, tmp_path) as world:
        world.config["kafka"] |= protocol
        if "groupProtocol" in protocol:
            del world.config["kafka"]["sessionTimeoutMs"]  # the brokers' say
        log, owner = world.log, world.daemon()
        with daemons(owner):
            owner.start()
            log.go_on(HOUR // 2)
            world.wait_until_parked(owner)
            world.redis.flush()
            log.go_on(HOUR // 2)
            until(lambda: owner.metric("partitions_reread_total", reason="lost") == 1, 15, owner.tail)
            world.wait_until_parked(owner)  # and it is parked anew
            log.go_on(300, ends=True)
            log.go_on(120)
            world.wait_for_long(owner)
            assert owner.metric("partitions_reread_total") == owner.metric("unparkings_total") == 1
            owner.stop()
        once(world.arrived(), log.kept)  # the owner remembers what it has decided


@pytest.mark.parametrize("how", ["flushed", "away"])
def test_law_1_redis_lost_between_two_owners_the_next_reads_from_the_floor(
    apache: Broker, tmp_path: Path, how: str
) -> None:
    with made(apache, tmp_path) as world:
        log, first, second = world.log, world.daemon(), world.daemon()
        with daemons(first, second):
            first.start()
            log.go_on(HOUR // 2)
            world.wait_until_parked(first)
            first.kill()
            if how == "flushed":
                world.redis.flush()
            else:
                world.redis.freeze()
            second.start()
            second.ready()
            log.go_on(HOUR // 2)
            world.redis.thaw()
            world.wait_until_parked(second)  # anew
            log.go_on(300, ends=True)
            log.go_on(120)
            world.wait_for_long(second)
            reason = {"flushed": "not_fitting", "away": "away"}[how]
            assert second.metric("partitions_reread_total", reason=reason) == 1
            assert second.metric("unparkings_total") == 1
            second.stop()
        arrived = world.arrived()
        once(arrived, log.long)
        # Nobody can say what was decided then: what was exported before, after the floor, goes out again.
        assert arrived.keys() == log.kept
        assert max(arrived.values()) <= 2


def test_law_8_redis_away_while_a_parked_trace_is_to_be_decided_only_that_waits(apache: Broker, tmp_path: Path) -> None:
    with made(apache, tmp_path) as world:
        log, owner = world.log, world.daemon()
        with daemons(owner):
            owner.start()
            log.go_on(HOUR // 2)
            world.wait_until_parked(owner)
            world.redis.freeze()
            log.go_on(300, ends=True)
            log.go_on(HOUR)
            others = {each for each in log.kept if each[0] != LONG}
            last = max(others)  # the last one is open still
            until(lambda: others - {last} <= world.arrived().keys(), 15, owner.tail)
            assert not log.long & world.arrived().keys()
            assert owner.metric("unparking_waiting_traces") == 1
            assert owner.health()["status"] == "degraded"
            world.redis.thaw()
            world.wait_for_long(owner)
            owner.stop()
        once(world.arrived(), log.kept)


@pytest.mark.parametrize("hangs", [False, True])
def test_law_9_a_stop_hands_thousands_of_open_traces_over_within_its_time(
    apache: Broker, tmp_path: Path, *, hangs: bool
) -> None:
    traces = 5_000
    with made(apache, tmp_path) as world:
        world.config["redis"]["connectionTimeoutSecs"] = 5  # longer than the handing over may take
        log, first, second = world.log, world.daemon(), world.daemon()
        with daemons(first, second):
            first.start()
            log.go_on(HOUR // 2)
            world.wait_until_parked(first)
            log.open_some(10_000, traces)
            until(lambda: first.metric("buffer_traces_current") > traces, 15, first.tail)
            if hangs:
                world.redis.freeze()
            stop_secs = first.stop(STOP_SECS)
            world.redis.thaw()
            assert stop_secs < STOP_SECS / 2
            each_bytes = world.parked_bytes() / traces
            if not hangs:
                assert world.group.committed() == world.group.ends()
            second.start()
            second.ready()
            taken_over = second.metric("parked_traces")
            log.go_on(60, ends=True)
            log.go_on(HOUR)
            world.wait_for_long(second)
            until(lambda: len(world.arrived()) >= len(log.kept) - 1, 15, second.tail)
            assert second.metric("partitions_reread_total") == 0
            second.stop()
        once(world.arrived(), log.kept)
        print(
            f"\n{traces} open traces, Redis hangs {hangs}: stopped in {stop_secs:.2f} s, {taken_over:.0f} taken over, "
            f"{each_bytes:.0f} bytes of Redis each, for a record of {log.record_bytes}"
        )


def test_law_1_and_2_kills_under_load_where_nearly_all_is_parked(apache: Broker, tmp_path: Path) -> None:
    """Before the second one Redis forgets everything."""
    kills, partitions = 3, 4
    apache.create_topic("parking-load", partitions)
    with running() as redis, OtlpSink() as sink:
        sink.usual = Reply(hang_secs=0.05)  # so that there is always something on its way
        config = settings(
            apache.bootstrap,
            "parking-load",
            app={"parkAfterSecs": 0.3},
            kafka={"sessionTimeoutMs": 1000},
            redis={"url": redis.url},
            exporters=to_sink(sink),
        )
        owner = Daemon(tmp_path / "owner", config)
        parkings = 0.0
        with daemons(owner), Load(apache.bootstrap, "parking-load", 1, BRIEF) as load:
            for number in range(kills):
                owner.start()
                until(lambda: owner.is_ready and owner.metric("parkings_total") > 10, 20, owner.tail)
                parkings += owner.metric("parkings_total")
                if number == 1:
                    redis.flush()
                owner.kill()
            owner.start()
            owner.ready()
            load.finish()
            open_now = "parked_traces", "buffer_traces_current", "kafka_uncommitted_records"
            until(lambda: not sum(map(owner.metric, open_now)), 20, owner.tail)
            owner.stop()
        lost, wrong = load.kept() - sink.counts.keys(), sink.counts.keys() - load.kept()
        assert not lost, f"law 1: {len(lost)} spans"
        assert not wrong, f"law 2: {len(wrong)} spans"
        assert max(sink.counts.values()) <= 1 + kills
        twice = sink.counts.total() - len(sink.counts)
        print(f"\n{kills} kills, {parkings:.0f} parkings, {len(load.kept())} spans kept, {twice} of them sent twice")
