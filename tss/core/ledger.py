"""Which records of a partition still matter: a counter a record, and the low water below all that are held."""

from __future__ import annotations

from array import array
from bisect import bisect_right

from tss.core.errors import LawBroken

SEGMENT_GAP = 1024  # offsets missing in a row (compaction, transactions) that are worth a segment of their own
COMPACT_AFTER = 4096  # settled counters at a segment's front that are worth moving the rest for


class _Segment:
    """A contiguous run of counters: ``counts[i]`` belongs to offset ``start + i``; those before ``head`` are settled."""

    __slots__ = ("counts", "head", "start")

    def __init__(self, start: int) -> None:
        self.start = start
        self.head = 0
        self.counts = array("I")

    def advance(self) -> bool:
        """Move the head over what is settled; True when the whole segment is."""
        counts, head, end = self.counts, self.head, len(self.counts)
        while head < end and not counts[head]:
            head += 1
        self.head = head
        if head > COMPACT_AFTER and head * 2 > end:  # each counter is moved at most once per doubling: amortised O(1)
            del counts[:head]
            self.start += head
            self.head = 0
        return self.head == len(self.counts)


class Ledger:
    """One partition's holds. ``next`` is the offset after the last record read.

    Law 1 lives here: ``low_water`` never passes a record that a trace still holds.
    """

    __slots__ = ("_segments", "next")

    def __init__(self, start: int) -> None:
        self.next = start
        self._segments: list[_Segment] = []

    def __repr__(self) -> str:
        return f"<Ledger low water {self.low_water}, next {self.next}>"

    def read(self, offset: int) -> None:
        """A record was read. Offsets that were skipped hold nothing.

        Raises LawBroken when the offset was read before: its holds could no longer be told from the old ones.
        """
        if offset < self.next:
            raise LawBroken(f"offset {offset} read twice (next is {self.next}): law 1 could not be kept")
        gap = offset - self.next
        if not self._segments or gap > SEGMENT_GAP:
            self._segments.append(_Segment(offset))
            gap = 0
        self._segments[-1].counts.frombytes(bytes((gap + 1) * self._segments[-1].counts.itemsize))
        self.next = offset + 1

    def hold(self, offset: int) -> None:
        """A fragment of this record waits for its trace's end."""
        segment = self._segment(offset)
        segment.counts[offset - segment.start] += 1

    def settle(self, offset: int) -> None:
        """The trace of one fragment of this record has ended. Raises LawBroken when nothing was held."""
        segment = self._segment(offset)
        index = offset - segment.start
        if not segment.counts[index]:
            raise LawBroken(f"offset {offset} settled more often than held: law 1 would commit it too early")
        segment.counts[index] -= 1

    @property
    def low_water(self) -> int:
        """The oldest offset still held, or ``next`` when none is: what may be committed."""
        segments = self._segments
        while segments and segments[0].advance():
            del segments[0]
        return segments[0].start + segments[0].head if segments else self.next

    @property
    def uncommitted(self) -> int:
        """Offsets between the low water and what was read last."""
        return self.next - self.low_water

    @property
    def bytes(self) -> int:
        """Memory taken by the counters."""
        return sum(len(segment.counts) * segment.counts.itemsize for segment in self._segments)

    def _segment(self, offset: int) -> _Segment:
        index = bisect_right(self._segments, offset, key=lambda segment: segment.start) - 1
        if index >= 0:
            segment = self._segments[index]
            if segment.head <= offset - segment.start < len(segment.counts):
                return segment
        raise LawBroken(f"offset {offset} is not in the ledger {self._segments and self!r}: law 1 could not be kept")
