"""What `tss check` says of policies: each in words, and those that do nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tss.commands.check_summary import differences, in_force
from tss.commands.check_warnings import warnings
from tss.settings import Settings, load

REST = {"name": "rest", "keep": 0.01}
ERRORS = {"name": "errors", "keep": 1, "when": {"status": "error"}}


def settings_with(directory: Path, *policies: dict[str, Any], **sampling: Any) -> Settings:
    file = directory / "tss.yaml"
    exporters = [{"name": "f", "type": "file", "path": "p"}]
    section = {"policies": [*policies]} | sampling
    file.write_text(
        yaml.dump({"kafka": {"brokers": "k:9092"}, "exporters": exporters, "sampling": section}, sort_keys=False)
    )
    return load(str(file), {})


def warned(settings: Settings) -> dict[str, str]:
    return {each.key: each.text for each in warnings(settings) if each.key.startswith("sampling")}


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        ({"keep": 0.5}, "p: keeps 50 % of all traces"),
        ({"drop": True, "when": 'name == "a"\n  or kind == 2'}, 'p: drops traces where name == "a" or kind == 2'),
        (
            {"keep": 1, "when": {"service": ["a", "b*"], "status": "error", "latency": "> 2s"}},
            "p: keeps 100 % of traces with a span of service a or b* with status error and that last > 2s",
        ),
        (
            {"keep": 0.005, "mode": "shadow", "when": {"attribute": {"tier": True, "n": [*range(9)]}}},
            "p (shadow: only counted): keeps 0.5 % of traces with a span with attribute tier true and n 0 or 1 or 2 or 3 or 5 more",
        ),
        (
            {"keep": 1, "when": {"any": [{"spans": ">= 9"}, {"all": [{"route": "/a"}, {"not": 'name == "b"'}]}]}},
            'p: keeps 100 % of traces (with >= 9 spans or (with a span on route /a and other than those where name == "b"))',
        ),
        (
            {"keep": 1, "when": {"attribute": {"a": "5", "b": 5, "c": "true", "d": "x"}}},
            "p: keeps 100 % of traces with a span with attribute a '5' and b 5 and c 'true' and d x",
        ),
        ({"keep": 1, "when": {"not": {"not": {"service": "a"}}}}, "p: keeps 100 % of traces with a span of service a"),
    ],
)
def test_each_policy_is_said_in_words(policy: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    assert in_force(settings_with(tmp_path, {"name": "p"} | policy))["Keeps"][0] == sentence


def test_how_they_are_combined_and_which_of_the_guides_are_off(tmp_path: Path) -> None:
    said = in_force(settings_with(tmp_path, ERRORS, REST))["Keeps"]
    assert said[2:] == [
        "of the policies that match a trace, one that drops wins, else the highest share decides",
        "off, because there are policies: errors and latency",
    ]
    said = in_force(settings_with(tmp_path, REST, combine="first", alwaysSampleErrors=True))["Keeps"]
    assert said == [
        "rest: keeps 1 % of all traces",
        "of the policies that match a trace, the first in this order decides",
        "off, because there are policies: latency",
        "100 % of the traces with an error (errors)",
    ]


def test_policies_are_one_difference_from_the_defaults(tmp_path: Path) -> None:
    assert [str(each) for each in differences(settings_with(tmp_path, ERRORS, REST))] == [
        "sampling.policies: 2 policies, see above (default: empty)"
    ]


@pytest.mark.parametrize(
    ("policies", "sampling", "key", "words"),
    [
        ([ERRORS | {"when": "name == 5"}, REST], {}, "sampling.policies[0].when", "no trace ever fits"),
        (
            [ERRORS | {"when": 'name == "a" and name == "b"'}, REST],
            {},
            "sampling.policies[0].when",
            "no trace ever fits",
        ),
        (
            [ERRORS | {"when": {"all": [{"latency": "> 5s"}, {"latency": "< 1s"}]}}, REST],
            {},
            "sampling.policies[0].when",
            "no trace ever fits",
        ),
        ([ERRORS | {"when": "trace.spans < 0"}, REST], {}, "sampling.policies[0].when", "no trace ever fits"),
        (
            [ERRORS | {"when": 'attributes["a"] == attributes["b"]'}, REST],
            {},
            "sampling.policies[0].when",
            "which is slow",
        ),
        ([REST, ERRORS], {"combine": "first"}, "sampling.policies[1]", "rest stands before it"),
        (
            [ERRORS, ERRORS | {"name": "again"}, REST],
            {"combine": "first"},
            "sampling.policies[1]",
            "the same condition",
        ),
        ([ERRORS | {"keep": 0.001}, REST], {}, "sampling.policies[0]", "the highest rate wins"),
        ([ERRORS, ERRORS | {"name": "less", "keep": 0.5}, REST], {}, "sampling.policies[1]", "errors keeps 100 %"),
        (
            [ERRORS, {"name": "no", "drop": True, "when": {"status": "error"}}, REST],
            {},
            "sampling.policies[0]",
            "a drop wins",
        ),
        ([ERRORS, {"name": "no", "drop": True}], {}, "sampling.policies", "every trace is dropped"),
        ([ERRORS, REST | {"keep": 1}], {}, "sampling.policies", "every trace is kept"),
        ([ERRORS], {}, "sampling.policies", "nothing healthy"),
        ([REST | {"keep": 0}], {}, "sampling.policies", "no trace is kept"),
        ([ERRORS, REST], {"errorSampleRate": 0.5}, "sampling.errorSampleRate", "no effect"),
    ],
)
def test_a_policy_that_does_nothing_is_warned_about(
    policies: list[dict[str, Any]], sampling: dict[str, Any], key: str, words: str, tmp_path: Path
) -> None:
    assert words in warned(settings_with(tmp_path, *policies, **sampling))[key]


@pytest.mark.parametrize(
    ("policies", "sampling"),
    [
        ([ERRORS, REST], {}),
        ([REST, ERRORS], {}),
        ([ERRORS, REST], {"combine": "first"}),
        ([ERRORS | {"mode": "shadow"}, ERRORS | {"name": "b"}, REST], {"combine": "first"}),
        ([REST | {"mode": "shadow", "keep": 1}, ERRORS | {"keep": 0.5}, REST | {"name": "base"}], {}),
        ([ERRORS], {"defaultSampleRate": 0.01}),
        ([ERRORS | {"when": 'attributes["a"] != nil and attributes["a"] == attributes["b"]'}, REST], {}),
    ],
)
def test_what_is_sound_is_not_warned_about(
    policies: list[dict[str, Any]], sampling: dict[str, Any], tmp_path: Path
) -> None:
    assert warned(settings_with(tmp_path, *policies, **sampling)) == {}
