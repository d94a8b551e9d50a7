"""The verdicts of the Collector's policies, as the running processor gave them (v0.161.0). Each also with the trace in pieces."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from tests.policies import answer

T0 = 1_700_000_000_000_000_000
SAMPLED, NOT, DROPPED = "sampled", "not_sampled", "dropped"
ALWAYS = {"type": "always_sample"}
NEVER = {"type": "span_count", "span_count": {"min_spans": 99}}
FAILS = {
    "type": "ottl_condition",
    "ottl_condition": {"error_mode": "propagate", "span": ['Substring(attributes["k"], 5, 9) == "a"']},
}


def value(plain: Any) -> dict[str, Any]:
    if isinstance(plain, bool):
        return {"boolValue": plain}
    if isinstance(plain, int):
        return {"intValue": str(plain)}
    if isinstance(plain, float):
        return {"doubleValue": plain}
    return {"stringValue": plain}


def attributes(of: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": value(plain)} for key, plain in of.items()]


def span(number: int = 1, *, start: int | None = None, ns: int = 10_000_000, **more: Any) -> dict[str, Any]:
    """A span that starts `start` ns after T0 (None: at T0) and lasts `ns`."""
    begin = T0 + (start or 0)
    made = {
        "spanId": f"{number:016x}",
        "name": "op",
        "kind": 2,
        "startTimeUnixNano": str(begin),
        "endTimeUnixNano": str(begin + ns),
    }
    made["attributes"] = attributes(more.pop("attributes", {}))
    return made | more


def trace(
    *spans: dict[str, Any], name: str = "a", resource: dict[str, Any] | None = None, **scope: Any
) -> dict[str, Any]:
    id = hashlib.md5(name.encode()).hexdigest()
    within = {
        "scope": {"name": "lib", "attributes": attributes(scope)},
        "spans": [{"traceId": id, **each} for each in spans],
    }
    return {"resourceSpans": [{"resource": {"attributes": attributes(resource or {})}, "scopeSpans": [within]}]}


def verdict(config: object, *traces: dict[str, Any], **more: Any) -> tuple[str, str]:
    """Decision and policy of the only trace, whole. The same has to come out in pieces."""
    case = {"id": 1, "config": config, "traces": traces, **more}
    whole = answer(case)
    for seed in range(3):
        assert answer(case, seed) == whole
    (decision,) = whole["decisions"]
    return decision["decision"], decision["policy"]


def alone(policy: dict[str, Any], *traces: dict[str, Any], **more: Any) -> str:
    return verdict({"policies": [{"name": "p", **policy}]}, *traces, **more)[0]


def policy(type: str, **keys: Any) -> dict[str, Any]:
    return {"type": type, type: keys}


LASTS = {"threshold_ms": 5000}
WITHIN = {"threshold_ms": 5000, "upper_threshold_ms": 10_000}
MS = 1_000_000


@pytest.mark.parametrize(
    ("bounds", "ns", "expected"),
    [
        (LASTS, 4_999_999_999, NOT),
        (LASTS, 5_000_999_999, NOT),
        (LASTS, 5_001_000_000, SAMPLED),
        (WITHIN, 5000 * MS, NOT),
        (WITHIN, 5001 * MS, SAMPLED),
        (WITHIN, 10_000 * MS, SAMPLED),
        (WITHIN, 10_001 * MS, NOT),
        ({"threshold_ms": 100}, -1000 * MS, NOT),
        ({"threshold_ms": -2000}, -1000 * MS, SAMPLED),
        ({}, MS, SAMPLED),
        ({}, MS - 1, NOT),
    ],
)
def test_latency_compares_whole_milliseconds(bounds: dict[str, int], ns: int, expected: str) -> None:
    assert alone(policy("latency", **bounds), trace(span(ns=ns))) == expected


def test_with_an_upper_bound_the_order_of_the_spans_decides() -> None:
    short, long = span(1, ns=6000 * MS), span(2, ns=20_000 * MS)
    assert alone(policy("latency", **WITHIN), trace(short, long)) == SAMPLED
    assert alone(policy("latency", **WITHIN), trace(long, short)) == NOT


def test_times_of_zero() -> None:
    assert alone(policy("latency", threshold_ms=100), trace(span(startTimeUnixNano="0"))) == SAMPLED
    assert alone(policy("latency", threshold_ms=100), trace(span(startTimeUnixNano="0"), span(2))) == SAMPLED
    assert alone(policy("latency", threshold_ms=100), trace(span(endTimeUnixNano="0"))) == NOT


RANGE = {"min_value": 100, "max_value": 200}


@pytest.mark.parametrize(
    ("bounds", "found", "expected"),
    [
        (RANGE, 99, NOT),
        (RANGE, 100, SAMPLED),
        (RANGE, 200, SAMPLED),
        (RANGE, 201, NOT),
        (RANGE, 150.0, NOT),
        ({"max_value": 200}, 500.0, SAMPLED),
        ({"max_value": 200}, "x", SAMPLED),
        ({"min_value": -1, "max_value": 1}, True, SAMPLED),
        ({"min_value": 0, "max_value": 5}, -3, SAMPLED),
        ({"min_value": 3, "max_value": 2}, 3, NOT),
        (RANGE | {"invert_match": True}, 150, NOT),
        (RANGE | {"invert_match": True}, 99, SAMPLED),
    ],
)
def test_a_number_is_within_bounds_and_anything_else_is_zero(bounds: dict[str, Any], found: Any, expected: str) -> None:
    asked = policy("numeric_attribute", key="k", **bounds)
    assert alone(asked, trace(span(attributes={"k": found}))) == expected
    assert alone(asked, trace(span(), resource={"k": found})) == expected


def test_one_value_settles_an_inverted_policy_and_a_missing_one_does_not() -> None:
    inverted = policy("numeric_attribute", key="k", invert_match=True, **RANGE)
    assert alone(inverted, trace(span(attributes={"k": 150}), span(2, attributes={"k": 1}))) == NOT
    assert alone(inverted, trace(span())) == SAMPLED


def test_scopes_and_events_are_not_looked_at() -> None:
    event = {"timeUnixNano": "1", "name": "e", "attributes": attributes({"k": 150})}
    assert alone(policy("numeric_attribute", key="k", **RANGE), trace(span(events=[event]), k=150)) == NOT


@pytest.mark.parametrize(
    ("keys", "of_span", "of_resource"),
    [
        ({"values": ["x"]}, "X", None),
        ({"values": [""]}, "", ""),
        ({"values": ["5"]}, 5, 5),
        ({"values": []}, "x", "x"),
        ({"values": [], "enabled_regex_matching": True}, "x", "x"),
    ],
)
def test_texts_that_never_match(keys: dict[str, Any], of_span: Any, of_resource: Any) -> None:
    asked = policy("string_attribute", key="k", **keys)
    inverted = policy("string_attribute", key="k", invert_match=True, **keys)
    for seen in (trace(span(attributes={"k": of_span})), trace(span(), resource={"k": of_resource or ""})):
        assert alone(asked, seen) == NOT
        assert alone(inverted, seen) == SAMPLED


@pytest.mark.parametrize(
    ("expression", "found", "on_span", "on_resource"),
    [
        ("^$", "", NOT, SAMPLED),
        ("^$", 5, NOT, SAMPLED),
        (".*", 5, NOT, SAMPLED),
        ("heal", "/healthz", SAMPLED, SAMPLED),
        ("(?i)HEAL", "/healthz", SAMPLED, SAMPLED),
        ("^heal", "/healthz", NOT, NOT),
    ],
)
def test_expressions_read_a_resources_other_value_as_an_empty_text(
    expression: str, found: Any, on_span: str, on_resource: str
) -> None:
    asked = policy("string_attribute", key="k", values=["nothing", expression], enabled_regex_matching=True)
    assert alone(asked, trace(span(attributes={"k": found}))) == on_span
    assert alone(asked, trace(span(), resource={"k": found})) == on_resource


@pytest.mark.parametrize(
    ("wanted", "found", "expected"),
    [(False, "x", SAMPLED), (False, False, SAMPLED), (False, True, NOT), (True, "true", NOT), (True, True, SAMPLED), (True, 1, NOT)],
)  # fmt: skip
def test_what_is_no_truth_value_is_false(wanted: bool, found: Any, expected: str) -> None:
    asked = policy("boolean_attribute", key="k", value=wanted)
    assert alone(asked, trace(span(attributes={"k": found}))) == expected
    assert alone(asked, trace(span(), resource={"k": found})) == expected
    assert alone(asked, trace(span())) == NOT


@pytest.mark.parametrize(
    ("asked", "on_span", "on_resource"),
    [
        (policy("numeric_attribute", key="k", max_value=5), SAMPLED, SAMPLED),
        (policy("numeric_attribute", key="k", min_value=5), NOT, NOT),
        (policy("boolean_attribute", key="k"), SAMPLED, SAMPLED),
        (policy("boolean_attribute", key="k", value=True), NOT, NOT),
        (policy("string_attribute", key="k", values=["^$"], enabled_regex_matching=True), NOT, SAMPLED),
        (policy("string_attribute", key="k", values=["a"], invert_match=True), SAMPLED, SAMPLED),
        (
            policy("ottl_condition", span=['attributes["k"] == nil and resource.attributes["k"] == nil']),
            SAMPLED,
            SAMPLED,
        ),
    ],
)
def test_an_attribute_without_a_value(asked: dict[str, Any], on_span: str, on_resource: str) -> None:
    nothing = [{"key": "k", "value": {}}, {"key": "k", "value": {"intValue": "9"}}]  # the first of two counts
    assert alone(asked, trace(span() | {"attributes": nothing})) == on_span
    within = trace(span())
    within["resourceSpans"][0]["resource"]["attributes"] = nothing
    assert alone(asked, within) == on_resource


def test_a_block_of_another_type_never_matches() -> None:
    upstream = {"type": "boolean_attribute", "string_attribute": {"key": "k", "values": ["x"]}}
    assert alone(upstream, trace(span(attributes={"k": "x"}))) == NOT


@pytest.mark.parametrize(("code", "expected"), [(0, NOT), (1, NOT), (2, SAMPLED)])
def test_status(code: int, expected: str) -> None:
    assert (
        alone(policy("status_code", status_codes=["ERROR"]), trace(span(), span(2, status={"code": code}))) == expected
    )


def test_unset_is_a_status_too() -> None:
    assert alone(policy("status_code", status_codes=["UNSET"]), trace(span())) == SAMPLED


@pytest.mark.parametrize(
    ("bounds", "spans", "expected"),
    [
        ({"min_spans": 2, "max_spans": 5}, 1, NOT),
        ({"min_spans": 2, "max_spans": 5}, 2, SAMPLED),
        ({"min_spans": 2, "max_spans": 5}, 5, SAMPLED),
        ({"min_spans": 2, "max_spans": 5}, 6, NOT),
        ({}, 1, SAMPLED),
        ({"max_spans": 3}, 3, SAMPLED),
        ({"min_spans": 3, "max_spans": 2}, 3, NOT),
    ],
)
def test_spans_are_counted(bounds: dict[str, int], spans: int, expected: str) -> None:
    assert alone(policy("span_count", **bounds), trace(*map(span, range(1, spans + 1)))) == expected


def test_a_span_that_comes_twice_counts_twice() -> None:
    assert alone(policy("span_count", min_spans=2), trace(span(), span())) == SAMPLED


@pytest.mark.parametrize(
    ("state", "expected"), [("k=v", SAMPLED), ("a=b,k=v", SAMPLED), ("k=w", NOT), ("k=v,a b", NOT), ("", NOT)]
)
def test_trace_state(state: str, expected: str) -> None:
    asked = policy("trace_state", key="k", values=["v", ""])
    assert alone(asked, trace(span(), span(2, traceState=state))) == expected


@pytest.mark.parametrize(
    ("flags", "expected"), [(0, NOT), (1, SAMPLED), (0x100, NOT), (0x101, SAMPLED), (2, NOT), (3, SAMPLED)]
)
def test_trace_flags(flags: int, expected: str) -> None:
    assert alone({"type": "trace_flags"}, trace(span(flags=flags))) == expected


# ---- conditions

SHORT = span(attributes={"k": "v"})


@pytest.mark.parametrize(
    ("mode", "expected"),
    [(None, SAMPLED), ("ignore", SAMPLED), ("silent", SAMPLED), ("SILENT", SAMPLED), ("propagate", NOT)],
)
def test_a_condition_that_fails_before_one_that_holds(mode: str | None, expected: str) -> None:
    keys = {"span": [*FAILS["ottl_condition"]["span"], "true"], **({"error_mode": mode} if mode else {})}  # type: ignore[index]
    assert alone(policy("ottl_condition", **keys), trace(SHORT)) == expected


def test_the_first_span_that_holds_or_fails_settles_a_policy_that_propagates() -> None:
    long = span(2, attributes={"k": "12345a789"})
    holds = policy("ottl_condition", error_mode="propagate", span=['Substring(attributes["k"], 5, 1) == "a"'])
    assert alone(holds, trace(long, SHORT)) == SAMPLED
    assert alone(holds, trace(SHORT, long)) == NOT


def test_a_spans_events_come_after_the_span() -> None:
    both = {"span": ['attributes["k"] == "x"'], "spanevent": ['name == "found"', 'Substring(name, 0, 9) == "a"']}
    asked = policy("ottl_condition", error_mode="propagate", **both)
    found, bad = ([{"timeUnixNano": "1", "name": name}] for name in ("found", "bad"))
    assert alone(asked, trace(span(events=found), span(2, events=bad))) == SAMPLED
    assert alone(asked, trace(span(events=bad), span(2, events=found))) == NOT
    assert alone(asked, trace(span(attributes={"k": "x"}, events=bad), span(2))) == SAMPLED


# ---- policies of policies


def test_and_without_members_samples_and_drop_without_members_drops() -> None:
    assert alone({"type": "and"}, trace(span())) == SAMPLED
    assert alone({"type": "drop"}, trace(span())) == DROPPED


@pytest.mark.parametrize(
    ("members", "expected"),
    [([ALWAYS, ALWAYS], SAMPLED), ([ALWAYS, NEVER], NOT), ([NEVER, FAILS], NOT), ([FAILS, ALWAYS], NOT)],
)
def test_and(members: list[dict[str, Any]], expected: str) -> None:
    assert alone({"type": "and", "and": {"and_sub_policy": members}}, trace(SHORT)) == expected


@pytest.mark.parametrize(("member", "expected"), [(ALWAYS, NOT), (NEVER, SAMPLED), (FAILS, NOT)])
def test_not_swaps_and_keeps_an_error(member: dict[str, Any], expected: str) -> None:
    opposite = {"type": "not", "not": {"not_sub_policy": member}}
    assert alone(opposite, trace(SHORT)) == expected
    assert alone({"type": "and", "and": {"and_sub_policy": [opposite]}}, trace(SHORT)) == expected


def named(**policies: dict[str, Any]) -> dict[str, Any]:
    return {"policies": [{"name": name, **each} for name, each in policies.items()]}


def test_a_drop_wins_wherever_it_is_listed_and_a_failing_one_does_not_drop() -> None:
    drops = {"type": "drop", "drop": {"drop_sub_policy": [ALWAYS]}}
    fails = {"type": "drop", "drop": {"drop_sub_policy": [FAILS]}}
    assert verdict(named(all=ALWAYS, d=drops), trace(SHORT)) == (DROPPED, "d")
    assert verdict(named(all=ALWAYS, d=fails), trace(SHORT)) == (SAMPLED, "all")
    assert verdict(named(), trace(SHORT)) == (NOT, "")


def test_an_inverted_policy_has_no_veto() -> None:
    inverted = policy("string_attribute", key="k", values=["v"], invert_match=True)
    assert verdict(named(all=ALWAYS, inv=inverted), trace(SHORT)) == (SAMPLED, "all")
    assert verdict(named(never=NEVER, inv=inverted), trace(span())) == (SAMPLED, "inv")


def test_the_policy_that_is_named() -> None:
    half = policy("probabilistic", sampling_percentage=99.999)
    most = policy("probabilistic", sampling_percentage=99.9999)
    both = {"type": "and", "and": {"and_sub_policy": [half, most]}}
    for config, old, new in [
        (named(half=half, all=ALWAYS), "half", "all"),
        (named(half=half, most=most), "half", "most"),
        (named(both=both, half=half), "both", "both"),  # an `and` has the highest threshold of its members
        (named(a=ALWAYS, b=ALWAYS), "a", "a"),
    ]:
        assert verdict(config, trace(span())) == (SAMPLED, old)
        assert verdict(config, trace(span()), **{"as": "0.165"}) == (SAMPLED, new)
        assert verdict(config | {"sample_on_first_match": True}, trace(span()), **{"as": "0.165"}) == (SAMPLED, old)


# ---- chance


def chosen(percentage: float, name: str, *states: str, salt: str | None = None, gates: tuple[str, ...] = ()) -> bool:
    keys: dict[str, Any] = {"sampling_percentage": percentage} | ({"hash_salt": salt} if salt is not None else {})
    spans = [span(number, traceState=state) for number, state in enumerate(states or ("",), 1)]
    return alone(policy("probabilistic", **keys), trace(*spans, name=name), gates=gates) == SAMPLED


NAMES = [f"t{number}" for number in range(60)]


def test_a_higher_share_keeps_what_a_lower_one_keeps_and_another_salt_keeps_others() -> None:
    few, many = ({name for name in NAMES if chosen(share, name)} for share in (20, 60))
    assert few < many
    assert 3 < len(few) < 25
    assert few == {name for name in NAMES if chosen(20, name, salt="")}
    assert few != {name for name in NAMES if chosen(20, name, salt="other")}
    assert not any(chosen(0, name) for name in NAMES[:9])
    assert all(chosen(100, name) for name in NAMES[:9])


GATE = ("usetracestate",)


def test_with_the_gate_the_randomness_of_the_trace_decides() -> None:
    high, low = "ot=rv:ffffffffffffff", "ot=rv:00000000000000"
    for name in NAMES[:9]:
        assert chosen(25, name, "", high, gates=GATE)
        assert not chosen(25, name, low, high, gates=GATE)  # the first that a span brings
        assert chosen(25, name, high) == chosen(25, name)  # without the gate nobody looks


def test_with_a_threshold_and_no_randomness_the_id_decides() -> None:
    for name in NAMES[:9]:
        id = bytes.fromhex(hashlib.md5(name.encode()).hexdigest())
        expected = int.from_bytes(id[-7:], "big") >= 3 << 54
        assert chosen(25, name, "ot=th:0", gates=GATE) == expected
        assert chosen(25, name, "a=b", "", "ot=th:zz", gates=GATE) == chosen(25, name)


# ---- the format


def test_the_answers_have_the_form_that_checks_from_outside_read() -> None:
    traces = [trace(span(), name="a"), trace(span(2), name="b"), trace(span(3), name="a")]
    whole = answer({"id": "x", "config": named(all=ALWAYS), "traces": traces})
    ids = [hashlib.md5(name.encode()).hexdigest() for name in "ab"]
    assert whole == {"id": "x", "decisions": [{"trace_id": id, "decision": SAMPLED, "policy": "all"} for id in ids]}
    refused = answer({"id": 2, "config": {"policies": [{"name": "p", "type": "latancy"}]}, "traces": traces})
    assert refused["id"] == 2
    assert "policies[0].type" in refused["error"]
    assert answer({"id": 3, "config": named(all=ALWAYS)}) == {"id": 3, "decisions": []}


def test_several_traces_in_one_request() -> None:
    request = trace(span(), name="a")
    request["resourceSpans"] += trace(span(2, status={"code": 2}), name="b")["resourceSpans"]
    found = answer({"id": 1, "config": named(e=policy("status_code", status_codes=["ERROR"])), "traces": [request]})
    assert [each["decision"] for each in found["decisions"]] == [NOT, SAMPLED]


def test_a_trace_that_is_too_large_is_dropped_with_all_its_spans() -> None:
    config = named(all=ALWAYS)
    spans = [span(number, attributes={"k": "x" * 100}) for number in range(1, 9)]
    assert verdict(config | {"maximum_trace_size_bytes": 500}, trace(*spans)) == (NOT, "")
    assert verdict(config | {"maximum_trace_size_bytes": 5000}, trace(*spans)) == (SAMPLED, "all")
