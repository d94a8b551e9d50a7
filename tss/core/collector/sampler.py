"""Decides as the Collector's `tail_sampling` processor decides.

A policy of type `drop` that votes wins. Else a trace is kept if any policy samples it. An error is no vote.

Source: the processor's `processor.go`, `makeDecision` and `evaluateDropPolicies`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tss.core.collector.votes import AllOf, Chosen, Vote
from tss.core.combining import FAILS, KEEPS, NONE, REFUSES, Sampler
from tss.core.conditions.formula import ERROR, TRUE
from tss.core.conditions.program import Program
from tss.core.decision import Decision
from tss.core.policies.policy import ABSTAIN, DROP, FAILED, Policy
from tss.core.routing import Router
from tss.core.trace import Trace

# Copies that are numbers of C where this is compiled.
_TRUE, _ERROR = TRUE, ERROR
_KEEPS, _REFUSES, _FAILS = KEEPS, REFUSES, FAILS


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
        """DROP, 1 (sampled), FAILED or ABSTAIN. A trace that `probabilistic` does not choose counts as an abstention."""
        answer = self.ballot.of(trace)
        if answer != _TRUE:
            return FAILED if answer == _ERROR else ABSTAIN
        return DROP if self.drops else 1.0


class Collector(Sampler):
    """The sampler of a section. The policies keep the order of the section.

    ``least``: the sampled policy with the lowest threshold is named, as from v0.165 on; else the first one. ``first_match``: the
    policies after the first that samples are not asked. It changes only the name.
    """

    __slots__ = ("_least", "_lucky", "_lucky_drops", "_one_die", "_voters")

    def __init__(
        self, voters: Sequence[Voter], router: Router | None = None, *, least: bool = False, first_match: bool = False
    ) -> None:
        super().__init__(voters, router)
        self._voters = tuple(voters)
        self._least = least and not first_match
        self._lucky = tuple(voter for voter in voters if voter.ballot.by_chance and not voter.drops)
        self._lucky_drops = any(voter.ballot.by_chance for voter in voters if voter.drops)
        salts = {None if die is None else die.salt for die in (_die(voter.ballot) for voter in self._lucky)}
        self._one_die = _die(self._lucky[0].ballot) if len(salts) == 1 and None not in salts else None

    def decide(self, trace: Trace) -> Decision:
        """See Sampler. The rate is the probability with which traces like this one are kept."""
        self.forget_votes()
        dropping: Voter | None = None
        named: Voter | None = None
        certain = False
        for place, voter in enumerate(self._voters):
            voter.evaluated += self._counts
            if self._asked(place, voter, trace) != _TRUE:
                continue
            voter.matched += self._counts
            if voter.drops:
                if dropping is None:
                    dropping = voter
            elif not certain:  # the threshold of a policy without chance is 0
                if named is None or (self._least and voter.ballot.threshold < named.ballot.threshold):
                    named = voter
                certain = not voter.ballot.by_chance
        if dropping is not None:
            return self.decision(trace, dropping.name, 0.0, keep=False)
        if named is None:
            rate = self._rate(trace) if self._lucky else 0.0
            return self.decision(trace, NONE, rate, keep=False, weighted=self._is_weighted(trace))
        if certain:
            return self.decision(trace, named.name, 1.0, keep=True, weighted=not self._lucky_drops)
        return self.decision(trace, named.name, self._rate(trace), keep=True, weighted=self._is_weighted(trace))

    def _asked(self, place: int, voter: Voter, trace: Trace) -> int:
        """The policy's answer, which is noted."""
        answer = voter.ballot.of(trace)
        if answer == _TRUE:
            self.note(place, _REFUSES if voter.drops else _KEEPS)
        elif answer == _ERROR:
            self.note(place, _FAILS)
        return answer

    def _rate(self, trace: Trace) -> float:
        """The probability that one of the policies that choose by chance samples a trace like this one.

        Policies that look at the same hash are consistent: the highest share counts. Different salts are independent.
        """
        if self._one_die is None:
            return self._joined(trace)
        highest = 0.0
        for voter in self._lucky:
            rate = voter.ballot.rate(trace)
            highest = max(highest, rate)
        return highest

    def _is_weighted(self, trace: Trace) -> bool:
        """Whether the trace's randomness alone decides, where chance does."""
        if not self._lucky:
            return True
        return not self._lucky_drops and self._one_die is not None and self._one_die.is_consistent(trace)

    def _joined(self, trace: Trace) -> float:
        """The rate with several hashes."""
        shares: dict[str, float] = {}
        for voter in self._lucky:
            rate = voter.ballot.rate(trace)
            if rate:
                die = _die(voter.ballot)
                key = f"of {voter.name}" if die is None else f"salt {die.die(trace)}"
                shares[key] = max(rate, shares.get(key, 0.0))
        if len(shares) <= 1:
            return max(shares.values(), default=0.0)
        return 1.0 - math.prod([1.0 - share for share in shares.values()])


def _die(ballot: Vote) -> Chosen | None:
    """The one policy whose hash decides. None: it is not as simple as that."""
    if isinstance(ballot, Chosen):
        return ballot
    return ballot.only if isinstance(ballot, AllOf) else None
