"""The base class of policies: a name, and the rate that the policy asks for each trace."""

from __future__ import annotations

from tss.core.otlp.lookup import Ask
from tss.core.trace import Trace


class Policy:
    """Rates closed traces. It has no state, so that the same records give the same rates (law 3).

    ``name`` is the policy's name in decisions, metrics and logs. ``asks`` are the values that the scanner looks up for it.
    """

    def __init__(self, name: str, asks: tuple[Ask, ...] = ()) -> None:
        self.name = name
        self.asks = asks

    def rate(self, trace: Trace) -> float | None:
        """The probability in [0, 1] with which to keep traces like this one; None if the policy does not apply."""
        raise NotImplementedError
