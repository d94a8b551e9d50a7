"""Which records of a partition still matter: a counter a record, and the low water below all that are held."""

from __future__ import annotations

from array import array

from tss.core.errors import LawBroken

CHUNK_RECORDS = 1024
CHUNK_BYTES = 4 * CHUNK_RECORDS


class Chunk:
    """A run of counters: ``counts[i]`` belongs to offset ``start + i``; those before ``head`` are settled."""

    __slots__ = ("counts", "head", "held", "start")

    def __init__(self, start: int) -> None:
        self.start = start
        self.head = 0
        self.held = 0  # the sum of the counters
        self.counts = array("I", bytes(CHUNK_BYTES))

    def oldest(self) -> int:
        """The oldest offset held; there must be one."""
        while not self.counts[self.head]:
            self.head += 1
        return self.start + self.head


class Ledger:
    """One partition's holds. ``next`` is the offset after the last record read.

    Law 1 lives here: ``low_water`` never passes a record that a trace still holds. The counters are in chunks, so that
    offsets that nobody wrote (compaction, transactions) and settled ones cost nothing.
    """

    __slots__ = ("_chunks", "_held", "_last", "next")

    def __init__(self, start: int) -> None:
        self.next = start
        self._held = 0
        self._chunks: dict[int, Chunk] = {}  # by the chunk's number, ascending: records are held as they are read
        self._last: Chunk | None = None  # the one that was used last: mostly it is used again

    def __repr__(self) -> str:
        return f"<Ledger low water {self.low_water}, next {self.next}>"

    def read(self, offset: int) -> None:
        """A record was read. Offsets that were skipped hold nothing.

        Raises LawBroken when the offset was read before: its holds could no longer be told from the old ones.
        """
        if offset < self.next:
            raise LawBroken(f"offset {offset} read twice (next is {self.next}): law 1 could not be kept")
        self.next = offset + 1

    def hold(self, offset: int) -> None:
        """A fragment of the record that was read last waits for its trace's end. Raises LawBroken for any other."""
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
        """The newest chunk may have settled before its end was read; only it can be empty."""
        if self._chunks:
            number, newest = next(reversed(self._chunks.items()))
            if not newest.held:
                del self._chunks[number]

    def settle(self, offset: int) -> None:
        """The trace of one fragment of this record has ended. Raises LawBroken when nothing was held."""
        chunk = self._chunk(offset)
        if chunk is None or not chunk.counts[offset - chunk.start]:
            raise LawBroken(
                f"offset {offset} settled more often than held (low water {self.low_water}, next {self.next}): law 1 would commit it too early"
            )
        chunk.counts[offset - chunk.start] -= 1
        chunk.held -= 1
        self._held -= 1
        if not chunk.held and self.next >= chunk.start + CHUNK_RECORDS:  # nothing can be held in it any more
            del self._chunks[chunk.start // CHUNK_RECORDS]
            self._last = None

    @property
    def low_water(self) -> int:
        """The oldest offset still held, or ``next`` when none is: what may be committed."""
        if not self._held:
            return self.next
        return next(chunk for chunk in self._chunks.values() if chunk.held).oldest()

    @property
    def uncommitted(self) -> int:
        """Offsets between the low water and what was read last."""
        return self.next - self.low_water

    @property
    def bytes(self) -> int:
        """Memory taken by the counters."""
        return len(self._chunks) * CHUNK_BYTES

    def _chunk(self, offset: int) -> Chunk | None:
        last = self._last
        if last is not None and 0 <= offset - last.start < CHUNK_RECORDS:
            return last
        found = self._chunks.get(offset // CHUNK_RECORDS)
        if found is not None:
            self._last = found
        return found
