"""One assigned partition: its time, its deadlines, its ledger."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

import attrs

from tss.core.ledger import Ledger
from tss.core.streamtime import Ring, StreamTime
from tss.core.trace import Trace


@attrs.frozen
class Commit:
    """What Kafka is told: the offset to go on from, and where to begin reading so as to remember (see ``Partition``)."""

    offset: int
    replay_from: int


class Partition:
    """The state of one assignment; a new assignment of the same partition is a new object.

    Reading may begin below ``start`` (the committed low water): those records are settled, and are read again only so
    that the traces in them get the verdict they had (laws 2 and 3). They are never held and never exported.
    """

    __slots__ = (
        "_marks",
        "committed",
        "id",
        "in_flight",
        "ledger",
        "position",
        "replay_from",
        "revoked",
        "ring",
        "start",
        "time",
        "unclocked",
    )

    def __init__(
        self, id: int, start: int, max_skew_ms: int, committed: int | None = None, replay_from: int | None = None
    ) -> None:
        self.id = id
        self.start = start
        self.replay_from = start if replay_from is None else replay_from  # where reading begins
        self.committed = committed  # what Kafka has; None when the group never committed
        self.ledger = Ledger(start)
        self.time = StreamTime(max_skew_ms)
        self.ring: Ring[Trace] = Ring()
        self.unclocked: list[Trace] = []  # traces that came before any believable timestamp
        self.position = 0  # the offset after the last record handed over by the source
        self.in_flight = 0  # holds of closed traces that are not settled yet
        self.revoked = False
        self._marks: list[tuple[int, int]] = []  # (stream second, first offset read in it), both ascending

    def __repr__(self) -> str:
        return f"<Partition {self.id} {self.ledger} {self.time} in flight {self.in_flight} revoked {self.revoked}>"

    def mark(self, offset: int) -> None:
        """Note where a stream second begins in the log."""
        if self.time.now_ms is not None:
            second = self.time.now_ms // 1000
            if not self._marks or second > self._marks[-1][0]:
                self._marks.append((second, offset))

    def commit(self, replay_secs: int) -> Commit:
        """What may be committed now. Marks that no later commit can need are forgotten."""
        low_water = self.ledger.low_water
        if not replay_secs:
            return Commit(low_water, low_water)
        if not self._marks:  # nothing read yet: revoked at once, its next owner needs what this one was to read
            return Commit(low_water, min(low_water, self.replay_from))
        reached = max(0, bisect_right(self._marks, low_water, key=lambda mark: mark[1]) - 1)
        first = bisect_left(self._marks, self._marks[reached][0] - replay_secs, key=lambda mark: mark[0])
        del self._marks[:first]
        return Commit(low_water, min(low_water, self._marks[0][1]))
