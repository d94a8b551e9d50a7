"""Combines the rates that the policies ask for into one decision."""

from __future__ import annotations

from collections.abc import Sequence

from tss.core.decision import Decision, Reason, Verdict
from tss.core.errors import LawBroken
from tss.core.otlp.lookup import Lookup
from tss.core.policies.policy import Policy
from tss.core.policies.probability import randomness, threshold
from tss.core.routing import ALL, Router
from tss.core.trace import Trace

MAX_DECISIONS = 4096  # cached at a time; each force rule adds decisions with a policy name of its own


class Sampler:
    """Decides by the highest rate that any policy asks for: the trace id is compared with the threshold of that rate.

    Thresholds are consistent: a trace that a lower rate keeps is kept by a higher rate too. So this is the same as "keep if
    any policy keeps", and the rate is the exact probability of being kept. At equal rates the first policy is named.
    The router chooses the destinations of kept traces.
    """

    __slots__ = ("_decisions", "_last_dropped", "_last_kept", "_policies", "_router", "lookup")

    def __init__(self, policies: Sequence[Policy], router: Router | None = None) -> None:
        asks = [ask for policy in policies for ask in policy.asks]
        self.lookup = Lookup.of([*asks, *router.asks] if router is not None else asks)
        self._policies = tuple(policies)
        self._router = router
        self._decisions: dict[Decision, Decision] = {}  # one object per distinct decision; there are few
        self._last_kept: Decision | None = None  # most decisions equal the one before
        self._last_dropped: Decision | None = None

    def decide(self, trace: Trace) -> Decision:
        """The decision for a closed trace. It depends only on the trace's summary. Raises LawBroken if the trace is open."""
        if trace.reason is None:
            raise LawBroken(f"{trace!r} is to be decided while it is open: law 2 would break with its next span")
        policy, rate = "none", 0.0
        for candidate in self._policies:
            asked = candidate.rate(trace)
            if asked is not None and (asked > rate or policy == "none"):
                policy, rate = candidate.name, asked
        keep = randomness(trace.trace_id) >= threshold(rate)
        ways = ALL
        if keep and self._router is not None:
            ways = self._router.destinations(policy, self.lookup.asks, trace.values)
        last = self._last_kept if keep else self._last_dropped
        if (
            last is not None
            and last.policy is policy
            and last.reason is trace.reason
            and last.rate == rate
            and last.destinations is ways
        ):
            return last
        return self._other(policy, trace.reason, rate, keep, ways)

    def forced(self, trace: Trace, policy: str, keep: bool) -> Decision:
        """The decision for a closed trace that a force rule matches, with rate 1 or 0. Raises LawBroken if it is open."""
        if trace.reason is None:
            raise LawBroken(f"{trace!r} is to be decided while it is open: law 2 would break with its next span")
        ways = ALL
        if keep and self._router is not None:
            ways = self._router.destinations(policy.partition(":")[0], self.lookup.asks, trace.values)
        return self._other(policy, trace.reason, 1.0 if keep else 0.0, keep, ways)

    def _other(self, policy: str, reason: Reason, rate: float, keep: bool, ways: tuple[str, ...] | None) -> Decision:
        """A decision that differs from the last one. Equal decisions are the same object."""
        made = Decision(Verdict.KEEP if keep else Verdict.DROP, policy, reason, rate, ways)
        if len(self._decisions) >= MAX_DECISIONS:
            self._decisions.clear()
        decision = self._decisions.setdefault(made, made)
        if keep:
            self._last_kept = decision
        else:
            self._last_dropped = decision
        return decision
