"""Law 7: what counts all traffic counts late spans too, of kept traces and of dropped ones."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
import trio
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from trio.testing import MockClock

from tests.core.spans import batch, fragment, message, record, span, trace_id
from tests.fakes.deadletters import FakeDeadLetters
from tests.fakes.destination import FakeDestination
from tests.fakes.kafka import EPOCH_MS, FakeKafka, FakeMember, Habits
from tests.fakes.meter import FakeMeter
from tests.fakes.redis import FakeDecisions, FakeRedis
from tss.core import measures
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.formats.apm_stats import Concentrator, SpanObserver
from tss.core.formats.spanmetrics import SpanMetrics, shape_of
from tss.core.health import Health
from tss.core.memory import Memory
from tss.core.otlp import Encoding, scan
from tss.core.partition import Partition
from tss.core.trace import Trace
from tss.daemon.outside import Outside
from tss.daemon.selection import select
from tss.settings import App, Kafka, Sampling, Settings, SpanMetricsSettings
from tss.state.assignments import Assignments, Run
from tss.state.keying import Keying
from tss.state.rulesets import Rulesets
from tss.state.sharing import Sharing
from tss.tasks import sweeper
from tss.tasks.consumer import Batch

SPANS = 1000


def _spans_of(chunks: Sequence[bytes]) -> int:
    return sum(each.spans for chunk in chunks for each in scan(chunk, Encoding.AUTO).fragments)


class Counter:
    """Counts spans, and the bytes that were told to be held meanwhile."""

    def __init__(self, buffer: Buffer | None = None) -> None:
        self.spans = {True: 0, False: 0}
        self.calls = 0
        self.least_polled: int | None = None
        self._buffer = buffer

    def add(self, trace_id: bytes, chunks: list[bytes], kept: bool) -> None:
        self.calls += 1
        self.spans[kept] += _spans_of(chunks)
        if self._buffer is not None:
            polled = self._buffer.polled_bytes
            self.least_polled = polled if self.least_polled is None else min(polled, self.least_polled)


# -- the sweeper


async def _sweep(count: int, observers: Sequence[SpanObserver], buffer: Buffer) -> FakeMeter:
    """A dropped trace, and so many late records of it in one poll."""
    home, meter = Partition(0, 0, 300_000), FakeMeter()
    buffer.adopt(home)
    buffer.memory.drop(trace_id(1))
    records = batch(
        [record(number, 100, fragment(1, [number], payload=message([span(1, number)]))) for number in range(count)]
    )
    size = records.held_bytes()
    buffer.polled_bytes += size
    polled_in, polled_out = trio.open_memory_channel[Batch](1)
    closed_in, closed_out = trio.open_memory_channel[list[Trace]](10)
    keying = Keying(meter, Health(), rekeyed=False)
    with closed_out:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sweeper.run, polled_out, closed_in, buffer, meter, keying, observers)
            await polled_in.send(Batch(10**12, [Run(home, records, 0, count)], [], size))
            polled_in.close()
    assert buffer.polled_bytes == 0
    return meter


def _buffer(*, observed: bool) -> Buffer:
    return Buffer(Limits(1 << 30, 10**6, 10**6, 10**6), Waits(30_000, 600_000, 10_800_000), Memory(), observed=observed)


async def test_the_sweeper_shows_late_spans_of_dropped_traces_while_their_batch_is_counted() -> None:
    """Law 5: the batch in work holds their bytes, so they are shown before it is let go."""
    buffer = _buffer(observed=True)
    counter = Counter(buffer)
    meter = await _sweep(1200, [counter], buffer)
    assert counter.spans == {True: 0, False: 1200}
    assert counter.least_polled
    assert buffer.take_late_dropped() == []
    assert meter.counted(measures.LATE_SPANS, "drop") == 1200


async def test_large_late_spans_do_not_hold_up_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeper, "BYTES_AT_ONCE", 1)
    buffer, others = _buffer(observed=True), 0
    turns: list[int] = []
    counter = Counter()

    async def other() -> None:
        nonlocal others
        while True:
            await trio.lowlevel.checkpoint()
            others += 1
            turns.append(counter.calls)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await _sweep(50, [counter], buffer)
        nursery.cancel_scope.cancel()
    assert counter.calls == 50
    assert max(later - earlier for earlier, later in pairwise(turns)) <= 2


# -- whole daemons


class Lives:
    """Lives of a daemon on one topic, one after the other, and what each counts."""

    def __init__(self, *, default_rate: float, replay_secs: float = 0.0) -> None:
        self.kafka = FakeKafka(1, Habits(), random.Random(1))
        self.sea = FakeDestination()
        self.redis: FakeRedis | None = None
        self.meters: list[FakeMeter] = []
        self.counters: list[Counter] = []
        self.concentrators: list[Concentrator] = []
        self.span_metrics: list[SpanMetrics] = []
        self._settings = Settings(
            app=App(
                instance_id="one",
                max_buffer_bytes=1 << 26,
                root_quiet_secs=5.0,
                inactivity_timeout_secs=20.0,
                replay_secs=replay_secs,
            ),
            kafka=Kafka(brokers="simulated", auto_offset_reset="earliest"),
            sampling=Sampling(sample_latency=False, default_sample_rate=default_rate),
        )

    def write(self, trace: int, numbers: Sequence[int]) -> None:
        now_ms = EPOCH_MS + round(trio.current_time() * 1000)
        spans = [span(trace, number, 0 if number else None, start_ms=now_ms) for number in numbers]
        for each in spans:
            each.name, each.kind = "op", Span.SPAN_KIND_SERVER  # one series, and statistics count each of its spans
        self.kafka.append(0, message(spans), now_ms)

    async def live(self, secs: float) -> None:
        meter, counter = FakeMeter(), Counter()
        concentrator = Concentrator(EPOCH_MS * 1_000_000)
        red = SpanMetrics(shape_of(SpanMetricsSettings(enabled=True)))
        self.meters.append(meter)
        self.counters.append(counter)
        self.concentrators.append(concentrator)
        self.span_metrics.append(red)

        @asynccontextmanager
        async def open_member(assignments: Assignments, _rulesets: Rulesets) -> AsyncIterator[FakeMember]:
            async with self.kafka.open_member(f"life {len(self.meters)}", assignments) as member:
                yield member

        outside = Outside(
            open_member, [self.sea.from_sender(len(self.meters))], FakeDeadLetters(), meter, Health(), random.Random(1),
            observers=[counter, concentrator, red],
            sharing=Sharing(FakeDecisions(self.redis, True), 3600, True) if self.redis else None,
        )  # fmt: skip
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(select, self._settings, outside, stop)
            await trio.sleep(secs)
            stop.set()
        await trio.sleep(10)


@pytest.mark.parametrize("rate", [1.0, 0.0], ids=["kept", "dropped"])
async def test_law_7_all_spans_count_whether_their_trace_is_kept_or_dropped(
    autojump_clock: MockClock, rate: float
) -> None:
    """A hundred spans come in time, the others when the trace is decided."""
    lives = Lives(default_rate=rate)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lives.live, 120)
        await trio.sleep(10)
        lives.write(1, range(100))
        await trio.sleep(30)
        assert lives.counters[0].spans == {bool(rate): 100, not rate: 0}
        for first in range(100, SPANS, 9):
            lives.write(1, range(first, first + 9))
    kept = bool(rate)
    assert lives.kafka.caught_up
    assert lives.counters[0].spans == {kept: SPANS, not kept: 0}
    verdict = "keep" if kept else "drop"
    assert lives.meters[0].counted(measures.DECIDED_SPANS, verdict) == 100
    assert lives.meters[0].counted(measures.LATE_SPANS, verdict) == SPANS - 100
    groups = lives.concentrators[0].take(EPOCH_MS * 1_000_000)
    assert sum(group.hits for group in groups) == SPANS
    red = lives.span_metrics[0]
    assert sum(sum(red.point(number).counts) for number in range(len(red.labels))) == SPANS


async def test_law_7_what_another_has_dropped_and_counted_is_counted_once(autojump_clock: MockClock) -> None:
    """The second life reads the trace again, as an open one holds the low water, and hears in Redis of its end."""
    lives = Lives(default_rate=0.0)
    lives.redis = FakeRedis()
    lives.write(9, [1])
    lives.write(1, range(100))
    await lives.live(14)
    assert lives.counters[0].spans == {True: 0, False: 100}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lives.live, 120)
        await trio.sleep(3)
        lives.write(1, range(100, 110))  # while it is open again
        await trio.sleep(30)
        for first in range(110, SPANS, 10):
            lives.write(1, range(first, first + 10))
    assert lives.kafka.caught_up
    assert lives.meters[1].counted(measures.DECISION_LOOKUPS, "dropped") == 1
    assert lives.counters[1].spans == {True: 0, False: SPANS - 100 + 1}, "and the one that was open"
