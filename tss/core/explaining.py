"""What each policy says of a trace, and what follows from it: for `tss explain`."""

from __future__ import annotations

import enum

import attrs

from tss.core.collector.sampler import Voter
from tss.core.combining import Sampler
from tss.core.conditions.formula import ERROR, TRUE
from tss.core.decision import Decision, Reason
from tss.core.evaluation import TOO_LARGE
from tss.core.policies.matching import Matching
from tss.core.policies.policy import ABSTAIN, DROP, Policy
from tss.core.policies.probability import threshold
from tss.core.trace import Trace


class Says(enum.Enum):
    """What a policy says. Sampled and not sampled are a Collector's."""

    KEEP = "keep"  # at a rate
    DROP = "drop"
    ABSTAIN = "abstain"
    SAMPLED = "sampled"
    NOT_SAMPLED = "not_sampled"
    ERROR = "error"  # a condition failed, and so it does not match


@attrs.frozen
class Voice:
    """What one policy says of a trace."""

    policy: str
    says: Says
    rate: float | None = None
    """The rate that it asks for. Of a Collector's policy: its share, if the policy decides by chance."""
    shadow: bool = False
    would_keep: bool | None = None
    """Of a shadow policy that votes: whether the trace would be kept if the policy acted."""


@attrs.frozen
class Explanation:
    """A decision and what led to it. Without ``threshold`` the decision was not made by comparing it with ``randomness``."""

    trace_id: bytes
    spans: int
    voices: tuple[Voice, ...]  # in the order of the settings; empty if the trace is too large
    decision: Decision
    randomness: int  # of 56 bits
    threshold: int | None


def explain(trace: Trace, sampler: Sampler) -> Explanation:
    """Explain the decision about a closed trace. Its spans are not needed, only their facts."""
    spans, randomness = trace.spans, sampler.randomness(trace)
    if trace.reason is Reason.TOO_LARGE:
        return Explanation(trace.trace_id, spans, (), TOO_LARGE, randomness, None)
    would = dict(sampler.shadowed(trace)) if sampler.shadows else {}
    voices = tuple(_voice(policy, trace, would) for policy in sampler.policies)
    decision = sampler.decide(trace)
    return Explanation(trace.trace_id, spans, voices, decision, randomness, _threshold(decision))


def _voice(policy: Policy, trace: Trace, would: dict[str, bool]) -> Voice:
    if isinstance(policy, Voter):
        return _ballot(policy, trace)
    vote = policy.vote(trace)
    if vote == ABSTAIN:
        says = Says.ERROR if isinstance(policy, Matching) and policy.answer(trace) == ERROR else Says.ABSTAIN
        return Voice(policy.name, says, shadow=policy.shadow)
    keep = vote != DROP
    says, rate = (Says.KEEP, vote) if keep else (Says.DROP, None)
    return Voice(policy.name, says, rate, policy.shadow, would.get(policy.name))


def _ballot(voter: Voter, trace: Trace) -> Voice:
    answer = voter.ballot.of(trace)
    if answer == ERROR:
        says = Says.ERROR
    elif answer == TRUE:
        says = Says.DROP if voter.drops else Says.SAMPLED
    else:
        says = Says.ABSTAIN if voter.drops else Says.NOT_SAMPLED
    return Voice(voter.name, says, voter.ballot.rate(trace) if voter.ballot.by_chance else None)


def _threshold(decision: Decision) -> int | None:
    """A rate of 0 has no threshold: no randomness reaches it."""
    return threshold(decision.rate) if decision.weighted and decision.rate else None
