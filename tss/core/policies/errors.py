"""Traces with an error."""

from __future__ import annotations

from tss.core.policies.policy import ABSTAIN, Policy
from tss.core.trace import Trace


class Errors(Policy):
    """Asks ``error_rate`` for a trace in which any span has status ERROR."""

    def __init__(self, error_rate: float, name: str = "errors") -> None:
        super().__init__(name, says=error_rate)

    def vote(self, trace: Trace) -> float:
        """See Policy."""
        return self.says if trace.errors else ABSTAIN
