"""Which records of a partition the output topic already has, and the time from which that topic has to be read to know.

An exporter of type kafka produces each record once. After an assignment it reads back the newest part of the output topic,
so that records which are read again are not produced again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable

from tss.core.decision import Decision

ENTRY_BYTES = 130
# The object, the trace id and the entry in a dict, measured with tracemalloc; tests/core/test_output_traces.py checks them.
DELIVERED_BYTES = 170
OFFSET_BYTES = 45
SET_BYTES = 300  # if the offsets are a set
SET_OFFSET_BYTES = 85
FEW = 4  # up to this many offsets a tuple is smaller than a set, and no slower


class OutputTrace:
    """A kept trace in the output topic: its decision, and the offsets of its records on one input partition.

    It has each offset, not only the highest: late spans overtake each other, because they wait for other destinations.
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
        """Its memory in bytes."""
        count = len(self.offsets)
        return DELIVERED_BYTES + (count * OFFSET_BYTES if count <= FEW else SET_BYTES + count * SET_OFFSET_BYTES)

    def and_also(self, other: OutputTrace) -> OutputTrace:
        """Both together: a trace and its late spans are separate entries in the topic."""
        return OutputTrace(self.decision, [*self.offsets, *other.offsets])


class ProduceTimes:
    """When records of one input partition were produced to the output topic, for records that may be read again.

    Times and offsets both ascend. A trace that was produced later, but reaches no higher offset, needs no entry: whoever
    reads from the earlier time finds it. There is at most one entry a second, so a trace that holds back the commit for
    an hour causes at most 3600 entries.
    """

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: deque[tuple[int, int]] = deque()  # (ms, highest offset)

    def __repr__(self) -> str:
        return f"<ProduceTimes {len(self._entries)} from {[*self._entries][:1]}>"

    @property
    def held_bytes(self) -> int:
        """The memory of the entries in bytes; each is a tuple of two numbers."""
        return ENTRY_BYTES * len(self._entries)

    def note(self, now_ms: int, offset: int) -> None:
        """A trace whose highest offset is ``offset`` is about to be produced."""
        entries = self._entries
        while entries and now_ms < entries[-1][0]:  # the clock of an earlier owner was ahead of ours
            offset = max(offset, entries.pop()[1])
        if entries and offset <= entries[-1][1]:
            return
        if entries and now_ms - entries[-1][0] < 1000:
            entries[-1] = entries[-1][0], offset
        else:
            entries.append((now_ms, offset))

    def since_ms(self, low_water: int, now_ms: int) -> int:
        """The time (ms) from which the output topic has to be read to find every trace with records at or above the low water."""
        entries = self._entries
        while entries and entries[0][1] < low_water:
            entries.popleft()
        return min(entries[0][0], now_ms) if entries else now_ms
