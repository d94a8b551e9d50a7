"""How a stop is divided into deadlines (law 9)."""

from __future__ import annotations

import attrs
import trio


@attrs.frozen
class StopTimes:
    """The seconds that each step of a stop may take."""

    drain_secs: float  # delivering what is in hand
    last_commit_secs: float
    last_counts_secs: float  # sending what was counted
    leave_secs: float  # leaving the consumer group
    hand_over_secs: float = 0.0  # parking open traces for the next owner

    @classmethod
    def of(cls, timeout_secs: float, graceful: bool, *, parks: bool = False) -> StopTimes:
        """Shares of ``shutdownTimeoutSecs``; a tenth is left over for starting late and ending the process."""
        short_secs = min(5.0, timeout_secs * 0.15)
        parking_secs = timeout_secs * 0.2 if graceful and parks else 0.0
        drain_secs = timeout_secs * 0.55 - parking_secs if graceful else 0.0
        return cls(drain_secs, short_secs, min(2.0, timeout_secs * 0.05), short_secs, parking_secs)


async def limit(scope: trio.CancelScope, stop: trio.Event, secs: float) -> None:
    """Give the scope ``secs`` from the moment that the stop is asked for."""
    await stop.wait()
    scope.deadline = trio.current_time() + secs
