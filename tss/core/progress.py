"""How far a partition has been read, and which of its records are still held: `Progress`."""

from __future__ import annotations

from tss.core.ledger import Ledger
from tss.core.streamtime import StreamTime


class Progress:
    """The part of a partition that a trace uses: the ledger, in which it holds records, and the stream time.

    `Partition` is a subclass with the other parts. `Trace` does not depend on `Partition`, nor `Partition` on `Trace`.
    """

    __slots__ = ("id", "in_flight", "ledger", "time")

    def __init__(self, id: int, start: int, max_skew_ms: int) -> None:
        self.id = id
        self.ledger = Ledger(start)
        self.time = StreamTime(max_skew_ms)
        self.in_flight = 0  # holds of closed traces that are not settled yet
