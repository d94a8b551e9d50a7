"""The rate of a decision by a Collector's section: it is the share that is kept, and only what randomness chose has a weight."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.core.spans import fragment, lone, message
from tss.core.collector import read
from tss.core.collector.sampler import Collector
from tss.core.decision import Decision, Reason
from tss.core.otlp import Encoding, Fragment, Scanner
from tss.core.partition import Partition
from tss.core.policies.probability import randomness, threshold
from tss.core.trace import Trace

IDS = [hashlib.md5(number.to_bytes(4, "big")).digest() for number in range(4000)]
ALL = {"type": "always_sample"}
NEVER = {"type": "span_count", "span_count": {"min_spans": 99}}


def chosen(share: float, salt: str = "") -> dict[str, Any]:
    return {"type": "probabilistic", "probabilistic": {"sampling_percentage": share, "hash_salt": salt}}


def both(*of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "and", "and": {"and_sub_policy": [*of]}}


def opposite(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "not", "not": {"not_sub_policy": of}}


def dropped(*of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "drop", "drop": {"drop_sub_policy": [*of]}}


def sampler(*policies: dict[str, Any], gates: tuple[str, ...] = ()) -> Collector:
    named = [{"name": f"p{place}", **policy} for place, policy in enumerate(policies)]
    return read({"policies": named}, gates).sampler()


def decisions(*policies: dict[str, Any]) -> list[Decision]:
    by = sampler(*policies)
    return [by.decide(closed(id, fragment(1), by)) for id in IDS]


def closed(id: bytes, seen: Fragment, by: Collector) -> Trace:
    trace = Trace(id, Partition(0, 0, 0), 0)
    trace.absorb(lone(seen), 0, by.program)
    trace.reason = Reason.DECISION_WAIT
    return trace


@pytest.mark.parametrize(
    ("policies", "rate"),
    [
        ([chosen(10)], 0.1),
        ([chosen(10), chosen(40)], 0.4),
        ([chosen(10), chosen(40, "b")], 0.46),
        ([both(chosen(50), chosen(20))], 0.2),
        ([both(chosen(50), chosen(20, "b"))], 0.1),
        ([both(chosen(50), NEVER)], 0.0),
        ([both(chosen(50), ALL), NEVER], 0.5),
        ([opposite(chosen(30))], 0.7),
        ([chosen(0)], 0.0),
        ([chosen(100), NEVER], 1.0),
    ],
)
def test_the_rate_is_the_share_that_is_kept(policies: list[dict[str, Any]], rate: float) -> None:
    made = decisions(*policies)
    assert {round(each.rate, 9) for each in made} == {rate}
    assert sum(each.keeps for each in made) == pytest.approx(rate * len(made), abs=3.5 * (len(made) * 0.25) ** 0.5)
    assert not any(each.weighted for each in made if each.rate and each.keeps)


def test_what_is_kept_for_certain_has_rate_1_and_a_weight() -> None:
    for policies in ([ALL], [ALL, chosen(10)], [chosen(10), ALL]):
        assert {(each.keeps, each.rate, each.weighted) for each in decisions(*policies)} == {(True, 1.0, True)}


def test_a_drop_by_chance_takes_the_weight_of_all() -> None:
    made = decisions(ALL, dropped(chosen(30)))
    assert sum(each.keeps for each in made) == pytest.approx(2800, abs=120)
    assert not any(each.weighted for each in made if each.keeps)


def test_a_policy_that_keeps_for_certain_is_named_before_or_after_chance_by_the_order() -> None:
    names = {each.policy for each in decisions(chosen(50), ALL)}
    assert names == {"p0", "p1"}
    assert {each.policy for each in decisions(ALL, chosen(50))} == {"p0"}


def test_with_the_gate_what_is_kept_reaches_the_threshold_of_its_rate() -> None:
    by = sampler(chosen(30), gates=("usetracestate",))
    scanner = Scanner(by.program)
    for id in IDS[:300]:
        spans = [Span(trace_id=id, span_id=b"8 bytes!", trace_state="ot=th:0")]
        (seen,) = scanner.fragments(message(spans), Encoding.OTLP_PROTO, [])
        decision = by.decide(closed(id, seen, by))
        assert decision.weighted and decision.rate == 0.3
        assert decision.keeps == (randomness(id) >= threshold(decision.rate))
