"""Which time the records of a partition had reached at an offset: what retention goes by."""

from __future__ import annotations

from array import array
from bisect import bisect_right


class Stamps:
    """For each second of record time the first offset that reached it, both ascending: 16 bytes a second.

    A broker deletes a segment once the *newest* record in it, and in all before it, is older than `retention.ms`. So
    the largest timestamp up to an offset says how old that offset is for the broker, and not its own record's.
    """

    __slots__ = ("_offsets", "_seconds")

    def __init__(self) -> None:
        self._offsets = array("q")
        self._seconds = array("q")

    def __repr__(self) -> str:
        return f"<Stamps {len(self._offsets)} seconds>"

    def __len__(self) -> int:
        return len(self._offsets)

    def note(self, second: int, offset: int) -> None:
        """The record at this offset is the first of this second; later ones have higher offsets and seconds."""
        self._offsets.append(offset)
        self._seconds.append(second)

    def second_at(self, offset: int) -> int | None:
        """The second that the records up to this offset had reached; None where no record had a time."""
        after = bisect_right(self._offsets, offset)
        return self._seconds[after - 1] if after else None

    def forget_below(self, offset: int) -> None:
        """Lower offsets are not asked for any more."""
        passed = bisect_right(self._offsets, offset) - 1
        if passed > 0:
            del self._offsets[:passed]
            del self._seconds[:passed]
