"""For `tss check`: the policies of `sampling.policies` as sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tss.commands.units import share
from tss.settings import PolicySetting, Sampling

_LOOKS_TYPED = re.compile(r"(?i)[-+]?[0-9.]+(e[-+]?[0-9]+)?|true|false")
_OF_SPAN = ("service", "route", "status", "attribute")


def sentences(sampling: Sampling) -> Iterator[str]:
    """One for each policy, in the order of the settings, and how they are combined."""
    for policy in sampling.policies:
        shadow = " (shadow: only counted)" if policy.shadow else ""
        yield f"{policy.name}{shadow}: {_says(policy)}"
    if len(sampling.in_force) > 1:
        if sampling.combine == "first":
            yield "of the policies that match a trace, the first in this order decides"
        else:
            yield "of the policies that match a trace, one that drops wins, else the highest share decides"
    off = [
        name for name, on in (("errors", sampling.always_sample_errors), ("latency", sampling.sample_latency)) if not on
    ]
    if off:
        yield f"off, because there are policies: {' and '.join(off)}"


def _says(policy: PolicySetting) -> str:
    which = "all traces" if policy.when is None else f"traces {words(policy.when)}"
    verb = "drops" if policy.keep is None else f"keeps {share(policy.keep)} of"
    return f"{verb} {which}"


def words(when: object) -> str:
    """What follows after "traces"."""
    if not isinstance(when, Mapping):
        return f"where {' '.join(str(when).split())}"
    parts = [_span_words(when)] if when.keys() & set(_OF_SPAN) else []
    if "latency" in when:
        parts.append(f"that last {when['latency']}")
    if "spans" in when:
        parts.append(f"with {when['spans']} spans")
    if "any" in when:
        parts.append(_joined(when["any"], "or"))
    if "all" in when:
        parts.append(_joined(when["all"], "and"))
    if "not" in when:
        parts.append(_denied(when["not"]))
    return " and ".join(parts)


def _denied(when: object) -> str:
    if isinstance(when, Mapping) and [*when] == ["not"]:
        return words(when["not"])
    return f"other than those {words(when)}"


def _joined(entries: list[Any], conjunction: str) -> str:
    told = [words(entry) for entry in entries]
    return told[0] if len(told) == 1 else f"({f' {conjunction} '.join(told)})"


def _span_words(when: Mapping[str, Any]) -> str:
    parts = []
    if "service" in when:
        parts.append(f"of service {_values(when['service'])}")
    if "route" in when:
        parts.append(f"on route {_values(when['route'])}")
    if "status" in when:
        parts.append(f"with status {_values(when['status'])}")
    if "attribute" in when:
        told = " and ".join(f"{key} {_values(value)}" for key, value in when["attribute"].items())
        parts.append(f"with attribute {told}")
    return f"with a span {' '.join(parts)}"


def _values(raw: object) -> str:
    """All values, as far as a line holds them."""
    told = [_value(each) for each in (raw if isinstance(raw, list) else [raw])]
    shown = told if len(told) <= _SHOWN else [*told[: _SHOWN - 1], f"{len(told) - _SHOWN + 1} more"]
    return " or ".join(shown)


def _value(raw: object) -> str:
    """A value as YAML has it: a text that looks like a number or a truth is in quotes, because types are strict."""
    if isinstance(raw, bool):
        return str(raw).lower()
    return f"'{raw}'" if isinstance(raw, str) and _LOOKS_TYPED.fullmatch(raw) else str(raw)


_SHOWN = 5  # values of one list
