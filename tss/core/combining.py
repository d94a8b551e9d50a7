# cython: boundscheck=False, wraparound=False
"""Combines the votes of the policies into one decision.

| combine | decides |
|---|---|
| highest | a DROP, if any policy votes it; else the highest rate that is asked |
| first | the first policy that votes at all, in the order of the settings |

A rate decides by one comparison: the trace is kept if its randomness is at least the threshold of the rate.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from tss.core.conditions.program import Program
from tss.core.decision import Decision, Reason, Verdict
from tss.core.errors import LawBroken
from tss.core.policies.policy import ABSTAIN, DROP, FAILED, Policy
from tss.core.policies.probability import randomness, threshold
from tss.core.routing import ALL, Router
from tss.core.trace import Trace

MAX_DECISIONS = 4096  # known at a time; each force rule adds decisions with a policy name of its own
NONE = "none"
"""The policy of a decision if every policy abstained. Such a trace is dropped."""
SILENT, KEEPS, REFUSES, FAILS = range(4)
"""What a policy said of a trace, as the sampler notes it: nothing, keep it (at a rate), drop it, or its condition failed."""
_KEEPS, _REFUSES, _FAILS = KEEPS, REFUSES, FAILS  # copies that are numbers of C where this is compiled
WORD_VOTES = 16  # votes in a word of `Sampler.votes`, of 2 bits each


class Sampler:
    """Decides closed traces by the votes of the policies. The router chooses the destinations of kept traces.

    Thresholds are consistent: a trace that a lower rate keeps is kept by a higher rate too. So the highest rate is the same
    as "keep if any policy keeps", and the rate is the exact probability of being kept. At equal votes the first policy is
    named: the order of the policies matters only for that, unless ``first`` is true.

    A subclass that combines otherwise overrides ``decide``.
    """

    __slots__ = (
        "_counts", "_first", "_known", "_last_rate", "_last_threshold", "_made_count", "_router", "_shadows", "policies",
        "program", "ruleset", "shadows", "votes",
    )  # fmt: skip

    def __init__(self, policies: Sequence[Policy], router: Router | None = None, *, first: bool = False) -> None:
        """``first``: the first vote decides, whatever the later policies say. The names of the policies are distinct."""
        self.ruleset = ""  # the fingerprint of the ruleset that it belongs to
        asks = [ask for policy in policies for ask in policy.asks]
        self.program = Program([*asks, *router.asks] if router is not None else asks)
        for policy in policies:
            policy.bind(self.program)
        self.policies = tuple(policies)  # in the order of the settings
        if router is not None:
            router.bind(self.program)
        # Each shadow policy, and the policies that would act if it acted too.
        self._shadows = tuple(
            (policy, tuple(each for each in policies if each is policy or not each.shadow))
            for policy in policies
            if policy.shadow
        )
        self.shadows = bool(self._shadows)
        self.votes = array("I", bytes(4 * max(1, -(-len(policies) // WORD_VOTES))))
        """What each policy said of the trace that was decided last."""
        self._first = first
        self._last_rate, self._last_threshold = 1.0, threshold(1.0)  # the last rate that was asked, and its threshold
        self._router = router
        self._known: dict[str, list[_Known]] = {}  # by policy, one object per distinct decision; there are few
        self._made_count = 0
        self._counts = 1  # 0: votes are not counted

    def decide(self, trace: Trace) -> Decision:
        """The decision for a closed trace. It depends only on the trace's summary. Raises LawBroken if the trace is open.

        Every policy is asked, also after one that settles it: ``votes`` has what each of them says.
        """
        abstain, drop, failed = ABSTAIN, DROP, FAILED  # as numbers of C: a name is compared as an object
        name, rate, settled = NONE, abstain, False
        self.forget_votes()
        for place, policy in enumerate(self.policies):
            vote = policy.vote(trace)
            policy.evaluated += self._counts
            if vote == abstain:
                continue
            if vote == failed:
                self.note(place, _FAILS)
                continue
            policy.matched += self._counts
            self.note(place, _REFUSES if vote == drop else _KEEPS)
            if settled or policy.shadow:
                continue
            if vote == drop:
                name, rate, settled = policy.name, drop, True
            elif vote > rate:
                name, rate = policy.name, vote
                settled = self._first
        return self._decided(trace, name, rate)

    def forget_votes(self) -> None:
        """Another trace is decided."""
        votes = self.votes
        for word in range(len(votes)):
            votes[word] = 0

    def note(self, place: int, said: int) -> None:
        """The policy in this place said so."""
        self.votes[place >> 4] |= said << ((place & 15) * 2)

    def foresee(self, trace: Trace) -> Decision:
        """The same as `decide`, but the votes are not counted: the trace is decided again, or is no trace of ours."""
        self._counts = 0
        try:
            return self.decide(trace)
        finally:
            self._counts = 1

    def shadowed(self, trace: Trace) -> list[tuple[str, bool]]:
        """The name of each shadow policy that votes on the trace, and whether the trace would be kept if that policy acted."""
        found = []
        for policy, policies in self._shadows:
            if policy.vote(trace) not in (ABSTAIN, FAILED):
                found.append((policy.name, self._combined(trace, policies).keeps))
        return found

    def _combined(self, trace: Trace, policies: tuple[Policy, ...]) -> Decision:
        abstain, drop = ABSTAIN, DROP  # as numbers of C: a name is compared as an object
        name, rate = NONE, abstain
        for policy in policies:
            vote = policy.vote(trace)
            if vote == drop:
                return self._decided(trace, policy.name, drop)
            if vote > rate:
                name, rate = policy.name, vote
                if self._first:
                    break
        return self._decided(trace, name, rate)

    def _decided(self, trace: Trace, name: str, rate: float) -> Decision:
        """The decision by the vote that settles it."""
        if rate < 0:
            return self.decision(trace, name, 0.0, keep=False)
        if rate != self._last_rate:  # mostly it is that of the trace before
            self._last_rate, self._last_threshold = rate, threshold(rate)
        return self.decision(trace, name, rate, self.randomness(trace) >= self._last_threshold)

    def randomness(self, trace: Trace) -> int:
        """The 56 bits that decide by a rate: the first that a span's trace state gives, else the last ones of the trace id.
        They are the same on every replica and in every rerun."""
        given = self.given_randomness(trace)
        return given if given >= 0 else randomness(trace.trace_id)

    def given_randomness(self, trace: Trace) -> int:
        """The randomness that a span's trace state gives, -1 if none does."""
        return self.program.randomness(trace.facts)

    def forced(self, trace: Trace, policy: str, keep: bool) -> Decision:
        """The decision for a closed trace that a force rule matches, with rate 1 or 0. Raises LawBroken if it is open."""
        ways = self._ways(trace, policy.partition(":")[0], keep)
        return self._made(trace, policy, 1.0 if keep else 0.0, keep, ways, True)

    def decision(self, trace: Trace, policy: str, rate: float, keep: bool, weighted: bool = True) -> Decision:
        """The decision with these parts and the trace's destinations. ``weighted``: whether ``rate`` is the threshold that
        decided. Equal decisions are the same object, up to MAX_DECISIONS of them. Raises LawBroken if the trace is open."""
        return self._made(trace, policy, rate, keep, self._ways(trace, policy, keep), weighted)

    def _ways(self, trace: Trace, policy: str, keep: bool) -> tuple[str, ...] | None:
        if keep and self._router is not None:
            return self._router.destinations(policy, trace.facts)
        return ALL

    def _made(
        self, trace: Trace, policy: str, rate: float, keep: bool, ways: tuple[str, ...] | None, weighted: bool
    ) -> Decision:
        known = self._known.get(policy)
        if known is None:
            known = self._known[policy] = []
        for each in known:
            if (
                each.reason is trace.reason
                and each.keep == keep
                and each.rate == rate
                and each.ways is ways
                and each.weighted == weighted
            ):
                return each.decision
        if trace.reason is None:
            raise LawBroken(f"{trace!r} is to be decided while it is open: law 2 would break with its next span")
        if self._made_count >= MAX_DECISIONS:
            self._known = {policy: []}
            self._made_count = 0
        made = _Known(trace.reason, policy, rate, keep, ways, weighted, self.ruleset)
        self._known[policy].append(made)
        self._made_count += 1
        return made.decision


class _Known:
    """A decision and its parts, which are compared for each trace."""

    def __init__(
        self,
        reason: Reason,
        policy: str,
        rate: float,
        keep: bool,
        ways: tuple[str, ...] | None,
        weighted: bool,
        ruleset: str,
    ) -> None:
        self.reason = reason
        self.rate = rate
        self.keep = keep
        self.ways = ways
        self.weighted = weighted
        verdict = Verdict.KEEP if keep else Verdict.DROP
        self.decision = Decision(verdict, policy, reason, rate, ways, weighted, ruleset)
