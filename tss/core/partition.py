"""One assigned partition: its time, its deadlines, its ledger."""

from __future__ import annotations

import math
from typing import Any

import attrs

from tss.core.output_traces import OutputTrace, ProduceTimes
from tss.core.parked import ParkingCheckpoint, Shelf
from tss.core.progress import Progress
from tss.core.replay import SECOND_BYTES, Replay
from tss.core.stamps import Stamps
from tss.core.streamtime import NO_TIME, Ring

UNKNOWN_END = 1 << 62  # of the log at the assignment: as if all that will ever come had been there


@attrs.frozen
class Commit:
    """What Kafka is told: the offset to go on from, and where to begin reading so as to remember (see ``Replay``).

    ``since_ms``: from when on the output topic has to be read to know what of the records from ``offset`` on it has;
    None where traces are not sent to a topic.
    """

    offset: int
    replay_from: int
    since_ms: int | None = None
    parked: ParkingCheckpoint | None = None  # what has to be in Redis for that offset to be enough
    topic: str = attrs.field(default="", eq=False)  # the id of the topic that the offset is of, where it is known


class Partition(Progress):
    """The state of one assignment; a new assignment of the same partition is a new object.

    Reading may begin below ``start``, the committed low water. Those records are settled: they are read again only so
    that the traces in them get the decisions that they had (`Replay`). They are never held and never exported.
    """

    __slots__ = (
        "_stamped_second", "committed", "committed_place", "delivered", "delivered_bytes", "gone", "horizon", "horizon_ms",
        "lag", "next_look", "position", "produced", "remembered_from", "replaced", "replay", "revoked", "ring", "shelf",
        "stamps", "start", "topic", "unclocked",
    )  # fmt: skip

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
        super().__init__(id, start, max_skew_ms)
        self.start = start
        # What the next owner has to read again.
        self.replay = Replay(start, start if replay_from is None else replay_from, replay_secs, self.time)
        # Where the log ended when the partition became ours: somebody else may have read, and decided, what is below it.
        self.horizon = UNKNOWN_END if end is None else max(end, start)
        self.horizon_ms = NO_TIME  # the stream time there, once it is passed: when the partition became ours
        self.committed = committed  # what Kafka has; None when the group never committed
        self.committed_place: ParkingCheckpoint | None = None  # and what it has beside it, of this assignment
        self.shelf = shelf  # what is parked of it; None while nothing can be
        self.ring = Ring()
        self.unclocked: dict[Any, None] = {}  # as in the ring: what came before any believable timestamp
        self.position = 0  # the offset after the last record handed over by the source
        self.lag = 0  # records after the position, as last heard
        self.remembered_from = 0  # the first closing that is remembered of it; earlier ones are forgotten
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
        self.stamps = Stamps()
        self._stamped_second = NO_TIME  # the last that is noted there

    def __repr__(self) -> str:
        return f"<Partition {self.id} {self.ledger} {self.time} in flight {self.in_flight} revoked {self.revoked}>"

    def mark(self, offset: int) -> None:
        """A record is read, and has set the stream time."""
        self.replay.read(offset)
        if self.horizon_ms < 0 and offset >= self.horizon:
            self.horizon_ms = self.time.now_ms
        second = self.time.record_ms // 1000
        if second > self._stamped_second:
            self._stamped_second = second
            self.stamps.note(second, offset)

    def reached(self) -> None:
        """All of the log has been read: what comes from now on was not there before."""
        if self.horizon_ms < 0:
            self.horizon = min(self.horizon, self.ledger.next)
            self.horizon_ms = self.time.now_ms

    def parked(self, trace_id: bytes, first_offset: int) -> None:
        """A trace has been parked: its next owner knows it without reading any of that again."""
        self.replay.parked(trace_id)
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
        return Commit(low_water, self.replay.begin(low_water), since_ms, place, self.topic)

    @property
    def held_bytes(self) -> int:
        """Memory taken by the ledger, and by what says from where on to read."""
        stamps = SECOND_BYTES * len(self.stamps)
        return self.ledger.bytes + stamps + self.replay.held_bytes + self.produced.held_bytes

    @property
    def shelf_bytes(self) -> int:
        """Memory taken by what is noted of parked traces."""
        return 0 if self.shelf is None else self.shelf.held_bytes


def _bytes_of(delivered: dict[bytes, OutputTrace] | None) -> int:
    return 0 if delivered is None else sum([known.held_bytes for known in delivered.values()])
