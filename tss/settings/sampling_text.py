"""The `sampling` section as a text of its own: read, written, and named by a fingerprint."""

import json
from collections.abc import Mapping
from typing import Any

from tss.core.conditions.statement import told
from tss.core.ruleset import fingerprint_of as named
from tss.settings.checks.sampling import conflicts
from tss.settings.document import parse
from tss.settings.errors import InvalidValue, Notes, SettingsError, shape, shown
from tss.settings.keys import camel
from tss.settings.reading import section_of
from tss.settings.sections.sampling import Sampling
from tss.settings.writing import keys_of

MOST_BYTES = 1 << 20
FIXED = ("weights",)
"""Keys that decide nothing: a text does not have them."""
_ALLOWED = "the content of a sampling section, as YAML or JSON"
_RESTART = "as the daemon was started; change the settings and restart for another value"


def sampling_of(text: str, started: Sampling | None = None) -> Sampling:
    """The section in this text. Raises SettingsError with all that is wrong, by paths such as `sampling.policies[0].keep`.

    ``started``: the section of the running daemon, which has the keys that only a restart can change. The text may leave
    these out, and may not change them, nor the waits of a Collector's section.
    """
    notes = Notes()
    found = _read(text, started, notes)
    if found is not None:
        for conflict in conflicts(found):
            if notes.valid(*conflict.keys):
                notes.add(conflict.keys[0], conflict.found, conflict.allowed, conflict.hint)
        if started is not None and not notes.errors:
            _refuse_fixed(found, started, notes)
    if notes.errors or found is None:
        raise SettingsError(tuple(notes.errors), "the text")
    return found


def _read(text: str, started: Sampling | None, notes: Notes) -> Sampling | None:
    if len(text) > MOST_BYTES:
        notes.add("sampling", f"a text of {len(text):,} letters", f"up to {MOST_BYTES:,}")
        return None
    try:
        value, double_keys = parse(text)
    except InvalidValue as refused:
        error = refused.errors[0]
        notes.add("sampling", error.found, _ALLOWED, error.hint)
        return None
    for double in double_keys:
        notes.add(f"sampling.{double.path}", double.found, double.allowed)
    if not isinstance(value, dict):
        notes.add("sampling", "an empty text" if value is None else shape(value), _ALLOWED)
        return None
    if set(value) == {"sampling"}:
        notes.add("sampling", "the name of the section", _ALLOWED, "write only what stands below `sampling:`")
        return None
    keys: dict[object, object] = {}
    if started is not None:
        keys |= {camel(name): getattr(started, name) for name in FIXED}
    return section_of(Sampling, keys | value, "sampling", notes)


def _refuse_fixed(found: Sampling, started: Sampling, notes: Notes) -> None:
    for name in FIXED:
        value, before = getattr(found, name), getattr(started, name)
        if value != before:
            notes.add(f"sampling.{camel(name)}", shown(value), f"{shown(before)}, {_RESTART}")
    if _waits(found) != _waits(started):
        notes.add(
            "sampling.otelTailSampling",
            "other waits or another maximum size of a trace",
            f"the same decision_wait, decision_wait_after_root_received and maximum_trace_size_bytes, {_RESTART}",
        )


def _waits(sampling: Sampling) -> tuple[int, int, int]:
    plan = sampling.plan
    return (0, 0, 0) if plan is None else (plan.decision_wait_ms, plan.root_wait_ms, plan.max_trace_bytes)


def text_of(sampling: Sampling) -> str:
    """The section as JSON, with all keys that decide. `sampling_of` reads it back."""
    keys = {name: value for name, value in keys_of(sampling).items() if name not in map(camel, FIXED)}
    return _json(keys)


def fingerprint_of(sampling: Sampling) -> str:
    """Names what the section decides: sections that decide the same have one fingerprint, however they are written."""
    return named(_json(_meaning(canonical(sampling))))


def canonical(sampling: Sampling) -> Sampling:
    """The same section with the keys of each condition in one order: a program asks in that order."""
    return sampling_of(text_of(sampling), sampling)


def _meaning(sampling: Sampling) -> Mapping[str, Any]:
    if sampling.otel_tail_sampling is not None:
        gates = sorted(sampling.plan.gates) if sampling.plan else []
        return {"otel": sampling.otel_tail_sampling, "version": sampling.otel_version, "gates": gates}
    policies = [[each.name, each.keep, each.shadow, told(each.statement)] for each in sampling.policies]
    slow = {"latencyThresholdMs": sampling.latency_threshold_ms} if sampling.sample_latency else {}
    return {"combine": sampling.combine, "policies": policies, "rates": sampling.guides, **slow}


def _json(value: object) -> str:
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _plain(value: object) -> object:
    """The value with keys that are texts, and whole numbers without a fraction, so that equal values are written equally."""
    match value:
        case dict():
            return {str(name): _plain(entry) for name, entry in value.items()}
        case list() | tuple():
            return [_plain(entry) for entry in value]
        case float() if value.is_integer():
            return int(value)
    return value
