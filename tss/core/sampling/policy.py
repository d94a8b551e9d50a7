"""What a policy is: a name, and the rate it asks for each trace."""

from __future__ import annotations

from tss.core.otlp.lookup import Ask
from tss.core.trace import Trace


class Policy:
    """Sees a closed trace; stateless, so that the same log gives the same votes.

    ``name`` is the policy's in decisions, metrics and logs. ``asks`` is what the scan is to look up for it.
    """

    def __init__(self, name: str, asks: tuple[Ask, ...] = ()) -> None:
        self.name = name
        self.asks = asks

    def rate(self, trace: Trace) -> float | None:
        """The probability in [0, 1] with which to keep traces like this one; None when the policy has no say."""
        raise NotImplementedError
