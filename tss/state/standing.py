"""The status of one destination: the traces that wait for it, since when it is down, when it is tried next."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import attrs
import trio

from tss.core.delivery import Outcome
from tss.core.trace import Trace
from tss.state.debug_lines import SendLines


@attrs.define
class Standing:
    """For people and for the log; no decision depends on it. The code that sends keeps it up to date."""

    name: str
    waiting: set[Trace] = attrs.field(factory=set, repr=lambda waiting: str(len(waiting)))  # it has not taken these yet
    _down_at: float = math.inf
    _next_try_at: float = -math.inf
    _sends: SendLines = attrs.field(default=attrs.Factory(lambda self: SendLines(self.name), takes_self=True))

    @property
    def waiting_traces(self) -> int:
        """How many traces wait for the destination."""
        return len(self.waiting)

    @property
    def down_secs(self) -> float:
        """How long the destination has been down; 0 while it works."""
        return trio.current_time() - self._down_at if self._down_at < math.inf else 0.0

    def is_down(self, wait_secs: float) -> None:
        """The destination did not take a batch. The next try is after ``wait_secs``."""
        now = trio.current_time()
        self._down_at = min(self._down_at, now)
        self._next_try_at = now + wait_secs

    def tried(self, batch: Sequence[Trace], outcome: Outcome, secs: float) -> None:
        """A batch was sent, with this outcome."""
        self._sends.tell(batch, outcome, secs)

    def works(self) -> None:
        """The destination has taken a batch."""
        self._down_at, self._next_try_at = math.inf, -math.inf

    def particulars(self) -> Mapping[str, object]:
        """The fields for `/health` and for log lines."""
        found: dict[str, object] = {
            "waiting_traces": len(self.waiting),
            "waiting_bytes": sum([trace.size for trace in self.waiting]),
        }
        now = trio.current_time()
        if self._down_at < math.inf:
            found["down_secs"] = round(now - self._down_at, 3)
            found["next_try_secs"] = round(max(0.0, self._next_try_at - now), 3)
        return found
