"""What a policy is: a name, and the rate it asks for each trace."""

from __future__ import annotations

from typing import Protocol

from tss.core.trace import Trace


class Policy(Protocol):
    """Sees a closed trace; stateless, so that the same log gives the same votes."""

    @property
    def name(self) -> str:
        """The policy's name in decisions, metrics and logs."""

    def rate(self, trace: Trace) -> float | None:
        """The probability in [0, 1] with which to keep traces like this one; None when the policy has no say."""
