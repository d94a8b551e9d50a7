"""How far a partition's log has come, and the ring of deadlines that its time turns."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Any

NO_TIME = -1  # what stands for a time that is not known yet; real ones are positive
GRACE_MS = 2_000  # how much later than its timestamp a record may still become readable (producer batching, transport)


class StreamTime:
    """The largest believable record timestamp of one partition, in milliseconds since the epoch.

    ``now_ms`` is NO_TIME until a believable timestamp or the wall clock has set it; ``record_ms`` is the largest of the
    records alone, whatever the wall clock says.

    A timestamp that is ahead by less than the allowed skew moves it, also if no later record confirms it. This cannot be
    otherwise: a live reader may have closed, by the wall clock, all that the largest timestamp makes ripe, and a reader
    of the backlog sees only records. With any smaller stream time the two would decide differently (law 3;
    tests/core/test_clocks.py has the proof, docs/operations.md what to do about such clocks).
    """

    __slots__ = ("_max_skew_ms", "now_ms", "record_ms")

    def __init__(self, max_skew_ms: int) -> None:
        self._max_skew_ms = max_skew_ms
        self.now_ms = NO_TIME
        self.record_ms = NO_TIME

    def __repr__(self) -> str:
        return f"<StreamTime {self.now_ms}>"

    def observe(self, timestamp_ms: int, wall_ms: int) -> bool:
        """Take in a record's timestamp; False when it is absurd.

        A timestamp further ahead of the wall clock than the allowed skew counts as *now*, and now is the log's own
        time: it leaves stream time where it is. (Moving it to the wall clock would let one bad clock in an hour-old
        backlog close every trace of that hour, and would make the decision depend on when the log is read: law 3.)
        Whether a timestamp is absurd is still told by the reader's clock, so one just beyond the limit can be judged
        otherwise by a later reading. Missing timestamps (0 or negative) do the same, and are no error.
        """
        if timestamp_ms > wall_ms + self._max_skew_ms:
            return False
        if timestamp_ms > 0 and timestamp_ms > self.record_ms:
            self.record_ms = timestamp_ms
            self.now_ms = max(self.now_ms, timestamp_ms)
        return True

    def ahead_ms(self, wall_ms: int) -> int:
        """How far the records are ahead of the wall clock; 0 when they are not."""
        return max(0, self.record_ms - wall_ms)

    def reach(self, wall_ms: int) -> None:
        """The partition's end was seen at ``wall_ms``: nothing older than that, less the grace, is still to come."""
        self.now_ms = max(self.now_ms, wall_ms - GRACE_MS)


class Ring:
    """Buckets of one second each. What is put in a bucket comes out once time has reached that second's start.

    A deadline that moves back is not followed: the owner, handed an entry too early, puts it in again, and gets it again
    in its turn, be it in the same turn of the ring. One that moves
    forward is, and an entry that has ended is taken out, or it would be kept alive until its old deadline. (Not generic:
    Cython's extension types cannot be.)
    """

    __slots__ = ("_buckets", "_due", "_target", "_turned")

    def __init__(self) -> None:
        self._buckets: dict[int, dict[Any, None]] = {}
        self._turned = -(1 << 62)  # every bucket up to this second has been handed out
        self._target = self._turned  # and up to this one it will be, in the turn that is under way
        self._due: list[int] = []  # a heap of the seconds between them

    def __repr__(self) -> str:
        return f"<Ring {len(self._buckets)} buckets, turned to {self._turned}>"

    def put(self, second: int, entry: Any) -> int:
        """File the entry under this second, or the next that has not been handed out; returns which."""
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
        """Take out an entry that ``put`` filed under this second, and that has not been handed out."""
        bucket = self._buckets[second]
        del bucket[entry]
        if not bucket:
            del self._buckets[second]

    def is_due(self, now_ms: int) -> bool:
        """Whether a new second has come; asked for every record, so cheaper than a turn that finds nothing."""
        return now_ms // 1000 > self._turned

    def turn(self, now_ms: int) -> Iterator[tuple[int, Any]]:
        """Hand out (second, entry) of every bucket whose second has come, oldest first; safe against ``put`` meanwhile.

        What is put in again for a second that has come, too, comes out in this turn: so the order is that of the seconds,
        whether time came a second at a time or jumped.
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
