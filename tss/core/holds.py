"""The records that a trace holds on a partition other than its home: `Holds`."""

from __future__ import annotations

from array import array
from typing import Any

from tss.core.otlp import Encoding, scan
from tss.core.progress import Progress
from tss.core.streamtime import NO_TIME

# Memory in CPython 3.11 on 64 bits, measured with tracemalloc (tests/core/test_holds.py checks it).
HOLDS_BYTES = 400  # the object, its lists, its entry in the trace's list
RECORD_BYTES = 55  # the header of a record's bytes, its offset
BYTES_BYTES = 33  # the header of a bytes object


class Holds:
    """The records of one partition that a trace holds, and the spans that came in them.

    A trace keeps the records of its home partition in its own fields, because most traces have no others. It has one
    `Holds` for each further partition. There are further partitions if producers use different partitioners. All holds
    are closed and settled with their trace.
    """

    __slots__ = ("chunks", "first_offset", "held_ms", "offsets", "partition", "payload_bytes", "size", "spans")

    def __init__(self, partition: Progress, first_offset: int) -> None:
        self.partition: Any = partition  # see ``Trace.home``
        self.first_offset = first_offset  # of the trace's first record there
        self.offsets = array("q")  # ascending
        self.chunks: list[bytes] = []  # a serialized TracesData for each offset that was not left out
        self.spans = 0  # in the chunks
        self.payload_bytes = 0  # of the chunks
        self.held_ms = NO_TIME  # the stream time since which it has held a record
        self.size = HOLDS_BYTES  # memory in bytes

    def __repr__(self) -> str:
        return f"<Holds {len(self.offsets)} records of {self.partition!r}, {self.spans} spans>"

    def add(self, offset: int, payload: bytes, spans: int) -> int:
        """Hold one more record. Returns the growth in bytes."""
        self.partition.ledger.hold(offset)
        if not self.offsets:
            self.held_ms = self.partition.time.now_ms
        self.offsets.append(offset)
        self.chunks.append(payload)
        self.spans += spans
        self.payload_bytes += len(payload)
        growth = len(payload) + RECORD_BYTES
        self.size += growth
        return growth

    def rewrite(self, payload: bytes) -> int:
        """Replace the spans by others, as many, in one serialized TracesData. The records stay held. Returns the growth
        in bytes."""
        before = self.payload_bytes + BYTES_BYTES * len(self.chunks)
        self.chunks = [payload] if payload else []
        self.payload_bytes = len(payload)
        growth = self.payload_bytes + BYTES_BYTES * len(self.chunks) - before
        self.size += growth
        return growth

    def leave_out(self, places: set[tuple[int, int]]) -> int:
        """Drop the spans that came in these records (partition id, offset). The records stay held. Returns the growth
        in bytes: 0 or less."""
        id, before = self.partition.id, self.payload_bytes + BYTES_BYTES * len(self.chunks)
        staying = zip(self.offsets, self.chunks, strict=True)
        self.chunks = [chunk for offset, chunk in staying if (id, offset) not in places]
        self.spans = sum([spans_of(chunk) for chunk in self.chunks])
        self.payload_bytes = sum([len(chunk) for chunk in self.chunks])
        growth = self.payload_bytes + BYTES_BYTES * len(self.chunks) - before
        self.size += growth
        return growth

    def take_off(self) -> None:
        """Count the holds as in flight, because the trace has closed."""
        self.partition.in_flight += len(self.offsets)

    def let_go(self) -> None:
        """Count the holds as in flight no longer. They are not settled."""
        self.partition.in_flight -= len(self.offsets)

    def release(self) -> None:
        """Settle the records, because the trace has ended."""
        self.let_go()
        for offset in self.offsets:
            self.partition.ledger.settle(offset)


def spans_of(chunk: bytes) -> int:
    """The number of spans in a serialized TracesData."""
    return sum([each.spans for each in scan(chunk, Encoding.OTLP_PROTO).fragments])
