"""The buffer of open traces. Stream time closes them, and closed traces leave it in the order in which they closed."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

import attrs

from tss.core.conditions.program import ASKS_NOTHING, Program
from tss.core.decision import Decision, Reason
from tss.core.decision_log import DecisionLog
from tss.core.decision_rows import RowQueue
from tss.core.errors import LawBroken
from tss.core.ledger import CHUNK_RECORDS
from tss.core.memory import KEPT, UNDECIDED, UNKNOWN, Kept, Memory
from tss.core.names import OTHER, Names
from tss.core.opentraces import OpenTraces
from tss.core.otlp import Records, Scanner
from tss.core.packing import Packed, Packer
from tss.core.parked import Summary, facts_of
from tss.core.partition import Partition
from tss.core.streamtime import NO_TIME
from tss.core.tally import Tally
from tss.core.trace import Trace

QUIET_MS = 2_000  # a trace is packed after this much stream time without a span: its next span may take long
QUIET_FRAGMENTS = 20_000  # a trace is also packed after this many fragments of other traces
# Offsets between two calls of `Partition.forget_delivered`. Not every offset has a record, because transactions and
# compaction leave gaps.
FORGET_RECORDS = 1024
# Memory of a kept trace during its delivery, in addition to its own bytes. The decision memory uses 220 bytes for a set
# and an entry (tests/core/test_memory.py). The exporter uses 60 bytes to count the destinations without the trace.
SENT_BYTES = 280
SENT_RECORD_BYTES = 130
NOTED_BYTES = 160  # memory of a late fragment in ``_noted``: a tuple, a list, and the entry in the outer list
NO_LIMIT = 1 << 62
PACKS_AT_ONCE = 2  # traces packed for each fragment while memory is short: a fragment opens only one at most


@attrs.frozen
class Limits:
    """The limits above which the oldest open traces are decided early (law 5).

    Each use of memory has a fixed share of ``max_bytes``, so all uses together stay within it. In 64ths:

    - 32 for open traces
    - 8 for closed traces that are not settled yet
    - 8 for ledgers
    - 5 for the decision memory
    - 4 for polled records that are not in the buffer yet
    - 4 for the log of the last decisions
    - 2 for the traces that are kept as examples, for the names of services and root spans, and
      for rows of decisions that wait to be written
    - 1 for samples to train a dictionary

    In normal operation only the share of open traces causes early decisions. Its use depends only on the records and
    their order, not on how fast traces are delivered. So law 3 holds under memory pressure too, for one partition.
    With several partitions, early decisions also depend on the order in which the partitions are read.

    After an assignment, entries read back from the output topic use up to half of the share of open traces.
    """

    max_bytes: int
    max_spans: int
    max_traces: int
    max_trace_spans: int
    max_trace_bytes: int = 0
    """A trace whose spans have more bytes than this, as serialized TracesData before packing, is closed at once and
    dropped. 0: no limit."""

    @property
    def loose_bytes(self) -> int:
        """Above this, quiet open traces are packed, to avoid early decisions: two thirds of ``open_bytes``."""
        return self.max_bytes * 21 // 64

    @property
    def open_bytes(self) -> int:
        """Above this, the oldest open trace is decided early."""
        return self.max_bytes * 32 // 64

    @property
    def closed_bytes(self) -> int:
        """Above this, no more closed traces are handed on until some have settled."""
        return self.max_bytes // 8

    @property
    def ledger_bytes(self) -> int:
        """Above this, the open traces that hold back the low water are decided early.

        Half of it is for the offsets where remembered traces were met first. Above that, the older half is forgotten.
        """
        return self.max_bytes // 8

    @property
    def shelf_bytes(self) -> int:
        """Above this, no more traces are parked, because ended traces are not removed from Redis as fast.

        It is a quarter of ``ledger_bytes``.
        """
        return self.ledger_bytes // 4

    @property
    def memory_bytes(self) -> int:
        """The limit of the decision memory."""
        return self.max_bytes * 5 // 64

    @property
    def poll_bytes(self) -> int:
        """Above this, a poll ends. Four polls share 4/64: two wait, one is being added, and the reader holds one."""
        return self.max_bytes // 64

    @property
    def name_bytes(self) -> int:
        """Above this, new names of services and root spans are counted as one, at most 1 MiB."""
        return min(1 << 20, self.max_bytes // 256)

    @property
    def row_bytes(self) -> int:
        """Above this, rows of decisions that wait to be written are lost."""
        return self.max_bytes // 256

    @property
    def sample_bytes(self) -> int:
        """Above this, no more samples are taken for a dictionary. Training needs at least 256 KiB."""
        return max(1 << 18, self.max_bytes // 64)

    @property
    def log_bytes(self) -> int:
        """The limit of the log of the last decisions."""
        return self.max_bytes * 4 // 64

    @property
    def reservoir_bytes(self) -> int:
        """The limit of the traces that are kept as examples."""
        return self.max_bytes * 2 // 64 - self.name_bytes - self.row_bytes


@attrs.frozen
class Waits:
    """How long a trace stays open, in milliseconds of stream time.

    The first three are ours. The last two are those of a Collector's section, and 0 means that they are off. If
    ``decision_wait_ms`` is on, a trace closes that long after its first record. With ``root_wait_ms`` it closes that long
    after its root arrived, if this is earlier. Then the first three have no effect.
    """

    root_quiet_ms: int
    inactivity_ms: int
    max_duration_ms: int
    decision_wait_ms: int = 0
    root_wait_ms: int = 0

    @property
    def shortest_ms(self) -> int:
        """No trace closes earlier than this after its root arrived, except because of a limit."""
        if self.decision_wait_ms:
            return min(self.decision_wait_ms, self.root_wait_ms or self.decision_wait_ms)
        return self.root_quiet_ms


@attrs.define
class Counts:
    """What the buffer counted since the last `Buffer.take_counts`."""

    records: int = 0
    replayed: int = 0
    traces: int = 0
    spans: int = 0
    absurd: int = 0
    duplicate_spans: int = 0
    late_dropped_spans: int = 0
    evicted: int = 0
    on_two_partitions: int = 0
    packed_traces: int = 0
    packed_saved_bytes: int = 0
    given_up: int = 0


class Buffer:
    """Takes the records of each partition in offset order. Gives closed traces in the order in which they closed.

    All methods are synchronous, so each record is added as a whole. A decision depends on which records are added
    before the trace closes, and that depends only on record timestamps (law 3). So deadlines are checked before each
    record is added, with the stream time that this record sets.
    """

    __slots__ = (
        "_absurd", "_closing", "_decision_wait_ms", "_duplicate_spans", "_fragments", "_given_up", "_inactivity_ms", "_late_dropped_spans", "_max_closed_bytes",
        "_max_duration_ms", "_max_loose_bytes", "_max_open_bytes", "_max_open_spans", "_max_open_traces",
        "_max_trace_bytes", "_max_trace_spans", "_names", "_next_look", "_noted", "_noted_bytes", "_notes_late", "_open", "_out", "_packed_saved_bytes", "_packed_traces", "_partitions", "_program", "_records",
        "_replayed", "_root_quiet_ms", "_root_wait_ms", "_shortest_wait_ms", "_spans", "_told_on_two_partitions", "_traces", "closed_bytes", "limits", "log", "memory",
        "on_two_partitions", "open_bytes", "open_spans", "packer", "polled_bytes", "remembered_bytes", "row_queues", "tally",
    )  # fmt: skip

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
        """``program`` is that of traces that are taken over, where theirs is not known."""
        self.limits = limits
        self.memory = memory
        self.log = DecisionLog(limits.log_bytes)
        self.packer = Packer(limits.sample_bytes)
        self.remembered_bytes = 0  # of the scanner's answers to values that it has met
        self.tally = tally or Tally(Names(limits.name_bytes))
        self._names = self.tally.names
        self.row_queues: Sequence[RowQueue] = ()
        self.polled_bytes = 0  # of records that were fetched or polled, and are not in the buffer yet
        self.open_spans = 0
        self.open_bytes = 0
        self.closed_bytes = 0  # of traces that closed and have not settled
        # Copies, because they are read for each record or fragment.
        self._root_quiet_ms = waits.root_quiet_ms
        self._inactivity_ms = waits.inactivity_ms
        self._max_duration_ms = waits.max_duration_ms
        self._decision_wait_ms = waits.decision_wait_ms
        self._root_wait_ms = waits.root_wait_ms
        self._shortest_wait_ms = waits.shortest_ms
        self._max_loose_bytes = limits.loose_bytes
        self._max_open_bytes = limits.open_bytes
        self._max_closed_bytes = limits.closed_bytes
        self._max_open_spans = limits.max_spans
        self._max_open_traces = limits.max_traces
        self._max_trace_spans = limits.max_trace_spans
        self._max_trace_bytes = limits.max_trace_bytes or NO_LIMIT
        self._program = program
        self._open = OpenTraces()
        self._next_look: Trace | None = None  # where `to_park` resumes
        self._fragments = 0  # how many have been placed
        self._closing: dict[bytes, Trace] = {}  # closed traces without a decision
        self._out: list[Trace] = []
        self._partitions: set[Partition] = set()
        self.on_two_partitions = 0  # traces on several partitions: producers use different partitioners, or no keys
        self._told_on_two_partitions = 0
        # Late spans of dropped traces are not exported, but the observers of all traffic must see them (law 7).
        self._notes_late = observed
        self._noted: list[tuple[bytes, list[bytes]]] = []
        self._noted_bytes = 0  # only of traces that another replica dropped: no current batch holds these bytes
        self._clear_counts()

    def __repr__(self) -> str:
        return f"<Buffer {self.open_traces} open, {len(self._closing)} closing, {self.open_bytes + self.closed_bytes} bytes>"

    @property
    def open_traces(self) -> int:
        """How many traces are open."""
        return len(self._open)

    def take(self) -> list[Trace]:
        """The traces that closed since the last call, in the order in which they closed.

        Late fragments of kept traces are among them, each as a `Trace` with its decision.
        """
        out, self._out = self._out, []
        return out

    def take_late_dropped(self) -> list[tuple[bytes, list[bytes]]]:
        """Late spans of dropped traces since the last call, as (trace id, list of serialized TracesData).

        The list is empty unless the buffer is ``observed``. The current batch holds the bytes of these spans, so call
        this before the batch is released (law 5). If no batch holds them, the buffer counts them until this call.
        """
        noted, self._noted, self._noted_bytes = self._noted, [], 0
        return noted

    def take_counts(self) -> Counts:
        """The counts since the last call of this method."""
        counts = Counts(
            records=self._records,
            replayed=self._replayed,
            traces=self._traces,
            spans=self._spans,
            absurd=self._absurd,
            duplicate_spans=self._duplicate_spans,
            late_dropped_spans=self._late_dropped_spans,
            evicted=self.memory.take_evictions(),
            on_two_partitions=self.on_two_partitions - self._told_on_two_partitions,
            packed_traces=self._packed_traces,
            packed_saved_bytes=self._packed_saved_bytes,
            given_up=self._given_up,
        )
        self._told_on_two_partitions = self.on_two_partitions
        self._clear_counts()
        return counts

    def _clear_counts(self) -> None:
        self._records = self._replayed = self._traces = self._spans = self._absurd = 0
        self._duplicate_spans = self._late_dropped_spans = self._packed_traces = self._packed_saved_bytes = 0
        self._given_up = 0

    def undecided(self, trace_id: bytes) -> Trace | None:
        """The trace if it is open, or has closed and waits for its decision."""
        trace = self._open.get(trace_id)
        return self._closing.get(trace_id) if trace is None else trace

    # -- called by the sweeper

    def add_some(self, partition: Partition, records: Records, first: int, stop: int, wall_ms: int) -> int:
        """Add the records of this partition from number ``first`` to before ``stop``. Returns the number of the next to add.

        It stops earlier if closed traces exceed ``Limits.closed_bytes``.
        """
        while first < stop:
            self._add(partition, records, first, wall_ms)
            first += 1
            if self.closed_bytes > self._max_closed_bytes:
                break
        return first

    def add(self, partition: Partition, records: Records, wall_ms: int) -> None:
        """Add all records, which are of this partition."""
        for number in range(len(records)):
            self._add(partition, records, number, wall_ms)

    def _add(self, partition: Partition, records: Records, number: int, wall_ms: int) -> None:
        """Add one record: set the stream time, close the traces that are due, then place the fragments."""
        if partition.revoked:
            return  # it was polled before the revocation; the next owner reads it again
        record = records.record(number)
        if not partition.time.observe(record.timestamp_ms, wall_ms):
            self._absurd += 1
        self._turn(partition)
        partition.mark(record.offset)
        if partition.delivered is not None and record.offset >= partition.next_look:
            partition.forget_delivered(record.offset)
            partition.next_look = record.offset + FORGET_RECORDS
            self._share()
        self._records += 1
        if record.offset >= partition.start:
            partition.ledger.read(record.offset)
        else:
            self._replayed += 1
        for at in range(record.first, record.stop):
            self._place(partition, record.offset, records, at)
            self._relieve()

    def reach(self, partition: Partition, wall_ms: int) -> None:
        """The partition was read to its end at ``wall_ms``, so the wall clock moves its stream time too."""
        if not partition.revoked:
            partition.time.reach(wall_ms)
            partition.reached()
            if partition.delivered is not None:
                partition.forget_delivered(partition.ledger.next)
                self._share()
            self._turn(partition)

    @property
    def ledger_bytes(self) -> int:
        """Memory in bytes of the ledgers and of all other notes about the assigned partitions."""
        return sum([partition.held_bytes for partition in self._partitions]) + self.shelf_bytes

    @property
    def shelf_bytes(self) -> int:
        """The part of ``ledger_bytes`` that is for notes about parked traces."""
        return sum([partition.shelf_bytes for partition in self._partitions])

    @property
    def recalled_bytes(self) -> int:
        """Memory in bytes of the entries read back from the output topic that no position has passed yet."""
        return sum([partition.delivered_bytes for partition in self._partitions])

    def _share(self) -> None:
        given = min(self.recalled_bytes, self.limits.open_bytes // 2)
        self._max_open_bytes = self.limits.open_bytes - given
        self._max_loose_bytes = max(0, self.limits.loose_bytes - given)

    def ahead_secs(self, wall_ms: int) -> float:
        """How many seconds record timestamps are ahead of the wall clock: the maximum over all partitions."""
        return max([each.time.ahead_ms(wall_ms) for each in self._partitions], default=0) / 1000

    def reach_secs(self) -> float:
        """For how many seconds of stream time decisions are remembered: the minimum over all partitions."""
        timed = [each for each in self._partitions if each.time.now_ms >= 0]
        return min([self.memory.reach_secs(each.id, each.time.now_ms) for each in timed], default=0.0)

    def forgets_too_early(self) -> bool:
        """Whether a partition forgets decisions before the shortest wait is over, because memory is short.

        If so, a span that is late by this wait (``rootQuietSecs``, in most settings) would open a new trace.
        """
        cut = [each for each in self._partitions if each.time.now_ms >= 0 and self.memory.is_cut(each.id)]
        shortest = min([self.memory.reach_secs(each.id, each.time.now_ms) for each in cut], default=math.inf)
        return 1000 * shortest < self._shortest_wait_ms

    @property
    def held_bytes(self) -> int:
        """All memory in bytes that ``Limits.max_bytes`` limits."""
        return sum(self.held_by_kind().values())

    def held_by_kind(self) -> dict[str, int]:
        """The same, by use."""
        return {
            "open": self.open_bytes,
            "closed": self.closed_bytes,
            "ledgers": self.ledger_bytes,
            "decisions": self.memory.held_bytes,
            "decision_log": self.log.held_bytes,
            "polled": self.polled_bytes + NOTED_BYTES * len(self._noted) + self._noted_bytes,
            "samples": self.packer.sample_bytes,
            "counts": self.tally.held_bytes,
            "decision_rows": sum([each.held_bytes for each in self.row_queues]),
            "recalled": self.recalled_bytes,
            "answers": self.remembered_bytes,
        }

    def adopt(self, partition: Partition) -> None:
        """The partition was assigned to this replica."""
        self._partitions.add(partition)
        self._share()
        for trace_id, known in (partition.delivered or {}).items():
            if self.memory.covering(trace_id) is None:  # for late spans above the delivered offsets
                self.memory.keep(trace_id, known.decision, (partition.id, known.first))

    # -- parking

    def take_over(
        self,
        partition: Partition,
        summaries: Mapping[bytes, Summary],
        rules: Program | None = None,
        programs: Mapping[str, Program] | None = None,
    ) -> list[bytes]:
        """Open the traces that an earlier owner of the partition parked. ``programs``: those whose facts can be read, by
        fingerprint.

        They get deadlines once the partition has a stream time. Returns the trace ids that are already open or closing
        here because of another partition. Two traces cannot have the same id, so these are not opened.
        """
        shelf = partition.shelf
        clashing: list[bytes] = []
        if shelf is None:
            return clashing
        for trace_id, summary in summaries.items():
            if self._has_ended(partition, trace_id, summary.parked_to):
                shelf.end(trace_id, summary.parked_to)
                continue
            shelf.put(trace_id, summary.first_offset)
            if trace_id in self._open or trace_id in self._closing:
                clashing.append(trace_id)
                continue
            trace = Trace(trace_id, partition, summary.first_offset)
            trace.take_over(summary, rules, (programs or {}).get(summary.program, self._program))
            trace.service = self._names.services.number(summary.service.encode())
            trace.root_name = self._names.roots.number(summary.root_name.encode())
            self._open.add(trace)
            self.open_bytes += trace.size
            self.open_spans += trace.spans
            partition.unclocked[trace] = None
        return clashing

    def _has_ended(self, partition: Partition, trace_id: bytes, parked_to: int) -> bool:
        """Whether this replica dropped the trace, or kept it and delivered its parked spans: Redis may remove it."""
        kept = self.memory.recall_kept(trace_id, 0, (partition.id, 0))
        if kept is not None:
            return kept.has_delivered_up_to(partition.id, parked_to)
        return self.memory.was_dropped(trace_id)

    def to_park(self, after_ms: int, looks: int) -> list[Trace]:
        """The next open traces that can be parked and have held a record for ``after_ms`` of stream time.

        Each call checks at most ``looks`` traces, from the oldest to the newest, and resumes where the last call ended.
        A parked trace counts as the newest. So the order is roughly that in which traces began to hold a record.
        """
        found: list[Trace] = []
        trace = self._next_look
        if trace is None or self._open.get(trace.trace_id) is not trace:
            trace = self._open.oldest
        while trace is not None and looks > 0:
            looks -= 1
            home: Partition = trace.home
            if home.shelf is not None and trace.may_be_parked() and 0 <= trace.held_ms <= home.time.now_ms - after_ms:
                found.append(trace)
            trace = trace.newer
        self._next_look = trace
        return found

    def leave(self, trace: Trace) -> tuple[Summary, list[bytes | Packed]]:
        """Begin to park the spans that the trace holds. Returns its summary with its names, and the chunks to write."""
        summary, chunks = trace.leave()
        return attrs.evolve(summary, service=self.service_of(trace), root_name=self.root_of(trace)), chunks

    def service_of(self, trace: Trace) -> str:
        """The name of the trace's service; empty if it is unknown."""
        return self._names.services.texts[trace.service] if trace.service > OTHER else ""

    def root_of(self, trace: Trace) -> str:
        """The name of the trace's root span; empty if it is unknown."""
        return self._names.roots.texts[trace.root_name] if trace.root_name > OTHER else ""

    def park(self, trace: Trace) -> None:
        """Redis has the spans that the trace was to park: release them here.

        The trace keeps them if it has closed meanwhile, if its partition was revoked, or if it is on two partitions.
        """
        home: Partition = trace.home
        if trace.reason is None and trace.is_leaving() and not home.revoked and trace.further is None:
            self.open_bytes -= trace.park()
            home.parked(trace.trace_id, trace.first_offset)
            self._open.renew(trace)
        else:
            trace.stay()

    def come_back(self, trace: Trace, frames: list[Packed]) -> None:
        """Give a closed trace its parked spans back."""
        self.closed_bytes += trace.come_back(frames)

    def rescan(self, trace: Trace, scanner: Scanner, program: Program) -> None:
        """Make the facts of a closed trace anew, from its spans. ``scanner`` has this program."""
        self.closed_bytes += trace.rescan(facts_of(trace.chunks(), scanner, program), program)

    def translate(self, trace: Trace, program: Program) -> None:
        """Make the facts of a closed trace those of this program (see `Trace.can_tell`)."""
        self.closed_bytes += trace.translate(program)

    def withdraw(self, trace: Trace) -> bool:
        """Give up a closed trace whose parked spans cannot be fetched: its partition was revoked, or is read again.

        Returns False if the trace must still be decided here. One reason is a record on a partition that is still
        assigned. The other reason is a deleted topic: no other replica can read the spans that are in memory here.
        """
        home: Partition = trace.home
        latecomers = trace.latecomers or []
        if home.replaced:
            self._given_up += 1
            self._leave_out(trace, {(home.id, trace.parked_to)})
            if trace.spans:
                return False
        if trace.further is not None or [late for late in latecomers if not late.home.revoked]:
            freed = trace.let_go(home)
            trace.size -= freed
            self.closed_bytes -= freed
            return False
        if trace.decision is None:
            self._stop_closing(trace)
        else:  # late spans under another replica's decision
            self.memory.settled(trace.trace_id)
        for each in [trace, *latecomers]:
            self.closed_bytes -= each.size
            each.let_go(each.home)
        return True

    def relieve_ledgers(self) -> None:
        """If the ledgers exceed their share, decide early the traces that hold back the longest ledger."""
        if self.ledger_bytes <= self.limits.ledger_bytes // 2:
            return
        if sum([each.replay.met_bytes for each in self._partitions]) > self.limits.ledger_bytes // 2:
            _, _, most = max([(each.replay.met_bytes, -each.id, each) for each in self._partitions])
            most.replay.shorten()
        if self.ledger_bytes <= self.limits.ledger_bytes:
            return
        _, _, longest = max([(each.held_bytes, -each.id, each) for each in self._partitions])
        oldest = longest.ledger.low_water | (CHUNK_RECORDS - 1)  # memory is freed only for a whole chunk
        for trace in self._open.all():
            if trace.holds_up_to(longest, oldest):
                self._close(trace, Reason.PRESSURE)

    # -- called by the evaluator and the committer

    def decided(self, trace: Trace, decision: Decision) -> list[Trace]:
        """Apply the decision about a closed trace. Returns the trace and the late fragments that waited for it.

        The late fragments get the same decision.
        """
        together = self._together(trace)
        if decision.keeps:
            first = _first_to_replay(trace)
            rv = trace.given_randomness() if decision.weighted else -1
            self.memory.keep(trace.trace_id, decision, (trace.home.id, first), trace.number, rv)
            for each in together:
                self._send(each, _places(each), _parked(each))
        else:
            self.memory.drop(trace.trace_id, trace.number)
        for each in together:
            each.decision = decision
        return together

    def kept_elsewhere(self, trace: Trace, known: Kept) -> list[Trace]:
        """Redis says that this closed trace was kept before. This replica remembers that decision from now on.

        Records that every destination has are settled, and are not sent again. Returns the trace and the late fragments
        that have other records: they count as late, and follow the same decision.
        """
        if trace.late:
            return self._sent_elsewhere(trace, known)
        home: Partition = trace.home
        together = self._together(trace)
        known = self.memory.learn(trace.trace_id, known, trace.number)
        self.log.follow(trace, known.decision)
        if known.first[0] == home.id:
            home.replay.ended(trace.trace_id, known.first[1])
        elif trace.further is None:  # otherwise it was counted when it closed
            self.on_two_partitions += 1
        late: list[Trace] = []
        for each in together:
            each.late = True
            places = _places(each)
            delivered = {(id, offset) for id, offset in places if known.has_delivered(id, offset)}
            if each.parked_to >= 0 and not known.has_delivered_up_to(each.home.id, each.parked_to):
                delivered.discard((each.home.id, each.parked_to))
            if delivered:
                held = each.held_spans
                self._leave_out(each, delivered)
                self._duplicate_spans += held - each.held_spans
            if len(delivered) < len({*places}):
                each.decision = known.decision
                left = [place for place in places if place not in delivered]
                parked = _parked(each) if (each.home.id, each.parked_to) in left else None
                self._send(each, left, parked)
                late.append(each)
            else:
                self.settle(each)
        return late

    def _sent_elsewhere(self, late: Trace, known: Kept) -> list[Trace]:
        """The same for late spans of a trace that this replica kept in an earlier assignment.

        The decision memory already tracks their delivery, and this replica's decision stays.
        """
        for id, offset in _places(late):
            if not known.has_delivered(id, offset):
                return [late]
        self._duplicate_spans += late.held_spans
        self.settle(late)
        return []

    def dropped_elsewhere(self, trace: Trace) -> None:
        """Redis says that this closed trace was dropped before: settle it."""
        self.memory.drop(trace.trace_id, trace.number)
        self.log.follow(trace)
        for each in self._together(trace):
            self._late_dropped_spans += each.held_spans
            self.tally.drop_late(each.service, each.held_spans, each.payload_bytes)
            if self._notes_late:
                self._note_uncounted(each)
            self.settle(each)

    def _note_uncounted(self, late: Trace) -> None:
        """Note the spans of a dropped trace that no other replica has counted.

        The replica that dropped the trace counted all spans that it had read. It may have read any record that was in
        the partition at the assignment, so these records and the parked spans are left out. It has not read later ones.
        """
        counted = {(partition.id, offset) for partition, offset in late.holds() if offset < partition.horizon}
        if late.parked_to >= 0:
            counted.add((late.home.id, late.parked_to))
        if counted:
            self._leave_out(late, counted)
        if chunks := late.chunks():
            self._noted.append((late.trace_id, chunks))
            self._noted_bytes += sum([len(chunk) for chunk in chunks])

    def rewrite(self, trace: Trace, payload: bytes, spans: int) -> None:
        """Replace the spans of a kept trace with ``payload``, a serialized TracesData that has ``spans`` spans."""
        was_packed = trace.is_packed()
        self._changed(trace, trace.rewrite(payload, spans), was_packed)

    def given_randomness(self, trace: Trace) -> int:
        """The randomness that decided about a kept trace, in 56 bits, if a span brought it (`ot=rv`). Else the first one that
        a span of these brought; -1 if none did.
        """
        kept = self.memory.covering(trace.trace_id)
        if kept is not None and kept.rv >= 0:
            return kept.rv
        return trace.given_randomness()

    def rewrite_parts(self, trace: Trace, parts: list[bytes]) -> None:
        """Replace the spans of a kept trace with as many others, by partition (see `Trace.parts`)."""
        was_packed = trace.is_packed()
        self._changed(trace, trace.rewrite_parts(parts), was_packed)

    def _leave_out(self, trace: Trace, places: set[tuple[int, int]]) -> None:
        was_packed = trace.is_packed()
        self._changed(trace, trace.leave_out(places), was_packed)

    def _changed(self, trace: Trace, growth: int, was_packed: bool) -> None:
        """The spans of a closed trace were changed. If it was packed and grew, it is packed again (law 5)."""
        if was_packed and growth > 0:
            growth -= trace.pack(self.packer)
        self.closed_bytes += growth

    def _together(self, trace: Trace) -> list[Trace]:
        """The closed trace no longer waits for its decision. Returns it and the late fragments that waited with it."""
        self._stop_closing(trace)
        together = [trace]
        if trace.latecomers is not None:
            together += trace.latecomers
            trace.latecomers = None
        trace.forget_lineage()  # only an open trace needs it
        return together

    def _stop_closing(self, trace: Trace) -> None:
        # If the trace was forgotten, another one with its id may have closed since.
        if self._closing.get(trace.trace_id) is trace:
            del self._closing[trace.trace_id]

    def _send(self, trace: Trace, places: list[tuple[int, int]], parked: tuple[Partition, int] | None = None) -> None:
        """Delivery begins for a kept trace, or for late spans of one.

        The decision memory tracks each of its records until it settles.
        """
        self.memory.sending(trace.trace_id, places, parked)
        size = SENT_BYTES + SENT_RECORD_BYTES * len(places)
        trace.size += size
        self.closed_bytes += size

    def deliver(self, traces: Iterable[Trace]) -> dict[bytes, Kept]:
        """Every destination has these kept traces. Returns their entries in the decision memory, by trace id."""
        known: dict[bytes, Kept] = {}
        for trace in traces:
            places = _places(trace)
            self.memory.delivered(trace.trace_id, places)
            kept = self.memory.covering(trace.trace_id)
            if kept is not None and places:
                known[trace.trace_id] = kept
        return known

    def settle(self, trace: Trace) -> None:
        """The trace has ended: release its records and its bytes."""
        decision = trace.decision
        if decision is not None and decision.keeps:
            places = _places(trace)
            self.memory.delivered(trace.trace_id, places)
            self.memory.settled(trace.trace_id)
        self.closed_bytes -= trace.size
        home: Partition = trace.home
        if trace.shelved and home.shelf is not None and not home.gone:
            home.shelf.end(trace.trace_id, trace.last_offset())
        trace.release()

    def settle_all(self, traces: Iterable[Trace]) -> None:
        """`settle` for each of these traces."""
        for trace in traces:
            self.settle(trace)

    # -- called at rebalances

    def replace(self, partition: Partition) -> None:
        """The topic was deleted and created again, and this partition belongs to the old one.

        No more records of the old topic can arrive, and nobody can read it again. So the open traces are decided as
        they are. The offsets of earlier decisions say nothing about the new topic's records, so they are forgotten.

        Parked spans are not fetched, because their keys in Redis belong to the new partition from now on.
        """
        for trace in self._open.all():
            if trace.home is partition:
                self._close(trace, Reason.INACTIVE)
        partition.replaced = True
        self.forget([partition])
        self.forget_offsets(partition.id)

    def forget_offsets(self, partition: int) -> None:
        """See ``Memory.forget_offsets``."""
        self.memory.forget_offsets(partition)

    def forget(self, partitions: Collection[Partition]) -> None:
        """These partitions are revoked: drop their open traces. The next owner reads the records again."""
        for partition in partitions:
            partition.revoked = True
            self._partitions.discard(partition)
            self.memory.leave(partition.id)
        self._share()
        for trace in self._open.all() if partitions else ():
            self._leave(trace, partitions)

    def _leave(self, trace: Trace, partitions: Collection[Partition]) -> None:
        home: Partition = trace.home
        size = trace.size
        if home.revoked:
            self._unschedule(trace)
        stays = trace.forget(partitions)
        self.open_bytes += trace.size - size
        if not stays:
            self._open.remove(trace)
            self.open_spans -= trace.spans
            self.open_bytes -= trace.size
        elif trace.home is not home:  # it moved to its other partition (producers use different partitioners)
            trace.starts_at(trace.home.time)
            self._schedule(trace)

    # -- placing

    def _place(self, partition: Partition, offset: int, records: Records, at: int) -> None:
        settled, trace_id, spans = offset < partition.start, records.trace_id(at), records.fragment(at).spans
        if not settled:
            self._spans += spans
        if partition.delivered is not None and self._is_delivered(partition, offset, records, at):  # usually it is None
            return
        trace = self._open.get(trace_id)
        if trace is not None:
            if offset <= trace.parked_to and trace.home is partition:
                if not settled:
                    self._spans -= spans
                return  # an earlier owner has read, counted and parked this record
        else:
            if self._is_decided(partition, offset, records, at):
                return
            trace = Trace(trace_id, partition, offset)
            self._open.add(trace)
            trace.starts_at(partition.time)
            self.open_bytes += trace.size
            if settled:
                partition.replay.reopened(trace_id, offset)
            else:
                self._traces += 1
        self.open_bytes += trace.absorb(records, at, records.program)
        trace.name(records.payload(at), records.fragment(at).has_root, self._names)
        self.open_spans += spans
        if not settled:
            self.open_bytes += trace.hold(partition, offset, records, at)
        if not self._closes_at_limit(trace):
            trace.goes_on_at(trace.home.time)
            self._fragments += 1
            trace.touched = self._fragments
            self._open.touch(trace)
            self._schedule(trace)

    def _closes_at_limit(self, trace: Trace) -> bool:
        """Close the trace if it has too many bytes or spans. Returns whether it did."""
        if trace.seen_bytes > self._max_trace_bytes:
            self._close(trace, Reason.TOO_LARGE)
        elif trace.spans >= self._max_trace_spans:
            self._close(trace, Reason.SPAN_LIMIT)
        else:
            return False
        return True

    def _is_delivered(self, partition: Partition, offset: int, records: Records, at: int) -> bool:
        """Whether the output topic had the trace at the assignment. If so, the fragment needs nothing more."""
        trace_id = records.trace_id(at)
        known = None if partition.delivered is None else partition.delivered.get(trace_id)
        if known is None:
            return False
        if offset < partition.start or offset in known.offsets:
            partition.replay.remembered(trace_id, offset)
            if offset >= partition.start:
                self._duplicate_spans += records.fragment(at).spans
            return True
        if self._open.get(trace_id) is not None or trace_id in self._closing:
            return False  # it is on two partitions, and the other one was assigned before
        late = self._latecomer(partition, offset, records, at)
        late.decision = known.decision
        self._send(late, [(partition.id, offset)])
        partition.replay.ended(trace_id, known.first)
        self._out.append(late)
        return True

    def _is_decided(self, partition: Partition, offset: int, records: Records, at: int) -> bool:
        """Whether the trace has closed before. If so, the fragment follows its decision and needs nothing more (law 2).

        A forgotten trace counts as new, even if it is still being delivered. The duration of a delivery does not depend
        on the records in the topic, so no decision may depend on it (law 3).
        """
        trace_id = records.trace_id(at)
        verdict = self.memory.look(trace_id, partition.remembered_from)
        if verdict == UNKNOWN:
            return False
        settled = offset < partition.start
        if verdict == UNDECIDED:
            return self._waits(partition, offset, records, at)
        if verdict >= KEPT:
            place = partition.id, offset
            kept = self.memory.recall_kept(trace_id, partition.remembered_from, place)
            if kept is None:
                return False
            if settled:
                partition.replay.remembered(trace_id, offset)
            elif kept.has_delivered(partition.id, offset) or kept.sends_parked(partition, offset):
                self._duplicate_spans += records.fragment(at).spans
            else:
                self._follow(kept, partition, offset, records, at)
            return True
        partition.replay.remembered(trace_id, offset)
        if not settled:
            self._late_dropped_spans += records.fragment(at).spans
            self.log.late(trace_id, records.fragment(at).spans)
            payload = records.payload(at)
            self._names.look(payload, records.fragment(at).has_root)
            self.tally.drop_late(self._names.service, records.fragment(at).spans, len(payload))
            if self._notes_late:
                self._noted.append((trace_id, [records.payload(at)]))
        return True

    def _waits(self, partition: Partition, offset: int, records: Records, at: int) -> bool:
        """Whether the trace has closed and waits for its decision. If so, the fragment waits with it."""
        closing = self._closing.get(records.trace_id(at))
        if closing is None:
            return False  # the trace was withdrawn
        if offset < partition.start:
            return True
        if offset <= closing.parked_to and closing.home is partition:
            self._spans -= records.fragment(at).spans  # an earlier owner has counted it, as in `_place`
        else:
            late = self._latecomer(partition, offset, records, at)
            if closing.latecomers is None:
                closing.latecomers = []
            closing.latecomers.append(late)
        return True

    def _follow(self, kept: Kept, partition: Partition, offset: int, records: Records, at: int) -> None:
        late = self._latecomer(partition, offset, records, at)
        late.decision = kept.decision
        self._send(late, [(partition.id, offset)])
        if kept.first[0] == partition.id:
            partition.replay.ended(records.trace_id(at), kept.first[1])
        elif partition.id not in kept.covered:  # once it is covered, the trace was counted
            self.on_two_partitions += 1
        self._out.append(late)

    def _latecomer(self, partition: Partition, offset: int, records: Records, at: int) -> Trace:
        late = Trace(records.trace_id(at), partition, offset)
        late.late = True
        late.absorb(records, at, records.program)
        late.name(records.payload(at), records.fragment(at).has_root, self._names)
        late.forget_lineage()
        late.hold(partition, offset, records, at)
        late.take_off()
        self.closed_bytes += late.size
        return late

    # -- closing

    def _schedule(self, trace: Trace) -> None:
        """File the trace under its deadline in its partition's ring, unless it has an entry that is early enough."""
        home: Partition = trace.home
        if home.time.now_ms < 0:
            home.unclocked[trace] = None
            return
        due = (self._deadline_ms(trace) + 999) // 1000
        if not trace.due or due < trace.due:
            self._unschedule(trace)
            trace.due = home.ring.put(due, trace)

    def _unschedule(self, trace: Trace) -> None:
        home: Partition = trace.home
        if trace.due:
            home.ring.remove(trace.due, trace)
            trace.due = 0
        elif home.unclocked:
            home.unclocked.pop(trace, None)

    def _deadline_ms(self, trace: Trace) -> int:
        if trace.first_ms < 0 or trace.last_ms < 0:
            raise LawBroken(f"{trace!r} has a deadline before its partition has a time: law 3 would break")
        if self._decision_wait_ms:
            limit = trace.first_ms + self._decision_wait_ms
            return min(limit, trace.root_ms + self._root_wait_ms) if self._root_wait_ms and trace.has_root else limit
        quiet = trace.last_ms + (self._root_quiet_ms if trace.is_complete() else self._inactivity_ms)
        return min(quiet, trace.first_ms + self._max_duration_ms)

    def _reason(self, trace: Trace) -> Reason:
        """The reason for which a trace closes at its deadline."""
        if self._decision_wait_ms:
            over = trace.first_ms + self._decision_wait_ms <= self._deadline_ms(trace)
            return Reason.DECISION_WAIT if over else Reason.ROOT_WAIT
        if trace.first_ms + self._max_duration_ms <= self._deadline_ms(trace):
            return Reason.MAX_DURATION
        return Reason.ROOT_QUIET if trace.is_complete() else Reason.INACTIVE

    def _turn(self, partition: Partition) -> None:
        """Close the traces whose deadlines this partition's stream time has reached."""
        now_ms = partition.time.now_ms
        if now_ms < 0:
            return
        if partition.unclocked:
            self._clock(partition, now_ms)
        if not partition.ring.is_due(now_ms):
            return
        turned = NO_TIME
        for second, trace in partition.ring.turn(now_ms):
            if second != turned:  # closings are remembered from this second on, even if stream time has jumped past it
                turned = second
                self.memory.turn(partition.id, 1000 * second)
            trace.due = 0
            if (self._deadline_ms(trace) + 999) // 1000 <= second:
                self._close(trace, self._reason(trace))
            else:
                self._schedule(trace)
        partition.remembered_from = self.memory.turn(partition.id, now_ms)

    def _clock(self, partition: Partition, now_ms: int) -> None:
        """The partition has its first believable time. All records read before get this time."""
        waiting, partition.unclocked = partition.unclocked, {}
        for trace in waiting:
            if trace.home is partition and trace.reason is None and not trace.due:
                if trace.first_ms < 0:  # otherwise an earlier owner set it
                    trace.starts_at(partition.time)
                trace.clock(now_ms)
                self._schedule(trace)

    def _close(self, trace: Trace, reason: Reason) -> None:
        home: Partition = trace.home
        self._unschedule(trace)
        trace.reason = reason
        trace.closed_ms = max(home.time.now_ms, trace.last_ms)  # an earlier owner may have seen a later time
        trace.closed_second = self._closing_second(trace, reason)
        home.replay.ended(trace.trace_id, _first_to_replay(trace))
        trace.number = self.memory.closed(trace.trace_id)
        self._open.remove(trace)
        self._closing[trace.trace_id] = trace
        trace.take_off()
        if trace.further is not None:
            self.on_two_partitions += 1
        self.open_spans -= trace.spans
        self.open_bytes -= trace.size
        self.closed_bytes += trace.size
        self._out.append(trace)

    def _closing_second(self, trace: Trace, reason: Reason) -> int:
        """The second of the log at which the trace closes: of its deadline, or of the record that made it too large. The wall
        clock does not change it, so each replay finds the same."""
        record_ms: int = trace.home.time.record_ms
        if record_ms < 0:
            return trace.closed_ms // 1000
        if reason is Reason.ROOT_QUIET:
            due_ms = trace.last_ms - trace.last_lead_ms + self._root_quiet_ms
        elif reason is Reason.INACTIVE:
            due_ms = trace.last_ms - trace.last_lead_ms + self._inactivity_ms
        elif reason is Reason.MAX_DURATION:
            due_ms = trace.first_ms - trace.first_lead_ms + self._max_duration_ms
        elif reason is Reason.DECISION_WAIT:
            due_ms = trace.first_ms - trace.first_lead_ms + self._decision_wait_ms
        elif reason is Reason.ROOT_WAIT:
            due_ms = trace.root_ms - trace.root_lead_ms + self._root_wait_ms
        else:
            return record_ms // 1000
        return min((due_ms + 999) // 1000, trace.closed_ms // 1000)  # a topic that was made anew closes earlier

    # -- when memory is short

    def _relieve(self) -> None:
        """Pack quiet traces. If that is not enough, decide the oldest early until the open traces fit."""
        if self.open_bytes > self._max_loose_bytes:
            self._pack_some()
        while self._open.oldest is not None and (
            self.open_bytes > self._max_open_bytes
            or self.open_spans > self._max_open_spans
            or len(self._open) > self._max_open_traces
        ):
            self._close(self._open.oldest, Reason.PRESSURE)

    def _is_quiet(self, trace: Trace) -> bool:
        # The second condition is for partitions whose stream time stands still, and for a burst within a second.
        return trace.home.time.now_ms - trace.last_ms >= QUIET_MS or self._fragments - trace.touched >= QUIET_FRAGMENTS

    def _pack_some(self) -> None:
        """Pack the quietest traces, at most PACKS_AT_ONCE."""
        for _ in range(PACKS_AT_ONCE):
            trace = self._open.to_pack
            if trace is None or not self._is_quiet(trace):
                return
            self._open.to_pack = trace.livelier
            saved = trace.pack(self.packer)
            if saved:
                self.open_bytes -= saved
                self._packed_traces += 1
                self._packed_saved_bytes += saved
            if self.open_bytes <= self._max_loose_bytes:
                return


def _places(trace: Trace) -> list[tuple[int, int]]:
    """The (partition, offset) of each record of the trace. Parked records have one entry, with their last offset."""
    home: Partition = trace.home
    parked = [(home.id, trace.parked_to)] if trace.parked_to >= 0 and not home.replaced else []
    return parked + [(partition.id, offset) for partition, offset in trace.holds() if not partition.replaced]


def _first_to_replay(trace: Trace) -> int:
    """The first offset that the next owner has to read, to decide this closed trace in the same way."""
    if trace.parked_to < 0:
        return trace.first_offset
    home: Partition = trace.home
    return home.replay.first_of_parked(trace.first_ms, trace.first_offset, trace.parked_to)


def _parked(trace: Trace) -> tuple[Partition, int] | None:
    return (trace.home, trace.parked_to) if trace.parked_to >= 0 else None
