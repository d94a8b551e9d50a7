"""One assigned partition: its time, its deadlines, its ledger."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right

import attrs

from tss.core.firstmet import FirstMet
from tss.core.ledger import Ledger
from tss.core.output_traces import OutputTrace, ProduceTimes
from tss.core.parked import ParkingCheckpoint, Shelf
from tss.core.stamps import Stamps
from tss.core.streamtime import NO_TIME, Ring, StreamTime
from tss.core.trace import Trace

UNKNOWN_END = 1 << 62  # of the log at the assignment: as if all that will ever come had been there
# What CPython takes, measured with tracemalloc (tests/core/test_partition.py holds them to it).
SECOND_BYTES = 18  # a second of the log that is marked: two numbers in arrays that grow by an eighth
TAKEN_UP_BYTES = 190


@attrs.frozen
class Commit:
    """What Kafka is told: the offset to go on from, and where to begin reading so as to remember (see ``Partition``).

    ``since_ms``: from when on the output topic has to be read to know what of the records from ``offset`` on it has;
    None where traces are not sent to a topic.
    """

    offset: int
    replay_from: int
    since_ms: int | None = None
    parked: ParkingCheckpoint | None = None  # what has to be in Redis for that offset to be enough
    topic: str = attrs.field(default="", eq=False)  # the id of the topic that the offset is of, where it is known


class Partition:
    """The state of one assignment; a new assignment of the same partition is a new object.

    Reading may begin below ``start`` (the committed low water): those records are settled, and are read again only so
    that the traces in them get the verdict they had (laws 2 and 3). They are never held and never exported.
    """

    __slots__ = (
        "_ended_first",
        "_ended_firsts",
        "_ended_second",
        "_ended_seconds",
        "_mark_offsets",
        "_mark_seconds",
        "_marked_second",
        "_met",
        "_past_replay",
        "_replay_secs",
        "_stamped_second",
        "_taken_up",
        "committed",
        "committed_place",
        "delivered",
        "delivered_bytes",
        "gone",
        "horizon",
        "horizon_ms",
        "id",
        "in_flight",
        "lag",
        "ledger",
        "next_look",
        "position",
        "produced",
        "remembered_from",
        "replaced",
        "replay_from",
        "revoked",
        "ring",
        "shelf",
        "stamps",
        "start",
        "time",
        "topic",
        "unclocked",
    )

    def __init__(
        self,
        id: int,
        start: int,
        max_skew_ms: int,
        *,
        committed: int | None = None,
        replay_from: int | None = None,
        replay_secs: int = 0,
        delivered: dict[bytes, OutputTrace] | None = None,
        since_ms: int | None = None,
        shelf: Shelf | None = None,
        end: int | None = None,
        topic: str = "",
    ) -> None:
        self.id = id
        self.start = start
        self.replay_from = start if replay_from is None else replay_from  # where reading begins
        # Where the log ended when the partition became ours: somebody else may have read, and decided, what is below it.
        self.horizon = UNKNOWN_END if end is None else max(end, start)
        self.horizon_ms = NO_TIME  # the stream time there, once it is passed: when the partition became ours
        self.committed = committed  # what Kafka has; None when the group never committed
        self.committed_place: ParkingCheckpoint | None = None  # and what it has beside it, of this assignment
        self.shelf = shelf  # what is parked of it; None while nothing can be
        self.ledger = Ledger(start)
        self.time = StreamTime(max_skew_ms)
        self.ring = Ring()
        self.unclocked: dict[Trace, None] = {}  # traces that came before any believable timestamp
        self.position = 0  # the offset after the last record handed over by the source
        self.lag = 0  # records after the position, as last heard
        self.remembered_from = 0  # the first closing that is remembered of it; earlier ones are forgotten
        self.in_flight = 0  # holds of closed traces that are not settled yet
        self.revoked = False
        self.topic = topic  # its id; empty where the brokers do not tell it
        self.replaced = False  # the topic was made again: this is of the old one, which nobody can read any more
        self.gone = False  # and its last commit is decided: nothing of it may be sent any more, or committed
        # What the output topic has of it, until the position has passed all of that. Pinned here, and not in the
        # memory of decisions, whose limit could forget what would then be produced twice.
        self.delivered = delivered or None
        self.delivered_bytes = _bytes_of(self.delivered)
        self.next_look = 0  # the offset from which on it is looked at again, to let go of what was passed
        self.produced = ProduceTimes()
        if delivered and since_ms is not None:  # until all of it is passed, whoever comes next has to know it too
            self.produced.note(since_ms, max([known.last for known in delivered.values()]))
        self._replay_secs = replay_secs
        self._past_replay = False
        self._mark_seconds = array("q")  # stream seconds, and the first offset read in each; both ascending
        self._mark_offsets = array("q")
        self._marked_second = NO_TIME  # of the last mark
        self.stamps = Stamps()
        self._stamped_second = NO_TIME  # the last that is noted there
        self._ended_seconds = array("q")  # when traces ended, and where a replay of them begins; both ascending
        self._ended_firsts = array("q")
        self._ended_second = NO_TIME  # the last of these
        self._ended_first = 0
        self._met = FirstMet()  # traces whose decision this replica remembers from before
        self._taken_up: dict[bytes, int] = {}  # open traces by id that began below start, and where

    def __repr__(self) -> str:
        return f"<Partition {self.id} {self.ledger} {self.time} in flight {self.in_flight} revoked {self.revoked}>"

    def mark(self, offset: int) -> None:
        """A record is taken in: note where a stream second begins in the log."""
        if not self._past_replay and offset >= self.start:
            self._past_replay = True
        if self.horizon_ms < 0 and offset >= self.horizon:
            self.horizon_ms = self.time.now_ms
        second = self.time.record_ms // 1000
        if second > self._stamped_second:
            self._stamped_second = second
            self.stamps.note(second, offset)
        if self._replay_secs and self.time.now_ms >= 0:
            second = self.time.now_ms // 1000
            if second > self._marked_second:
                self._mark_seconds.append(second)
                self._mark_offsets.append(offset)
                self._marked_second = second

    def time_at(self, offset: int) -> int:
        """The stream time, to the second after, when all below this offset had been read, or later."""
        before = bisect_left(self._mark_offsets, offset) - 1
        return self._mark_seconds[max(0, before)] * 1000 + 1000 if self._mark_seconds else self.time.now_ms

    def offset_at(self, ms: int) -> int:
        """All below this offset had been read, for sure, when the stream time came to this; 0 when that is not known."""
        after = bisect_right(self._mark_seconds, ms // 1000)
        return self._mark_offsets[after - 1] if after else 0

    def reached(self) -> None:
        """All of the log has been read: what comes from now on was not there before."""
        if self.horizon_ms < 0:
            self.horizon = min(self.horizon, self.ledger.next)
            self.horizon_ms = self.time.now_ms

    def began(self, trace_id: bytes, offset: int) -> None:
        """A trace is taken up again from a settled record; until it has ended no commit may cut it."""
        self._taken_up[trace_id] = self._timed_from(offset)

    def knew(self, trace_id: bytes, offset: int) -> None:
        """A record has a dropped trace, or is settled and has a kept one, whose decision this replica remembers: it is
        not taken up again. All of it was perhaps read under an assignment before, so this one has to note its place."""
        if self._replay_secs and self.time.now_ms >= 0:
            self.ended(trace_id, self._met.meet(trace_id, offset, self.time.now_ms // 1000))

    def ended(self, trace_id: bytes, first_offset: int) -> None:
        """A trace has closed, or something came late of a kept one: whoever reads on must be able to judge it whole."""
        if self._taken_up:
            self._taken_up.pop(trace_id, None)
        if self._replay_secs and self.time.now_ms >= 0:
            second = self.time.now_ms // 1000
            if second == self._ended_second and first_offset >= self._ended_first:
                return  # of those that end in one second, only the lowest is ever asked for
            seconds, firsts, begin = self._ended_seconds, self._ended_firsts, self._timed_from(first_offset)
            while firsts and firsts[-1] >= begin:  # outlived and outreached: it can never be the minimum again
                seconds.pop()
                firsts.pop()
            seconds.append(second)
            firsts.append(begin)
            self._ended_second, self._ended_first = second, first_offset

    def _timed_from(self, offset: int) -> int:
        """Where a replay has to begin for this record to have the stream time that it had: at the record that set it.

        That may be far before it where a producer's clock is ahead. With another time its trace would close elsewhere.
        What is parked may be older than all marks: then the replay begins with it.
        """
        before = bisect_right(self._mark_offsets, offset) - 1
        return self._mark_offsets[before] if before >= 0 else offset

    def to_replay(self, trace: Trace) -> int:
        """From where on the replay has to reach it: what was parked of a long trace is not read again for its verdict."""
        if self.time.now_ms - trace.first_ms <= 1000 * self._replay_secs:
            return trace.first_offset
        return trace.parked_to + 1

    def parked(self, trace_id: bytes, first_offset: int) -> None:
        """A trace has been parked: its next owner knows it without reading any of that again."""
        self._taken_up.pop(trace_id, None)
        if self.shelf is not None:
            self.shelf.put(trace_id, first_offset)

    def oldest_secs(self) -> float | None:
        """When the oldest record was written that is not done with, in seconds since the epoch; None when nothing waits.

        The largest record time up to it, which is what retention goes by. Of what has not been read yet it is the
        time of the last record that was. NaN: something waits, and no record has told a time.
        """
        low_water = self.ledger.low_water
        if low_water == self.ledger.next and not self.lag and self.position <= low_water:
            return None
        second = self.stamps.second_at(low_water)
        return math.nan if second is None else float(second)

    def forget_delivered(self, offset: int) -> None:
        """The position is here now: what the output topic has of lower offsets cannot be met again."""
        if self.delivered is not None:
            self.delivered = {id: known for id, known in self.delivered.items() if known.last >= offset} or None
            self.delivered_bytes = _bytes_of(self.delivered)

    def commit(self, now_ms: int | None = None) -> Commit:
        """What may be committed now; with the wall clock, for those who may have to look into the output topic."""
        low_water = self.ledger.low_water
        self.stamps.forget_below(low_water)
        since_ms = None if now_ms is None else self.produced.since_ms(low_water, now_ms)
        place = None if self.shelf is None else self.shelf.checkpoint(low_water)
        return Commit(low_water, self._replay_before(low_water), since_ms, place, self.topic)

    def _replay_before(self, low_water: int) -> int:
        """Where whoever goes on from the low water begins to read.

        The replay reaches ``replay_secs`` of the log before the low water, and from there to the beginning of every
        trace that ended in that time, however long it took. What no later commit can need is forgotten.
        """
        if not self._replay_secs:
            return low_water
        if not self._past_replay or not self._mark_seconds:  # its next owner needs what this one was to read
            return min(low_water, self.replay_from)
        reached = max(0, bisect_right(self._mark_offsets, low_water) - 1)
        window = self._mark_seconds[reached] - self._replay_secs
        past = bisect_left(self._mark_seconds, window)
        del self._mark_seconds[:past], self._mark_offsets[:past]
        past = bisect_left(self._ended_seconds, window)
        del self._ended_seconds[:past], self._ended_firsts[:past]
        if not self._ended_seconds:
            self._ended_second = NO_TIME
        self._met.forget_before(window)
        floors = [low_water, self._mark_offsets[0], *self._taken_up.values(), *self._ended_firsts[:1]]
        return min(floors)

    @property
    def met_bytes(self) -> int:
        """Memory taken by where traces were met."""
        return self._met.held_bytes

    def forget_where_met(self) -> None:
        """That takes too much: forget the older half. A restart may read more for it."""
        self._met.shorten()

    @property
    def held_bytes(self) -> int:
        """Memory taken by the ledger, and by what says from where on to read."""
        seconds = SECOND_BYTES * (len(self._mark_seconds) + len(self._ended_seconds) + len(self.stamps))
        taken_up = TAKEN_UP_BYTES * len(self._taken_up)
        return self.ledger.bytes + seconds + self._met.held_bytes + taken_up + self.produced.held_bytes

    @property
    def shelf_bytes(self) -> int:
        """Memory taken by what is noted of parked traces."""
        return 0 if self.shelf is None else self.shelf.held_bytes


def _bytes_of(delivered: dict[bytes, OutputTrace] | None) -> int:
    return 0 if delivered is None else sum([known.held_bytes for known in delivered.values()])
