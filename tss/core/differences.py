"""What differs between two texts of policies, a line for each key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

MOST_LINES = 100
LONGEST_VALUE = 200  # characters


def differences(before: str, after: str) -> list[str]:
    """The differences of two JSON objects, in words: `policies[slow].keep: 0.1 -> 0.5`. Entries of a list are known by their
    `name`. Empty if they are equal."""
    lines = list(_between(json.loads(before), json.loads(after), ""))
    more = len(lines) - MOST_LINES
    return lines if more <= 0 else [*lines[:MOST_LINES], f"... and {more} more differences"]


def _between(before: Any, after: Any, at: str) -> Iterator[str]:
    if json.dumps(before, sort_keys=True) == json.dumps(after, sort_keys=True):  # for Python 1 is True
        return
    if isinstance(before, dict) and isinstance(after, dict):
        yield from _keys(before, after, f"{at}." if at else "")
    elif isinstance(before, list) and isinstance(after, list) and _named(before) and _named(after):
        yield from _entries(_named(before), _named(after), at)
    else:
        yield f"{at}: {_shown(before)} -> {_shown(after)}"


def _keys(before: dict[str, Any], after: dict[str, Any], at: str) -> Iterator[str]:
    for name in [*before, *(name for name in after if name not in before)]:
        if name not in after:
            yield f"{at}{name}: {_shown(before[name])} -> not set"
        elif name not in before:
            yield f"{at}{name}: not set -> {_shown(after[name])}"
        else:
            yield from _between(before[name], after[name], f"{at}{name}")


def _entries(before: dict[str, Any], after: dict[str, Any], at: str) -> Iterator[str]:
    for name, each in before.items():
        if name not in after:
            yield f"{at}[{name}]: removed: {_shown(each)}"
    for name, each in after.items():
        if name not in before:
            yield f"{at}[{name}]: added: {_shown(each)}"
        else:
            yield from _between(before[name], each, f"{at}[{name}]")
    order = [name for name in before if name in after]
    if order != [name for name in after if name in before]:
        yield f"{at}: other order: {', '.join(after)}"


def _named(entries: list[Any]) -> dict[str, Any]:
    """The entries by name; empty if they have no names, or not each a different one."""
    names = [each.get("name") if isinstance(each, dict) else None for each in entries]
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        return {}
    return dict(zip(names, entries, strict=True))  # type: ignore[arg-type]  # checked above


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."
