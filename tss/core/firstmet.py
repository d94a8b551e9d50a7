"""Where a partition's traces were met first, of those whose decision was known before they were: some 25 bytes each."""

from __future__ import annotations

from tss.core.streamtime import NO_TIME
from tss.core.table import NOTHING, Table, key_of

_FAR = 1 << 62


class Generation:
    """Traces that were met in one stretch of time."""

    __slots__ = ("last", "lowest", "places")

    def __init__(self) -> None:
        self.places = Table()  # of a trace's first record here, the offset
        self.lowest = _FAR  # of these
        self.last = NO_TIME  # the second in which one of them was met last


class FirstMet:
    """Two generations, so that what nobody asks for any more is forgotten without being looked for.

    What had to be forgotten too early, as there was no room, leaves behind the lowest of its offsets: a trace that is
    not known may have begun there, and whoever reads on must begin there. That costs time, and no verdict (law 2).
    """

    __slots__ = ("_lost", "_lost_last", "_new", "_old")

    def __init__(self) -> None:
        self._new, self._old = Generation(), Generation()
        self._lost = _FAR
        self._lost_last = NO_TIME

    def __repr__(self) -> str:
        return f"<FirstMet {len(self)}, {self.held_bytes} bytes>"

    def __len__(self) -> int:
        return len(self._new.places) + len(self._old.places)

    @property
    def held_bytes(self) -> int:
        """Memory taken by the tables."""
        return self._new.places.held_bytes + self._old.places.held_bytes

    def meet(self, trace_id: bytes, offset: int, second: int) -> int:
        """The trace is met in this record, in this second of stream time; returns where it was met first."""
        key, new = key_of(trace_id), self._new
        first = new.places.get(key)
        if first == NOTHING:
            first = self._old.places.get(key)
            if first == NOTHING:
                first = min(offset, self._lost)
            new.places.put(key, first, 0)
            new.lowest = min(new.lowest, first)
        new.last = max(new.last, second)
        return first

    def forget_before(self, second: int) -> None:
        """What was not met from this second on cannot matter any more."""
        if self._lost_last < second:
            self._lost, self._lost_last = _FAR, NO_TIME
        if self._old.last < second and len(self._new.places):
            self._old, self._new = self._new, Generation()
        if self._old.last < second and len(self._old.places):
            self._old = Generation()

    def shorten(self) -> None:
        """There is no room: forget the older generation."""
        old = self._old
        if len(old.places):
            self._lost, self._lost_last = min(self._lost, old.lowest), max(self._lost_last, old.last)
        self._old, self._new = self._new, Generation()
