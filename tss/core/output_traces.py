"""What the output topic already has of a partition, and from when on it has to be read to know that."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable

from tss.core.decision import Decision

ENTRY_BYTES = 130
# Measured with tracemalloc (tests/core/test_output_traces.py holds them to it): the object, the trace's id, its place in a dict.
DELIVERED_BYTES = 170
OFFSET_BYTES = 45
SET_BYTES = 300  # where the offsets are a set
SET_OFFSET_BYTES = 85
FEW = 4  # up to so many offsets a tuple is smaller than a set, and no slower


class OutputTrace:
    """A kept trace that the output topic has: its decision, and the records of one partition that are in there.

    Exact offsets and not the highest one: late spans overtake each other on their way through other destinations.
    """

    __slots__ = ("decision", "first", "last", "offsets")

    def __init__(self, decision: Decision, offsets: Iterable[int]) -> None:
        self.decision = decision
        known = sorted({*offsets})
        self.first, self.last = known[0], known[-1]
        self.offsets: Collection[int] = tuple(known) if len(known) <= FEW else frozenset(known)

    def __repr__(self) -> str:
        return f"<OutputTrace {len(self.offsets)} records from {self.first} to {self.last}, {self.decision}>"

    @property
    def held_bytes(self) -> int:
        """Memory taken."""
        count = len(self.offsets)
        return DELIVERED_BYTES + (count * OFFSET_BYTES if count <= FEW else SET_BYTES + count * SET_OFFSET_BYTES)

    def and_also(self, other: OutputTrace) -> OutputTrace:
        """Both together: a trace and what came late of it."""
        return OutputTrace(self.decision, [*self.offsets, *other.offsets])


class ProduceTimes:
    """When the traces were produced that cover offsets of one partition, as far as somebody may have to know.

    Times and offsets both ascend: what was produced later and reaches no further is found by reading from the earlier.
    One entry a second at most, so an hour of log held back by one long trace takes 3600 of them.
    """

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: deque[tuple[int, int]] = deque()  # (ms, highest offset)

    def __repr__(self) -> str:
        return f"<ProduceTimes {len(self._entries)} from {[*self._entries][:1]}>"

    @property
    def held_bytes(self) -> int:
        """Memory taken by the entries: a tuple of two numbers each."""
        return ENTRY_BYTES * len(self._entries)

    def note(self, now_ms: int, offset: int) -> None:
        """A trace that reaches up to this offset is about to be produced."""
        entries = self._entries
        while entries and now_ms < entries[-1][0]:  # an earlier owner's clock was ahead of ours
            offset = max(offset, entries.pop()[1])
        if entries and offset <= entries[-1][1]:
            return
        if entries and now_ms - entries[-1][0] < 1000:
            entries[-1] = entries[-1][0], offset
        else:
            entries.append((now_ms, offset))

    def since_ms(self, low_water: int, now_ms: int) -> int:
        """From when on the output topic has all that was, or will be, produced of records at or above the low water."""
        entries = self._entries
        while entries and entries[0][1] < low_water:
            entries.popleft()
        return min(entries[0][0], now_ms) if entries else now_ms
