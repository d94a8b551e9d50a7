"""`sampling.policies`: what is read, and what each wrong one is answered."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from tests.hard_values import HARD
from tss.core.conditions.formula import FALSE, TRUE, Leaf, OfSpans
from tss.core.conditions.formula import Any as AnyOf
from tss.core.conditions.of_trace import statement
from tss.core.conditions.statement import MOST, Number, Within, asks, settled
from tss.settings import InvalidSetting, PolicySetting, Sampling, Settings, SettingsError, load, render
from tss.settings.errors import InvalidValue
from tss.settings.keys import camel, fields
from tss.settings.kinds.conditions import KEYS, read_when
from tss.settings.kinds.policies import policies
from tss.settings.schema import settings_schema

BASE = "kafka: {brokers: 'k:9092'}\nexporters: [{name: f, type: file, path: p}]\nsampling:\n"
SCHEMA = Draft7Validator(settings_schema())
LIST_SCHEMA = Draft7Validator(policies.schema)


def loaded(directory: Path, sampling: str) -> Settings:
    file = directory / "tss.yaml"
    file.write_text(BASE + textwrap.indent(sampling, "  "))
    return load(str(file), {})


# ---- wrong ones

WRONG = [
    tuple(re.split(r"(?m)(?=^#>)", each, maxsplit=1))
    for each in Path(__file__).with_name("wrong_policies.yaml").read_text().split("# ---\n")[1:]
]


def answers(text: str, directory: Path) -> str:
    """The lines that `tss check` prints, as in wrong_policies.yaml."""
    with pytest.raises(SettingsError) as caught:
        loaded(directory, text)
    return "".join(f"#> {error}\n".replace(str(directory / "tss.yaml"), "FILE") for error in caught.value.errors)


def test_there_are_many() -> None:
    assert len(WRONG) > 100


@pytest.mark.parametrize(("text", "answer"), WRONG)
def test_each_is_answered_with_its_line_what_was_found_and_what_to_write(
    text: str, answer: str, tmp_path: Path
) -> None:
    keys = ", ".join(camel(field.name) for field in fields(Sampling))
    assert answers(text, tmp_path) == answer.replace("{keys of sampling}", keys)
    for line in answer.splitlines():
        assert re.match(r"#> (sampling\.\S+ \(line \d+\)|FILE): found .+; allowed: .+", line)


# ---- right ones

RIGHT = """\
policies:
  - {name: probes, drop: true, when: 'root.attributes["url.path"] == "/healthz" or root.attributes["url.path"] == "/ready"'}
  - {name: errors, keep: 1.0, when: {status: error}}
  - {name: slow checkout, keep: 50 %, when: {service: checkout, latency: '> 2s'}}
  - name: paying
    keep: 1
    when: {attribute: {tier: [gold, plat*], code: '>= 500, < 600', retry: true, n: 3}, route: [/pay, '/pay/*']}
  - {name: wide, keep: 0.25, when: {spans: '>= 100, < 5000', any: [{status: [ok, unset]}, 'kind == SPAN_KIND_SERVER'], not: {service: [a, b]}}}
  - {name: deep, keep: 0.1, when: {all: [{service: a}, {service: b}, {not: 'trace.errors > 3 and name == "x"'}]}}
  - {name: new routes, keep: 1.0, mode: shadow, when: 'IsMatch(root.name, "^POST /v2/")'}
  - {name: exceptions, keep: 0.3, when: 'spanevent.name == "exception"'}
  - {name: nanoseconds, keep: 0.1, when: {latency: '> 0s, <= 1s500ms1ns'}, mode: active}
  - {name: rest, keep: 0.01}
combine: first
"""


def test_what_is_right_is_taken_as_it_stands_and_printed_so(tmp_path: Path) -> None:
    settings = loaded(tmp_path, RIGHT)
    assert [each.name for each in settings.sampling.policies][:3] == ["probes", "errors", "slow checkout"]
    assert settings.sampling.policies[2].keep == 0.5
    assert [each.shadow for each in settings.sampling.policies].count(True) == 1
    again = tmp_path / "again.yaml"
    again.write_text(render(settings))
    assert load(str(again), {}) == settings


def test_the_schema_takes_them(tmp_path: Path) -> None:
    document = yaml.safe_load(BASE + textwrap.indent(RIGHT, "  "))
    assert [error.message for error in SCHEMA.iter_errors(document)] == []
    assert [*SCHEMA.iter_errors(yaml.safe_load(render(loaded(tmp_path, RIGHT))))] == []


@pytest.mark.parametrize(
    ("bounds", "low", "high"),
    [
        ("> 2s", 2_000_000_001, MOST),
        (">= 2s", 2_000_000_000, MOST),
        ("< 2s", 0, 1_999_999_999),
        ("<= 2s", 0, 2_000_000_000),
        ("> 0s", 1, MOST),
        (">= 0ms", 0, MOST),
        ("<= 0s", 0, 0),
        ("<= 10s, > 2s", 2_000_000_001, 10_000_000_000),
        ("> 0.3ms", 300_001, MOST),  # as a float it would be 299999.99999999994
        ("> 1.5ns", 2, MOST),
        (">= 1.5ns", 2, MOST),
        ("<1.5ns", 0, 1),
        ("> 1m 30s", 90_000_000_001, MOST),
        (">= 9007199.254740993s", 9_007_199_254_740_993, MOST),  # 2**53 + 1 ns
    ],
)
def test_durations_are_exact_to_the_nanosecond(bounds: str, low: int, high: int) -> None:
    assert read_when({"latency": bounds}).statement == Within(Number.DURATION_NS, low, high)


@pytest.mark.parametrize(
    ("condition", "low", "high"),
    [
        ("trace.duration_ms > 2000", 2_000_000_001, MOST),
        ("trace.duration_ms >= 0.3", 300_000, MOST),
        ("2000 >= trace.duration_ms", 0, 2_000_000_000),
        ("trace.duration_ms < 0", 1, 0),
        ("trace.duration_ms == 1.5", 1_500_000, 1_500_000),
        ("trace.duration_ms >= -5", 0, MOST),
    ],
)
def test_so_are_those_in_ottl(condition: str, low: int, high: int) -> None:
    assert statement(condition) == Within(Number.DURATION_NS, low, high)


# ---- beside the guide's keys


@pytest.mark.parametrize(
    ("text", "in_force"),
    [
        ("defaultSampleRate: 0", {"errors": 1, "latency": 0.1, "default": 0}),
        ("policies: [{name: a, keep: 0.5}]", {"a": 0.5}),
        ("policies: [{name: a, drop: true}]\nalwaysSampleErrors: true", {"a": "drop", "errors": 1}),
        ("policies: [{name: a, keep: 1, mode: shadow}]\ndefaultSampleRate: 1%", {"a": "shadow", "default": 0.01}),
        ("policies: []", {"errors": 1, "latency": 0.1, "default": 0}),
    ],
)
def test_with_policies_the_guides_are_off_unless_they_are_set(
    text: str, in_force: dict[str, Any], tmp_path: Path
) -> None:
    assert loaded(tmp_path, text).sampling.in_force == in_force


def test_only_what_keeps_can_be_named_by_an_exporter(tmp_path: Path) -> None:
    text = "policies: [{name: a, keep: 1}, {name: b, drop: true}, {name: c, keep: 1, mode: shadow}]"
    assert [*loaded(tmp_path, text).sampling.keeping] == ["a"]


# ---- whatever YAML holds

SCALARS = (
    st.none()
    | st.sampled_from(HARD)
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        [
            "error",
            "> 2s",
            ">= 5",
            "a*",
            'name == "a"',
            "trace.spans > 5",
            "10%",
            "shadow",
            "IsMatch(name",
            "not name == nil",
        ]
    )
)
WORDS = st.sampled_from(
    [
        "name",
        "keep",
        "drop",
        "when",
        "mode",
        "status",
        "service",
        "route",
        "attribute",
        "latency",
        "spans",
        "any",
        "all",
        "not",
        "a.b",
    ]
) | st.text(max_size=3)
SOUND = st.sampled_from(
    [
        {"status": ["Error", "OK"]},
        {"service": "a*", "latency": " > 2s,<=3s"},
        {"attribute": {"a": [1, 0.5, True, "> 3"]}, "not": {"spans": "< 5"}},
        {"any": [{"all": ['name == "a"', {"route": ["/a", "/b"]}]}, {"not": {"not": {"any": [{"status": "unset"}]}}}]},
        "trace.spans > 5",
    ]
)
VALUES = SOUND | st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.integers(), inner, max_size=4),
    max_leaves=12,
)


@given(
    st.lists(
        st.fixed_dictionaries(
            {"name": st.just("a")},
            optional={"keep": st.sampled_from([1, "5 %", 0.25]), "when": VALUES, "mode": SCALARS},
        )
        | VALUES
    )
)
def test_any_value_is_read_or_refused_with_places(raw: object) -> None:
    found, errors = read(raw)
    assert all(error.found and error.allowed for error in errors)
    for policy in found:
        assert settled(policy.statement) in {True, False, None}
        assert policies.read([policy.plain()]) == (policy,)
    if found:
        assert [error.message for error in LIST_SCHEMA.iter_errors(raw)] == []


SOUND_WHENS = st.recursive(
    SOUND,
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "any": st.lists(inner, min_size=1, max_size=3),
            "all": st.lists(inner, min_size=1, max_size=2),
            "not": inner,
        },
    ).filter(bool),
    max_leaves=5,
)
SOUND_POLICIES = st.fixed_dictionaries(
    {"name": st.text("abc ", min_size=1).map(str.strip).filter(bool), "keep": st.sampled_from([1, 0, "5 %", 0.25])},
    optional={"when": SOUND_WHENS, "mode": st.sampled_from(["shadow", "Active", "SHADOW", None])},
)


@given(st.lists(SOUND_POLICIES, max_size=4, unique_by=lambda policy: policy["name"]))
def test_what_is_sound_is_taken_by_the_daemon_and_by_the_schema(raw: list[dict[str, Any]]) -> None:
    found, errors = read(raw)
    assert errors == ()
    assert policies.read([policy.plain() for policy in found]) == found
    usual = [policy | {"mode": None} if policy.get("mode") == "Active" else policy for policy in raw]
    assert [error.message for error in LIST_SCHEMA.iter_errors(usual)] == []


PLACES: list[Callable[[Any], object]] = [
    lambda value: value,
    *[lambda value, key=key: {key: value} for key in KEYS],
    *[lambda value, key=key: {key: [value, value]} for key in KEYS],
    lambda value: {"attribute": {"a": value}},
    lambda value: {"attribute": {"a": [value]}},
    lambda value: {"attribute": {str(value)[:20_000]: "a"}},
    lambda value: {"any": [{"not": {"service": value}}]},
    lambda value: {str(value)[:20_000]: "a"},
]


@pytest.mark.parametrize("place", PLACES)
def test_nothing_but_refusals_comes_out_of_it(place: Callable[[Any], object]) -> None:
    for value in HARD:
        _, errors = read([{"name": "a", "keep": 1, "when": place(value)}])
        assert all(len(f"{error.found} {error.hint}") < 1000 for error in errors)


@pytest.mark.parametrize("key", ["name", "keep", "drop", "mode", "type", "other"])
def test_neither_beside_it(key: str) -> None:
    for value in HARD:
        read([{"name": "a", "keep": 1} | {key: value}])


@pytest.mark.parametrize(
    ("written", "outside", "inside"),
    [
        ("> 9007199254740993", 9007199254740993, 9007199254740994),
        (">= 9223372036854775807", 9223372036854775806, 9223372036854775807),
        ("> -9223372036854775807", -9223372036854775807, -9223372036854775806),
        ("> 0.1", 0.1, 0.10000000000000002),
        ("> 99999999999999.9", 99999999999999, 100000000000000),
    ],
)
def test_bounds_of_an_attribute_are_exact(written: str, outside: float, inside: float) -> None:
    [both] = asks(read_when({"attribute": {"n": written}}).statement)
    assert isinstance(both, OfSpans)
    assert isinstance(both.formula, AnyOf)
    [leaf, _] = both.formula.of
    assert isinstance(leaf, Leaf)
    assert (leaf.test.answer(outside), leaf.test.answer(inside)) == (FALSE, TRUE)


def read(raw: object) -> tuple[tuple[PolicySetting, ...], tuple[InvalidSetting, ...]]:
    """The policies, or the errors."""
    try:
        return policies.read(raw), ()
    except InvalidValue as refused:
        return (), refused.errors


def test_aliases_do_not_make_it_endless(tmp_path: Path) -> None:
    lines = ["a0: &a0 {status: error}"]
    lines += [f"a{n}: &a{n} {{any: [{', '.join([f'*a{n - 1}'] * 50)}]}}" for n in range(1, 8)]
    text = "\n".join([*lines, "list:", "  - {name: a, keep: 1, when: *a7}", ""])
    with pytest.raises(InvalidValue) as caught:
        policies.read(yaml.safe_load(text)["list"])
    assert "more than" in caught.value.errors[0].found


def test_a_condition_that_joins_too_much_is_refused() -> None:
    pairs = " and ".join(f'(name == "{n}" or trace.spans > {n})' for n in range(7))
    with pytest.raises(InvalidValue, match="more than 64 parts"):
        read_when(pairs)
    assert [*asks(read_when(pairs.replace("and", "or")).statement)]


def test_settings_made_in_code_have_the_same_defaults() -> None:
    assert Sampling().in_force == {"errors": 1, "latency": 0.1, "default": 0}
