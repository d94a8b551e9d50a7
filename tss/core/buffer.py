"""The open traces, and the order in which the log closes them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection

import attrs

from tss.core.decision import Decision, Reason
from tss.core.errors import LawBroken
from tss.core.memory import Memory
from tss.core.otlp import Fragment
from tss.core.partition import Partition
from tss.core.record import Record
from tss.core.trace import Trace


@attrs.frozen
class Limits:
    """When the oldest traces are decided early (law 5).

    The bytes have three users with a share each, so that they add up to ``max_bytes`` whatever happens: open traces,
    closed traces on their way to a destination, ledgers. Only the first decides early in normal times, and it depends
    on the records and their order alone, not on how fast they are delivered: for one partition law 3 holds under
    pressure too. (Of several, the order in which they are read together is part of it.)
    """

    max_bytes: int
    max_spans: int
    max_traces: int
    max_trace_spans: int

    @property
    def open_bytes(self) -> int:
        """Above this the oldest open trace is decided early."""
        return self.max_bytes * 3 // 4

    @property
    def closed_bytes(self) -> int:
        """Above this no more traces are handed on until some have settled."""
        return self.max_bytes // 8

    @property
    def ledger_bytes(self) -> int:
        """Above this the oldest open trace, which is what holds the low water back, is decided early."""
        return self.max_bytes // 8


@attrs.frozen
class Waits:
    """How long a trace stays open, in milliseconds of stream time."""

    root_quiet_ms: int
    inactivity_ms: int
    max_duration_ms: int


@attrs.define
class Counts:
    """What the buffer has taken in since the counts were last taken."""

    records: int = 0
    replayed: int = 0
    traces: int = 0
    spans: int = 0
    absurd: int = 0
    duplicate_spans: int = 0
    late_dropped_spans: int = 0


class Buffer:
    """Adds records in log order; closed traces come out in the order in which the log closed them.

    All methods are synchronous, so that each record is taken in whole. Decisions depend on when a trace closes
    relative to the records before and after it, and that depends on record timestamps alone (law 3): deadlines are
    checked before each record is added, against the time that this record brings.
    """

    def __init__(self, limits: Limits, waits: Waits, memory: Memory) -> None:
        self.limits = limits
        self.memory = memory
        self.open_spans = 0
        self.open_bytes = 0
        self.closed_bytes = 0  # of what has closed and is not settled
        self._waits = waits
        self._counts = Counts()
        self._open: OrderedDict[bytes, Trace] = OrderedDict()  # oldest first
        self._closing: dict[bytes, Trace] = {}  # closed, not decided yet
        self._out: list[Trace] = []
        self._partitions: set[Partition] = set()

    def __repr__(self) -> str:
        return f"<Buffer {self.open_traces} open, {len(self._closing)} closing, {self.open_bytes + self.closed_bytes} bytes>"

    @property
    def open_traces(self) -> int:
        """Traces not closed yet."""
        return len(self._open)

    def take(self) -> list[Trace]:
        """What has closed since the last call, in order; late fragments among it, with their decision if it is known."""
        out, self._out = self._out, []
        return out

    def take_counts(self) -> Counts:
        """The counts since the last call."""
        counts, self._counts = self._counts, Counts()
        return counts

    # -- from the sweeper

    def add(self, partition: Partition, record: Record, wall_ms: int) -> None:
        """Take in one record: its time first, then what that time closes, then its spans."""
        if partition.revoked:
            return  # read before the partition went; its next owner reads it again
        if not partition.time.observe(record.timestamp_ms, wall_ms):
            self._counts.absurd += 1
        self._turn(partition)
        partition.mark(record.offset)
        self._counts.records += 1
        if record.offset >= partition.start:
            partition.ledger.read(record.offset)
        else:
            self._counts.replayed += 1
        for fragment in record.fragments:
            self._place(partition, record.offset, fragment)
            self._relieve()

    def reach(self, partition: Partition, wall_ms: int) -> None:
        """Nothing more is to be read up to this wall time: it moves stream time too."""
        if not partition.revoked:
            partition.time.reach(wall_ms)
            self._turn(partition)

    @property
    def ledger_bytes(self) -> int:
        """Bytes of the ledgers of all partitions that are ours."""
        return sum(partition.ledger.bytes for partition in self._partitions)

    @property
    def held_bytes(self) -> int:
        """All that the limit in bytes is about: open, closed and not settled, ledgers."""
        return self.open_bytes + self.closed_bytes + self.ledger_bytes

    def adopt(self, partition: Partition) -> None:
        """The partition is ours."""
        self._partitions.add(partition)

    def relieve_ledgers(self) -> None:
        """Decide what holds back the longest ledger early when all together take more than their share."""
        if self.ledger_bytes > self.limits.ledger_bytes:
            partition = max(self._partitions, key=lambda each: (each.ledger.bytes, -each.id))
            low_water = partition.ledger.low_water
            for trace in [*self._open.values()]:
                if any(piece.partition is partition and piece.offset <= low_water for piece in trace.pieces):
                    self._close(trace, Reason.PRESSURE)

    # -- from the evaluator and the committer

    def decided(self, trace: Trace, decision: Decision) -> list[Trace]:
        """A closed trace has its decision; returns it and the late fragments that waited for it, decided alike."""
        del self._closing[trace.trace_id]
        self.memory.decided(trace.trace_id, decision, (trace.home.id, trace.first_offset))
        late, trace.latecomers = trace.latecomers or [], None
        trace.seen = trace.missing = frozenset()  # only an open trace needs them
        together = [trace, *late]
        for each in together:
            each.decision = decision
            if decision.keeps:
                self.memory.sending(trace.trace_id, ((piece.partition.id, piece.offset) for piece in each.pieces))
        return together

    def settle(self, trace: Trace) -> None:
        """The trace has ended: its holds are released, and its bytes."""
        if trace.decision is not None and trace.decision.keeps:
            self.memory.delivered(trace.trace_id, [(piece.partition.id, piece.offset) for piece in trace.pieces])
        for piece in trace.pieces:
            piece.partition.in_flight -= 1
            # Of a revoked partition too: its last commit waits for what is in flight.
            piece.partition.ledger.settle(piece.offset)
        self.closed_bytes -= trace.size
        trace.pieces = []

    # -- from rebalances

    def forget(self, partitions: Collection[Partition]) -> None:
        """These are to be somebody else's: drop what is open on them; their next owner reads that again."""
        for partition in partitions:
            partition.revoked = True
            self._partitions.discard(partition)
        for trace in [*self._open.values()] if partitions else ():
            if trace.home.revoked or any(piece.partition.revoked for piece in trace.pieces):
                self._leave(trace)

    def _leave(self, trace: Trace) -> None:
        trace.pieces = [piece for piece in trace.pieces if not piece.partition.revoked]
        if not trace.home.revoked:
            return
        self._unschedule(trace)
        if trace.pieces:  # its spans are on two partitions (producers that do not agree on a partitioner)
            trace.home, trace.first_offset = trace.pieces[0].partition, trace.pieces[0].offset
            trace.first_ms = trace.last_ms = trace.home.time.now_ms
            self._schedule(trace)
        else:
            del self._open[trace.trace_id]
            self.open_spans -= trace.spans
            self.open_bytes -= trace.size

    # -- placing

    def _place(self, partition: Partition, offset: int, fragment: Fragment) -> None:
        settled = offset < partition.start
        if not settled:
            self._counts.spans += fragment.spans
        trace = self._open.get(fragment.trace_id)
        if trace is None:
            if self._is_decided(partition, offset, fragment):
                return
            trace = self._open[fragment.trace_id] = Trace(fragment.trace_id, partition, offset)
            trace.first_ms = partition.time.now_ms
            self.open_bytes += trace.size
            self._counts.traces += not settled
            if settled:
                partition.began(fragment.trace_id, offset)
        self.open_bytes += trace.absorb(fragment)
        self.open_spans += fragment.spans
        if not settled:
            self.open_bytes += trace.hold(partition, offset, fragment)
        if trace.spans >= self.limits.max_trace_spans:
            self._close(trace, Reason.SPAN_LIMIT)
        else:
            trace.last_ms = trace.home.time.now_ms
            self._schedule(trace)

    def _is_decided(self, partition: Partition, offset: int, fragment: Fragment) -> bool:
        """Whether the trace has closed before; if so the fragment has been dealt with: it follows (law 2)."""
        settled = offset < partition.start
        closing = self._closing.get(fragment.trace_id)
        if closing is not None:
            if not settled:
                late = self._latecomer(partition, offset, fragment)
                closing.latecomers = [*(closing.latecomers or ()), late]
            return True
        kept = self.memory.recall_kept(fragment.trace_id)
        if kept is not None:
            if settled:
                partition.knew(fragment.trace_id, offset)
                return True
            if kept.has_delivered(partition.id, offset):
                self._counts.duplicate_spans += fragment.spans
                return True
            late = self._latecomer(partition, offset, fragment)
            late.decision = kept.decision
            self.memory.sending(fragment.trace_id, [(partition.id, offset)])
            if kept.first[0] == partition.id:
                partition.ended(fragment.trace_id, kept.first[1])
            self._out.append(late)
            return True
        if self.memory.was_dropped(fragment.trace_id):
            if settled:
                partition.knew(fragment.trace_id, offset)
            else:
                self._counts.late_dropped_spans += fragment.spans
            return True
        return False

    def _latecomer(self, partition: Partition, offset: int, fragment: Fragment) -> Trace:
        late = Trace(fragment.trace_id, partition, offset)
        late.late = True
        late.absorb(fragment)
        late.hold(partition, offset, fragment)
        partition.in_flight += 1
        self.closed_bytes += late.size
        return late

    # -- closing

    def _schedule(self, trace: Trace) -> None:
        """File the trace in its partition's ring, unless an entry that comes early enough is there already."""
        home = trace.home
        if home.time.now_ms is None:
            home.unclocked.append(trace)
            return
        due = -(-self._deadline(trace)[0] // 1000)
        if not trace.due or due < trace.due:
            self._unschedule(trace)
            trace.due = home.ring.put(due * 1000, trace)

    def _unschedule(self, trace: Trace) -> None:
        if trace.due:
            trace.home.ring.remove(trace.due, trace)
            trace.due = 0

    def _deadline(self, trace: Trace) -> tuple[int, Reason]:
        waits = self._waits
        if trace.first_ms is None or trace.last_ms is None:
            raise LawBroken(f"{trace!r} has a deadline before its partition has a time: law 3 would break")
        complete = trace.complete
        quiet = trace.last_ms + (waits.root_quiet_ms if complete else waits.inactivity_ms)
        limit = trace.first_ms + waits.max_duration_ms
        if limit <= quiet:
            return limit, Reason.MAX_DURATION
        return quiet, Reason.ROOT_QUIET if complete else Reason.INACTIVE

    def _turn(self, partition: Partition) -> None:
        """Close what this partition's time has made ripe."""
        now_ms = partition.time.now_ms
        if now_ms is None:
            return
        if partition.unclocked:
            self._clock(partition, now_ms)
        if not partition.ring.is_due(now_ms):
            return
        for _, trace in partition.ring.turn(now_ms):
            trace.due = 0
            deadline_ms, reason = self._deadline(trace)
            if -(-deadline_ms // 1000) * 1000 <= now_ms:
                self._close(trace, reason)
            else:
                self._schedule(trace)

    def _clock(self, partition: Partition, now_ms: int) -> None:
        """The partition has its first believable time: it is the one of everything read before."""
        waiting, partition.unclocked = partition.unclocked, []
        for trace in waiting:
            if trace.home is partition and trace.reason is None and not trace.due:
                trace.first_ms = trace.last_ms = now_ms
                self._schedule(trace)

    def _close(self, trace: Trace, reason: Reason) -> None:
        self._unschedule(trace)
        trace.reason = reason
        trace.closed_ms = trace.home.time.now_ms
        trace.home.ended(trace.trace_id, trace.first_offset)
        del self._open[trace.trace_id]
        self._closing[trace.trace_id] = trace
        for piece in trace.pieces:
            piece.partition.in_flight += 1
        self.open_spans -= trace.spans
        self.open_bytes -= trace.size
        self.closed_bytes += trace.size
        self._out.append(trace)

    def _relieve(self) -> None:
        """Decide the oldest traces early until the open ones fit."""
        limits = self.limits
        while self._open and (
            self.open_bytes > limits.open_bytes
            or self.open_spans > limits.max_spans
            or len(self._open) > limits.max_traces
        ):
            self._close(next(iter(self._open.values())), Reason.PRESSURE)
