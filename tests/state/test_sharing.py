"""Decisions that outlive the replica that made them: law 2 with shared memory, law 8 without it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import trio
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from trio.testing import MockClock

from tests.core.spans import message, record, span, trace_id
from tests.fakes.deadletters import FakeDeadLetters
from tests.fakes.destination import FakeDestination, Mood
from tests.fakes.kafka import EPOCH_MS, FakeKafka, FakeMember, Habits
from tests.fakes.meter import FakeMeter
from tests.fakes.redis import FakeDecisions, FakeRedis
from tss.core import measures
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.combining import Sampler
from tss.core.decision import Decision, Reason, Verdict
from tss.core.errors import Away
from tss.core.evaluation import evaluate
from tss.core.health import Health
from tss.core.memory import Memory
from tss.core.otlp import Encoding, scan
from tss.core.partition import UNKNOWN_END, Partition
from tss.core.policies.errors import Errors
from tss.core.policies.rest import Rest
from tss.core.startposition import StartPosition
from tss.core.trace import Trace
from tss.daemon.outside import Outside
from tss.daemon.selection import select
from tss.settings import App, Kafka, Sampling, Settings
from tss.state.assignments import Assignments
from tss.state.rulesets import Rulesets
from tss.state.sharing import REACH_SECS, SharedMemories, Sharing

WALL = 10**12
KEEP = Decision(Verdict.KEEP, "errors", Reason.ROOT_QUIET, 1.0)


class Shelf:
    """The Redis of all, and what was asked of it and written. ``slow_secs`` is what a look-up or writing takes."""

    def __init__(self) -> None:
        self.redis = FakeRedis()
        self.is_away = False
        self.slow_secs = 0.0
        self.written: list[list[bytes]] = []
        self.read_ids: list[list[bytes]] = []
        self.reach_asked = 0

    @property
    def kept(self) -> dict[bytes, bytes]:
        return self.redis.kept

    @property
    def dropped(self) -> set[bytes]:
        return self.redis.dropped

    def opened(self) -> Watched:
        """What one life of a replica has of it."""
        return Watched(self)

    async def answer(self) -> None:
        await trio.sleep(self.slow_secs)
        if self.is_away:
            raise Away("Redis connection timeout")


class Watched(FakeDecisions):
    """Implements SharedDecisions, and notes each call."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf.redis)
        self._shelf = shelf

    async def write(self, kept: Mapping[bytes, bytes], dropped: Sequence[bytes], reach: Mapping[int, int]) -> None:
        await self._shelf.answer()
        self._shelf.written.append([*kept, *dropped])
        await super().write(kept, dropped, reach)

    async def reach(self, partitions: Sequence[int]) -> dict[int, int]:
        self._shelf.reach_asked += 1
        if self._shelf.is_away:
            raise Away("Redis connection timeout")
        return await super().reach(partitions)

    async def read(
        self, ids: Sequence[bytes], from_offsets: Mapping[int, int] | None = None
    ) -> tuple[dict[bytes, bytes], set[bytes]]:
        if ids:
            await self._shelf.answer()
            self._shelf.read_ids.append([*ids])
        return await super().read(ids, from_offsets)


# -- whole daemons, one after the other, on one topic


class Fleet:
    """One partition, one destination, and whoever lives at the time. No replay: what is known is known from the shelf."""

    def __init__(self, *, shares: bool = True, remembers_dropped: bool = True) -> None:
        self.kafka = FakeKafka(1, Habits(), random.Random(1))
        self.sea = FakeDestination()
        self.shelf = Shelf()
        self.meters: list[FakeMeter] = []
        self._shares, self._remembers_dropped = shares, remembers_dropped

    def write(self, trace: int, *numbers: int, error: bool = False) -> None:
        """A record with these spans of a trace, of which number 0 is the root; they begin now."""
        now_ms = EPOCH_MS + round(trio.current_time() * 1000)
        spans: list[Span] = [
            span(trace, number, 0 if number else None, start_ms=now_ms, error=error) for number in numbers
        ]
        self.kafka.append(0, message(spans), now_ms)

    def write_old_root(self, trace: int, began_ms: int) -> None:
        now_ms = EPOCH_MS + round(trio.current_time() * 1000)
        self.kafka.append(0, message([span(trace, 0, start_ms=began_ms)]), now_ms)

    async def live(self, secs: float, *, dies: bool = False) -> None:
        """One life of the daemon."""
        meter = FakeMeter()
        self.meters.append(meter)
        members: list[FakeMember] = []

        @asynccontextmanager
        async def open_member(assignments: Assignments, _rulesets: Rulesets) -> AsyncIterator[FakeMember]:
            async with self.kafka.open_member(f"life {len(self.meters)}", assignments) as member:
                members.append(member)
                yield member

        outside = Outside(
            open_member, [self.sea.from_sender(len(self.meters))], FakeDeadLetters(), meter, Health(), random.Random(1),
            sharing=Sharing(self.shelf.opened(), 3600, self._remembers_dropped) if self._shares else None,
        )  # fmt: skip
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(select, self._settings(), outside, stop)
            await trio.sleep(secs)
            if dies:
                members[0].die()
                nursery.cancel_scope.cancel()
            stop.set()
        await trio.sleep(10)  # the group finds out

    @staticmethod
    def _settings() -> Settings:
        return Settings(
            app=App(
                instance_id="one",
                max_buffer_bytes=1 << 26,
                root_quiet_secs=5.0,
                inactivity_timeout_secs=20.0,
                replay_secs=0.0,
            ),
            kafka=Kafka(brokers="simulated", auto_offset_reset="earliest"),
            sampling=Sampling(sample_latency=False, default_sample_rate=0.0),
        )

    @property
    def arrived(self) -> Counter[tuple[bytes, bytes]]:
        """How often each span came."""
        return Counter((each.key.trace_id, each.key.span_id) for each in self.sea.arrivals)

    def decided(self, verdict: str) -> float:
        return sum(
            count
            for meter in self.meters
            for labels, count in meter.by_label(measures.DECISIONS).items()
            if labels[1] == verdict
        )

    def counted(self, measure: measures.Measure, *labels: str) -> float:
        return sum(meter.counted(measure, *labels) for meter in self.meters)


async def _dies_after_exporting(fleet: Fleet) -> None:
    """An open trace holds the low water, two others are decided; then the power goes, and all is read again."""
    fleet.write(9, 1)
    fleet.write(0, 0, 1, error=True)
    fleet.write(0, 2)
    fleet.write(1, 0)
    await fleet.live(14, dies=True)
    fleet.write(0, 3)
    fleet.write(1, 3)
    await fleet.live(60)


async def test_law_2_after_a_crash_nothing_goes_twice_and_nothing_is_judged_twice(autojump_clock: MockClock) -> None:
    fleet = Fleet()
    await _dies_after_exporting(fleet)
    assert [fleet.arrived[trace_id(0), (number + 1).to_bytes(8, "big")] for number in range(4)] == [1, 1, 1, 1]
    assert len(fleet.arrived) == 4
    assert (fleet.decided("keep"), fleet.decided("drop")) == (1, 2)
    assert fleet.counted(measures.DUPLICATE_SPANS) == 3
    assert fleet.counted(measures.LATE_SPANS, "keep") == 1
    assert fleet.counted(measures.LATE_SPANS, "drop") == 2
    lookups = [fleet.counted(measures.DECISION_LOOKUPS, outcome) for outcome in ("kept", "dropped", "unknown")]
    assert lookups[:2] == [1, 1]
    assert fleet.kafka.caught_up


async def test_law_8_with_redis_away_decisions_go_on_and_nothing_is_lost(autojump_clock: MockClock) -> None:
    fleet = Fleet()
    fleet.shelf.is_away = True
    await _dies_after_exporting(fleet)
    assert {number: fleet.arrived[trace_id(0), (number + 1).to_bytes(8, "big")] for number in range(4)} == {
        0: 2, 1: 2, 2: 2, 3: 1,
    }  # fmt: skip
    assert fleet.counted(measures.DECISION_LOOKUPS, "away") > 0
    assert fleet.counted(measures.DECISION_WRITES, "away") > 0
    assert fleet.counted(measures.DECISION_WRITES, "written") == 0
    assert fleet.kafka.caught_up


async def test_without_redis_nobody_is_asked(autojump_clock: MockClock) -> None:
    fleet = Fleet(shares=False)
    await _dies_after_exporting(fleet)
    assert fleet.kafka.caught_up
    assert fleet.shelf.read_ids == fleet.shelf.written == []
    assert fleet.counted(measures.DECISION_LOOKUPS) == fleet.counted(measures.DECISION_WRITES) == 0


async def test_law_2_a_late_root_follows_the_verdict_of_an_owner_before(autojump_clock: MockClock) -> None:
    """By itself it has no error, and would be dropped."""
    fleet = Fleet(remembers_dropped=False)
    began_ms = EPOCH_MS
    fleet.write(0, 1, error=True)
    fleet.write(1, 1)
    await fleet.live(100)
    assert fleet.kafka.caught_up
    assert len(fleet.arrived) == 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fleet.live, 100)
        await trio.sleep(20)
        fleet.write_old_root(0, began_ms)
        fleet.write(1, 0)
        fleet.write(2, 0, error=True)
    assert fleet.arrived[trace_id(0), (1).to_bytes(8, "big")] == 1
    assert fleet.meters[1].counted(measures.LATE_SPANS, "keep") == 1
    assert fleet.meters[1].by_label(measures.DECISIONS)["errors", "keep", "root_quiet"] == 1, "of trace 2 alone"
    asked = [id for ids in fleet.shelf.read_ids for id in ids]
    assert trace_id(2) not in asked, "it came after the partition was ours, and it is whole"
    assert not fleet.shelf.dropped


async def test_law_1_what_is_not_delivered_is_not_said_to_be(autojump_clock: MockClock) -> None:
    """Killed while the destination has only what came late, the next owner sends the rest."""
    fleet = Fleet()
    fleet.sea.set_mood(Mood.AGAIN)
    fleet.write(0, 0, error=True)
    await fleet.live(20, dies=True)
    assert fleet.shelf.kept == {}
    fleet.sea.set_mood(Mood.WELL)
    await fleet.live(40)
    assert fleet.arrived[trace_id(0), (1).to_bytes(8, "big")] == 1
    assert trace_id(0) in fleet.shelf.kept


def test_a_partition_knows_where_its_log_ended_when_it_came() -> None:
    buffer = Replica(Shelf()).buffer
    assignments = Assignments("t", buffer, FakeMeter(), max_skew_ms=0, replay_secs=0, commits=True)
    assignments.assigned({0: StartPosition(3, 3, committed=True, end=7), 1: StartPosition(3, 3, committed=True)})
    assert [each.horizon for each in assignments] == [7, UNKNOWN_END]


# -- one replica's buffer


class Replica:
    """A buffer, its evaluator's and its exporter's steps, without the tasks around them."""

    def __init__(self, shelf: Shelf, memory: Memory | None = None, *, remembers_dropped: bool = False) -> None:
        self.meter = FakeMeter()
        limits, waits = Limits(1 << 30, 1000, 1000, 1000), Waits(30_000, 600_000, 10_800_000)
        self.buffer = Buffer(limits, waits, memory or Memory(evicted_limit=100, secs=1e6))
        self.shared = SharedMemories(Sharing(shelf.opened(), 3600, remembers_dropped), self.buffer, self.meter)
        self.home = Partition(0, 0, 300_000, end=0)
        self.sampler = Sampler([Errors(1.0), Rest(0.0)])
        self.second = 100
        self.start_ms: int | None = None  # of all spans; None: they begin as they come

    def add(self, offset: int, trace: int, *numbers: int, error: bool = False) -> None:
        """A record at its time."""
        start_ms = self.second * 1000 if self.start_ms is None else self.start_ms
        payload = message([span(trace, each, 0 if each else None, start_ms=start_ms, error=error) for each in numbers])
        (only,) = scan(payload, Encoding.OTLP_PROTO).fragments
        self.buffer.add(self.home, record(offset, self.second, only), WALL)

    async def turn(self) -> list[Trace]:
        """Time passes: all is closed, decided, delivered and settled. Returns what was delivered."""
        self.second += 1000
        self.buffer.reach(self.home, self.second * 1000)
        return await self.decide()

    async def decide(self) -> list[Trace]:
        """The same with what is closed."""
        found = evaluate(await self.shared.recall(self.buffer.take()), self.sampler, self.buffer)
        await self.shared.drop(found.ended)
        await self.shared.keep(found.kept)
        payloads = [(each, each.payload) for each in found.kept]
        self.delivered = [payload for _, payload in payloads]
        self.buffer.settle_all([*found.ended, *found.kept])
        return found.kept


async def test_law_2_what_the_local_memory_had_to_forget_is_found_again(autojump_clock: MockClock) -> None:
    replica = Replica(Shelf(), Memory(kept_limit=1, closed_limit=1, evicted_limit=100, secs=1e6))
    replica.add(0, 1, 0, error=True)
    await replica.turn()
    replica.add(1, 2, 0, error=True)
    await replica.turn()
    assert replica.buffer.memory.recall_kept(trace_id(1)) is None
    replica.add(2, 1, 1)
    (late,) = await replica.turn()
    assert (late.late, late.decision, late.trace_id) == (True, KEEP, trace_id(1))
    assert replica.home.ledger.low_water == 3
    replica.add(3, 1, 2)
    (late,) = await replica.turn()
    assert late.late
    assert replica.meter.by_label(measures.DECISION_LOOKUPS) == {("kept",): 1}, "now it is remembered here"


async def test_a_batch_without_candidates_asks_nothing(autojump_clock: MockClock) -> None:
    shelf = Shelf()
    replica = Replica(shelf)
    for offset in range(20):
        replica.add(offset, offset, 0, error=True)
    assert len(await replica.turn()) == 20
    assert shelf.read_ids == []
    assert len(shelf.written) == 1, "and what is delivered together is written together"


async def test_dropped_ones_are_told_only_where_that_is_asked_for(autojump_clock: MockClock) -> None:
    for remembers_dropped in (False, True):
        shelf = Shelf()
        replica = Replica(shelf, remembers_dropped=remembers_dropped)
        replica.add(0, 1, 0)
        await replica.turn()
        assert shelf.dropped == ({trace_id(1)} if remembers_dropped else set())


async def test_late_spans_cover_what_is_written(autojump_clock: MockClock) -> None:
    shelf = Shelf()
    replica = Replica(shelf)
    replica.add(0, 1, 0, error=True)
    await replica.turn()
    replica.add(1, 1, 1)
    await replica.turn()
    again = Replica(shelf)
    again.home = Partition(0, 0, 300_000, end=3)
    again.add(0, 1, 0, error=True)
    again.add(1, 1, 1)
    again.add(2, 1, 2)
    (late,) = await again.turn()
    assert late.spans == 1
    assert again.buffer.take_counts().duplicate_spans == 2
    assert again.home.ledger.low_water == 3


async def test_spans_read_again_from_below_the_low_water_are_not_late(autojump_clock: MockClock) -> None:
    """They are settled, and were counted when they were."""
    shelf = Shelf()
    replica = Replica(shelf)
    replica.add(0, 1, 0, error=True)
    await replica.turn()
    again = Replica(shelf)
    again.home = Partition(0, 1, 300_000, replay_from=0, end=2)
    again.add(0, 1, 0, error=True)
    again.add(1, 1, 1, 2)
    again.second += 1000
    again.buffer.reach(again.home, again.second * 1000)
    found = evaluate(await again.shared.recall(again.buffer.take()), again.sampler, again.buffer)
    assert [*found.late_spans.values()] == [2]
    assert again.buffer.take_counts().duplicate_spans == 0


async def test_what_a_later_version_wrote_is_judged_here(autojump_clock: MockClock) -> None:
    shelf = Shelf()
    await shelf.opened().write({trace_id(1): b'[2,"who knows"]'}, [], {0: 1})
    replica = Replica(shelf)
    replica.home = Partition(0, 0, 300_000, end=1)
    replica.add(0, 1, 0, error=True)
    (trace,) = await replica.turn()
    assert not trace.late
    assert replica.meter.by_label(measures.DECISION_LOOKUPS) == {("unreadable",): 1}


# -- who is not asked for


async def test_of_a_backlog_that_nobody_has_read_nothing_is_asked(autojump_clock: MockClock) -> None:
    shelf = Shelf()
    replica = Replica(shelf)
    replica.home = Partition(0, 0, 300_000, replay_secs=60, end=1000)
    for offset in range(100):
        replica.second += 1
        replica.add(offset, offset, 0, error=True)
    await replica.turn()
    assert len(shelf.kept) == 100
    assert (shelf.read_ids, shelf.reach_asked) == ([], 1)


async def test_after_a_kill_only_what_the_one_before_came_to_is_asked(autojump_clock: MockClock) -> None:
    shelf = Shelf()
    before = Replica(shelf)
    for offset in range(10):
        before.add(offset, offset, 0, error=offset == 5)
    await before.turn()
    again = Replica(shelf)
    again.home = Partition(0, 0, 300_000, replay_secs=60, end=1000)
    for offset in range(60):
        again.second = 100 + offset
        again.add(offset, offset, 0, error=offset == 5)
    await again.turn()
    asked = {id for ids in shelf.read_ids for id in ids}
    assert {trace_id(offset) for offset in range(6)} <= asked, "they lie below the one that was kept"
    assert trace_id(40) not in asked and trace_id(59) not in asked
    assert again.meter.by_label(measures.DECISION_LOOKUPS)["kept",] == 1


async def test_law_2_a_rest_in_a_backlog_follows_although_all_of_it_lies_above(autojump_clock: MockClock) -> None:
    """The root comes alone, so it is whole; that it began before says that it may be a rest."""
    shelf = Shelf()
    before = Replica(shelf)
    before.add(0, 1, 1, error=True)
    await before.turn()
    again = Replica(shelf)
    again.home = Partition(0, 0, 300_000, replay_secs=60, end=1000)
    again.start_ms = 100_000
    again.second = 900
    again.add(1, 2, 0)
    again.add(2, 1, 0)
    (late,) = await again.turn()
    assert (late.late, late.decision and late.decision.policy) == (True, "errors")


async def test_law_2_what_one_writes_who_has_lost_the_partition_is_found_too(autojump_clock: MockClock) -> None:
    shelf = Shelf()
    before, again = Replica(shelf), Replica(shelf)
    again.home = Partition(0, 0, 300_000, replay_secs=60, end=1000)
    for offset in range(2):
        before.add(offset, offset, 0, error=True)
        again.add(offset, offset, 0, error=True)
        again.second += 1000  # the log goes on, so that the next record closes this one
    assert [trace.late for trace in await again.decide()] == [False], "nothing is known yet"
    await before.turn()
    await trio.sleep(REACH_SECS)
    again.add(2, 2, 0)
    assert await again.decide() == []
    assert again.buffer.take_counts().duplicate_spans == 1


async def test_law_2_what_a_rebalance_brought_back_is_asked_anew(autojump_clock: MockClock) -> None:
    """Within a second another has had it, and decided."""
    shelf = Shelf()
    ours, other = Replica(shelf), Replica(shelf)
    ours.home = Partition(0, 0, 300_000, replay_secs=60, end=1000)
    ours.add(0, 1, 0)
    await ours.turn()
    other.add(1, 2, 0, error=True)
    await other.turn()
    ours.home = Partition(0, 1, 300_000, replay_secs=60, end=1000)
    ours.second = 100
    ours.add(1, 2, 0, error=True)
    assert await ours.turn() == []


async def test_dropped_ones_are_found_by_who_reads_them_again(autojump_clock: MockClock) -> None:
    shelf = Shelf()
    before, again = Replica(shelf, remembers_dropped=True), Replica(shelf, remembers_dropped=True)
    before.add(3, 1, 0)
    await before.turn()
    again.home = Partition(0, 0, 300_000, replay_secs=60, end=1000)
    again.add(3, 1, 0, error=True)
    assert await again.turn() == []
    assert again.meter.by_label(measures.DECISION_LOOKUPS) == {("dropped",): 1}


async def test_while_one_batch_waits_for_a_slow_redis_what_comes_late_of_it_waits_too(
    autojump_clock: MockClock,
) -> None:
    shelf = Shelf()
    replica = Replica(shelf)
    replica.add(0, 1, 0, error=True)
    await replica.turn()
    shelf.slow_secs = 3.0
    again = Replica(shelf)
    again.home = Partition(0, 0, 300_000, end=1)
    again.add(0, 1, 0, error=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(again.turn)
        await trio.sleep(1)
        again.add(1, 1, 1)
        again.add(2, 2, 0)
    assert len(again.delivered) == 1
    assert again.meter.by_label(measures.DECISION_LOOKUPS) == {("kept",): 1}
    assert again.home.ledger.low_water == 2


async def test_law_2_what_an_owner_between_has_sent_of_a_trace_of_ours_is_not_sent_again(
    autojump_clock: MockClock,
) -> None:
    """The partition goes and comes back: what is remembered here of the trace is older than what the other one did."""
    shelf = Shelf()
    here, there = Replica(shelf), Replica(shelf)
    here.add(0, 1, 0, error=True)
    await here.turn()
    there.home = Partition(0, 1, 300_000, end=1)
    there.add(1, 2, 0)
    there.add(2, 1, 1)
    (sent,) = await there.turn()
    assert (sent.trace_id, sent.late) == (trace_id(1), True)
    here.home = Partition(0, 1, 300_000, end=3)  # as 2 was still open there, it is read again
    here.add(1, 2, 0)
    here.add(2, 1, 1)
    here.add(3, 1, 2)
    (new,) = await here.turn()
    assert [offset for _, offset in new.holds()] == []  # settled
    assert (new.first_offset, new.late) == (3, True)
    assert here.buffer.take_counts().duplicate_spans == 1
    assert here.home.ledger.low_water == 4
    assert here.home.in_flight == 0
    here.add(4, 1, 3)
    (new,) = await here.turn()
    assert new.first_offset == 4, "and it goes on being kept"
