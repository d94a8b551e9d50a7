"""Our answers beside the Collector's. Where they may differ is written here, and in docs/otel-tail-sampling.md."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from tests.oracles import otel
from tests.oracles.answers import CRASHED, HUNG, REFUSED, verdicts
from tests.oracles.otel import Case
from tests.oracles.shrinking import smallest

Json = Any
Asked = Callable[[Sequence[Case]], Sequence[Mapping[str, Json]]]
LIMITING = ("rate_limiting", "bytes_limiting", "composite")


def refused_here(config: Mapping[str, Json]) -> str:
    """Why we refuse a configuration that the Collector starts with; "" if there is no reason to."""
    if config.get("sampling_strategy") == "span-ingest":
        return "it decides from parts of a trace"
    for policy in _policies(config):
        if policy.get("type") in LIMITING:
            return "it remembers earlier traces"
        block = policy.get("numeric_attribute") or {}
        bounds = [block.get("min_value"), block.get("max_value")]
        if policy.get("type") == "numeric_attribute" and not any(map(_whole, bounds)):
            return "without a bound it crashes where it is reached"
    return ""


def _whole(value: Json) -> Json:
    """A number as the Collector reads it: a fraction is cut off."""
    return int(value) if isinstance(value, float) else value


def _policies(value: Json) -> Iterator[Mapping[str, Json]]:
    if isinstance(value, Mapping) and "type" in value:
        yield value
    for member in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _policies(member)


def difference(case: Case, theirs: Mapping[str, str], ours: Mapping[str, str]) -> str:
    """How ours differ, for the first trace that does, or "". What crashes or hangs the Collector must be refused here."""
    end = theirs.get("", "")
    if end in {CRASHED, HUNG} or (not end and ours.get("") == REFUSED and refused_here(case["config"])):
        end = REFUSED
    if end or "" in ours:
        return (
            "" if end == ours.get("", "") else f"the Collector: {end or 'it starts'}; tss: {ours.get('', 'it starts')}"
        )
    for trace_id, verdict in theirs.items():
        mine = ours.get(trace_id, "no verdict")
        if mine != verdict:
            return f"trace {trace_id}, the Collector: {verdict}; tss: {mine}"
    return "" if len(ours) == len(theirs) else f"the Collector decides {len(theirs)} traces; tss: {len(ours)}"


@attrs.frozen
class Difference:
    """A case that is answered differently, made small."""

    case: Case
    told: str
    theirs: Mapping[str, Json]
    ours: Mapping[str, Json]

    def __str__(self) -> str:
        case = self.case
        traces = "\n".join(json.dumps(each, ensure_ascii=False) for each in case["traces"])
        return (
            f"--- case {case['id']}: {self.told}\n"
            f"config: {json.dumps(case['config'], ensure_ascii=False)}\n"
            f"gates: {', '.join(case['gates']) or 'none'}\n"
            f"traces:\n{traces}\n"
            f"the Collector: {_words(self.theirs)}\n"
            f"tss: {_words(self.ours)}"
        )


def _words(answer: Mapping[str, Json]) -> str:
    return json.dumps({key: value for key, value in answer.items() if key != "id"}, ensure_ascii=False)


def differences(cases: Sequence[Case], ours: Asked, *, small: int = 10) -> Iterator[Difference]:
    """All of them; the first ones are made small, which takes a second or two each."""
    for case, theirs, mine in zip(cases, otel.verdicts(cases), ours(cases), strict=True):
        told = difference(case, verdicts(theirs), verdicts(mine))
        if told:
            yield (
                _small(Difference(case, told, theirs, mine), ours)
                if small > 0
                else Difference(case, told, theirs, mine)
            )
            small -= 1


def _small(found: Difference, ours: Asked) -> Difference:
    def as_case(parts: Json) -> Case:
        return Case(id=found.case["id"], config=parts["config"], gates=parts["gates"], traces=parts["traces"])

    def differ(candidates: Sequence[Json]) -> list[bool]:
        asked = [as_case(parts) for parts in candidates if _is_case(parts)]
        answers = iter(zip(asked, otel.verdicts(asked), ours(asked), strict=True))
        return [_is_case(parts) and _differ(*next(answers)) for parts in candidates]

    parts = {"config": found.case["config"], "gates": found.case["gates"], "traces": found.case["traces"]}
    case = as_case(smallest(parts, differ))
    [theirs], [mine] = otel.verdicts([case]), ours([case])
    return Difference(case, difference(case, verdicts(theirs), verdicts(mine)), theirs, mine)


def _is_case(parts: Json) -> bool:
    """Whether the parts that a case cannot do without are there; spans without ids are no spans."""
    if not parts.keys() >= {"config", "gates", "traces"}:
        return False
    try:
        spans = [
            span
            for request in parts["traces"]
            for each in request["resourceSpans"]
            for scope in each["scopeSpans"]
            for span in scope["spans"]
        ]
    except KeyError:
        return False
    return all(span.keys() >= {"traceId", "spanId"} for span in spans)


def _differ(case: Case, theirs: Mapping[str, Json], ours: Mapping[str, Json]) -> bool:
    return bool(difference(case, verdicts(theirs), verdicts(ours)))
