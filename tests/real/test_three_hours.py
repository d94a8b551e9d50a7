"""Traces of three hours, in the log's time: they outlast two owners, go out whole and once, and hold nothing back.

Records are dated up to three hours ahead of the clock, which `maxClockSkewSecs` allows here: so the clock never moves
stream time, and the hours pass as fast as they are read.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import attrs
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status, TracesData

from tests.contracts.source import Sent
from tests.real.brokers import Broker
from tests.real.daemon import until
from tests.real.fleet import Fleet
from tests.real.kafka_world import produce
from tests.real.load import SpanId
from tests.real.redis_server import RedisServer

pytestmark = pytest.mark.alone

MINUTE, HOUR = 60, 3600
LONG_SECS = 3 * HOUR - 10 * MINUTE  # below maxTraceDurationSecs
SPAN_EVERY_SECS = 5 * MINUTE  # below inactivityTimeoutSecs
END_SECS = 3 * HOUR + 10 * MINUTE
OPEN_SECS = 2 * MINUTE  # what has begun this long before the end is still open there
QUICK_EVERY_SECS = 4
PARTITIONS = 2
ERRORS = 0.1
SPANS = 3
PARKED_TRAIL_SECS = 90  # parkAfterSecs, and what it takes to park and commit
AHEAD_SECS = 4 * HOUR
# Random bits that sampling.latencySampleRate of 0.5 keeps, or drops.
KEPT_BITS, DROPPED_BITS = b"\xff" * 7, bytes(7)


@attrs.frozen
class Long:
    """Slow all of them; one has an error as well, in its first span, and one must be dropped."""

    trace_id: bytes
    partition: int
    error: bool
    kept: bool


@attrs.define
class History:
    """Three hours of traffic, written as far as somebody asks for."""

    topic: str
    broker: Broker
    began_ms: int = attrs.field(factory=lambda: time.time_ns() // 1_000_000)
    kept: dict[SpanId, int] = attrs.field(factory=dict)  # in which second each was written
    dropped: set[bytes] = attrs.field(factory=set)
    seconds: list[list[int]] = attrs.field(factory=lambda: [[] for _ in range(PARTITIONS)])  # of each record
    now: int = 0
    _chance: Random = attrs.field(factory=lambda: Random(3))
    longs: list[Long] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.longs = [
            Long(self._chance.randbytes(9) + bits, partition, error, kept=error or bits == KEPT_BITS)
            for partition in range(PARTITIONS)
            for bits, error in ((KEPT_BITS, False), (DROPPED_BITS, True), (DROPPED_BITS, False))
        ]

    def write(self, until_secs: int) -> None:
        """Go on up to this second."""
        records = [record for second in range(self.now, until_secs) for record in self._second(second)]
        produce(self.broker.bootstrap, self.topic, records)
        self.now = until_secs

    def trail_secs(self, committed: dict[int, int]) -> float:
        """How far the committed offset is behind the newest record; the most of all partitions."""
        trails = [seconds[-1] - (*seconds, seconds[-1])[committed[id]] for id, seconds in enumerate(self.seconds)]
        return max(trails)

    def _second(self, second: int) -> Iterator[Sent]:
        if second <= LONG_SECS and second % SPAN_EVERY_SECS == 0:
            for long in self.longs:
                yield self._long(long, second)
        if second % QUICK_EVERY_SECS == 0:
            for partition in range(PARTITIONS):
                yield self._quick(partition, second)

    def _long(self, long: Long, second: int) -> Sent:
        parent = b"" if second == LONG_SECS else b"the root"
        id = b"the root" if second == LONG_SECS else (second + 1).to_bytes(8, "big")  # zeros are no id
        if long.kept:
            self.kept[long.trace_id, id] = second
        else:
            self.dropped.add(long.trace_id)
        start = 0 if second == LONG_SECS else second - 1
        span = self._span(long.trace_id, id, parent, start, second, error=long.error and second == 0)
        return self._sent(long.partition, second, [span])

    def _quick(self, partition: int, second: int) -> Sent:
        trace_id, error = self._chance.randbytes(16), self._chance.random() < ERRORS
        ids = [self._chance.randbytes(8) for _ in range(SPANS)]
        if error:
            self.kept |= {(trace_id, id): second for id in ids}
        else:
            self.dropped.add(trace_id)
        parents = [b"", *ids]
        spans = [
            self._span(trace_id, id, parent, second, second, error=error and id == ids[-1])
            for id, parent in zip(ids, parents, strict=False)
        ]
        return self._sent(partition, second, spans)

    def _span(self, trace_id: bytes, id: bytes, parent: bytes, start: int, end: int, *, error: bool) -> Span:
        return Span(
            trace_id=trace_id,
            span_id=id,
            parent_span_id=parent,
            name="work",
            start_time_unix_nano=(self.began_ms + start * 1000) * 10**6,
            end_time_unix_nano=(self.began_ms + end * 1000) * 10**6 + 10**6,
            status=Status(code=Status.STATUS_CODE_ERROR if error else Status.STATUS_CODE_UNSET),
        )

    def _sent(self, partition: int, second: int, spans: list[Span]) -> Sent:
        self.seconds[partition].append(second)
        value = TracesData(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])]).SerializeToString()
        return Sent(value, partition, self.began_ms + second * 1000, spans[0].trace_id.hex().encode())


def live(fleet: Fleet, history: History, most_trail_secs: float) -> list[float]:
    """Three owners, the first killed, the second told to go, each in the middle of its reading; returns how far the
    commits trailed in the hour of each."""
    trails = []

    def read_all(name: str) -> None:
        goal = {id: len(seconds) for id, seconds in enumerate(history.seconds)}
        daemon = fleet.replicas[name]

        def trails_little() -> bool:
            committed = fleet.group.committed()
            lag = daemon.metric("kafka_consumer_lag")
            return not lag and committed != goal and history.trail_secs(committed) <= most_trail_secs

        fleet.settle(name)
        until(trails_little, 30, lambda: f"{history.trail_secs(fleet.group.committed())} s behind\n{fleet.tails()}")
        trails.append(history.trail_secs(fleet.group.committed()))

    for name, end_secs, leave in (("a", HOUR, fleet.kill), ("b", 2 * HOUR, fleet.leave), ("c", END_SECS, None)):
        fleet.join(name)
        history.write(end_secs)
        read_all(name)
        if leave is not None:
            history.write(end_secs + 10 * MINUTE)
            leave(name)
    return trails


def check(fleet: Fleet, history: History) -> str:
    """Every span that must be there is, no other; and those of long traces once."""
    sure = {span for span, second in history.kept.items() if second < END_SECS - OPEN_SECS}

    def all_there() -> bool:
        return sure <= {*fleet.delivered.spans}

    until(all_there, 20, lambda: f"lost {len(sure - {*fleet.delivered.spans})} of {len(sure)}\n{fleet.tails()}")
    assert not [span for span in fleet.delivered.spans if span[0] in history.dropped], "law 2"
    long = {each.trace_id for each in history.longs if each.kept}
    counts = [len(arrivals) for span, arrivals in fleet.delivered.spans.items() if span[0] in long]
    assert counts == [1] * len(long) * (LONG_SECS // SPAN_EVERY_SECS + 1)
    records = sum(map(len, history.seconds))
    return f"{records} records, {len(sure)} spans kept, {fleet.delivered.duplicates} came again, none of a long trace"


def three_hours(broker: Broker, directory: Path, redis: RedisServer | None, most_trail_secs: float) -> None:
    topic = f"three-hours-{directory.name}".replace("_", "-")
    app = {"maxClockSkewSecs": AHEAD_SECS, "rootQuietSecs": 30, "inactivityTimeoutSecs": 2 * SPAN_EVERY_SECS}
    sections = {"redis": {"url": redis.url}} if redis else {}
    may_be_ahead = {"message.timestamp.after.max.ms": str(AHEAD_SECS * 1000)}
    with Fleet.of(
        broker, directory, topic, "abc", partitions=PARTITIONS, topic_config=may_be_ahead, app=app,
        kafka={"sessionTimeoutMs": 1500}, **sections,
    ) as fleet:  # fmt: skip
        history = History(topic, broker)
        began = time.monotonic()
        trails = live(fleet, history, most_trail_secs)
        said = check(fleet, history)
        took = fleet.leave("c")
    print(
        f"\n{time.monotonic() - began:.1f} s: {said}; the commits trailed by {', '.join(f'{each:.0f} s' for each in trails)}; "
        f"left in {took:.2f} s"
    )


def test_law_1_and_2_a_three_hour_trace(apache: Broker, tmp_path: Path, redis: RedisServer) -> None:
    """Parked in Redis, it holds the commits back by a minute."""
    three_hours(apache, tmp_path, redis, PARKED_TRAIL_SECS)


def test_law_1_and_2_a_three_hour_trace_alone(apache: Broker, tmp_path: Path) -> None:
    """Without Redis it holds the commits back to its beginning."""
    three_hours(apache, tmp_path, None, END_SECS)
