"""A trace on its way: open, closed, decided, delivered, settled."""

from __future__ import annotations

from array import array
from typing import Any

from tss.core.decision import Decision, Reason
from tss.core.otlp import Encoding, Lineage, join, scan
from tss.core.otlp.fragment import Fragment, values_bytes
from tss.core.otlp.lookup import Values, merge
from tss.core.packing import Packed, Packer
from tss.core.parked import NOWHERE, Summary
from tss.core.progress import Progress
from tss.core.streamtime import NO_TIME

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
        "_chunk", "_chunks", "_fetched", "_leaving", "_leaving_ms", "_leaving_to", "_lineage", "_missing", "_offset",
        "_offsets", "_packed", "_span_ids", "branches", "closed_ms", "decision", "due", "end_ns", "errors",
        "first_ms", "first_offset", "has_root", "held_ms", "held_spans", "home", "last_ms", "late", "latecomers",
        "livelier", "newer", "number", "older", "parked_to", "payload_bytes", "quieter", "reason",
        "shelved", "size", "spans", "start_ns", "taken_over", "touched", "trace_id", "unlooked", "values", "withdrawn",
    )  # fmt: skip

    def __init__(self, trace_id: bytes, home: Progress, first_offset: int) -> None:
        self.trace_id = trace_id
        # The partition whose stream time closes it, and whose records it holds. Here it is only a `Progress`: who makes
        # traces knows it as what it gave (the buffer as a Partition), which no type can say of a compiled class.
        self.home: Any = home
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
        self.unlooked = False  # but not in what an earlier owner parked, which had another lookup
        self._span_ids = _NO_IDS  # of the first fragment; a lineage takes over when a second one comes
        self._missing = _NO_IDS
        self._lineage: Lineage | None = None
        self.held_ms = NO_TIME  # since when it has been holding a record, in stream time
        self.parked_to = NOWHERE  # what came up to this offset stands in Redis
        self.shelved = False  # something of it may stand in Redis, even if nobody has heard so
        self.taken_over = False  # parked by an earlier owner of its partition, who may have decided it
        self._leaving = 0  # how many of the chunks are on their way to Redis, and up to which offset; since when
        self._leaving_to = NOWHERE
        self._leaving_ms = NO_TIME
        self._fetched = False  # its frames are back
        self.first_ms = NO_TIME  # stream times; NO_TIME until the home partition has one
        self.last_ms = NO_TIME
        self.closed_ms = NO_TIME
        self.touched = 0  # which of the buffer's fragments was its last one
        self.due = 0  # the second of the ring it is filed under
        self.size = TRACE_BYTES  # bytes, its branches' too
        self.reason: Reason | None = None  # set when it closes
        self.number = -1  # of its closing, for the memory of decisions
        self.decision: Decision | None = None  # set when it is decided
        self.late = False  # one late fragment, under the decision of the trace it belongs to
        self.latecomers: list[Trace] | None = None  # late fragments that came between closing and decision
        self.withdrawn = False  # not sent, at least in part: its partition is another's now, who will send it
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

    def holds(self) -> list[tuple[Any, int]]:
        """The records it holds, as partition and offset, a record twice if two of its fragments came in it."""
        held = [] if self._offset < 0 else [(self.home, self._offset)]
        if self._offsets is not None:
            held += [(self.home, offset) for offset in self._offsets]
        for branch in self.branches or ():
            held += branch.holds()
        return held

    def holds_up_to(self, partition: Progress, offset: int) -> bool:
        """Whether it holds a record of this partition at or below this offset."""
        if self.home is partition:
            return 0 <= self._offset <= offset  # the first is the lowest
        for branch in self.branches or ():  # noqa: SIM110  # Cython takes no generator in a method of C types
            if branch.holds_up_to(partition, offset):
                return True
        return False

    def is_held(self) -> bool:
        """Whether it holds any record, or has spans in Redis instead."""
        return self._offset >= 0 or self.branches is not None or self.parked_to >= 0

    def last_offset(self) -> int:
        """The highest of its home partition that it holds, or that is parked."""
        if self._offsets is not None:
            return self._offsets[-1]
        return max(self._offset, self.parked_to)

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
        growth = self._relate(fragment)
        if fragment.values:
            growth += self._learn(fragment.values)
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

    def _learn(self, values: Values) -> int:
        before = values_bytes(self.values)
        self.values = merge(self.values, values)
        return values_bytes(self.values) - before

    def forget_lineage(self) -> None:
        """It has closed: nothing is completed any more."""
        self._span_ids = self._missing = _NO_IDS
        self._lineage = None

    def hold(self, partition: Progress, offset: int, fragment: Fragment) -> int:
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
            self.held_ms = self.home.time.now_ms
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

    def _branch(self, partition: Progress, offset: int) -> Trace:
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
        if self._leaving:  # the first chunks are to be told from those that come meanwhile
            return 0
        chunks = self._all_chunks()
        loose = chunks[self._packed :]
        plain = join(loose)  # type: ignore[arg-type]  # from _packed on they are bytes
        if len(plain) < PACK_MIN_BYTES:
            return 0
        sizes = array("I", [len(each) for each in loose]) if len(loose) > 1 else ()  # type: ignore[arg-type]
        packed = packer.pack(plain, sizes)
        saved = len(plain) + BYTES_BYTES * len(loose) - _bytes_of(packed)
        if saved <= 0:
            return 0  # nothing repeats in it
        chunks[self._packed :] = [packed]
        self._packed = len(chunks)
        self._chunk = chunks[0]
        self._chunks = chunks[1:] or None
        self.size -= saved
        return saved

    def rewrite(self, payload: bytes, spans: int) -> int:
        """From now on its spans are these; it has no branches. Its records stay held. Returns by how many bytes it grew:
        what was packed is plain now."""
        growth = -self._chunk_bytes()
        self._chunk, self._chunks, self._packed = payload, None, 0
        self.payload_bytes, self.held_spans = len(payload), spans
        growth += self._chunk_bytes()
        self.size += growth
        return growth

    def leave_out(self, places: set[tuple[int, int]]) -> int:
        """From now on its spans are those that did not come in these records (partition id, offset), if any. Its records
        stay held. Returns by how many bytes it grew: what was packed is plain now.

        What is parked goes whole, by the last offset of it, whether it is here again or not.
        """
        growth = -self._chunk_bytes()
        chunks: list[bytes | Packed] = []
        spans, size = self._spans_elsewhere(places)
        offsets, pieces = self._all_offsets(), self._pieces()
        frames = len(pieces) - len(offsets)
        for offset, piece in zip([self.parked_to] * frames + offsets, pieces, strict=True):
            if (self.home.id, offset) not in places:
                chunks.append(piece)
                size += len(piece)
                spans += _spans_of(piece)
        self._chunk = chunks[0] if chunks else None
        self._chunks = chunks[1:] or None
        self._packed = 0
        growth += self._chunk_bytes()
        for branch in self.branches or ():
            growth += branch.leave_out(places)
            spans += branch.spans
            size += branch.payload_bytes
        self.spans = self.held_spans = spans
        self.payload_bytes = size
        self.size += growth
        return growth

    def _spans_elsewhere(self, places: set[tuple[int, int]]) -> tuple[int, int]:
        """How many of its spans, and how many bytes, are in Redis and have to come back; none when all of that is left
        out: then it is as if it had come back empty."""
        if not self.is_parked():
            return 0, 0
        if (self.home.id, self.parked_to) in places:
            self._fetched = True
            self.home.in_flight += 1
            return 0, 0
        here = self._pieces()
        spans = self.held_spans - sum([_spans_of(piece) for piece in here])
        size = self.payload_bytes - sum([len(piece) for piece in here])
        for branch in self.branches or ():
            spans -= branch.held_spans
            size -= branch.payload_bytes
        return spans, size

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

    # -- parking

    def clock(self, now_ms: int) -> None:
        """The partition has a time at last: it has been holding since then."""
        if self.held_ms < 0 and self._offset >= 0:
            self.held_ms = now_ms

    def may_be_parked(self) -> bool:
        """Whether it has anything to park. What is on two partitions stays here: it is closed by one, and read by both."""
        return self._offset >= 0 and self.branches is None and not self._leaving and self.reason is None

    def is_parked(self) -> bool:
        """Whether spans of it are missing here."""
        return self.parked_to >= 0 and not self._fetched

    def is_leaving(self) -> bool:
        """Whether chunks of it are on their way to Redis."""
        return self._leaving > 0

    def leave(self) -> tuple[Summary, list[bytes | Packed]]:
        """Begin to park what it holds: its summary as it will be then, and the chunks."""
        chunks = self._all_chunks()
        self._leaving, self._leaving_to, self._leaving_ms = len(chunks), self.last_offset(), self.home.time.now_ms
        self.shelved = True
        return self._summary(self._leaving_to), chunks

    def stay(self) -> None:
        """Redis has not taken them."""
        self._leaving = 0

    def park(self) -> int:
        """Redis has what ``leave`` gave: settle it; returns how many bytes that gives back."""
        held = [self._offset, *(self._offsets or ())]
        going = [offset for offset in held if offset <= self._leaving_to]
        for offset in going:
            self.home.ledger.settle(offset)
        chunks, held = self._all_chunks()[self._leaving :], held[len(going) :]
        self._offset = held[0] if held else -1
        self._offsets = array("q", held[1:]) if len(held) > 1 else None
        self._chunk, self._chunks, self._packed = (chunks[0] if chunks else None), (chunks[1:] or None), 0
        self.held_ms = self._leaving_ms if held else NO_TIME
        self.parked_to, self._leaving = self._leaving_to, 0
        before, self.size = self.size, TRACE_BYTES + self._summary_bytes() + self._held_bytes(len(held))
        return before - self.size

    def _summary_bytes(self) -> int:
        values = values_bytes(self.values)
        if self._lineage is not None:
            return values + self._lineage.bytes
        return values + (len(self._span_ids) + len(self._missing) + RECORD_BYTES if self._span_ids else 0)

    def _held_bytes(self, records: int) -> int:
        # The header of each record's bytes is in RECORD_BYTES already.
        loose = self._chunk_bytes() - BYTES_BYTES * len(self._all_chunks())
        return loose + RECORD_BYTES * records + (FURTHER_BYTES if records > 1 else 0)

    def _summary(self, parked_to: int) -> Summary:
        lineage = self._lineage
        seen, missing, overflown = (self._span_ids, self._missing, False) if lineage is None else lineage.known()
        return Summary(
            self.first_offset, parked_to, self.spans, self.held_spans, self.payload_bytes, self.errors, self.start_ns,
            self.end_ns, self.has_root, self.first_ms, self.last_ms, seen, missing, overflown, self.values,
        )  # fmt: skip

    def take_over(self, summary: Summary) -> None:
        """Go on as the trace that an earlier owner parked; only a new one."""
        self.spans, self.held_spans, self.payload_bytes = summary.spans, summary.held_spans, summary.payload_bytes
        self.errors, self.start_ns, self.end_ns = summary.errors, summary.start_ns, summary.end_ns
        self.has_root, self.values, self.unlooked = summary.has_root, summary.values, summary.unlooked
        self.first_ms, self.last_ms = summary.first_ms, summary.last_ms
        self._span_ids, self._missing = summary.span_ids, summary.missing
        if summary.overflown:
            self._lineage = Lineage()
            self._lineage.overflow()
        self.parked_to, self.shelved, self.taken_over = summary.parked_to, True, True
        self.size = TRACE_BYTES + self._summary_bytes()

    def look_up(self, values: Values) -> int:
        """Its spans were looked through again, with our lookup: this was found in them. Returns by how many bytes it
        grew."""
        growth = self._learn(values)
        self.unlooked = False
        self.size += growth
        return growth

    def come_back(self, frames: list[Packed]) -> int:
        """Its parked spans are here again, before what it holds; only of a closed one. Returns by how many bytes it grew."""
        chunks: list[bytes | Packed] = [*frames, *self._all_chunks()]
        self._chunk, self._chunks = chunks[0], chunks[1:] or None
        self._packed, self._fetched = 0, True
        self.home.in_flight += 1  # a revocation waits for it
        growth = sum([_bytes_of(each) for each in frames])
        self.size += growth
        return growth

    def let_go(self) -> None:
        """Its partition is another's now, or is read again: what it holds there is not settled, and not waited for."""
        if self._offset >= 0:
            self.home.in_flight -= 1 if self._offsets is None else 1 + len(self._offsets)
        self.size -= self._chunk_bytes()
        self.drop_chunks()
        self.held_spans = sum([branch.held_spans for branch in self.branches or ()])
        self.payload_bytes = sum([branch.payload_bytes for branch in self.branches or ()])

    def drop_chunks(self) -> None:
        """Without the ledger: what is forgotten with its partition is not settled."""
        if self._fetched:
            self.home.in_flight -= 1
            self._fetched = False
        self.parked_to, self._leaving = NOWHERE, 0
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
        self.size -= self._chunk_bytes() + TRACE_BYTES
        self.home, self.first_offset = branch.home, branch.first_offset
        self._offset, self._offsets = branch._offset, branch._offsets
        self.held_ms, self.parked_to, self._leaving, self.shelved = branch.held_ms, NOWHERE, 0, False
        self._chunk, self._chunks, self._packed = branch._chunk, branch._chunks, branch._packed

    def _all_chunks(self) -> list[bytes | Packed]:
        return [] if self._chunk is None else [self._chunk, *(self._chunks or ())]

    def _chunk_bytes(self) -> int:
        return sum([_bytes_of(each) for each in self._all_chunks()])


def _bytes_of(chunk: bytes | Packed) -> int:
    """Memory taken by what is held of a trace, as it is held."""
    if not isinstance(chunk, Packed):
        return BYTES_BYTES + len(chunk)
    return PACKED_BYTES + len(chunk.frame) + (SIZES_BYTES + 4 * len(chunk.sizes) if chunk.sizes else 0)


def _spans_of(piece: bytes) -> int:
    return sum([each.spans for each in scan(piece, Encoding.OTLP_PROTO).fragments])


def weight(traces: list[Trace]) -> int:
    """Bytes of these, with the late fragments that wait for their decision."""
    size = 0
    for trace in traces:
        size += trace.size
        if trace.latecomers is not None:
            size += weight(trace.latecomers)
    return size
