"""Slow traces."""

from __future__ import annotations

import attrs

from tss.core.trace import Trace


@attrs.frozen
class Latency:
    """Asks ``slow_rate`` for a trace that took ``threshold_ms`` or longer, from its earliest start to its latest end."""

    threshold_ms: float
    slow_rate: float
    name: str = "latency"

    def rate(self, trace: Trace) -> float | None:
        """See Policy."""
        return self.slow_rate if trace.duration_ns >= self.threshold_ms * 1e6 else None
