"""An imported section has the verdicts of the section that it was imported from, unless a comment says that they differ."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.oracles.answers import spans_of
from tests.oracles.making import cases
from tests.policies import records_of, verdicts
from tss.core.collector import Plan, WrongSection, read
from tss.core.collector.translation import translate
from tss.core.combining import Sampler
from tss.core.policies import policies
from tss.settings import Sampling
from tss.settings.kinds.policies import policies as policy_list

CASES = 400


def imported(plan: Plan) -> Sampler | None:
    """Our sampler with the policies as `tss import` writes them; None if a comment says that verdicts differ."""
    made = translate(plan)
    if any(remark.startswith("Differs") for each in made for remark in each.remarks):
        return None
    ours = [each.plain for each in made if each.when is not False] or [{"name": "nothing", "keep": 0}]
    read_back = policy_list.read(json.loads(json.dumps(ours)))
    return Sampler(policies(Sampling(policies=read_back)))


def compared() -> Iterator[tuple[Any, dict[str, str], dict[str, str]]]:
    for case in cases("import", CASES):
        try:
            plan = read(case["config"], case["gates"])
        except WrongSection:
            continue
        ours = imported(plan)
        if ours is None or plan.max_trace_bytes:
            continue
        records = list(records_of(case["traces"]))
        odd = odd_times(case["traces"]) | valueless(case["traces"])
        theirs, same = (
            {
                id.hex(): decision.verdict.value
                for id, decision in verdicts(plan, by, records).items()
                if id.hex() not in odd
            }
            for by in (plan.sampler(), ours)
        )
        yield case["config"], theirs, same


def odd_times(traces: Any) -> set[str]:
    """The traces with a span without a time, or one that ends before it starts: their duration is another one here."""
    return {
        span["traceId"]
        for request in traces
        for span in spans_of(request)
        if not 0 < int(span.get("startTimeUnixNano", 0)) <= int(span.get("endTimeUnixNano", 0)) < 1 << 63
    }


def valueless(traces: Any) -> set[str]:
    """The traces with an attribute without a value, at any place: the Collector reads it as false, 0 or an empty text."""
    return {
        span["traceId"]
        for request in traces
        for span in spans_of(request)
        if any(each.get("value") in (None, {}) for each in _attributes_of(request))
    }


def _attributes_of(found: Any) -> Iterator[dict[str, Any]]:
    if isinstance(found, dict):
        yield from found.get("attributes") or ()
        found = list(found.values())
    if isinstance(found, list):
        for each in found:
            yield from _attributes_of(each)


def test_the_verdicts_are_the_same() -> None:
    asked = 0
    for config, theirs, ours in compared():
        asked += 1
        assert ours == theirs, json.dumps(config)
    assert asked > CASES / 4


def test_some_are_kept_and_some_are_dropped() -> None:
    kept = [set(theirs.values()) for _, theirs, _ in itertools.islice(compared(), 60)]
    assert {"keep"} in kept and {"drop"} in kept and {"keep", "drop"} in kept


@pytest.mark.parametrize("name", ["a:b", "none", "a: b\n\n c", "\t"])
def test_every_name_can_be_read_back(name: str) -> None:
    assert imported(read({"policies": [{"name": name, "type": "span_count"}]})) is None


@pytest.mark.parametrize("low", [-(2**63), -5, 0, 2**63 - 1])
@pytest.mark.parametrize("high", [-(2**63), 0, 7, 2**63 - 1])
@pytest.mark.parametrize("inverted", [False, True])
def test_the_largest_numbers_can_be_read_back(low: int, high: int, inverted: bool) -> None:
    if not low and not high:
        return
    keys = {"key": "k", "min_value": low, "max_value": high, "invert_match": inverted}
    policy = {"name": "p", "type": "numeric_attribute", "numeric_attribute": keys}
    plan = read({"policies": [policy]})
    ours = imported(plan)
    assert ours is not None
    records = list(records_of([attribute(number, value) for number, value in enumerate(NUMBERS)]))
    theirs, same = (
        {id.hex(): decision.verdict for id, decision in verdicts(plan, by, records).items()}
        for by in (plan.sampler(), ours)
    )
    assert len(theirs) == len(NUMBERS) and same == theirs


NUMBERS = [None, -(2**63), -(2**63) + 1, -6, -5, 0, 7, 8, 2**63 - 2, 2**63 - 1]


def attribute(trace: int, value: int | None) -> dict[str, Any]:
    of = {} if value is None else {"attributes": [{"key": "k", "value": {"intValue": str(value)}}]}
    span = {
        "traceId": f"{trace + 1:032x}",
        "spanId": f"{1:016x}",
        "startTimeUnixNano": "1",
        "endTimeUnixNano": "2",
        **of,
    }
    return {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
