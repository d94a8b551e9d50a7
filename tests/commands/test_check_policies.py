"""What `tss check` says of policies: each in words, and those that do nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.oracles.making import cases
from tss.commands.check_summary import differences, in_force
from tss.commands.check_warnings import warnings
from tss.commands.collector_words import words
from tss.core.collector import WrongSection, read
from tss.core.collector.translation import translate
from tss.settings import Settings, load

REST = {"name": "rest", "keep": 0.01}
ERRORS = {"name": "errors", "keep": 1, "when": {"status": "error"}}


def settings_with(directory: Path, *policies: dict[str, Any], **sampling: Any) -> Settings:
    file = directory / "tss.yaml"
    exporters = [{"name": "f", "type": "file", "path": "p"}]
    section = ({"policies": [*policies]} if policies else {}) | sampling
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
        ([ERRORS | {"when": 'kind == "x"'}, REST], {}, "sampling.policies[0].when", "such as SPAN_KIND_SERVER"),
        (
            [ERRORS | {"when": {"any": [{"not": "duration > 5"}]}}, REST],
            {},
            "sampling.policies[0].when",
            "`duration > 5` never holds",
        ),
        (
            [ERRORS | {"when": {"route": ["/a", "^/api/.*$"]}}, REST],
            {},
            "sampling.policies[0].when",
            "looks like a regular expression",
        ),
        (
            [ERRORS | {"when": {"attribute": {"url": "/api/[0-9]+"}}}, REST],
            {},
            "sampling.policies[0].when",
            "looks like a regular",
        ),
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
        ([ERRORS, REST | {"keep": 1}], {}, "sampling.policies", "rest keeps all; give it a `when`"),
        (
            [ERRORS, REST | {"keep": 1, "when": "true == true"}],
            {},
            "sampling.policies",
            "its `when` is true of every trace",
        ),
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
        (
            [
                ERRORS
                | {
                    "when": {
                        "service": ["com.acme.*", "a+b", "c++"],
                        "route": "/pay/{id}",
                        "attribute": {"url": "/a?b=c$d"},
                    }
                },
                REST,
            ],
            {},
        ),
    ],
)
def test_what_is_sound_is_not_warned_about(
    policies: list[dict[str, Any]], sampling: dict[str, Any], tmp_path: Path
) -> None:
    assert warned(settings_with(tmp_path, *policies, **sampling)) == {}


# ---- a Collector's section

TIER = {"key": "customer.tier", "values": ["gold", "plat.*"], "enabled_regex_matching": True}


def member(type: str, **keys: Any) -> dict[str, Any]:
    return {"name": "p", "type": type, **({type: keys} if type not in {"always_sample", "trace_flags"} else {})}


FAILED, CHANCE = member("status_code", status_codes=["ERROR"]), member("probabilistic", sampling_percentage=10)


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        (member("always_sample"), "samples all traces"),
        (member("trace_flags"), "samples traces with a span whose flags have the bit sampled"),
        (member("latency", threshold_ms=5000), "samples traces that last more than 5000 ms"),
        (member("latency", threshold_ms=5, upper_threshold_ms=9), "samples traces that last more than 5 ms and at most 9 ms"),
        (member("latency", threshold_ms=-5), "samples all traces"),
        (member("latency", threshold_ms=9, upper_threshold_ms=5), "samples no trace"),
        (member("status_code", status_codes=["ERROR", "UNSET"]), "samples traces with a span of status ERROR or UNSET"),
        (CHANCE, "samples 10 % of all traces"),
        (member("probabilistic", sampling_percentage=0), "samples no trace"),
        (member("span_count", min_spans=3), "samples traces with 3 spans or more"),
        (member("span_count", min_spans=3, max_spans=9), "samples traces with 3 to 9 spans"),
        (member("span_count", max_spans=9), "samples traces with at most 9 spans"),
        (member("span_count", min_spans=3, max_spans=2), "samples no trace"),
        (
            member("numeric_attribute", key="n", min_value=500, max_value=599),
            "samples traces with a span or resource whose attribute n is 500 to 599",
        ),
        (
            member("numeric_attribute", key="n", max_value=5, invert_match=True),
            "samples traces without a span or resource whose attribute n is 5 or less",
        ),
        (member("numeric_attribute", key="n", min_value=9, max_value=5), "samples no trace"),
        (member("boolean_attribute", key="b", value=True), "samples traces with a span or resource whose attribute b is true"),
        (
            member("string_attribute", **TIER),
            "samples traces with a span or resource whose attribute customer.tier matches `gold` or `plat.*`",
        ),
        (
            member("string_attribute", key="k", values=["5", ""]),
            "samples traces with a span or resource whose attribute k is `5`",
        ),
        (member("string_attribute", key="k", values=[]), "samples no trace"),
        (member("trace_state", key="k", values=["a", "b"]), "samples traces with a span whose trace state has k with `a` or `b`"),
        (
            member("ottl_condition", span=['name == "a" or\n  kind == 2', "true"], spanevent=['name == "b"']),
            'samples traces with a span where `name == "a" or kind == 2` or `true`, or with a span event where `name == "b"`',
        ),
        (
            member("and", and_sub_policy=[member("string_attribute", **TIER), member("latency", threshold_ms=9), member("not", not_sub_policy=FAILED), CHANCE]),
            "samples 10 % of traces with a span or resource whose attribute customer.tier matches `gold` or `plat.*`, and that last more than 9 ms, and other than those with a span of status ERROR",
        ),
        (member("and", and_sub_policy=[FAILED, member("span_count", max_spans=-1)]), "samples no trace"),
        (member("and"), "samples all traces"),
        (member("not", not_sub_policy=CHANCE), "samples 90 % of all traces"),
        (member("not", not_sub_policy=member("always_sample")), "samples no trace"),
        (member("drop", drop_sub_policy=[FAILED]), "drops traces with a span of status ERROR"),
        (member("drop", drop_sub_policy=[FAILED, CHANCE]), "drops 10 % of traces with a span of status ERROR"),
    ],
)  # fmt: skip
def test_each_policy_of_a_section_is_said_in_the_operators_own_texts(
    policy: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    [said] = in_force(settings_with(tmp_path, otelTailSampling={"policies": [policy]}))["Keeps"]
    assert said == f"p ({policy['type']}): {sentence}"


def test_the_words_say_no_trace_and_all_traces_where_the_translation_does(tmp_path: Path) -> None:
    """Two ways to read a section agree, at random sections."""
    agreed = set()
    for case in cases("words", 300):
        try:
            plan = read(case["config"], case["gates"])
        except WrongSection:
            continue
        for (policy, _), translated in zip(plan.votes, translate(plan), strict=True):
            if policy.type == "drop" and translated.when is False:  # by chance, which only the words can say
                continue
            told = words(policy)
            assert (told is None, told == "") == (translated.when is False, translated.when is True), policy
            agreed.add("none" if told is None else told and "some")
    assert agreed == {"none", "some", ""}
