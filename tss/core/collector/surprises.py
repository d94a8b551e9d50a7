"""Where a section does not do what it seems to say. Each place gets a note: `tss check` and `tss import` show them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tss.core.collector.keys import nearest, shown
from tss.core.collector.section import BLOCKS, NESTED, WITHOUT_BLOCK, Policy, Section
from tss.core.collector.wrong import Findings
from tss.core.patterns import expression

_NO_EFFECT = "no effect here: "


def note_surprises(section: Section, found: Findings) -> None:
    """Add the notes of a section that is valid."""
    _note_settings(section, found)
    if not section.policies:
        found.note("policies", "there are no policies, so no trace is kept")
    for policy in section.policies:
        _note_policy(policy, found)
    _note_overruled(section, found)


def _note_settings(section: Section, found: Findings) -> None:
    """Settings that have no effect, or another one than it seems."""
    if section.num_traces != 50_000:
        found.note("num_traces", f"{_NO_EFFECT}open traces are limited by app.maxBufferBytes and app.maxBufferTraces")
    if section.block_on_overflow:
        text = "reading stops when memory is short. The Collector hangs at num_traces if it has no decision_cache"
        found.note("block_on_overflow", f"{_NO_EFFECT}{text}")
    if section.expected_new_traces_per_sec:
        found.note("expected_new_traces_per_sec", f"{_NO_EFFECT}memory is not reserved in advance")
    cache = section.decision_cache
    if cache.sampled_cache_size or cache.non_sampled_cache_size:
        found.note("decision_cache", f"{_NO_EFFECT}decisions are remembered for app.decisionMemorySecs")
    if section.drop_pending_traces_on_shutdown:
        text = "a trace that is open at a stop is read again after the next start, and then decided"
        found.note("drop_pending_traces_on_shutdown", f"{_NO_EFFECT}{text}")
    if section.num_shards > 1:
        found.note("num_shards", f"{_NO_EFFECT}partitions and replicas share the work")
    if section.sample_on_first_match:
        found.note(
            "sample_on_first_match", "it changes no verdict: with it and without it, one policy that samples is enough"
        )
    wait, after_root = section.decision_wait, section.decision_wait_after_root_received
    if wait < 10**9:
        found.note("decision_wait", "less than 1 s is 1 s, because traces are closed once a second")
    if after_root >= max(wait, 10**9):
        found.note("decision_wait_after_root_received", "it is not shorter than decision_wait, so it has no effect")


# ---- policies


def _note_policy(policy: Policy, found: Findings) -> None:
    for name in policy.swallowed:
        guess = nearest(name, [*BLOCKS, *NESTED])
        text = (
            f"the Collector ignores this block silently, as if it were of an extension{f'; {guess}' if guess else ''}"
        )
        found.note(f"{policy.path}.{name}", text)
    for name in policy.blocks:
        if name != policy.type:
            found.note(f"{policy.path}.{name}", f"this block is ignored, because the type is {policy.type}")
    if policy.type not in WITHOUT_BLOCK and policy.type not in policy.blocks:
        found.note(policy.path, f"the block {policy.type} is missing, so all its keys have their defaults")
    about = _ABOUT.get(policy.type)
    if about is not None:
        about(policy.own, f"{policy.path}.{policy.type}", found)


def _latency(own: Any, path: str, found: Findings) -> None:
    if not own.threshold_ms:
        found.note(path, "threshold_ms is 0: every trace that lasts 1 ms or longer matches")
    elif own.threshold_ms > 0:
        least = own.threshold_ms + 1
        text = (
            f"whole milliseconds are compared: a trace matches from {least} ms on, and {least - 1}.9 ms does not match"
        )
        found.note(f"{path}.threshold_ms", text, minor=True)
    if own.upper_threshold_ms:
        text = (
            "the order of the spans decides: the duration is looked at after each span, so a longer trace matches too if its "
            "first spans are within the bounds"
        )
        found.note(f"{path}.upper_threshold_ms", text)
        if own.upper_threshold_ms <= own.threshold_ms:
            found.note(path, "upper_threshold_ms is not above threshold_ms, so no trace matches")


def _numeric(own: Any, path: str, found: Findings) -> None:
    if (own.min_value or -1) <= 0 <= (own.max_value or 1):
        text = "an attribute that is no whole number (a text, a double, true) is read as 0, which is within the bounds"
        found.note(path, text)
    if own.min_value and own.max_value and own.min_value > own.max_value:
        found.note(path, "min_value is above max_value, so no value is within the bounds")
    _either(own, path, found)


def _string(own: Any, path: str, found: Findings) -> None:
    if not own.enabled_regex_matching:
        if "" in own.values:
            found.note(f"{path}.values", "an empty text is ignored, and never matches")
        if not any(own.values):
            found.note(f"{path}.values", "there is no value, so nothing matches")
    else:
        _expressions(own, path, found)
    _either(own, path, found)


def _expressions(own: Any, path: str, found: Findings) -> None:
    if not own.values:
        found.note(f"{path}.values", "there is no expression, so nothing matches")
    for place, pattern in enumerate(own.values):
        if expression(pattern).search("") is not None:
            text = (
                f"{shown(pattern)} matches an empty text: it also matches a resource's attribute that is no text, because that "
                "is read as empty. A span's attribute that is no text or empty never matches"
            )
            found.note(f"{path}.values[{place}]", text)


def _boolean(own: Any, path: str, found: Findings) -> None:
    if not own.value:
        found.note(
            f"{path}.value", "an attribute that is no truth value (a text, a number) is read as false, and matches"
        )
    _either(own, path, found)


def _either(own: Any, path: str, found: Findings) -> None:
    if not own.key:
        found.note(f"{path}.key", "there is no key, so the attribute with an empty name is looked at")
    if own.invert_match:
        text = (
            "a trace matches if no span and no resource of it has such a value; a trace without the attribute matches"
        )
        found.note(f"{path}.invert_match", text, minor=True)


def _spans(own: Any, path: str, found: Findings) -> None:
    if own.min_spans <= 1 and not own.max_spans:
        found.note(path, "every trace matches: it has at least one span")
    if own.max_spans and own.max_spans < own.min_spans:
        found.note(path, "max_spans is below min_spans, so no trace matches")


def _state(own: Any, path: str, found: Findings) -> None:
    room = 256 - len(own.key.encode())
    if not any(each and len(each.encode()) < room for each in own.values):
        found.note(f"{path}.values", "no value can occur in a trace state, so nothing matches")


def _ottl(own: Any, path: str, found: Findings) -> None:
    if not own.error_mode:
        text = "error_mode is unset, which is silent: a condition that fails counts as false, and nobody is told"
        found.note(path, text)
    elif own.error_mode == "propagate":
        text = "the first condition that fails ends this policy, and then it has no vote, whatever later spans say"
        found.note(f"{path}.error_mode", text)


def _probabilistic(own: Any, path: str, found: Findings) -> None:
    if own.sampling_percentage <= 0:
        found.note(f"{path}.sampling_percentage", "0 %: no trace is chosen")
    elif own.sampling_percentage < 1:
        text = f"this is in percent: {own.sampling_percentage:g} % of the traces are chosen"
        found.note(f"{path}.sampling_percentage", text, minor=True)


def _and(own: Any, path: str, found: Findings) -> None:
    if not own.and_sub_policy:
        found.note(path, "and_sub_policy is empty: every trace matches")
    for member in own.and_sub_policy:
        _note_policy(member, found)


def _drop(own: Any, path: str, found: Findings) -> None:
    if not own.drop_sub_policy:
        found.note(path, "drop_sub_policy is empty: every trace is dropped, whatever the other policies say")
    for member in own.drop_sub_policy:
        _note_policy(member, found)


def _not(own: Any, _path: str, found: Findings) -> None:
    _note_policy(own.not_sub_policy, found)


_ABOUT: Mapping[str, Callable[[Any, str, Findings], None]] = {
    "latency": _latency,
    "numeric_attribute": _numeric,
    "string_attribute": _string,
    "boolean_attribute": _boolean,
    "span_count": _spans,
    "trace_state": _state,
    "ottl_condition": _ottl,
    "probabilistic": _probabilistic,
    "and": _and,
    "drop": _drop,
    "not": _not,
}


def _note_overruled(section: Section, found: Findings) -> None:
    """A policy that samples every trace makes the others useless, except those that drop."""
    for policy in section.policies:
        empty_and = policy.type == "and" and not policy.own.and_sub_policy
        if (policy.type == "always_sample" or empty_and) and len(section.policies) > 1:
            text = "this policy samples every trace, so only policies of type drop can still drop one"
            found.note(policy.path, text)
            return
