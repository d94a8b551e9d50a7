"""What a trace holds on a partition that is not its home: `Holds`."""

from __future__ import annotations

from array import array
from typing import Any

from tss.core.otlp import Encoding, scan
from tss.core.progress import Progress
from tss.core.streamtime import NO_TIME

# What CPython 3.11 takes on 64 bits, measured with tracemalloc (tests/core/test_holds.py holds them to it).
HOLDS_BYTES = 400  # the object, its lists, its place in the trace's list
RECORD_BYTES = 55  # the header of a record's bytes, its offset
BYTES_BYTES = 33  # the header of a bytes object


class Holds:
    """The records of one partition that a trace holds, and the spans that came in them.

    A trace keeps the records of its home partition in its own fields, as most traces have no others. It has a list of
    these for further partitions, where producers do not agree on a partitioner. They are closed and settled with it.
    """

    __slots__ = ("chunks", "first_offset", "held_ms", "offsets", "partition", "payload_bytes", "size", "spans")

    def __init__(self, partition: Progress, first_offset: int) -> None:
        self.partition: Any = partition  # see ``Trace.home``
        self.first_offset = first_offset  # of the trace's first record there
        self.offsets = array("q")  # ascending
        self.chunks: list[bytes] = []  # a serialized TracesData for each offset, but for those that were left out
        self.spans = 0  # in the chunks
        self.payload_bytes = 0  # of the chunks
        self.held_ms = NO_TIME  # since when it has been holding a record, in stream time
        self.size = HOLDS_BYTES  # bytes

    def __repr__(self) -> str:
        return f"<Holds {len(self.offsets)} records of {self.partition!r}, {self.spans} spans>"

    def add(self, offset: int, payload: bytes, spans: int) -> int:
        """Hold one more record; returns by how many bytes that makes it grow."""
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

    def leave_out(self, places: set[tuple[int, int]]) -> int:
        """Drop the spans that came in these records (partition id, offset). The records stay held. Returns by how many
        bytes it grew: 0 or less."""
        id, before = self.partition.id, self.payload_bytes + BYTES_BYTES * len(self.chunks)
        staying = zip(self.offsets, self.chunks, strict=True)
        self.chunks = [chunk for offset, chunk in staying if (id, offset) not in places]
        self.spans = sum([spans_of(chunk) for chunk in self.chunks])
        self.payload_bytes = sum([len(chunk) for chunk in self.chunks])
        growth = self.payload_bytes + BYTES_BYTES * len(self.chunks) - before
        self.size += growth
        return growth

    def take_off(self) -> None:
        """The trace has closed: the holds are in flight."""
        self.partition.in_flight += len(self.offsets)

    def let_go(self) -> None:
        """The holds are neither settled nor waited for."""
        self.partition.in_flight -= len(self.offsets)

    def release(self) -> None:
        """The trace has ended: settle the records."""
        self.let_go()
        for offset in self.offsets:
            self.partition.ledger.settle(offset)


def spans_of(chunk: bytes) -> int:
    """How many spans there are in a serialized TracesData."""
    return sum([each.spans for each in scan(chunk, Encoding.OTLP_PROTO).fragments])
