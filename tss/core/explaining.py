"""What each policy says of a trace, and what follows from it: for `tss explain`."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence

import attrs

from tss.core.collector.sampler import Voter
from tss.core.collector.votes import Chosen
from tss.core.combining import FAILS, KEEPS, REFUSES, SILENT, WORD_VOTES, Sampler
from tss.core.decision import Decision, Reason
from tss.core.evaluation import TOO_LARGE
from tss.core.policies.policy import Policy
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
    decision = sampler.decide(trace)
    voices = tuple(
        _voice(policy, said, would, trace) for policy, said in zip(sampler.policies, said_by(sampler), strict=True)
    )
    return Explanation(trace.trace_id, spans, voices, decision, randomness, threshold_of(decision))


def said_by(sampler: Sampler) -> list[int]:
    """What each policy said of the trace that the sampler decided last: SILENT, KEEPS, REFUSES or FAILS."""
    places = range(len(sampler.policies))
    return [sampler.votes[place // WORD_VOTES] >> (place % WORD_VOTES * 2) & 3 for place in places]


def voices(sampler: Sampler, said: Sequence[int]) -> tuple[Voice, ...]:
    """What the policies said of a trace that is gone, by the notes of the decision log. Empty if none was asked."""
    return tuple(_voice(policy, each, {}, None) for policy, each in zip(sampler.policies, said, strict=False))


def _voice(policy: Policy, said: int, would: Mapping[str, bool], trace: Trace | None) -> Voice:
    if isinstance(policy, Voter):
        return _ballot(policy, said, trace)
    rate = policy.says if said == KEEPS and policy.says >= 0 else None
    if said == KEEPS and rate is None and trace is not None:
        rate = policy.vote(trace)
    return Voice(policy.name, _SAYS[said], rate, policy.shadow, would.get(policy.name))


_SAYS = {SILENT: Says.ABSTAIN, KEEPS: Says.KEEP, REFUSES: Says.DROP, FAILS: Says.ERROR}


def _ballot(voter: Voter, said: int, trace: Trace | None) -> Voice:
    says = Says.SAMPLED if said == KEEPS else Says.NOT_SAMPLED if said == SILENT and not voter.drops else _SAYS[said]
    return Voice(voter.name, says, _chance(voter, trace))


def _chance(voter: Voter, trace: Trace | None) -> float | None:
    """The share of the traces that a Collector's policy samples by chance. None: it does not decide by chance, or the share
    depends on the trace, which is gone."""
    ballot = voter.ballot
    if not ballot.by_chance:
        return None
    if trace is not None:
        return ballot.rate(trace)
    return ballot.share if isinstance(ballot, Chosen) else None


def threshold_of(decision: Decision) -> int | None:
    """What decided, if a comparison with the randomness decided. A rate of 0 has no threshold: no randomness reaches it."""
    return threshold(decision.rate) if decision.weighted and decision.rate else None
