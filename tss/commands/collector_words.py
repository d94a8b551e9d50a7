"""For `tss check`: the policies of a Collector's section as sentences, with the operator's own texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tss.commands.units import share
from tss.core.collector import Plan
from tss.core.collector.section import Policy
from tss.core.collector.translation import LONGEST_MS

_SHOWN = 5  # values of one list


def otel_sentences(plan: Plan) -> Iterator[str]:
    """One for each policy of a Collector's section, in its order, and how they are combined."""
    for policy, _ in plan.votes:
        told, rate = words(policy), _rate(policy)
        which = "no trace" if told is None else f"traces {told}" if told else "all traces"
        part = f"{share(rate)} of " if rate < 1 and told is not None else ""
        yield f"{policy.name} ({policy.type}): {'drops' if policy.type == 'drop' else 'samples'} {part}{which}"
    if not plan.votes:
        yield "nothing, because the section has no policies"
    if len(plan.votes) > 1:
        yield "a policy of type drop wins, else one policy that samples is enough, as in the Collector"


def _rate(policy: Policy) -> float:
    """The share of the traces that `words` names."""
    match policy.type:
        case "probabilistic":
            percentage = float(policy.own.sampling_percentage)
            return min(1.0, percentage / 100) if percentage > 0 else 1.0
        case "and":
            return min(map(_rate, policy.own.and_sub_policy), default=1.0)
        case "drop":
            return min(map(_rate, policy.own.drop_sub_policy), default=1.0)
        case "not":
            rate = _rate(policy.own.not_sub_policy)
            return 1 - rate if rate < 1 else 1.0
    return 1.0


def words(policy: Policy) -> str | None:
    """What follows after "traces". "": all traces. None: no trace."""
    match policy.type:
        case "always_sample":
            return ""
        case "trace_flags":
            return "with a span whose flags have the bit sampled"
    return _WORDS[policy.type](policy.own)


def _together(members: Sequence[Policy]) -> str | None:
    told = [words(each) for each in members]
    if None in told:
        return None
    return ", and ".join(each for each in told if each)


def _not(own: Any) -> str | None:
    member = own.not_sub_policy
    if member.type == "probabilistic" and 0 < member.own.sampling_percentage < 100:
        return ""  # the share of the sentence says it
    told = words(member)
    return "" if told is None else None if not told else f"other than those {told}"


def _chance(own: Any) -> str | None:
    return "" if own.sampling_percentage > 0 else None


def _latency(own: Any) -> str | None:
    low, high = own.threshold_ms, own.upper_threshold_ms
    if (high and high <= low) or high < 0 or low >= LONGEST_MS:
        return None
    if high > LONGEST_MS:
        high = 0
    if low < 0:
        return f"that last at most {high} ms" if high else ""
    return f"that last more than {low} ms{f' and at most {high} ms' if high else ''}"


def _spans(own: Any) -> str | None:
    low, high = own.min_spans, own.max_spans
    if high < 0 or (high and high < low):
        return None
    if not high:
        return f"with {low} spans or more" if low > 1 else ""
    return f"with {low} to {high} spans" if low > 1 else f"with at most {high} spans"


def _status(own: Any) -> str | None:
    return f"with a span of status {_any_of(own.status_codes, '')}"


def _string(own: Any) -> str | None:
    texts = own.values if own.enabled_regex_matching else [each for each in own.values if each]
    if not texts:
        return "" if own.invert_match else None
    return _attribute(own, f"{'matches' if own.enabled_regex_matching else 'is'} {_any_of(texts)}")


def _numeric(own: Any) -> str | None:
    if own.min_value and own.max_value:
        if own.min_value > own.max_value:
            return "" if own.invert_match else None
        return _attribute(own, f"is {own.min_value} to {own.max_value}")
    return _attribute(own, f"is {own.min_value} or more" if own.min_value else f"is {own.max_value} or less")


def _boolean(own: Any) -> str | None:
    return _attribute(own, "is true" if own.value else "is there and is not true")


def _attribute(own: Any, says: str) -> str:
    if own.invert_match:
        return f"without a span or resource whose attribute {own.key} {says}"
    return f"with a span or resource whose attribute {own.key} {says}"


def _state(own: Any) -> str | None:
    return f"with a span whose trace state has {own.key} with {_any_of(own.values)}" if any(own.values) else None


def _ottl(own: Any) -> str | None:
    spans = [f"with a span where {_any_of(own.span)}"] if own.span else []
    events = [f"with a span event where {_any_of(own.spanevent)}"] if own.spanevent else []
    return ", or ".join([*spans, *events])


def _any_of(texts: Sequence[str], quote: str = "`") -> str:
    """The texts as the operator wrote them, as far as a line holds them."""
    told = [f"{quote}{' '.join(each.split())}{quote}" for each in dict.fromkeys(texts)]
    shown = told if len(told) <= _SHOWN else [*told[: _SHOWN - 1], f"{len(told) - _SHOWN + 1} more"]
    return " or ".join(shown)


_WORDS: Mapping[str, Callable[[Any], str | None]] = {
    "probabilistic": _chance,
    "latency": _latency,
    "span_count": _spans,
    "status_code": _status,
    "string_attribute": _string,
    "numeric_attribute": _numeric,
    "boolean_attribute": _boolean,
    "trace_state": _state,
    "ottl_condition": _ottl,
    "and": lambda own: _together(own.and_sub_policy),
    "drop": lambda own: _together(own.drop_sub_policy),
    "not": _not,
}
