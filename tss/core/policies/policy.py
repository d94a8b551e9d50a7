"""The base class of policies: a name, what the policy asks of each trace, and its vote."""

from __future__ import annotations

from tss.core.conditions.formula import Ask
from tss.core.conditions.program import Program
from tss.core.trace import Trace

ABSTAIN = -1.0
"""A vote: the policy does not apply to the trace."""
DROP = -2.0
"""A vote: the trace is to be dropped."""
FAILED = -4.0
"""A vote: a condition of the policy failed for the trace. It counts as ABSTAIN."""


class Policy:
    """Votes on closed traces. It has no state, so that the same records give the same votes (law 3).

    ``name`` is the policy's name in decisions, metrics and logs. ``asks`` is what the scanner finds out for it about each
    trace. ``says`` is its vote on each trace to which it applies, if it has only one. A policy in ``shadow`` is counted and
    never acts.
    """

    def __init__(self, name: str, asks: tuple[Ask, ...] = (), *, says: float = ABSTAIN, shadow: bool = False) -> None:
        self.name = name
        self.asks = asks
        self.says = says
        self.shadow = shadow
        self.evaluated = 0  # votes since `forget_votes`, as the sampler counts them
        self.matched = 0  # those of them that were neither ABSTAIN nor FAILED

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}{', shadow' if self.shadow else ''}>"

    def bind(self, program: Program) -> None:
        """Keep the program, and its slots for ``asks``. The sampler calls it once, before the first vote."""

    def forget_votes(self) -> None:
        """Count votes from 0 again."""
        self.evaluated = self.matched = 0

    def vote(self, trace: Trace) -> float:
        """The probability in [0, 1] with which to keep traces like this one, or ABSTAIN, DROP or FAILED."""
        raise NotImplementedError
