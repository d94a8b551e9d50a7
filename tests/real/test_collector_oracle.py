"""The Collector's own code as a judge: of the verdicts that the quick tests compare with, of conditions, and of itself."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from random import Random

from tests.oracles import asking, golden, making, otel
from tests.oracles.answers import CRASHED, HUNG, REFUSED, verdicts
from tests.oracles.making import cases
from tests.oracles.policies import TYPES
from tests.oracles.thresholds import thresholds

SURE = {"always_sample"}  # has one verdict only


def test_random_cases_ask_for_both_verdicts_of_each_type() -> None:
    asked = cases("both", 1000)
    voted: dict[str, Counter[str]] = defaultdict(Counter)
    ends: Counter[str] = Counter()
    for case, answer in zip(asked, otel.verdicts(asked), strict=True):
        told = verdicts(answer)
        ends[told.get("", "answered")] += 1
        policies = case["config"].get("policies")
        if "" not in told and isinstance(policies, list) and len(policies) == 1:
            voted[policies[0].get("type")].update(verdict.partition(" by ")[0] for verdict in told.values())
    for kind in set(TYPES) - SURE:
        most, second = voted[kind].most_common(2)
        assert second[1] > 0.08 * voted[kind].total(), f"{kind}: nearly always {most[0]}"
    assert ends[REFUSED] > 50 and ends[CRASHED] > 0 and ends[HUNG] == 0 and ends["answered"] > 700


def test_a_crash_costs_one_case_only() -> None:
    def asked(id: str, block: dict[str, object]) -> otel.Case:
        policies = [{"name": "p", "type": "numeric_attribute", "numeric_attribute": {"key": "k", **block}}]
        span = {"traceId": "1" * 32, "spanId": "2" * 16, "attributes": [{"key": "k", "value": {"intValue": "5"}}]}
        request = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
        return otel.Case(id=id, config={"policies": policies}, gates=["recordpolicy"], traces=[request])

    first, crash, last = otel.verdicts([asked("a", {"min_value": 5}), asked("b", {}), asked("c", {"min_value": 6})])
    assert verdicts(first) == {"1" * 32: "sampled by p"} and verdicts(last) == {"1" * 32: "not_sampled"}
    assert crash["id"] == "b" and "nil pointer" in crash["crash"]


def test_it_answers_for_conditions_and_thresholds() -> None:
    span = {"traceId": "1" * 32, "spanId": "2" * 16, "name": "a", "events": [{"name": "b"}, {"name": "c"}]}
    request = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
    of_spans = {"context": "span", "condition": 'name == "a"', "traces": request}
    of_events = {"context": "spanevent", "condition": 'name == "b"', "traces": request}
    told = otel.conditions([of_spans, of_events, of_spans | {"condition": "name"}])
    assert [answer.get("results") for answer in told] == [["true"], ["true", "false"], None]
    assert "invalid syntax" in told[2]["refused"]
    assert otel.thresholds([{"op": "threshold", "probability": 0.25}])[0]["th"] == "c"
    assert {"IsRootSpan", "IsMatch"} <= set(otel.functions())
    assert json.dumps(otel.thresholds([{"op": "decide", "th": "c", "rv": "c" + "0" * 13}])) == '[{"sampled": true}]'


def test_the_verdicts_in_the_file_are_the_collectors() -> None:
    """With these the quick tests compare ours."""
    cases = making.cases(golden.SEED, golden.COUNT)
    assert golden.lines(cases, otel.verdicts(cases)) == golden.FILE.read_text().splitlines()


def test_thresholds_and_trace_states_are_those_of_the_collectors_pkg_sampling() -> None:
    assert [*thresholds(Random(17), 5000)] == []


def test_conditions_answer_as_the_collectors() -> None:
    assert [*asking.conditions(Random(17), 3000)] == []
