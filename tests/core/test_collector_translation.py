"""A section in our own form: what can be said has the same verdicts, and what cannot is told."""

from __future__ import annotations

from typing import Any

import pytest

from tss.core.collector import read
from tss.core.collector.translation import Translated, all_of, any_of, opposite, translate


def translated(type: str, **keys: Any) -> Translated:
    (only,) = translate(read({"policies": [{"name": "p", "type": type, type: keys}]}))
    return only


def when(type: str, **keys: Any) -> Any:
    return translated(type, **keys).when


def remarks(type: str, **keys: Any) -> str:
    return " ".join(translated(type, **keys).remarks)


def member(type: str, **keys: Any) -> dict[str, Any]:
    return {"type": type, type: keys}


CHOSEN = member("probabilistic", sampling_percentage=10)
FAILED = member("status_code", status_codes=["ERROR"])


@pytest.mark.parametrize(
    ("type", "keys", "expected"),
    [
        ("status_code", {"status_codes": ["ERROR"]}, {"status": "error"}),
        ("status_code", {"status_codes": ["OK", "UNSET"]}, {"status": ["ok", "unset"]}),
        ("latency", {"threshold_ms": 5000}, {"latency": ">= 5001ms"}),
        ("latency", {"threshold_ms": 5000, "upper_threshold_ms": 10_000}, {"latency": ">= 5001ms, < 10001ms"}),
        ("latency", {"threshold_ms": 5000, "upper_threshold_ms": 5000}, False),
        ("latency", {"threshold_ms": -5}, True),
        ("latency", {"threshold_ms": 2**62}, False),
        ("latency", {"threshold_ms": 5, "upper_threshold_ms": 2**62}, {"latency": ">= 6ms"}),
        ("span_count", {}, True),
        ("span_count", {"min_spans": 5, "max_spans": 9}, {"spans": ">= 5, <= 9"}),
        ("span_count", {"min_spans": 5, "max_spans": 3}, False),
        ("string_attribute", {"key": "k", "values": ["a"]}, {"attribute": {"k": "a"}}),
        ("string_attribute", {"key": "k", "values": ["a", "", "b"]}, {"attribute": {"k": ["a", "b"]}}),
        ("string_attribute", {"key": "k", "values": ["a"], "invert_match": True}, {"not": {"attribute": {"k": "a"}}}),
        ("string_attribute", {"key": "k", "values": []}, False),
        ("string_attribute", {"key": "k", "values": [""], "invert_match": True}, True),
        ("string_attribute", {"key": "k", "values": ["a*"]}, 'attributes["k"] == "a*" or resource.attributes["k"] == "a*"'),
        ("boolean_attribute", {"key": "k", "value": True}, {"attribute": {"k": True}}),
        ("probabilistic", {"sampling_percentage": 0}, False),
        ("probabilistic", {"sampling_percentage": 250}, True),
        ("and", {}, True),
        ("drop", {}, True),
        ("not", {"not_sub_policy": FAILED}, {"not": {"status": "error"}}),
        ("and", {"and_sub_policy": [FAILED, member("latency", threshold_ms=9)]}, {"all": [{"status": "error"}, {"latency": ">= 10ms"}]}),
        ("and", {"and_sub_policy": [FAILED, member("span_count", min_spans=2, max_spans=1)]}, False),
        ("ottl_condition", {"span": ['name == "a"'], "spanevent": ['name == "b"']}, {"any": ['name == "a"', 'spanevent.name == "b"']}),
    ],
)  # fmt: skip
def test_conditions(type: str, keys: dict[str, Any], expected: Any) -> None:
    assert when(type, **keys) == expected


def test_a_share_becomes_a_rate() -> None:
    assert translated("probabilistic", sampling_percentage=10).plain == {"name": "p", "keep": 0.1}
    both = translated("and", and_sub_policy=[CHOSEN, FAILED])
    assert both.plain == {"name": "p", "keep": 0.1, "when": {"status": "error"}}
    others = translated("not", not_sub_policy=CHOSEN)
    assert others.plain == {"name": "p", "keep": 0.9}
    for each in (both, others):
        assert "Differs: the share is the same, but other traces are chosen" in " ".join(each.remarks)


def test_a_drop_by_chance_cannot_be_said() -> None:
    assert translated("drop", drop_sub_policy=[FAILED]).plain == {
        "name": "p",
        "drop": True,
        "when": {"status": "error"},
    }
    by_chance = translated("drop", drop_sub_policy=[FAILED, CHOSEN])
    assert by_chance.when is False
    assert "our `drop` has no rate" in " ".join(by_chance.remarks)


@pytest.mark.parametrize(
    ("type", "keys", "words"),
    [
        ("latency", {"upper_threshold_ms": 5}, "Differs: the duration of the whole trace"),
        ("ottl_condition", {"span": ["true"], "error_mode": "propagate"}, "Differs: a condition that fails"),
        ("latency", {}, "every trace that lasts 1 ms"),
        ("drop", {}, "every trace is dropped"),
        ("and", {"and_sub_policy": [CHOSEN, CHOSEN]}, "the lowest share"),
        ("string_attribute", {"key": "k", "values": [".*"], "enabled_regex_matching": True}, "matches an empty text"),
        ("numeric_attribute", {"key": "k", "min_value": 500}, 'attribute: {"k": ">= 500"}'),
    ],
)
def test_what_surprises_or_differs_is_told(type: str, keys: dict[str, Any], words: str) -> None:
    assert words in remarks(type, **keys)


def test_names_that_ours_cannot_be_are_changed_and_stay_distinct() -> None:
    names = ["a:b", "a-b", "none", "x" * 70, "x" * 80, " y ", "a\nb", "a: b\n\n\tc", "\u2028"]
    section = {"policies": [{"name": name, "type": "always_sample"} for name in names]}
    made = [each.name for each in translate(read(section))]
    assert len(set(made)) == len(made)
    assert all(
        name.isprintable() and ":" not in name and len(name) <= 64 and name == name.strip() and name != "none"
        for name in made
    )


def test_joining() -> None:
    assert all_of([]) is True and any_of([]) is False
    assert all_of([True, "a"]) == any_of([False, "a"]) == "a"
    assert all_of(["a", False]) is False and any_of(["a", True]) is True
    assert opposite(opposite("a")) == "a" and opposite(True) is False
