"""A trace on its way: open, closed, decided, delivered, settled."""

from __future__ import annotations

from array import array
from collections.abc import Collection
from typing import Any

from tss.core.decision import Decision, Reason
from tss.core.holds import BYTES_BYTES, HOLDS_BYTES, RECORD_BYTES, Holds, spans_of
from tss.core.otlp import Lineage, join
from tss.core.otlp.fragment import Fragment, values_bytes
from tss.core.otlp.lookup import Values, merge
from tss.core.packing import Packed, Packer
from tss.core.parked import NOWHERE, Summary
from tss.core.progress import Progress
from tss.core.streamtime import NO_TIME

# What CPython 3.11 takes on 64 bits, measured with tracemalloc and by RSS (tests/core/test_buffer.py holds them to it).
TRACE_BYTES = 500  # the object, its id, its places in the buffer and the ring
FURTHER_BYTES = 160  # from the second record on: the lists
PACKED_BYTES = 400  # a frame's header, what says how to open it, and the holes that packing leaves in the heap
SIZES_BYTES = 80  # the header of the array that tells packed fragments apart, and 4 bytes for each
PACK_MIN_BYTES = 1024  # less gains nothing

_NO_IDS = b""


class Trace:
    """All that is known of one trace id, and the records that it holds.

    It is closed by one partition, its home. Its records on further partitions are in ``further``. A fragment that is
    read again from below the low water only adds to the summary: it is not held.
    """

    __slots__ = (
        "_chunk", "_chunks", "_fetched", "_leaving", "_leaving_ms", "_leaving_to", "_lineage", "_missing", "_offset",
        "_offsets", "_packed", "_span_ids", "closed_ms", "decision", "due", "end_ns", "errors",
        "first_ms", "first_offset", "further", "has_root", "held_ms", "held_spans", "home", "last_ms", "late", "latecomers",
        "livelier", "newer", "number", "older", "parked_to", "payload_bytes", "quieter", "reason",
        "shelved", "size", "spans", "start_ns", "taken_over", "touched", "trace_id", "unlooked", "values",
    )  # fmt: skip

    def __init__(self, trace_id: bytes, home: Progress, first_offset: int) -> None:
        self.trace_id = trace_id
        # The partition whose stream time closes it. This module knows only that it is a `Progress`. Whoever makes traces
        # gets back what it gave, a Partition: a compiled class cannot be generic, so the type is not written here.
        self.home: Any = home
        self.first_offset = first_offset  # of its first record there
        # The first record that it holds, and the further ones: most traces of a keyed topic have just one.
        self._offset = -1
        self._offsets: array[int] | None = None
        self._chunk: bytes | Packed | None = None  # a serialized TracesData; concatenated they are one again
        self._chunks: list[bytes | Packed] | None = None
        self._packed = 0  # how many of the chunks, from the first one, are packed
        self.further: list[Holds] | None = None  # what it holds on other partitions than its home
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
        self.size = TRACE_BYTES  # bytes, with those of ``further``
        self.reason: Reason | None = None  # set when it closes
        self.number = -1  # of its closing, for the memory of decisions
        self.decision: Decision | None = None  # set when it is decided
        self.late = False  # one late fragment, under the decision of the trace it belongs to
        self.latecomers: list[Trace] | None = None  # late fragments that came between closing and decision
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
        for each in self.further or ():
            held += [(each.partition, offset) for offset in each.offsets]
        return held

    def begins(self) -> list[tuple[Any, int]]:
        """Each partition that it is on, with the offset of its first record there."""
        begins = [(self.home, self.first_offset)]
        if self.further is not None:
            begins += [(each.partition, each.first_offset) for each in self.further]
        return begins

    def holds_up_to(self, partition: Progress, offset: int) -> bool:
        """Whether it holds a record of this partition at or below this offset."""
        if self.home is partition:
            return 0 <= self._offset <= offset  # the first is the lowest
        for each in self.further or ():
            if each.partition is partition:
                return each.offsets[0] <= offset
        return False

    def is_held(self) -> bool:
        """Whether it holds any record, or has spans in Redis instead."""
        return self._offset >= 0 or self.further is not None or self.parked_to >= 0

    def last_offset(self) -> int:
        """The highest of its home partition that it holds, or that is parked."""
        if self._offsets is not None:
            return self._offsets[-1]
        return max(self._offset, self.parked_to)

    def chunks(self) -> list[bytes]:
        """Serialized TracesData, one or more, that together are its spans in the order they came."""
        plain = [each.unpack() if isinstance(each, Packed) else each for each in self._all_chunks()]
        for holds in self.further or ():
            plain += holds.chunks
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
            growth = self._hold_further(partition, offset, fragment)
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

    def _hold_further(self, partition: Progress, offset: int, fragment: Fragment) -> int:
        if self.further is None:
            self.further = []
        for holds in self.further:
            if holds.partition is partition:
                return holds.add(offset, fragment.payload, fragment.spans)
        holds = Holds(partition, offset)
        self.further.append(holds)
        return HOLDS_BYTES + holds.add(offset, fragment.payload, fragment.spans)

    # -- shrinking

    def pack(self, packer: Packer) -> int:
        """Make what is not packed yet one packed chunk; returns how many bytes that saves. ``further`` is not
        packed."""
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
        """From now on its spans are these; it is on one partition only. Its records stay held. Returns by how many bytes it
        grew: what was packed is plain now."""
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
        spans, size = self._spans_in_redis(places)
        offsets, pieces = self._all_offsets(), self._pieces()
        frames = len(pieces) - len(offsets)
        for offset, piece in zip([self.parked_to] * frames + offsets, pieces, strict=True):
            if (self.home.id, offset) not in places:
                chunks.append(piece)
                size += len(piece)
                spans += spans_of(piece)
        self._chunk = chunks[0] if chunks else None
        self._chunks = chunks[1:] or None
        self._packed = 0
        growth += self._chunk_bytes()
        for each in self.further or ():
            growth += each.leave_out(places)
            spans += each.spans
            size += each.payload_bytes
        self.spans = self.held_spans = spans
        self.payload_bytes = size
        self.size += growth
        return growth

    def _spans_in_redis(self, places: set[tuple[int, int]]) -> tuple[int, int]:
        """How many of its spans, and how many bytes, are in Redis and have to come back; none when all of that is left
        out: then it is as if it had come back empty."""
        if not self.is_parked():
            return 0, 0
        if (self.home.id, self.parked_to) in places:
            self._fetched = True
            self.home.in_flight += 1
            return 0, 0
        here = self._pieces()
        spans = self.held_spans - sum([spans_of(piece) for piece in here])
        size = self.payload_bytes - sum([len(piece) for piece in here])
        for each in self.further or ():
            spans -= each.spans
            size -= each.payload_bytes
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
        for each in self.further or ():
            each.release()
        self.further = None
        self.drop_chunks()

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
        return self._offset >= 0 and self.further is None and not self._leaving and self.reason is None

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
        return self._chunk_bytes() + (RECORD_BYTES - BYTES_BYTES) * records + (FURTHER_BYTES if records > 1 else 0)

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

    def let_go(self, partition: Progress) -> int:
        """What it holds on this partition is neither settled nor waited for, and its spans are dropped: the partition is
        another's now, or is read again. Only of a closed trace. Returns how many bytes that frees. ``size`` counts them
        until its owner subtracts them."""
        freed = 0
        if self.home is partition:
            if self._offset >= 0:
                self.home.in_flight -= 1 if self._offsets is None else 1 + len(self._offsets)
            freed = self._chunk_bytes()
            self.drop_chunks()
        for each in self.further or ():
            if each.partition is partition:
                each.let_go()
        return freed + self._keep_further([each for each in self.further or () if each.partition is not partition])

    def drop_chunks(self) -> None:
        """Of its home it holds nothing any more. The ledger is not told: what is forgotten with its partition is not settled."""
        if self._fetched:
            self.home.in_flight -= 1
            self._fetched = False
        self.parked_to, self._leaving = NOWHERE, 0
        self._offset = -1
        self._offsets = self._chunk = self._chunks = None
        self._packed = self.held_spans = self.payload_bytes = 0
        for each in self.further or ():
            self.held_spans += each.spans
            self.payload_bytes += each.payload_bytes

    def _keep_further(self, staying: list[Holds]) -> int:
        """Of what it holds on further partitions only these are left; returns how many bytes that frees."""
        freed = 0
        for each in self.further or ():
            if each not in staying:
                self.held_spans -= each.spans
                self.payload_bytes -= each.payload_bytes
                freed += each.size
        self.further = staying or None
        return freed

    def take_off(self) -> None:
        """It has closed: count its holds as in flight."""
        if self._offset >= 0:
            self.home.in_flight += 1 if self._offsets is None else 1 + len(self._offsets)
        for each in self.further or ():
            each.take_off()

    def forget(self, partitions: Collection[Progress]) -> bool:
        """These partitions are another's now, who reads them again: drop what it holds there, and move to one that is
        left. False when none is left. Only of an open trace."""
        self.size -= self._keep_further([each for each in self.further or () if each.partition not in partitions])
        if self.home not in partitions:
            return True
        if self.further is None:
            return False
        self._move_to(self.further[0])
        return True

    def _move_to(self, first: Holds) -> None:
        """The partition of its first further holds becomes its home."""
        self.size -= self._held_bytes(len(self._all_offsets())) + HOLDS_BYTES
        self.drop_chunks()
        self.home, self.first_offset = first.partition, first.first_offset
        self.held_ms, self.shelved = first.held_ms, False
        self._offset, self._chunk = first.offsets[0], first.chunks[0]
        if len(first.offsets) > 1:
            self._offsets, self._chunks = first.offsets[1:], [*first.chunks[1:]]
            self.size += FURTHER_BYTES
        further = (self.further or [])[1:]
        self.further = further or None

    def _all_chunks(self) -> list[bytes | Packed]:
        return [] if self._chunk is None else [self._chunk, *(self._chunks or ())]

    def _chunk_bytes(self) -> int:
        return sum([_bytes_of(each) for each in self._all_chunks()])


def _bytes_of(chunk: bytes | Packed) -> int:
    """Memory taken by what is held of a trace, as it is held."""
    if not isinstance(chunk, Packed):
        return BYTES_BYTES + len(chunk)
    return PACKED_BYTES + len(chunk.frame) + (SIZES_BYTES + 4 * len(chunk.sizes) if chunk.sizes else 0)


def weight(traces: list[Trace]) -> int:
    """Bytes of these, with the late fragments that wait for their decision."""
    size = 0
    for trace in traces:
        size += trace.size
        if trace.latecomers is not None:
            size += weight(trace.latecomers)
    return size
