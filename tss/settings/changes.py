"""What differs between the settings of the start and those that the file has now."""

from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from tss.settings.keys import camel
from tss.settings.model import Settings
from tss.settings.sampling_text import FIXED

LIVE = frozenset({"sampling", "observability.logLevel"})
"""What changes while the daemon runs; all else needs a restart, and so does what a text of policies does not have."""


def changed_keys(before: Settings, after: Settings) -> Sequence[str]:
    """The keys whose values differ and that need a restart, by path. Values are not shown: they may be secrets."""
    fixed = {f"sampling.{camel(name)}" for name in FIXED}
    return [key for key in _changed(before, after, "") if key in fixed or not any(_below(key, live) for live in LIVE)]


def _changed(before: Any, after: Any, at: str) -> Iterator[str]:
    if before == after:
        return
    if not attrs.has(type(before)) or type(before) is not type(after):
        yield at
        return
    for field in attrs.fields(type(before)):
        path = f"{at}.{camel(field.name)}" if at else camel(field.name)
        yield from _changed(getattr(before, field.name), getattr(after, field.name), path)


def _below(key: str, live: str) -> bool:
    return key == live or key.startswith(f"{live}.")
