"""The record time that a partition had reached at each offset. Retention in Kafka depends on it."""

from __future__ import annotations

from array import array
from bisect import bisect_right


class Stamps:
    """The first offset that reached each second of record time. Both ascend. A second takes 16 bytes.

    A broker deletes a segment once the *newest* record in it, and in all segments before it, is older than
    `retention.ms`. So for the broker, the age of an offset depends on the largest timestamp up to it, not on its own.
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
        """Note the first record of a second. Each call must have a higher offset and a higher second than the last."""
        self._offsets.append(offset)
        self._seconds.append(second)

    def second_at(self, offset: int) -> int | None:
        """The second that the records up to this offset had reached; None if no record had a timestamp."""
        after = bisect_right(self._offsets, offset)
        return self._seconds[after - 1] if after else None

    def forget_below(self, offset: int) -> None:
        """Forget the seconds that only lower offsets need."""
        passed = bisect_right(self._offsets, offset) - 1
        if passed > 0:
            del self._offsets[:passed]
            del self._seconds[:passed]
