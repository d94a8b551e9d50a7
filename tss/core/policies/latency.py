"""Slow traces."""

from __future__ import annotations

from tss.core.policies.policy import ABSTAIN, Policy
from tss.core.trace import Trace


class Latency(Policy):
    """Asks ``slow_rate`` for a trace that lasts ``threshold_ms`` or longer, from its earliest start to its latest end."""

    def __init__(self, threshold_ms: float, slow_rate: float, name: str = "latency") -> None:
        super().__init__(name, says=slow_rate)
        self.threshold_ms = threshold_ms

    def vote(self, trace: Trace) -> float:
        """See Policy."""
        return self.says if trace.duration_ns() >= self.threshold_ms * 1e6 else ABSTAIN
