"""From the policies' votes to one decision."""

from __future__ import annotations

from collections.abc import Sequence

from tss.core.decision import Decision, Reason, Verdict
from tss.core.errors import LawBroken
from tss.core.sampling.policy import Policy
from tss.core.sampling.probability import randomness, threshold
from tss.core.trace import Trace


class Sampler:
    """The highest rate that any policy asks for decides, by one compare of the trace id with that rate's threshold.

    With consistent thresholds a trace that a lower rate keeps is kept by a higher one too, so this is the same as
    "keep if any policy keeps", and the rate is the exact probability of being kept. Of equal rates the first counts.
    """

    def __init__(self, policies: Sequence[Policy]) -> None:
        self._policies = policies

    def decide(self, trace: Trace) -> Decision:
        """The decision for a closed trace: a function of its summary alone. Raises LawBroken when it is still open."""
        if trace.reason is None:
            raise LawBroken(f"{trace!r} is to be decided while it is open: law 2 would break with its next span")
        policy, rate = "none", 0.0
        for candidate in self._policies:
            asked = candidate.rate(trace)
            if asked is not None and (asked > rate or policy == "none"):
                policy, rate = candidate.name, asked
        return _decision(randomness(trace.trace_id) >= threshold(rate), policy, trace.reason, rate)


def _decision(keep: bool, policy: str, reason: Reason, rate: float) -> Decision:
    return Decision(Verdict.KEEP if keep else Verdict.DROP, policy, reason, rate)
