"""Where the next owner of a partition has to begin reading: `Replay`."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right

from tss.core.firstmet import FirstMet
from tss.core.streamtime import NO_TIME, StreamTime

# Memory in CPython, measured with tracemalloc (tests/core/test_partition.py checks it).
SECOND_BYTES = 18  # a noted second: two numbers in arrays that grow by an eighth
# The owner before may have known a later stream time than we do, because the clock moves it too at a partition's end.
CERTAIN_SECS = 5
REOPENED_BYTES = 190  # a reopened trace: its id, an offset, an entry in a dict


class Replay:
    """The records that the next owner of a partition has to read again, to make the same decisions as this owner.

    The next owner (another replica, or this one after a restart) resumes at the committed offset, the low water. All
    records below it are settled. But late spans of ended traces may still arrive, and without Redis the next owner does
    not know the decisions. So it begins to read at a lower offset, `begin`. It decides the traces in those records
    again, and the same records give the same decisions (law 3). It holds and exports nothing below the low water.

    An example, with one record a second, a replay of 60 s and a low water of 500. The record at 500 came at 10:08:20.

    - The window is the 60 s of stream time before the low water. It begins at 10:07:20, with the record at 440.
    - Trace A began at 300 and ended at 10:07:50, within the window. The next owner has to read all of it, or it could
      decide differently about the part that it has read (law 2). So it begins at 300.
    - Trace B began at 100 and ended at 10:06:00, before the window. The next owner does not need it.
    - The clock of the producer that wrote 290 was ahead, so the timestamp of 290 was still the stream time at 300. If
      the next owner began at 300, trace A would begin earlier for it, and close at another time. So it begins at 290.

    Four more rules apply if owners change several times:

    - An owner that has not reached its own start yet has not read all of the window. The next owner then begins at the
      same offset as this one.
    - A trace that was *reopened*, because records below the start belong to it, must be read whole by the next owner
      too. No commit may cut it until it has ended.
    - If this replica was the owner before, it *remembers* decisions. Records of traces with a remembered decision open
      no trace. For the next owner, `FirstMet` has the offset where each of these traces was first met.
    - Parked traces are taken over from Redis. Their records are read again only if the trace is not longer than the
      window.

    There is at most one entry a second, so an hour takes 3600 entries at any traffic. Each commit forgets the entries
    that no later commit can need. With ``secs`` 0 there is no replay, and nothing is noted.
    """

    __slots__ = (
        "_end_firsts", "_end_seconds", "_is_past_start", "_last_end_first", "_last_end_second", "_last_second", "_met",
        "_offsets", "_reopened", "_seconds", "_start", "_time", "certain_from", "first_read", "secs", "window",
    )  # fmt: skip

    def __init__(self, start: int, first_read: int, secs: int, time: StreamTime) -> None:
        """``start`` is the low water at the assignment, ``first_read`` the offset where this owner begins to read."""
        self.first_read = first_read
        self.window = 0  # the next owner decides nothing again that closed before this second, as of the last `begin`
        self._start = start
        self.secs = secs
        self._time = time  # the partition's stream time
        self._is_past_start = False
        self.certain_from = NO_TIME
        """Traces that closed from this second on are decided again as they were. NO_TIME until the start is reached."""
        self._seconds = array("q")  # stream seconds, and the first offset read in each; both ascending
        self._offsets = array("q")
        self._last_second = NO_TIME  # the last second noted
        self._end_seconds = array("q")  # when traces ended, and the offset where their replay begins; both ascending
        self._end_firsts = array("q")
        self._last_end_second = NO_TIME  # the last second in ``_end_seconds``, and that trace's first offset
        self._last_end_first = 0
        self._met = FirstMet()  # the traces whose decision this replica remembers from an earlier assignment
        self._reopened: dict[bytes, int] = {}  # by reopened trace: the offset where a replay of it begins

    def __repr__(self) -> str:
        return f"<Replay of {self.secs} s from {self.first_read}, {len(self._seconds)} seconds noted>"

    # -- events while this owner reads

    def read(self, offset: int) -> None:
        """Note a record that was read. Stream time already includes its timestamp."""
        if not self._is_past_start and offset >= self._start:
            self._is_past_start = True
            self._certain()
        if self.secs and self._time.now_ms >= 0:
            second = self._time.now_ms // 1000
            if second > self._last_second:
                self._seconds.append(second)
                self._offsets.append(offset)
                self._last_second = second

    def read_all(self) -> None:
        """The partition was read to its end."""
        if self.certain_from < 0:
            self._certain()

    def _certain(self) -> None:
        if self._time.now_ms >= 0:
            self.certain_from = self._time.now_ms // 1000 - self.secs + CERTAIN_SECS

    def reopened(self, trace_id: bytes, offset: int) -> None:
        """Note that a record below the start has opened a trace."""
        self._reopened[trace_id] = self._timed_from(offset)

    def remembered(self, trace_id: bytes, offset: int) -> None:
        """Note a record that opens no trace, because this replica remembers the decision. The trace was dropped, or the
        record is below the start."""
        if self.secs and self._time.now_ms >= 0:
            self.ended(trace_id, self._met.meet(trace_id, offset, self._time.now_ms // 1000))

    def ended(self, trace_id: bytes, first_offset: int) -> None:
        """Note that a trace has closed, or that late spans of a kept trace arrived. ``first_offset`` is the
        offset of the trace's first record."""
        if self._reopened:
            self._reopened.pop(trace_id, None)
        if self.secs and self._time.now_ms >= 0:
            second = self._time.now_ms // 1000
            if second == self._last_end_second and first_offset >= self._last_end_first:
                return  # of the traces that end in one second, only the one that began first matters
            seconds, firsts, begin = self._end_seconds, self._end_firsts, self._timed_from(first_offset)
            while firsts and firsts[-1] >= begin:  # ended earlier and began later: it can never be the minimum again
                seconds.pop()
                firsts.pop()
            seconds.append(second)
            firsts.append(begin)
            self._last_end_second, self._last_end_first = second, first_offset

    def parked(self, trace_id: bytes) -> None:
        """Note that a trace was parked: the next owner takes it over from Redis."""
        self._reopened.pop(trace_id, None)

    def first_of_parked(self, first_ms: int, first_offset: int, parked_to: int) -> int:
        """The first offset that the next owner has to read of a parked trace. If the trace is longer than the replay,
        its parked records are not read again."""
        if self._time.now_ms - first_ms <= 1000 * self.secs:
            return first_offset
        return parked_to + 1

    def _timed_from(self, offset: int) -> int:
        """The offset of the record that set the stream time at this offset. A parked record may be older than all noted
        seconds: then its own offset."""
        before = bisect_right(self._offsets, offset) - 1
        return self._offsets[before] if before >= 0 else offset

    # -- for commits

    def begin(self, low_water: int) -> int:
        """The offset where the next owner has to begin reading, if it resumes at the low water."""
        if not self.secs:
            return low_water  # what closed is not known by seconds: the window stays
        if not self._is_past_start or not self._seconds:
            return min(low_water, self.first_read)
        reached = max(0, bisect_right(self._offsets, low_water) - 1)
        window = self.window = self._seconds[reached] - self.secs
        past = bisect_left(self._seconds, window)
        del self._seconds[:past], self._offsets[:past]
        past = bisect_left(self._end_seconds, window)
        del self._end_seconds[:past], self._end_firsts[:past]
        if not self._end_seconds:
            self._last_end_second = NO_TIME
        self._met.forget_before(window)
        floors = [low_water, self._offsets[0], *self._reopened.values(), *self._end_firsts[:1]]
        return min(floors)

    def time_at(self, offset: int) -> int:
        """An upper bound of the stream time, in milliseconds, when all records below this offset had been read."""
        before = bisect_left(self._offsets, offset) - 1
        return self._seconds[max(0, before)] * 1000 + 1000 if self._seconds else self._time.now_ms

    def offset_at(self, ms: int) -> int:
        """An offset below which all records had been read when the stream time reached ``ms``; 0 if none is known."""
        after = bisect_right(self._seconds, ms // 1000)
        return self._offsets[after - 1] if after else 0

    # -- memory

    @property
    def held_bytes(self) -> int:
        """The memory of the notes in bytes."""
        seconds = SECOND_BYTES * (len(self._seconds) + len(self._end_seconds))
        return seconds + self._met.held_bytes + REOPENED_BYTES * len(self._reopened)

    @property
    def met_bytes(self) -> int:
        """The memory in bytes of the offsets where remembered traces were first met."""
        return self._met.held_bytes

    def shorten(self) -> None:
        """Forget the older half of the offsets where remembered traces were first met. The next owner may have to read
        more."""
        self._met.shorten()
