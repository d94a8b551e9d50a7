"""Traces with an error."""

from __future__ import annotations

import attrs

from tss.core.trace import Trace


@attrs.frozen
class Errors:
    """Asks ``error_rate`` for a trace in which any span has status ERROR."""

    error_rate: float
    name: str = "errors"

    def rate(self, trace: Trace) -> float | None:
        """See Policy."""
        return self.error_rate if trace.errors else None
