"""The records of a partition that are still held: one counter per record, and the low water, the oldest held offset."""

from __future__ import annotations

from array import array

from tss.core.errors import LawBroken

CHUNK_RECORDS = 1024
CHUNK_BYTES = 4 * CHUNK_RECORDS


class Chunk:
    """Counters of consecutive offsets: ``counts[i]`` is for ``start + i``. Offsets before ``head`` are settled."""

    __slots__ = ("counts", "head", "held", "start")

    def __init__(self, start: int) -> None:
        self.start = start
        self.head = 0
        self.held = 0  # the sum of the counters
        self.counts = array("I", bytes(CHUNK_BYTES))

    def oldest(self) -> int:
        """The oldest held offset. There must be one."""
        while not self.counts[self.head]:
            self.head += 1
        return self.start + self.head


class Ledger:
    """The holds on one partition. ``next`` is the offset after the last record read.

    ``low_water`` never passes a record that a trace still holds (law 1). The counters are in chunks, so that settled
    offsets and gaps (compaction, transactions) take no memory.
    """

    __slots__ = ("_chunks", "_held", "_last", "next")

    def __init__(self, start: int) -> None:
        self.next = start
        self._held = 0
        self._chunks: dict[int, Chunk] = {}  # by chunk number, ascending, as records are held in reading order
        self._last: Chunk | None = None  # the chunk used last: mostly it is needed next

    def __repr__(self) -> str:
        return f"<Ledger low water {self.low_water}, next {self.next}>"

    def read(self, offset: int) -> None:
        """Note that a record was read. Skipped offsets have no holds.

        Raises LawBroken if the offset was read before: its new holds would be mixed up with the old ones.
        """
        if offset < self.next:
            raise LawBroken(f"offset {offset} read twice (next is {self.next}): law 1 could not be kept")
        self.next = offset + 1

    def hold(self, offset: int) -> None:
        """Hold the last record read once more, for the trace of one fragment. Raises LawBroken for any other record."""
        if offset != self.next - 1:
            raise LawBroken(f"offset {offset} held, but {self.next - 1} was read last: law 1 could not be kept")
        chunk = self._chunk(offset)
        if chunk is None:
            self._drop_empty()
            number = offset // CHUNK_RECORDS
            chunk = self._last = self._chunks[number] = Chunk(number * CHUNK_RECORDS)
        chunk.counts[offset - chunk.start] += 1
        chunk.held += 1
        self._held += 1

    def _drop_empty(self) -> None:
        """Delete the newest chunk if all its records settled before its end was read. No other chunk can be empty."""
        if self._chunks:
            number, newest = next(reversed(self._chunks.items()))
            if not newest.held:
                del self._chunks[number]

    def settle(self, offset: int) -> None:
        """Release one hold of this record: its trace has ended or was parked. Raises LawBroken if it is not held."""
        chunk = self._chunk(offset)
        if chunk is None or not chunk.counts[offset - chunk.start]:
            raise LawBroken(
                f"offset {offset} settled more often than held (low water {self.low_water}, next {self.next}): law 1 would commit it too early"
            )
        chunk.counts[offset - chunk.start] -= 1
        chunk.held -= 1
        self._held -= 1
        if not chunk.held and self.next >= chunk.start + CHUNK_RECORDS:  # all its records have been read
            del self._chunks[chunk.start // CHUNK_RECORDS]
            self._last = None

    @property
    def low_water(self) -> int:
        """The offset that may be committed: the oldest one still held, or ``next`` if no record is held."""
        if not self._held:
            return self.next
        return next(chunk for chunk in self._chunks.values() if chunk.held).oldest()

    @property
    def uncommitted(self) -> int:
        """The number of offsets from the low water to the last record read."""
        return self.next - self.low_water

    @property
    def bytes(self) -> int:
        """The memory of the counters in bytes."""
        return len(self._chunks) * CHUNK_BYTES

    def _chunk(self, offset: int) -> Chunk | None:
        last = self._last
        if last is not None and 0 <= offset - last.start < CHUNK_RECORDS:
            return last
        found = self._chunks.get(offset // CHUNK_RECORDS)
        if found is not None:
            self._last = found
        return found
