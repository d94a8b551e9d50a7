"""What one incarnation of the daemon did, seen from inside: a buffer that tells what it takes in, closes and decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import attrs

from tests.fakes.kafka import FakeMember
from tests.fakes.meter import FakeMeter
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.conditions.program import ASKS_NOTHING, Program
from tss.core.decision import Decision, Reason, Verdict
from tss.core.holds import RECORD_BYTES
from tss.core.memory import Kept, Memory
from tss.core.otlp import Records
from tss.core.parked import Summary
from tss.core.partition import Partition
from tss.core.tally import Tally
from tss.core.trace import TRACE_BYTES, Trace
from tss.daemon import wiring
from tss.state.lane import Lane
from tss.state.rulesets import Rulesets

DROPPED = Decision(Verdict.DROP, "somebody else's", Reason.INACTIVE, 0.0)  # more is not remembered of it
Place = tuple[int, int]  # (partition, offset)


@attrs.define
class Group:
    """All that came of one trace in one incarnation: before it closed, and after."""

    known: list[Place] = attrs.field(factory=list)  # what the decision could see
    early: list[tuple[Partition, int]] = attrs.field(factory=list)
    late: list[tuple[Partition, int]] = attrs.field(factory=list)
    reason: Reason | None = None  # set when it closed
    decision: Decision | None = None


@attrs.define
class Ruling:
    """One decision, as the laws look at it."""

    incarnation: int
    trace_id: bytes
    decision: Decision
    known: tuple[Place, ...]
    starts: tuple[tuple[int, int], ...]  # (partition, committed offset it was taken up from)
    moment: int


@attrs.define
class Incarnation:
    """One life of one replica."""

    serial: int
    replica: str
    meter: FakeMeter = attrs.field(factory=FakeMeter, repr=False)
    member: FakeMember | None = None
    buffer: WatchedBuffer | None = None
    groups: dict[bytes, Group] = attrs.field(factory=dict, repr=False)
    rulings: list[Ruling] = attrs.field(factory=list, repr=False)
    counted: Counter[str] = attrs.field(factory=Counter, repr=False)  # what its meter should say
    decided: Counter[tuple[str, str, str]] = attrs.field(factory=Counter, repr=False)
    excess_bytes: int = 0  # held beyond the limit, one trace and one record
    rulesets: Rulesets | None = None
    lanes: dict[str, Lane] = attrs.field(factory=dict, repr=False)
    stop_asked_at: float | None = None
    ended: str = ""  # "stopped", "restarted", "killed"
    hurried: bool = False  # stopped before what was in hand was delivered


LIVING: ContextVar[Incarnation] = ContextVar("LIVING")


@attrs.frozen
class Hearing:
    """Where the world hears of what happens inside."""

    tell: Callable[[str], None]
    excuse: Callable[[Partition, int, bytes], None]  # this place need not be delivered for this trace: it was dropped
    broken: Callable[[str], None]
    has: Callable[[int, int, bytes], bool]  # whether a record has spans of a trace
    moment: Callable[[], int]
    waits: Waits  # of a Collector's section; 0: off
    max_trace_bytes: int  # the same


HEARING: ContextVar[Hearing] = ContextVar("HEARING")


class WatchedBuffer(Buffer):
    """The buffer itself, and a diary."""

    def __init__(
        self,
        limits: Limits,
        waits: Waits,
        memory: Memory,
        *,
        observed: bool = False,
        program: Program = ASKS_NOTHING,
        tally: Tally | None = None,
    ) -> None:
        self.hearing = HEARING.get()
        theirs = self.hearing.waits
        super().__init__(
            attrs.evolve(limits, max_trace_bytes=self.hearing.max_trace_bytes),
            attrs.evolve(waits, decision_wait_ms=theirs.decision_wait_ms, root_wait_ms=theirs.root_wait_ms),
            memory,
            observed=observed,
            program=program,
            tally=tally,
        )
        self.life = LIVING.get()
        self.life.buffer = self
        self.largest = 0  # bytes of the largest trace so far

    def _add(self, partition: Partition, records: Records, number: int, wall_ms: int) -> None:
        fragments = records.fragments(number)
        if not partition.revoked:
            self.life.counted["records"] += 1
            if records.place(number)[1] >= partition.start:
                self.life.counted["spans"] += sum(fragment.spans for fragment in fragments)
            else:
                self.life.counted["replayed"] += 1
        super()._add(partition, records, number, wall_ms)
        arrived = sum(
            TRACE_BYTES + 2 * RECORD_BYTES + 125 * fragment.spans + len(fragment.payload) for fragment in fragments
        )
        spare, limits = self.largest + arrived, self.limits
        excess = (
            self.open_bytes + self.closed_bytes - limits.max_bytes - spare,
            self.open_bytes - limits.open_bytes - spare,
        )
        self.life.excess_bytes = max(self.life.excess_bytes, *excess)

    def decided(self, trace: Trace, decision: Decision) -> list[Trace]:
        together = super().decided(trace, decision)
        group = self.life.groups[trace.trace_id]
        if group.decision is not None:
            self.hearing.broken(f"law 4: {trace!r} decided twice in incarnation {self.life.serial}")
        group.decision = decision
        starts = tuple(dict.fromkeys((partition.id, partition.start) for partition, _ in group.early))
        ruling = Ruling(self.life.serial, trace.trace_id, decision, tuple(group.known), starts, self.hearing.moment())
        self.life.rulings.append(ruling)
        if trace.is_held():
            self.life.decided[decision.policy, decision.verdict.value, decision.reason.value] += 1
        self.hearing.tell(
            f"#{self.life.serial} decides {trace.trace_id.hex()[:8]}: {decision.verdict.value} by {decision.policy} "
            f"({decision.reason.value}), {trace.spans} spans, knew {group.known}"
        )
        if not decision.keeps:
            for partition, offset in (*group.early, *group.late):
                self._excuse(partition, offset, trace.trace_id)
        return together

    def kept_elsewhere(self, trace: Trace, known: Kept) -> list[Trace]:
        self.hearing.tell(f"#{self.life.serial} recalls that {trace.trace_id.hex()[:8]} was kept: {known!r}")
        if not trace.late:  # else it is decided, and counted, already
            self.life.groups[trace.trace_id].decision = known.decision
            self.life.counted["late spans"] += trace.held_spans
        return super().kept_elsewhere(trace, known)

    def dropped_elsewhere(self, trace: Trace) -> None:
        self.hearing.tell(f"#{self.life.serial} recalls that {trace.trace_id.hex()[:8]} was dropped")
        group = self.life.groups[trace.trace_id]
        group.decision = DROPPED
        self.life.counted["late spans"] += trace.held_spans
        for partition, offset in (*group.early, *group.late):
            self._excuse(partition, offset, trace.trace_id)
        super().dropped_elsewhere(trace)

    def take_over(
        self,
        partition: Partition,
        summaries: Mapping[bytes, Summary],
        rules: Program | None = None,
        programs: Mapping[str, Program] | None = None,
    ) -> list[bytes]:
        clashing = super().take_over(partition, summaries, rules, programs)
        for trace_id, summary in summaries.items():
            trace = self._open.get(trace_id)
            if trace is not None and trace.taken_over and trace.home is partition:
                offsets = range(summary.first_offset, summary.parked_to + 1)
                places = [(partition.id, each) for each in offsets if self.hearing.has(partition.id, each, trace_id)]
                self.life.groups[trace_id] = Group(places, [(partition, offset) for _, offset in places])
                self.hearing.tell(f"#{self.life.serial} takes {trace_id.hex()[:8]} over: {places}")
        return clashing

    def forget(self, partitions: Collection[Partition]) -> None:
        super().forget(partitions)
        for trace_id, group in [*self.life.groups.items()]:
            if group.reason is None:
                if trace_id not in self._open:
                    del self.life.groups[trace_id]
                group.early = [each for each in group.early if each[0] not in partitions]

    def _place(self, partition: Partition, offset: int, records: Records, at: int) -> None:
        trace_id, spans = records.trace_id(at), len(records.span_ids(at)) // 8
        trace = self._open.get(trace_id) or self._closing.get(trace_id)
        if trace is not None and trace.home is partition and offset <= trace.parked_to:  # read again, and passed over
            if offset >= partition.start:
                self.life.counted["spans"] -= spans
            super()._place(partition, offset, records, at)
            return
        group = self._group(trace_id)
        if group.reason is None:
            group.known.append((partition.id, offset))
            group.early.append((partition, offset))
        else:
            group.late.append((partition, offset))
            if offset >= partition.start:
                self.life.counted["late spans"] += spans
            if group.decision is not None and not group.decision.keeps:
                self._excuse(partition, offset, trace_id)
        super()._place(partition, offset, records, at)

    def _group(self, trace_id: bytes) -> Group:
        group = self.life.groups.setdefault(trace_id, Group())
        if group.reason is not None and group.decision is None and trace_id not in self._closing:
            # What had closed was given back undecided, and is read again.
            group = self.life.groups[trace_id] = Group()
        return group

    def _close(self, trace: Trace, reason: Reason) -> None:
        group = self.life.groups[trace.trace_id]
        if group.reason is not None:
            self.hearing.broken(f"law 4: {trace!r} closed twice in incarnation {self.life.serial}")
        group.reason = reason
        self.largest = max(self.largest, trace.size)
        super()._close(trace, reason)

    def _excuse(self, partition: Partition, offset: int, trace_id: bytes) -> None:
        # Also of a revoked partition: what closed before that is decided, and the last commit waits for it.
        self.hearing.excuse(partition, offset, trace_id)


@contextmanager
def watched() -> Iterator[None]:
    """Let every daemon started meanwhile have a watched buffer."""
    wired: Any = wiring
    original, wired.Buffer = wired.Buffer, WatchedBuffer
    try:
        yield
    finally:
        wired.Buffer = original
