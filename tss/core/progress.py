"""How far a partition has been read, and which of its records are still held: `Progress`."""

from __future__ import annotations

from tss.core.ledger import Ledger
from tss.core.streamtime import StreamTime


class Progress:
    """What a trace uses of its partition: the ledger, in which it holds records, and the stream time.

    A `Partition` is one, with all that is needed beside that. A trace does not know what else a partition is, and a
    partition does not know what a trace is.
    """

    __slots__ = ("id", "in_flight", "ledger", "time")

    def __init__(self, id: int, start: int, max_skew_ms: int) -> None:
        self.id = id
        self.ledger = Ledger(start)
        self.time = StreamTime(max_skew_ms)
        self.in_flight = 0  # holds of closed traces that are not settled yet
