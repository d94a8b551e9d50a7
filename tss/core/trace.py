"""A trace and its states: open, closed, decided, delivered, settled."""

from __future__ import annotations

from array import array
from collections.abc import Collection
from typing import Any

from tss.core.conditions.program import ASKS_NOTHING, Program
from tss.core.decision import Decision, Reason
from tss.core.holds import BYTES_BYTES, HOLDS_BYTES, RECORD_BYTES, Holds, spans_of
from tss.core.names import UNKNOWN, Names
from tss.core.otlp import Lineage, Records, join
from tss.core.packing import Packed, Packer
from tss.core.parked import NOWHERE, Summary
from tss.core.progress import Progress
from tss.core.streamtime import NO_TIME, StreamTime

# Memory in CPython 3.11 on 64 bits, measured with tracemalloc and as RSS (tests/core/test_buffer.py checks it).
_COMPILED = not __file__.endswith(".py")
# The object, its id, its entries in the buffer and the ring. Interpreted, each of its numbers is an object.
TRACE_BYTES = 500 if _COMPILED else 720
FURTHER_BYTES = 160  # the lists that the second record needs
PACKED_BYTES = 400  # a frame's header, the `Packed` object, and the heap fragmentation that packing causes
SIZES_BYTES = 80  # the header of the array with the sizes of packed fragments; each size takes 4 bytes more
PACK_MIN_BYTES = 1024  # fewer bytes are not worth packing

_NO_IDS = b""
_ONE_ID = bytes(8)


class Trace:
    """The facts about one trace id, and the records that the trace holds.

    The stream time of one partition, its home, closes the trace. Its records on other partitions are in ``further``. A
    fragment that is read again from below the low water changes only the summary: its record is not held.
    """

    __slots__ = (
        "_chunk",
        "_chunks",
        "_fetched",
        "_leaving",
        "_leaving_ms",
        "_leaving_to",
        "_lineage",
        "_missing",
        "_offset",
        "_offsets",
        "_packed",
        "_span_ids",
        "closed_ms",
        "closed_second",
        "decision",
        "due",
        "end_ns",
        "errors",
        "facts",
        "first_lead_ms",
        "first_ms",
        "first_offset",
        "forced",
        "further",
        "has_root",
        "held_ms",
        "held_spans",
        "home",
        "last_lead_ms",
        "last_ms",
        "late",
        "latecomers",
        "livelier",
        "newer",
        "number",
        "older",
        "parked_to",
        "payload_bytes",
        "program",
        "quieter",
        "reason",
        "root_lead_ms",
        "root_ms",
        "root_name",
        "rules",
        "seen_bytes",
        "service",
        "shelved",
        "size",
        "spans",
        "start_ns",
        "taken_over",
        "touched",
        "trace_id",
        "unscanned",
    )  # fmt: skip

    def __init__(self, trace_id: bytes, home: Progress, first_offset: int) -> None:  # noqa: PLR0915  # one for each field
        self.trace_id = trace_id
        # The partition whose stream time closes the trace. This module knows only that it is a `Progress`. Callers pass
        # a Partition and get it back. A compiled class cannot be generic, so the type is not written here.
        self.home: Any = home
        self.first_offset = first_offset  # of the trace's first record on the home partition
        # The first record held there, and the others. On a keyed topic most traces have just one record.
        self._offset = -1
        self._offsets: array[int] | None = None
        self._chunk: bytes | Packed | None = None  # a serialized TracesData; all chunks concatenated are one too
        self._chunks: list[bytes | Packed] | None = None
        self._packed = 0  # `pack` skips this many chunks, because they are packed already
        self.further: list[Holds] | None = None  # records and spans on partitions other than the home
        self.spans = 0
        self.payload_bytes = 0  # of the held spans before packing, those in Redis included
        self.held_spans = 0  # in memory or Redis; ``spans`` also counts those read below the low water
        self.seen_bytes = 0  # of all ``spans``, as serialized TracesData
        self.service = UNKNOWN  # the numbers of two names in the buffer's `Names`
        self.root_name = UNKNOWN
        self.errors = 0
        self.start_ns = 0
        self.end_ns = 0
        self.has_root = False
        self.facts = b""  # what ``program`` found in its spans (`conditions/program.py`)
        self.program: Program | None = None  # None: no span has come yet
        self.forced = b""  # what the program of the force rules found, if ``rules`` is that program
        self.rules: Program | None = None  # None: there were no rules, or others for some of its spans
        self.unscanned = False  # ``facts`` lacks those of some spans, which another program has scanned
        self._span_ids = _NO_IDS  # 8 bytes each; from the second fragment on they are in ``_lineage``
        self._missing = _NO_IDS
        self._lineage: Lineage | None = None
        self.held_ms = NO_TIME  # the stream time since which it has held a record
        self.parked_to = NOWHERE  # the spans up to this offset are in Redis
        self.shelved = False  # Redis may have spans of this trace, even if no answer has confirmed it
        self.taken_over = False  # an earlier owner of the partition parked it, and may have decided it
        self._leaving = 0  # how many chunks, from the first on, are being written to Redis
        self._leaving_to = NOWHERE  # the last offset in them
        self._leaving_ms = NO_TIME  # the stream time when the write began
        self._fetched = False  # the parked frames are in memory again, or all their spans are left out
        # Stream times of the first and the last fragment, and of the closing. NO_TIME while unknown.
        self.first_ms = NO_TIME
        self.last_ms = NO_TIME
        self.root_ms = NO_TIME  # the stream time when the root arrived
        # How far the wall clock had moved these times ahead of the records. A replay knows only the records.
        self.first_lead_ms = self.last_lead_ms = self.root_lead_ms = 0
        # ``closed_second`` is the second of the partition's log at which it closed, the same in each replay.
        self.closed_ms = self.closed_second = NO_TIME
        self.touched = 0  # the buffer's count of fragments when this trace got its last one
        self.due = 0  # the second under which it is in the ring; 0: it is not in the ring
        self.size = TRACE_BYTES  # memory in bytes, ``further`` included
        self.reason: Reason | None = None  # set when it closes
        self.number = -1  # the number of its closing, for the decision memory
        self.decision: Decision | None = None  # set when it is decided
        self.late = False  # these are late spans, which follow the decision about their trace
        self.latecomers: list[Trace] | None = None  # late fragments that arrived between closing and decision
        self.older: Trace | None = None  # neighbours in the list of open traces by age
        self.newer: Trace | None = None
        self.quieter: Trace | None = None  # neighbours in the list of open traces by last fragment
        self.livelier: Trace | None = None

    def __repr__(self) -> str:
        state = self.decision or self.reason or "open"
        return f"<Trace {self.trace_id.hex()} {self.spans} spans, {len(self.holds())} holds, {state}>"

    def starts_at(self, time: StreamTime) -> None:
        """Its first and its last fragment came at this stream time."""
        self.first_ms = self.last_ms = time.now_ms
        self.first_lead_ms = self.last_lead_ms = time.lead_ms()

    def goes_on_at(self, time: StreamTime) -> None:
        """A fragment came at this stream time; an earlier owner may have seen a later one."""
        of_records = max(self.last_ms - self.last_lead_ms, time.record_ms)
        self.last_ms = max(self.last_ms, time.now_ms)
        self.last_lead_ms = self.last_ms - of_records

    def is_complete(self) -> bool:
        """Whether the root and the parent of every span have arrived. `forget_lineage` keeps the answer."""
        if self._lineage is None:
            return self.has_root and not self._missing
        return self.has_root and not self._lineage.open

    def duration_ns(self) -> int:
        """Nanoseconds from the earliest start to the latest end, gaps included; 0 if either is unknown."""
        if self.start_ns and self.end_ns > self.start_ns:
            return self.end_ns - self.start_ns
        return 0

    # -- records and spans held

    def holds(self) -> list[tuple[Any, int]]:
        """The records it holds, as (partition, offset). A record occurs twice if it had two fragments of the trace."""
        held = [] if self._offset < 0 else [(self.home, self._offset)]
        if self._offsets is not None:
            held += [(self.home, offset) for offset in self._offsets]
        for each in self.further or ():
            held += [(each.partition, offset) for offset in each.offsets]
        return held

    def begins(self) -> list[tuple[Any, int]]:
        """Each partition with records of the trace, and the offset of the first record there."""
        begins = [(self.home, self.first_offset)]
        if self.further is not None:
            begins += [(each.partition, each.first_offset) for each in self.further]
        return begins

    def holds_up_to(self, partition: Progress, offset: int) -> bool:
        """Whether it holds a record of this partition with this offset or a lower one."""
        if self.home is partition:
            return 0 <= self._offset <= offset  # the lowest of the home partition
        for each in self.further or ():
            if each.partition is partition:
                return each.offsets[0] <= offset
        return False

    def is_held(self) -> bool:
        """Whether it holds a record or has parked spans."""
        return self._offset >= 0 or self.further is not None or self.parked_to >= 0

    def last_offset(self) -> int:
        """The highest offset of the home partition that it holds or has parked."""
        if self._offsets is not None:
            return self._offsets[-1]
        return max(self._offset, self.parked_to)

    def chunks(self) -> list[bytes]:
        """The spans in memory, as serialized TracesData. Those of one partition are in the order of their records."""
        plain = [each.unpack() if isinstance(each, Packed) else each for each in self._all_chunks()]
        for holds in self.further or ():
            plain += holds.chunks
        return plain

    @property
    def payload(self) -> bytes:
        """The spans in memory as one serialized TracesData."""
        return join(self.chunks())

    # -- growing; each method returns the growth in bytes

    def absorb(self, records: Records, at: int, program: Program = ASKS_NOTHING) -> int:
        """Add the summary of a fragment, without its bytes. ``program`` made its facts. Returns the growth in bytes."""
        fragment, facts = records.fragment(at), records.facts(at)
        if records.rules is not self.rules or fragment.forced:
            self._learn_forced(records, at)
        self.spans += fragment.spans
        self.errors += fragment.errors
        if fragment.start_ns and (not self.start_ns or fragment.start_ns < self.start_ns):
            self.start_ns = fragment.start_ns
        self.end_ns = max(self.end_ns, fragment.end_ns)
        self.seen_bytes += len(records.payload(at))
        if fragment.has_root and not self.has_root:
            self.has_root = True
            self.root_ms = max(self.last_ms, self.home.time.now_ms)  # an earlier owner may have seen a later time
            self.root_lead_ms = self.root_ms - max(self.last_ms - self.last_lead_ms, self.home.time.record_ms)
        growth = self._relate(records, at)
        if program is not self.program:
            growth += self._meet(facts, program)
        elif facts and facts is not self.facts:  # usually they are shared, and known already
            growth += self._learn(program.fold(self.facts, facts))
        self.size += growth
        return growth

    def name(self, payload: bytes, has_root: bool, names: Names) -> None:
        """Learn the service and the name of the root span from a fragment, if they are not known yet."""
        if has_root and not self.root_name:
            if names.look(payload, True) or not self.service:
                self.service = names.service
                self.root_name = names.root
        elif not self.service:
            names.look(payload, False)
            self.service = names.service

    def _relate(self, records: Records, at: int) -> int:
        lineage = self._lineage
        if lineage is None:
            if not self._span_ids:
                self._span_ids, self._missing = records.span_ids(at), records.missing(at)
                return len(self._span_ids) + len(self._missing) + RECORD_BYTES
            before = len(self._span_ids) + len(self._missing) + RECORD_BYTES
            lineage = self._lineage = Lineage()
            lineage.add(self._span_ids, self._missing)
            self._span_ids = self._missing = _NO_IDS
        else:
            before = lineage.bytes
        lineage.take(records, at)
        return lineage.bytes - before

    def _meet(self, facts: bytes, program: Program) -> int:
        """Take in the facts of a fragment that another program has scanned than those before. What only one of the two has
        asked is not known of the whole trace. If neither covers the other, all spans have to be scanned again."""
        mine = self.program
        if mine is None or program.covers(mine):
            self.program = mine or program
            return self._learn(self.program.fold(self.facts, self.program.translated(facts, program)))
        self.program = program
        if not mine.covers(program):
            self.unscanned = True
            return self._learn(program.fold(b"", facts))
        return self._learn(program.fold(program.translated(self.facts, mine), facts))

    def knows(self, program: Program) -> bool:
        """Whether its facts are answers of this program."""
        mine = self.program
        if mine is None or self.unscanned:
            return False
        return mine is program or mine.fingerprint == program.fingerprint

    def can_tell(self, program: Program) -> bool:
        """Whether its facts have all the answers of this program, perhaps among others."""
        return self.program is not None and not self.unscanned and self.program.covers(program)

    def given_randomness(self) -> int:
        """The first randomness that a span brought (`ot=rv`), in 56 bits; -1 if none did."""
        return -1 if self.program is None else self.program.randomness(self.facts)

    def has_all_spans(self) -> bool:
        """Whether every span that it ever had is in memory or in Redis, so that all can be scanned again."""
        return self.held_spans == self.spans

    def translate(self, program: Program) -> int:
        """Keep only the answers of this program (see ``can_tell``). Returns the growth in bytes."""
        mine = self.program or program
        growth = self._learn(program.translated(self.facts, mine))
        self.program = program
        self.size += growth
        return growth

    def _learn(self, facts: bytes) -> int:
        growth = facts_bytes(facts) - facts_bytes(self.facts)
        self.facts = facts
        return growth

    def _learn_forced(self, records: Records, at: int) -> None:
        before = facts_bytes(self.forced)
        if not self.spans:
            self.rules = records.rules
        if records.rules is not self.rules:
            self.rules, self.forced = None, b""
        elif self.rules is not None:
            self.forced = self.rules.fold(self.forced, records.forced(at))
        self.size += facts_bytes(self.forced) - before

    def forget_lineage(self) -> None:
        """Free the span ids, because no more spans are added. The answer of `is_complete` stays."""
        self._missing = _NO_IDS if self.is_complete() else _ONE_ID
        self._span_ids = _NO_IDS
        self._lineage = None

    def hold(self, partition: Progress, offset: int, records: Records, at: int) -> int:
        """Add a fragment's bytes and hold its record. Returns the growth in bytes."""
        payload, spans = records.payload(at), records.fragment(at).spans
        if partition is self.home:
            growth = self._hold(offset, payload)
        else:
            growth = self._hold_further(partition, offset, payload, spans)
        self.held_spans += spans
        self.payload_bytes += len(payload)
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

    def _hold_further(self, partition: Progress, offset: int, payload: bytes, spans: int) -> int:
        if self.further is None:
            self.further = []
        for holds in self.further:
            if holds.partition is partition:
                return holds.add(offset, payload, spans)
        holds = Holds(partition, offset)
        self.further.append(holds)
        return HOLDS_BYTES + holds.add(offset, payload, spans)

    # -- shrinking

    def pack(self, packer: Packer) -> int:
        """Compress the chunks that are not packed yet into one. Returns the bytes saved. ``further`` is not packed."""
        if self._leaving:  # it counts chunks, so they must not be merged with later ones
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
            return 0  # the content does not compress
        chunks[self._packed :] = [packed]
        self._packed = len(chunks)
        self._chunk = chunks[0]
        self._chunks = chunks[1:] or None
        self.size -= saved
        return saved

    def rewrite(self, payload: bytes, spans: int) -> int:
        """Replace the spans of a trace on one partition. Its records stay held. Returns the growth in bytes. It may be
        positive, because the new spans are not packed."""
        growth = -self._chunk_bytes()
        self._chunk, self._chunks, self._packed = payload, None, 0
        self.payload_bytes, self.held_spans = len(payload), spans
        growth += self._chunk_bytes()
        self.size += growth
        return growth

    def parts(self) -> list[bytes]:
        """The spans in memory by partition, each a serialized TracesData: those of the home, then those of each further one."""
        home = [each.unpack() if isinstance(each, Packed) else each for each in self._all_chunks()]
        return [join(home), *[join(holds.chunks) for holds in self.further or ()]]

    def rewrite_parts(self, parts: list[bytes]) -> int:
        """Replace the spans by others, as many, in the form of `parts`. Its records stay held. Returns the growth in
        bytes. It may be positive, because the new spans are not packed."""
        growth = -self._chunk_bytes()
        self._chunk, self._chunks, self._packed = parts[0] or None, None, 0
        self.payload_bytes = len(parts[0])
        growth += self._chunk_bytes()
        for holds, part in zip(self.further or (), parts[1:], strict=True):
            growth += holds.rewrite(part)
            self.payload_bytes += holds.payload_bytes
        self.size += growth
        return growth

    def is_packed(self) -> bool:
        """Whether any of its spans are packed."""
        for each in self._all_chunks():  # noqa: SIM110  # Cython takes no generator in a method of C types
            if isinstance(each, Packed):
                return True
        return False

    def leave_out(self, places: set[tuple[int, int]]) -> int:
        """Drop the spans that came in these records (partition id, offset). Its records stay held. Returns the growth
        in bytes. It may be positive, because packed chunks are unpacked.

        Parked spans, in Redis or in memory again, are dropped together if their last offset is in ``places``.
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
        """The number of spans in Redis that are still needed, and their bytes. If ``places`` has the parked spans, both
        are 0, and the trace counts as fetched without spans."""
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
        """The frames fetched from Redis, then the fragment of each record held on the home partition; all unpacked."""
        pieces: list[bytes] = []
        for each in self._all_chunks():
            pieces += each.pieces() if isinstance(each, Packed) else [each]
        return pieces

    def release(self) -> None:
        """Settle its records and free its bytes, because the trace has ended. The trace must be closed."""
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
        # Also if the partition is revoked: its last commit waits for the holds in flight.
        self.home.ledger.settle(offset)

    # -- parking

    def clock(self, now_ms: int) -> None:
        """The partition has its first stream time. Set ``held_ms`` if the trace holds a record, ``root_ms`` if it has a
        root."""
        if self.held_ms < 0 and self._offset >= 0:
            self.held_ms = now_ms
        if self.root_ms < 0 and self.has_root:
            self.root_ms = now_ms
            self.root_lead_ms = self.home.time.lead_ms()

    def may_be_parked(self) -> bool:
        """Whether it has spans to park. A trace on two partitions is not parked: one closes it, but both are read."""
        return self._offset >= 0 and self.further is None and not self._leaving and self.reason is None

    def is_parked(self) -> bool:
        """Whether some of its spans are in Redis and not in memory."""
        return self.parked_to >= 0 and not self._fetched

    def is_leaving(self) -> bool:
        """Whether chunks are being written to Redis."""
        return self._leaving > 0

    def leave(self) -> tuple[Summary, list[bytes | Packed]]:
        """Begin to park the held spans. Returns the summary as it is after parking, and the chunks to write."""
        chunks = self._all_chunks()
        self._leaving, self._leaving_to, self._leaving_ms = len(chunks), self.last_offset(), self.home.time.now_ms
        self.shelved = True
        return self._summary(self._leaving_to), chunks

    def stay(self) -> None:
        """Cancel the parking: the chunks stay in memory."""
        self._leaving = 0

    def park(self) -> int:
        """Redis has the chunks from ``leave``: settle their records and free them. Returns the bytes freed."""
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
        facts = facts_bytes(self.facts) + facts_bytes(self.forced)
        if self._lineage is not None:
            return facts + self._lineage.bytes
        return facts + (len(self._span_ids) + len(self._missing) + RECORD_BYTES if self._span_ids else 0)

    def _held_bytes(self, records: int) -> int:
        # RECORD_BYTES includes the header of a record's bytes, and so does _chunk_bytes.
        return self._chunk_bytes() + (RECORD_BYTES - BYTES_BYTES) * records + (FURTHER_BYTES if records > 1 else 0)

    def _summary(self, parked_to: int) -> Summary:
        lineage = self._lineage
        seen, missing, overflown = (self._span_ids, self._missing, False) if lineage is None else lineage.known()
        return Summary(
            self.first_offset, parked_to, self.spans, self.held_spans, self.payload_bytes, self.errors, self.start_ns,
            self.end_ns, self.has_root, self.first_ms, self.last_ms, seen, missing, overflown, self.facts,
            root_ms=self.root_ms, seen_bytes=self.seen_bytes, forced=self.forced,
            rules="" if self.rules is None else self.rules.fingerprint,
            # The facts of a trace that several programs have scanned are unknown until its spans are scanned again.
            program="" if self.program is None or self.unscanned else self.program.fingerprint,
            leads_ms=(self.first_lead_ms, self.last_lead_ms, self.root_lead_ms),
        )  # fmt: skip

    def take_over(self, summary: Summary, rules: Program | None = None, program: Program = ASKS_NOTHING) -> None:
        """Continue the trace that an earlier owner parked. This trace must be new. ``program`` made the summary's facts,
        unless these are ``unscanned``. ``rules``: the program of our force rules."""
        self.program = program
        if rules is not None and summary.rules == rules.fingerprint and rules.reads(summary.forced):
            self.rules, self.forced = rules, summary.forced
        self.spans, self.held_spans, self.payload_bytes = summary.spans, summary.held_spans, summary.payload_bytes
        self.errors, self.start_ns, self.end_ns = summary.errors, summary.start_ns, summary.end_ns
        self.has_root, self.facts, self.unscanned = summary.has_root, summary.facts, summary.unscanned
        self.first_ms, self.last_ms, self.root_ms = summary.first_ms, summary.last_ms, summary.root_ms
        self.first_lead_ms, self.last_lead_ms, self.root_lead_ms = summary.leads_ms
        self.seen_bytes = summary.seen_bytes
        self._span_ids, self._missing = summary.span_ids, summary.missing
        if summary.overflown:
            self._lineage = Lineage()
            self._lineage.overflow()
        self.parked_to, self.shelved, self.taken_over = summary.parked_to, True, True
        self.size = TRACE_BYTES + self._summary_bytes()

    def rescan(self, facts: bytes, program: Program) -> int:
        """Take the facts that this program found in all the spans. Returns the growth in bytes."""
        growth = self._learn(facts)
        self.program, self.unscanned = program, False
        self.size += growth
        return growth

    def come_back(self, frames: list[Packed]) -> int:
        """Put the parked spans, fetched from Redis, before the held ones. The trace must be closed. Returns the growth
        in bytes."""
        chunks: list[bytes | Packed] = [*frames, *self._all_chunks()]
        self._chunk, self._chunks = chunks[0], chunks[1:] or None
        self._packed, self._fetched = 0, True
        self.home.in_flight += 1  # so that a revocation waits for this trace
        growth = sum([_bytes_of(each) for each in frames])
        self.size += growth
        return growth

    def let_go(self, partition: Progress) -> int:
        """Drop the spans and holds on this partition without settling them: it has a new owner, or is read again. The
        trace must be closed. Returns the bytes freed. ``size`` includes them until the caller subtracts them."""
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
        """Drop the spans and holds on the home partition. The ledger does not change: the caller has settled the
        records, or forgets them with the partition."""
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
        """Keep only these holds on further partitions. Returns the bytes freed."""
        freed = 0
        for each in self.further or ():
            if each not in staying:
                self.held_spans -= each.spans
                self.payload_bytes -= each.payload_bytes
                freed += each.size
        self.further = staying or None
        return freed

    def take_off(self) -> None:
        """Count its holds as in flight, because it has closed."""
        if self._offset >= 0:
            self.home.in_flight += 1 if self._offsets is None else 1 + len(self._offsets)
        for each in self.further or ():
            each.take_off()

    def forget(self, partitions: Collection[Progress]) -> bool:
        """Drop the spans and holds on these partitions, because their new owners read them again. If the home is among
        them, a remaining partition becomes the home. Returns False if no partition remains. The trace must be open."""
        self.size -= self._keep_further([each for each in self.further or () if each.partition not in partitions])
        if self.home not in partitions:
            return True
        if self.further is None:
            return False
        self._move_to(self.further[0])
        return True

    def _move_to(self, first: Holds) -> None:
        """Make the partition of ``first``, the first further holds, the home."""
        self.size -= self._held_bytes(len(self._all_offsets())) + HOLDS_BYTES
        self.drop_chunks()
        self.home, self.first_offset = first.partition, first.first_offset
        self.held_ms, self.shelved = first.held_ms, False
        if self.has_root:
            self.root_ms = self.home.time.now_ms  # its waits begin again, by the time of the new home
            self.root_lead_ms = self.home.time.lead_ms()
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


def facts_bytes(facts: bytes) -> int:
    """Memory of facts, in bytes. Shared facts count for each trace, since it is not known whether they are shared."""
    return BYTES_BYTES + len(facts) if facts else 0


def _bytes_of(chunk: bytes | Packed) -> int:
    """The memory of a chunk in bytes, packed or not."""
    if not isinstance(chunk, Packed):
        return BYTES_BYTES + len(chunk)
    return PACKED_BYTES + len(chunk.frame) + (SIZES_BYTES + 4 * len(chunk.sizes) if chunk.sizes else 0)


def weight(traces: list[Trace]) -> int:
    """The memory of these traces in bytes, with the late fragments that wait for their decision."""
    size = 0
    for trace in traces:
        size += trace.size
        if trace.latecomers is not None:
            size += weight(trace.latecomers)
    return size
