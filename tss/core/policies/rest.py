"""All traces: the default rate."""

from __future__ import annotations

from tss.core.policies.policy import Policy
from tss.core.trace import Trace


class Rest(Policy):
    """Asks ``default_rate`` for every trace."""

    def __init__(self, default_rate: float, name: str = "default") -> None:
        super().__init__(name, says=default_rate)

    def vote(self, trace: Trace) -> float:
        """See Policy."""
        return self.says
