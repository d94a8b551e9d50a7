"""A trace on its way: open, closed, decided, delivered, settled."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from tss.core.decision import Decision, Reason
from tss.core.otlp import Encoding, Lineage, join, scan
from tss.core.otlp.fragment import Fragment
from tss.core.otlp.lookup import Values, merge
from tss.core.packing import Packed, Packer
from tss.core.streamtime import NO_TIME

if TYPE_CHECKING:
    from tss.core.partition import Partition

# What CPython 3.11 takes on 64 bits, measured with tracemalloc and by RSS (tests/core/test_buffer.py holds them to it).
TRACE_BYTES = 500  # the object, its id, its places in the buffer and the ring
RECORD_BYTES = 55  # the header of its bytes, its offset
FURTHER_BYTES = 160  # from the second record on: the lists
BYTES_BYTES = 33  # the header of a bytes object
PACKED_BYTES = 400  # a frame's header, what says how to open it, and the holes that packing leaves in the heap
SIZES_BYTES = 80  # the header of the array that tells packed fragments apart, and 4 bytes for each
PACK_MIN_BYTES = 1024  # less gains nothing

_NO_IDS = b""


class Trace:
    """All that is known of one trace id, and its claims on offsets of one partition.

    What comes of it on another partition (producers that do not agree on a partitioner) is held by a branch: a trace of
    its own there, closed and settled together with this one. A fragment read again from below the low water only adds
    to the summary: it is not held.
    """

    __slots__ = (
        "_chunk", "_chunks", "_lineage", "_missing", "_offset", "_offsets", "_packed", "_span_ids", "awaiting", "branches",
        "closed_ms", "decision", "due", "end_ns", "errors", "first_ms", "first_offset", "has_root", "held_spans", "home",
        "last_ms", "late", "latecomers", "livelier", "newer", "older", "payload_bytes", "put_aside", "quieter", "reason",
        "size", "spans", "start_ns", "touched", "trace_id", "values", "withdrawn",
    )  # fmt: skip

    def __init__(self, trace_id: bytes, home: Partition, first_offset: int) -> None:
        self.trace_id = trace_id
        self.home = home  # the partition whose stream time closes it, and whose records it holds
        self.first_offset = first_offset  # of its first record there
        # The first record that it holds, and the further ones: most traces of a keyed topic have just one.
        self._offset = -1
        self._offsets: array[int] | None = None
        self._chunk: bytes | Packed | None = None  # a serialized TracesData; concatenated they are one again
        self._chunks: list[bytes | Packed] | None = None
        self._packed = 0  # how many of the chunks, from the first one, are packed
        self.branches: list[Trace] | None = None
        self.spans = 0
        self.payload_bytes = 0  # of ``payload``, however small it is packed
        self.held_spans = 0  # those in ``payload``; ``spans`` may count others that only had to be remembered
        self.errors = 0
        self.start_ns = 0
        self.end_ns = 0
        self.has_root = False
        self.values: Values = ()  # what the policies' lookup found
        self._span_ids = _NO_IDS  # of the first fragment; a lineage takes over when a second one comes
        self._missing = _NO_IDS
        self._lineage: Lineage | None = None
        self.first_ms = NO_TIME  # stream times; NO_TIME until the home partition has one
        self.last_ms = NO_TIME
        self.closed_ms = NO_TIME
        self.touched = 0  # which of the buffer's fragments was its last one
        self.due = 0  # the second of the ring it is filed under
        self.size = TRACE_BYTES  # bytes, its branches' too
        self.reason: Reason | None = None  # set when it closes
        self.decision: Decision | None = None  # set when it is decided
        self.late = False  # one late fragment, under the decision of the trace it belongs to
        self.latecomers: list[Trace] | None = None  # late fragments that came between closing and decision
        self.put_aside = False  # some destination refused it, and it is among the dead letters
        self.withdrawn = False  # not sent, at least in part: its partition is another's now, who will send it
        self.awaiting = 0  # destinations that have not accepted it yet
        self.older: Trace | None = None  # the open traces in the order in which they were opened
        self.newer: Trace | None = None
        self.quieter: Trace | None = None  # and in the order of their last fragments
        self.livelier: Trace | None = None

    def __repr__(self) -> str:
        state = self.decision or self.reason or "open"
        return f"<Trace {self.trace_id.hex()} {self.spans} spans, {len(self.holds())} holds, {state}>"

    def is_complete(self) -> bool:
        """The root is here and every span's parent too."""
        if self._lineage is None:
            return self.has_root and not self._missing
        return self.has_root and not self._lineage.open

    def duration_ns(self) -> int:
        """From the earliest start to the latest end, gaps included; 0 when either is unknown."""
        if self.start_ns and self.end_ns > self.start_ns:
            return self.end_ns - self.start_ns
        return 0

    # -- what it holds

    def holds(self) -> list[tuple[Partition, int]]:
        """The records it holds, as partition and offset, a record twice if two of its fragments came in it."""
        held = [] if self._offset < 0 else [(self.home, self._offset)]
        if self._offsets is not None:
            held += [(self.home, offset) for offset in self._offsets]
        for branch in self.branches or ():
            held += branch.holds()
        return held

    def holds_up_to(self, partition: Partition, offset: int) -> bool:
        """Whether it holds a record of this partition at or below this offset."""
        if self.home is partition:
            return 0 <= self._offset <= offset  # the first is the lowest
        for branch in self.branches or ():  # noqa: SIM110  # Cython takes no generator in a method of C types
            if branch.holds_up_to(partition, offset):
                return True
        return False

    def is_held(self) -> bool:
        """Whether it holds any record."""
        return self._offset >= 0 or self.branches is not None

    def chunks(self) -> list[bytes]:
        """Serialized TracesData, one or more, that together are its spans in the order they came."""
        plain = [each.unpack() if isinstance(each, Packed) else each for each in self._all_chunks()]
        for branch in self.branches or ():
            plain += branch.chunks()
        return plain

    def chunks_of_ours(self) -> list[bytes]:
        """The same, without what is on partitions that are another's now."""
        plain = (
            []
            if self.home.gone
            else [each.unpack() if isinstance(each, Packed) else each for each in self._all_chunks()]
        )
        for branch in self.branches or ():
            plain += branch.chunks_of_ours()
        return plain

    @property
    def payload(self) -> bytes:
        """The serialized TracesData of its spans."""
        return join(self.chunks())

    # -- growing; each returns by how many bytes

    def absorb(self, fragment: Fragment) -> int:
        """Add a fragment's summary."""
        self.spans += fragment.spans
        self.errors += fragment.errors
        if fragment.start_ns and (not self.start_ns or fragment.start_ns < self.start_ns):
            self.start_ns = fragment.start_ns
        self.end_ns = max(self.end_ns, fragment.end_ns)
        self.has_root = self.has_root or fragment.has_root
        if fragment.values:
            self.values = merge(self.values, fragment.values)
        growth = self._relate(fragment)
        self.size += growth
        return growth

    def _relate(self, fragment: Fragment) -> int:
        lineage = self._lineage
        if lineage is None:
            if not self._span_ids:
                self._span_ids, self._missing = fragment.span_ids, fragment.missing
                return len(fragment.span_ids) + len(fragment.missing) + RECORD_BYTES
            before = len(self._span_ids) + len(self._missing) + RECORD_BYTES
            lineage = self._lineage = Lineage()
            lineage.add(self._span_ids, self._missing)
            self._span_ids = self._missing = _NO_IDS
        else:
            before = lineage.bytes
        lineage.add(fragment.span_ids, fragment.missing)
        return lineage.bytes - before

    def forget_lineage(self) -> None:
        """It has closed: nothing is completed any more."""
        self._span_ids = self._missing = _NO_IDS
        self._lineage = None

    def hold(self, partition: Partition, offset: int, fragment: Fragment) -> int:
        """Take a fragment's bytes and hold its record."""
        if partition is self.home:
            growth = self._hold(offset, fragment.payload)
        else:
            branch = self._branch(partition, offset)
            growth = branch.hold(partition, offset, fragment)
            if branch.spans == 0:  # it is new
                growth += TRACE_BYTES
            branch.spans += fragment.spans
        self.held_spans += fragment.spans
        self.payload_bytes += len(fragment.payload)
        self.size += growth
        return growth

    def _hold(self, offset: int, payload: bytes) -> int:
        self.home.ledger.hold(offset)
        growth = len(payload) + RECORD_BYTES
        if self._offset < 0:
            self._offset = offset
        else:
            if self._offsets is None:
                self._offsets = array("q")
                growth += FURTHER_BYTES
            self._offsets.append(offset)
        if self._chunk is None:
            self._chunk = payload
        else:
            if self._chunks is None:
                self._chunks = []
            self._chunks.append(payload)
        return growth

    def _branch(self, partition: Partition, offset: int) -> Trace:
        if self.branches is None:
            self.branches = []
        for branch in self.branches:
            if branch.home is partition:
                return branch
        branch = Trace(self.trace_id, partition, offset)
        self.branches.append(branch)
        return branch

    # -- shrinking

    def pack(self, packer: Packer) -> int:
        """Make what is not packed yet one packed chunk; returns how many bytes that saves. Branches stay as they are."""
        chunks = self._all_chunks()
        loose = chunks[self._packed :]
        plain = join(loose)  # type: ignore[arg-type]  # from _packed on they are bytes
        if len(plain) < PACK_MIN_BYTES:
            return 0
        sizes = array("I", [len(each) for each in loose]) if len(loose) > 1 else ()  # type: ignore[arg-type]
        packed = packer.pack(plain, sizes)
        saved = len(plain) + BYTES_BYTES * len(loose) - len(packed.frame) - PACKED_BYTES
        if len(loose) > 1:
            saved -= SIZES_BYTES + 4 * len(loose)
        if saved <= 0:
            return 0  # nothing repeats in it
        chunks[self._packed :] = [packed]
        self._packed = len(chunks)
        self._chunk = chunks[0]
        self._chunks = chunks[1:] or None
        self.size -= saved
        return saved

    def rewrite(self, payload: bytes, spans: int) -> None:
        """From now on its spans are these; it has no branches. Its records stay held, and so does its share of memory."""
        self._chunk, self._chunks, self._packed = payload, None, 0
        self.payload_bytes, self.held_spans = len(payload), spans

    def leave_out(self, places: set[tuple[int, int]]) -> None:
        """From now on its spans are those that did not come in these records (partition id, offset), if any. Its records
        stay held, and so does its share of memory."""
        chunks: list[bytes | Packed] = []
        spans = size = 0
        for offset, piece in zip(self._all_offsets(), self._pieces(), strict=True):
            if (self.home.id, offset) not in places:
                chunks.append(piece)
                size += len(piece)
                spans += sum([each.spans for each in scan(piece, Encoding.OTLP_PROTO).fragments])
        self._chunk = chunks[0] if chunks else None
        self._chunks = chunks[1:] or None
        self._packed = 0
        for branch in self.branches or ():
            branch.leave_out(places)
            spans += branch.spans
            size += branch.payload_bytes
        self.spans = self.held_spans = spans
        self.payload_bytes = size

    def _all_offsets(self) -> list[int]:
        return [] if self._offset < 0 else [self._offset, *(self._offsets or ())]

    def _pieces(self) -> list[bytes]:
        """What came in each of the records it holds."""
        pieces: list[bytes] = []
        for each in self._all_chunks():
            pieces += each.pieces() if isinstance(each, Packed) else [each]
        return pieces

    def release(self) -> None:
        """Let go of its records and bytes: its trace has ended. Only of a closed one."""
        if self._offset >= 0:
            self._settle(self._offset)
            if self._offsets is not None:
                for offset in self._offsets:
                    self._settle(offset)
        for branch in self.branches or ():
            branch.release()
        self.drop_chunks()
        self.branches = None

    def _settle(self, offset: int) -> None:
        self.home.in_flight -= 1
        # Of a revoked partition too: its last commit waits for what is in flight.
        self.home.ledger.settle(offset)

    def drop_chunks(self) -> None:
        """Without the ledger: what is forgotten with its partition is not settled."""
        self._offset = -1
        self._offsets = self._chunk = self._chunks = None
        self._packed = self.held_spans = self.payload_bytes = 0

    def take_off(self) -> None:
        """It has closed: count its holds as in flight."""
        if self._offset >= 0:
            self.home.in_flight += 1 if self._offsets is None else 1 + len(self._offsets)
        for branch in self.branches or ():
            branch.take_off()

    def leave_revoked(self) -> bool:
        """Drop what is on partitions that are another's now, and move to one that is not; False when none is left."""
        staying = [branch for branch in self.branches or () if not branch.home.revoked]
        for branch in self.branches or ():
            if branch.home.revoked:
                self.held_spans -= branch.held_spans
                self.payload_bytes -= branch.payload_bytes
                self.size -= branch.size
        self.branches = staying or None
        if not self.home.revoked:
            return True
        if not staying:
            return False
        self.held_spans = sum([branch.held_spans for branch in staying])
        self.payload_bytes = sum([branch.payload_bytes for branch in staying])
        self._move_to(staying.pop(0))
        self.branches = staying or None
        return True

    def _move_to(self, branch: Trace) -> None:
        """Become what a branch was."""
        own = sum([len(each) if isinstance(each, bytes) else len(each.frame) for each in self._all_chunks()])
        self.size -= own + TRACE_BYTES
        self.home, self.first_offset = branch.home, branch.first_offset
        self._offset, self._offsets = branch._offset, branch._offsets
        self._chunk, self._chunks, self._packed = branch._chunk, branch._chunks, branch._packed

    def _all_chunks(self) -> list[bytes | Packed]:
        return [] if self._chunk is None else [self._chunk, *(self._chunks or ())]


def weight(traces: list[Trace]) -> int:
    """Bytes of these, with the late fragments that wait for their decision."""
    size = 0
    for trace in traces:
        size += trace.size
        if trace.latecomers is not None:
            size += weight(trace.latecomers)
    return size
