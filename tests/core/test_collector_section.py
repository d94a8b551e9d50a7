"""Reading a Collector's section: what its own decoder and its start refuse is refused here, by the same path."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tss.core.collector import Plan, WrongSection, read
from tss.core.collector.golang import duration_ns, threshold64, whole, wrapped
from tss.core.collector.hashing import START, fnv
from tss.core.collector.section import BLOCKS, NESTED
from tss.core.conditions.w3c import members


def section(type: str, **blocks: Any) -> dict[str, Any]:
    return {"policies": [{"name": "p", "type": type, **blocks}]}


def paths(body: object, gates: tuple[str, ...] = ()) -> list[str]:
    """The paths of all that is wrong with a section."""
    with pytest.raises(WrongSection) as refused:
        read(body, gates)
    return [each.path for each in refused.value.wrong]


def noted(body: object) -> dict[str, str]:
    return {note.path: note.text for note in read(body).notes}


OTTL = "ottl_condition"
NUMERIC = {"key": "k", "min_value": 1}
REFUSED = [
    ({"decision_wiat": "5s"}, "decision_wiat"),
    (section("latency", latency={"treshold": 1}), "policies[0].latency.treshold"),
    (section("latency", latency={"threshold_ms": "5000"}), "policies[0].latency.threshold_ms"),
    (section("latency", latency={"threshold_ms": True}), "policies[0].latency.threshold_ms"),
    (section("latency", latency=5), "policies[0].latency"),
    (section("latency", latency=[]), "policies[0].latency"),
    (section("latency", latancy=5), "policies[0].latancy"),
    (section("latency", string_attribute={"kye": ""}), "policies[0].string_attribute.kye"),
    (
        section("probabilistic", probabilistic={"sampling_percentage": "10"}),
        "policies[0].probabilistic.sampling_percentage",
    ),
    (
        section("probabilistic", probabilistic={"sampling_percentage": False}),
        "policies[0].probabilistic.sampling_percentage",
    ),
    (section("probabilistic", probabilistic={"hash_salt": 5}), "policies[0].probabilistic.hash_salt"),
    (section("string_attribute", string_attribute={"key": 5}), "policies[0].string_attribute.key"),
    (section("string_attribute", string_attribute={"values": [1]}), "policies[0].string_attribute.values[0]"),
    (section("string_attribute", string_attribute={"values": {}}), "policies[0].string_attribute.values"),
    (
        section("string_attribute", string_attribute={"invert_match": "yes"}),
        "policies[0].string_attribute.invert_match",
    ),
    (
        section("string_attribute", string_attribute={"values": ["a", "(?!x)"], "enabled_regex_matching": True}),
        "policies[0].string_attribute.values[1]",
    ),
    (section("numeric_attribute"), "policies[0].numeric_attribute"),
    (
        section("numeric_attribute", numeric_attribute={"key": "k", "min_value": 0, "max_value": 0}),
        "policies[0].numeric_attribute",
    ),
    (section("status_code"), "policies[0].status_code.status_codes"),
    (section("status_code", status_code={"status_codes": ["OK", "Error"]}), "policies[0].status_code.status_codes[1]"),
    (section(OTTL), f"policies[0].{OTTL}"),
    (section(OTTL, ottl_condition={"span": ["true"], "error_mode": "explode"}), f"policies[0].{OTTL}.error_mode"),
    (section(OTTL, ottl_condition={"span": ["true"], "error_mode": None}), f"policies[0].{OTTL}.error_mode"),
    (section("latency", ottl_condition={"error_mode": ""}), f"policies[0].{OTTL}.error_mode"),
    (section(OTTL, ottl_condition={"span": ["true", "name == 'x'"]}), f"policies[0].{OTTL}.span[1]"),
    (section("not"), "policies[0].not.not_sub_policy"),
    (section("not", **{"not": {"not_sub_policy": {}}}), "policies[0].not.not_sub_policy.type"),
    (section("not", **{"not": {"not_sub_policy": {"type": "not"}}}), "policies[0].not.not_sub_policy.type"),
    (section("and", **{"and": {"and_sub_policy": [{"type": "and"}]}}), "policies[0].and.and_sub_policy[0].type"),
    (section("drop", drop={"drop_sub_policy": [{"type": "drop"}]}), "policies[0].drop.drop_sub_policy[0].type"),
    (section("drop", drop={"drop_sub_policy": {}}), "policies[0].drop.drop_sub_policy"),
    (section("nothing_such"), "policies[0].type"),
    (section("Latency"), "policies[0].type"),
    (section(""), "policies[0].type"),
    (section("rate_limiting", rate_limiting={"spans_per_second": 5}), "policies[0].type"),
    (section("bytes_limiting"), "policies[0].type"),
    (section("composite"), "policies[0].type"),
    ({"policies": [{"type": "always_sample"}]}, "policies[0].name"),
    ({"policies": [{"name": "a", "type": "always_sample"}] * 2}, "policies[1].name"),
    ({"policies": [{"name": None, "type": "always_sample"}]}, "policies[0].name"),
    ({"policies": {}}, "policies"),
    ({"policies": [5]}, "policies[0]"),
    ({"decision_wait": "5"}, "decision_wait"),
    ({"decision_wait": ""}, "decision_wait"),
    ({"decision_wait": True}, "decision_wait"),
    ({"num_traces": -1}, "num_traces"),
    ({"num_traces": "5"}, "num_traces"),
    ({"num_shards": 257}, "num_shards"),
    ({"sampling_strategy": "span-ingest"}, "sampling_strategy"),
    ({"sampling_strategy": None}, "sampling_strategy"),
    ({"tail_storage": "pebble"}, "tail_storage"),
    ({"decision_cache": {"sampled_cache_size": "1"}}, "decision_cache.sampled_cache_size"),
    ([], ""),
]


@pytest.mark.parametrize(("body", "path"), REFUSED, ids=[path or "no mapping" for _, path in REFUSED])
def test_what_the_collector_refuses_is_refused_by_its_path(body: object, path: str) -> None:
    assert paths(body) == [path] or (path.endswith(".type") and path in paths(body))


ACCEPTED = [
    {},
    None,
    {"policies": None},
    section("latency", latancy={"threshold_ms": 5000}),  # read as the block of an extension
    section("latency", latancy=None),
    section("latency", latency={"threshold_ms": 5000.7}),
    section("latency", latency=None),
    section("boolean_attribute", string_attribute={"key": "k"}),
    section("status_code", status_code={"status_codes": "OK,ERROR"}),
    section("string_attribute", string_attribute={"values": [None], "cache_max_size": -1}),
    section("span_count", span_count={"min_spans": 2**33}),
    section("and"),
    section("drop"),
    section("and", **{"and": {"and_sub_policy": [{"type": "always_sample"}, {"type": "always_sample"}]}}),
    {"decision_wait": 5, "decision_wait_after_root_received": "-1s", "num_shards": None},
    {"decision_cache": None, "tail_storage": None},
]


@pytest.mark.parametrize("body", ACCEPTED, ids=str)
def test_what_the_collector_takes_is_taken(body: object) -> None:
    assert isinstance(read(body), Plan)


def test_everything_wrong_is_told_at_once() -> None:
    wrong = {"policies": [{"name": "a", "type": "latency", "latency": {"x": 1}}, {"type": "b"}], "num_shards": 300}
    assert len(paths(wrong)) == 4


def test_gates_are_known_with_and_without_their_prefix() -> None:
    long = "processor.tailsamplingprocessor.usetracestate"
    assert read({}, ["usetracestate"]).gates == read({}, [long]).gates == {"usetracestate"}
    assert paths({}, ("disableinvertdecisions",)) == ["otelGates[0]"]


@pytest.mark.parametrize(
    ("body", "path", "words"),
    [
        (section("latency", latancy={"threshold_ms": 5000}), "policies[0].latancy", "did you mean latency"),
        (section("latency", latancy={"threshold_ms": 5000}), "policies[0].latency", "every trace that lasts 1 ms"),
        (section("latency", latency={"threshold_ms": 5000}), "policies[0].latency.threshold_ms", "from 5001 ms"),
        (section("boolean_attribute", string_attribute={}), "policies[0].string_attribute", "this block is ignored"),
        (section("drop"), "policies[0].drop", "every trace is dropped"),
        (section("and"), "policies[0].and", "every trace matches"),
        (
            section("string_attribute", string_attribute={"key": "k", "values": [".*"], "enabled_regex_matching": True}),
            "policies[0].string_attribute.values[0]",
            "matches an empty text",
        ),
        (section("numeric_attribute", numeric_attribute={"key": "k", "max_value": 5}), "policies[0].numeric_attribute", "read as 0"),
        (section("boolean_attribute", boolean_attribute={"key": "k"}), "policies[0].boolean_attribute.value", "read as false"),
        (section(OTTL, ottl_condition={"span": ["true"]}), f"policies[0].{OTTL}", "silent"),
        ({"decision_wait": 5}, "decision_wait", "1 s"),
        ({"num_traces": 5}, "num_traces", "no effect here"),
        ({"block_on_overflow": True}, "block_on_overflow", "no effect here"),
        ({}, "policies", "no trace is kept"),
    ],
)  # fmt: skip
def test_what_surprises_is_noted(body: object, path: str, words: str) -> None:
    assert words in noted(body)[path]


def test_a_plain_section_has_no_note() -> None:
    plain = {
        "decision_wait": "10s",
        "policies": [
            {"name": "errors", "type": "status_code", "status_code": {"status_codes": ["ERROR"]}},
            {"name": "some", "type": "probabilistic", "probabilistic": {"sampling_percentage": 10}},
            {"name": "five", "type": "numeric_attribute", "numeric_attribute": NUMERIC},
        ],
    }
    assert read(plain).notes == ()


# ---- waits


@pytest.mark.parametrize(
    ("text", "ms"), [("30s", 30_000), ("1m30s", 90_000), ("2500ms", 2500), ("0s", 1), (5, 1), ("-1s", 1), (None, 1)]
)
def test_a_trace_closes_a_decision_wait_after_its_first_span(text: object, ms: int) -> None:
    assert read({"decision_wait": text}).decision_wait_ms == ms


def test_the_defaults_are_the_collectors() -> None:
    plan = read({})
    assert (plan.decision_wait_ms, plan.root_wait_ms, plan.max_trace_bytes) == (30_000, 0, 0)


# ---- Go's numbers


@pytest.mark.parametrize(
    ("text", "ns"),
    [("0", 0), ("1h", 3600 * 10**9), ("1.5s", 1_500_000_000), (".5ms", 500_000), ("1.s", 10**9), ("-2us", -2000),
     ("+3\u00b5s", 3000), ("1h2m3s4ms5us6ns", 3_723_004_005_006), ("-2562047h47m16.854775808s", -(2**63))],
)  # fmt: skip
def test_durations_are_gos(text: str, ns: int) -> None:
    assert duration_ns(text) == ns


@pytest.mark.parametrize(
    "text", ["", "-", "5", "s", "1d", "1 s", "1h ", ".s", "1e3s", "2562047h47m16.854775808s", "--1s", "\u0661s"]
)
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        duration_ns(text)


@given(st.integers(-(2**70), 2**70), st.sampled_from([32, 64]))
def test_numbers_wrap_as_in_go(value: int, bits: int) -> None:
    signed, unsigned = wrapped(value, bits, signed=True), wrapped(value, bits, signed=False)
    assert (signed - value) % 2**bits == (unsigned - value) % 2**bits == 0
    assert -(2 ** (bits - 1)) <= signed < 2 ** (bits - 1)
    assert 0 <= unsigned < 2**bits


@pytest.mark.parametrize(
    ("value", "cut"),
    [(1.9, 1), (-1.9, -1), (1e30, -(2**63)), (float("inf"), -(2**63)), (float("nan"), -(2**63)), (2**62, 2**62)],
)
def test_fractions_are_cut_off(value: float, cut: int) -> None:
    assert whole(value) == cut


# ---- chance


@pytest.mark.parametrize(
    ("data", "hash"), [(b"", START), (b"a", 0xAF63DC4C8601EC8C), (b"foobar", 0x85944171F73967E8)]
)  # from the specification of FNV
def test_the_hash_is_fnv_1a(data: bytes, hash: int) -> None:
    assert fnv(START, data) == hash


@given(st.binary(max_size=40), st.integers(0, 40))
def test_a_hash_can_be_continued(data: bytes, cut: int) -> None:
    assert fnv(fnv(START, data[:cut]), data[cut:]) == fnv(START, data)


@pytest.mark.parametrize(
    ("percentage", "highest"), [(0, 0), (-5, 0), (100, 2**64 - 1), (250, 2**64 - 1), (50, 2**63 - 1)]
)
def test_the_bounds_of_the_hash(percentage: float, highest: int) -> None:
    assert abs(threshold64(percentage) - highest) <= 1


@given(st.floats(0, 100), st.floats(0, 100))
def test_a_higher_share_samples_what_a_lower_one_samples(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert threshold64(low) <= threshold64(high)
    assert abs(threshold64(low) - (2**64 - 1) * Fraction(low / 100)) <= 2**11


def test_ids_that_hash_alike_are_chosen_alike() -> None:
    ids = [hashlib.md5(bytes([n])).digest() for n in range(200)]
    chosen = [fnv(fnv(START, b"default-hash-seed"), id) <= threshold64(30) for id in ids]
    assert 30 < sum(chosen) < 90


# ---- trace state


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("", {}),
        ("k=v", {"k": "v"}),
        ("k=v,,a=b", {"k": "v", "a": "b"}),
        (" k=v , t@s=x y", {"k": "v", "t@s": "x y"}),
        ("a b c", None),
        ("k=v,", {"k": "v"}),
        ("k=v, ", None),
        ("k=", None),
        ("K=v", None),
        ("k=v,k=w", None),
        ("k=a=b", None),
        ("1k=v", None),
        (",".join(f"k{n}=v" for n in range(33)), None),
    ],
)  # fmt: skip
def test_trace_states_are_read_as_open_telemetry_for_go_reads_them(header: str, found: dict[str, str] | None) -> None:
    assert members(header) == found


def test_every_block_of_the_collector_is_known() -> None:
    assert len(BLOCKS) == 11
    assert len(NESTED) == 4
