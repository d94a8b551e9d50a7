"""A trace on its way: open, closed, decided, delivered, settled."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

import attrs

from tss.core.decision import Decision, Reason
from tss.core.otlp import Fragment, join

if TYPE_CHECKING:
    from tss.core.partition import Partition

# What CPython 3.11 takes beside the payload, measured with tracemalloc (tests/core/test_buffer.py holds them to it).
TRACE_BYTES = 900  # the object, its id, its sets and lists, its places in the buffer and the ring
PIECE_BYTES = 170  # the object, its offset, the header of its bytes
SPAN_BYTES = 125  # a span id and its places in the sets

_NONE: frozenset[bytes] = frozenset()


@attrs.define(eq=False)  # not frozen only because that doubles the time to make one
class Piece:
    """A fragment that came from a record not settled before: its bytes, and a hold in its partition's ledger."""

    partition: Partition
    offset: int
    payload: bytes
    spans: int


class Trace:
    """All that is known of one trace id, and its claims on offsets.

    A fragment read again from below the low water only adds to the summary: it makes no piece.
    """

    __slots__ = (
        "awaiting", "closed_ms", "decision", "due", "end_ns", "errors", "first_ms", "first_offset", "has_root", "home", "last_ms", "late",
        "latecomers", "missing", "pieces", "put_aside", "reason", "seen", "size", "spans", "start_ns", "trace_id",
    )  # fmt: skip

    def __init__(self, trace_id: bytes, home: Partition, first_offset: int) -> None:
        self.trace_id = trace_id
        self.home = home  # the partition whose stream time closes it
        self.first_offset = first_offset  # of its first record there
        self.pieces: list[Piece] = []
        self.spans = 0
        self.errors = 0
        self.start_ns = 0
        self.end_ns = 0
        self.has_root = False
        self.seen: AbstractSet[bytes] = _NONE  # span ids; the first fragment's own set until a second one comes
        self.missing: AbstractSet[bytes] = _NONE  # parents named but not seen
        self.first_ms: int | None = None  # stream times; None until the home partition has one
        self.last_ms: int | None = None
        self.closed_ms: int | None = None
        self.due = 0  # the second of the ring it is filed under
        self.size = TRACE_BYTES
        self.reason: Reason | None = None  # set when it closes
        self.decision: Decision | None = None  # set when it is decided
        self.late = False  # one late fragment, under the decision of the trace it belongs to
        self.latecomers: list[Trace] | None = None  # late fragments that came between closing and decision
        self.put_aside = False  # some destination refused it, and it is among the dead letters
        self.awaiting = 0  # destinations that have not accepted it yet

    def __repr__(self) -> str:
        state = self.decision or self.reason or "open"
        return f"<Trace {self.trace_id.hex()} {self.spans} spans, {len(self.pieces)} pieces, {state}>"

    @property
    def complete(self) -> bool:
        """The root is here and every span's parent too."""
        return self.has_root and not self.missing

    @property
    def duration_ns(self) -> int:
        """From the earliest start to the latest end, gaps included; 0 when either is unknown."""
        return max(0, self.end_ns - self.start_ns) if self.start_ns and self.end_ns else 0

    @property
    def payload(self) -> bytes:
        """The serialized TracesData of its spans, in the order they came."""
        return join(piece.payload for piece in self.pieces)

    @property
    def sent_spans(self) -> int:
        """The spans in ``payload``; ``spans`` may count others that only had to be remembered."""
        return sum(piece.spans for piece in self.pieces)

    def absorb(self, fragment: Fragment) -> int:
        """Add a fragment's summary; returns by how many bytes the trace has grown."""
        self.spans += fragment.spans
        self.errors += fragment.errors
        if fragment.start_ns and (not self.start_ns or fragment.start_ns < self.start_ns):
            self.start_ns = fragment.start_ns
        self.end_ns = max(self.end_ns, fragment.end_ns)
        self.has_root = self.has_root or fragment.has_root
        if not self.seen:
            self.seen, self.missing = fragment.span_ids, fragment.parent_ids
        else:
            # Sets of its own from the second fragment on, and changed in place: a trace may come in 50,000 records.
            if isinstance(self.seen, frozenset):
                self.seen, self.missing = set(self.seen), set(self.missing)
            self.seen |= fragment.span_ids
            self.missing -= fragment.span_ids
            self.missing |= fragment.parent_ids - self.seen
        growth = fragment.spans * SPAN_BYTES
        self.size += growth
        return growth

    def hold(self, partition: Partition, offset: int, fragment: Fragment) -> int:
        """Take a fragment's bytes and hold its record; returns by how many bytes the trace has grown."""
        partition.ledger.hold(offset)
        self.pieces.append(Piece(partition, offset, fragment.payload, fragment.spans))
        growth = PIECE_BYTES + len(fragment.payload)
        self.size += growth
        return growth
