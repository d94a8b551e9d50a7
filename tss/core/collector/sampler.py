"""Decides as the Collector's `tail_sampling` processor decides.

A policy of type `drop` that votes wins. Else a trace is kept if any policy samples it. An error is no vote.

Source: the processor's `processor.go`, `makeDecision` and `evaluateDropPolicies`.
"""

from __future__ import annotations

from collections.abc import Sequence

from tss.core.collector.votes import AllOf, Chosen, Vote
from tss.core.combining import NONE, Sampler
from tss.core.conditions.formula import TRUE
from tss.core.conditions.program import Program
from tss.core.decision import Decision
from tss.core.policies.policy import ABSTAIN, DROP, Policy
from tss.core.routing import Router
from tss.core.trace import Trace


class Voter(Policy):
    """An entry of a section's `policies`. ``drops``: its type is `drop`."""

    def __init__(self, name: str, ballot: Vote, *, drops: bool = False) -> None:
        super().__init__(name, ballot.asks)
        self.ballot = ballot
        self.drops = drops

    def bind(self, program: Program) -> None:
        """See Policy."""
        self.ballot.bind(program)

    def vote(self, trace: Trace) -> float:
        """DROP, 1 (sampled) or ABSTAIN. A trace that `probabilistic` does not choose counts as an abstention."""
        if self.ballot.of(trace) != TRUE:
            return ABSTAIN
        return DROP if self.drops else 1.0


class Collector(Sampler):
    """The sampler of a section. The policies keep the order of the section.

    ``least``: the sampled policy with the lowest threshold is named, as from v0.165 on; else the first one. ``first_match``: the
    policies after the first that samples are not asked. It changes only the name.
    """

    __slots__ = ("_by_chance", "_drops", "_keeps", "_least", "_lucky_drops")

    def __init__(
        self, voters: Sequence[Voter], router: Router | None = None, *, least: bool = False, first_match: bool = False
    ) -> None:
        super().__init__(voters, router)
        self._drops = tuple(voter for voter in voters if voter.drops)
        self._keeps = tuple(voter for voter in voters if not voter.drops)
        self._least = least and not first_match
        self._by_chance = any(voter.ballot.by_chance for voter in voters)
        self._lucky_drops = any(voter.ballot.by_chance for voter in self._drops)

    def decide(self, trace: Trace) -> Decision:
        """See Sampler. The rate is the probability with which traces like this one are kept."""
        for voter in self._drops:
            if voter.ballot.of(trace) == TRUE:
                return self.decision(trace, voter.name, 0.0, keep=False)
        named: Voter | None = None
        for voter in self._keeps:
            if voter.ballot.of(trace) != TRUE:
                continue
            if named is None or voter.ballot.threshold < named.ballot.threshold:
                named = voter
            if not self._least or not named.ballot.threshold:
                break
        if self._by_chance:
            return self._by_rate(trace, named)
        if named is None:
            return self.decision(trace, NONE, 0.0, keep=False)
        return self.decision(trace, named.name, 1.0, keep=True)

    def _by_rate(self, trace: Trace, named: Voter | None) -> Decision:
        """The decision if chance takes part in any policy. ``named``: the policy that keeps the trace, if one does."""
        rate, weighted = self._rate(trace)
        if named is None:
            return self.decision(trace, NONE, rate, keep=False, weighted=weighted)
        return self.decision(trace, named.name, rate, keep=True, weighted=weighted)

    def _rate(self, trace: Trace) -> tuple[float, bool]:
        """The probability with which a trace like this one is sampled, and whether the trace's randomness alone decides.

        Policies that look at the same hash are consistent: the highest share counts. Different salts are independent.
        """
        shares: dict[str, float] = {}
        weighted = not self._lucky_drops
        for voter in self._keeps:
            rate = voter.ballot.rate(trace)
            if not rate:
                continue
            if not voter.ballot.by_chance:
                return 1.0, not self._lucky_drops
            die = _die(voter.ballot, trace)
            weighted = weighted and die == ""
            die = f"of {voter.name}" if die is None else f"salt {die}"
            shares[die] = max(rate, shares.get(die, 0.0))
        kept = 1.0
        for share in shares.values():
            kept *= 1.0 - share
        return 1.0 - kept if len(shares) > 1 else max(shares.values(), default=0.0), weighted


def _die(ballot: Vote, trace: Trace) -> str | None:
    """The salt of the one hash that decides, or "" if the trace's randomness decides. None: it is not as simple as that."""
    if isinstance(ballot, Chosen):
        return ballot.die(trace)
    if isinstance(ballot, AllOf):
        dice = {_die(member, trace) for member in ballot.members if member.by_chance}
        return dice.pop() if len(dice) == 1 else None
    return None
