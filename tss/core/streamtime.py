"""The stream time of a partition, and the ring of deadlines that stream time turns."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Any

NO_TIME = -1  # the value of an unknown time; known times are positive
GRACE_MS = 2_000  # a record may become readable this long after its timestamp (producer batching, transport)


class StreamTime:
    """The largest believable record timestamp of one partition, in milliseconds since the epoch.

    ``now_ms`` is NO_TIME until a believable timestamp or the wall clock has set it. ``record_ms`` is the largest
    record timestamp; the wall clock does not change it.

    A timestamp that is ahead by no more than the allowed skew moves stream time, even if no later record confirms it. A
    smaller stream time would break law 3. A live reader may have closed, by its wall clock, all traces that were due at
    this timestamp. A reader of the backlog sees only records, and has to close the same traces.
    tests/core/test_clocks.py has the proof; docs/operations.md says what to do about a clock that is ahead.
    """

    __slots__ = ("_max_skew_ms", "now_ms", "record_ms")

    def __init__(self, max_skew_ms: int) -> None:
        self._max_skew_ms = max_skew_ms
        self.now_ms = NO_TIME
        self.record_ms = NO_TIME

    def __repr__(self) -> str:
        return f"<StreamTime {self.now_ms}>"

    def observe(self, timestamp_ms: int, wall_ms: int) -> bool:
        """Take in a record's timestamp. Returns False if it is absurd: ahead of the wall clock by more than the skew.

        An absurd timestamp leaves stream time unchanged. Moving stream time to the wall clock would break law 3. One
        bad clock in an hour-old backlog would close every trace of that hour, and decisions would depend on when the
        topic is read. The reader's clock decides whether a timestamp is absurd. So a later reading may judge a
        timestamp just beyond the limit differently. A missing timestamp (0 or negative) also leaves stream
        time unchanged, and is no error.
        """
        if timestamp_ms > wall_ms + self._max_skew_ms:
            return False
        if timestamp_ms > 0 and timestamp_ms > self.record_ms:
            self.record_ms = timestamp_ms
            self.now_ms = max(self.now_ms, timestamp_ms)
        return True

    def lead_ms(self) -> int:
        """How far the wall clock has moved stream time ahead of the records, in ms; 0 without records."""
        return self.now_ms - self.record_ms if self.record_ms >= 0 else 0

    def ahead_ms(self, wall_ms: int) -> int:
        """How far the records are ahead of the wall clock, in ms; 0 if they are not."""
        return max(0, self.record_ms - wall_ms)

    def reach(self, wall_ms: int) -> None:
        """Move stream time to ``wall_ms`` minus the grace, at least. The partition was read to its end then, so no
        older record will arrive."""
        self.now_ms = max(self.now_ms, wall_ms - GRACE_MS)


class Ring:
    """Buckets of one second each. An entry comes out once stream time has reached the start of its second.

    If a deadline becomes later, the entry stays in its bucket. Its owner then gets it too early and puts it in again.
    It may come out again in the same turn. If a deadline becomes earlier, the owner moves the entry. The owner also
    removes an entry that has ended: otherwise the entry would stay in memory until its old deadline. (The class is not
    generic, because Cython's extension types cannot be.)
    """

    __slots__ = ("_buckets", "_due", "_target", "_turned")

    def __init__(self) -> None:
        self._buckets: dict[int, dict[Any, None]] = {}
        self._turned = -(1 << 62)  # the buckets up to this second have been handed out
        self._target = self._turned  # the current turn hands out the buckets up to this second
        self._due: list[int] = []  # a heap of the seconds between the two that have a bucket

    def __repr__(self) -> str:
        return f"<Ring {len(self._buckets)} buckets, turned to {self._turned}>"

    def put(self, second: int, entry: Any) -> int:
        """Put the entry under this second, or under the first one not handed out yet. Returns the second used."""
        if second <= self._turned:
            second = self._turned + 1
        bucket = self._buckets.get(second)
        if bucket is None:
            bucket = self._buckets[second] = {}
            if second <= self._target:
                heappush(self._due, second)
        bucket[entry] = None
        return second

    def remove(self, second: int, entry: Any) -> None:
        """Remove an entry that ``put`` put under this second. It must not have been handed out."""
        bucket = self._buckets[second]
        del bucket[entry]
        if not bucket:
            del self._buckets[second]

    def is_due(self, now_ms: int) -> bool:
        """Whether a new second has begun. Checked for each record, because a turn without entries would cost more."""
        return now_ms // 1000 > self._turned

    def turn(self, now_ms: int) -> Iterator[tuple[int, Any]]:
        """Hand out (second, entry) for each bucket up to ``now_ms``, oldest first. ``put`` may be called meanwhile.

        An entry that is put in again under a second up to ``now_ms`` comes out in the same turn. So the order is always
        by seconds, whether time moved second by second or jumped.
        """
        target = now_ms // 1000
        if target <= self._turned:
            return
        if target - self._turned > len(self._buckets):  # a jump over mostly empty seconds
            seconds = sorted([second for second in self._buckets if second <= target])
        else:
            seconds = [second for second in range(self._turned + 1, target + 1) if second in self._buckets]
        self._target, self._due = target, seconds  # ascending, so it is a heap
        while seconds:
            second = self._turned = heappop(seconds)
            for entry in self._buckets.pop(second, ()):
                yield second, entry
        self._turned = target
