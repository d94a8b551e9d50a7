"""The offset where a trace was first met, for traces whose decision was remembered before: about 25 bytes each."""

from __future__ import annotations

from tss.core.streamtime import NO_TIME
from tss.core.table import NOTHING, Table, key_of

_FAR = 1 << 62


class Generation:
    """The traces that were met in one period of stream time."""

    __slots__ = ("last", "lowest", "places")

    def __init__(self) -> None:
        self.places = Table()  # by trace: the offset where it was first met
        self.lowest = _FAR  # the lowest offset in ``places``
        self.last = NO_TIME  # the latest second in which one of the traces was met


class FirstMet:
    """Two generations of traces, so that old ones are forgotten together, without a search.

    If memory is short, the older generation is forgotten too early, and only its lowest offset is kept. An unknown
    trace may have begun there, so the next owner must begin reading there. That costs time, but changes no decision
    (law 2).
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
        """The memory of the tables in bytes."""
        return self._new.places.held_bytes + self._old.places.held_bytes

    def meet(self, trace_id: bytes, offset: int, second: int) -> int:
        """Note that the trace is met at this offset, in this second of stream time. Returns the offset where it was
        first met. If that was forgotten, returns the lowest offset where it may have been."""
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
        """Forget a generation if none of its traces was met from this second on: no commit can need it."""
        if self._lost_last < second:
            self._lost, self._lost_last = _FAR, NO_TIME
        if self._old.last < second and len(self._new.places):
            self._old, self._new = self._new, Generation()
        if self._old.last < second and len(self._old.places):
            self._old = Generation()

    def shorten(self) -> None:
        """Forget the older generation, because memory is short."""
        old = self._old
        if len(old.places):
            self._lost, self._lost_last = min(self._lost, old.lowest), max(self._lost_last, old.last)
        self._old, self._new = self._new, Generation()
