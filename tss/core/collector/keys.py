"""Reads the values of a section as strictly as the Collector's own decoder.

Source: `confmap` v1.67 with `mapstructure` v2.5, read in their code and asked of the running processor. In short: unknown keys
are refused, texts for numbers are refused, and numbers for texts. A number with a fraction loses it where a whole one is
expected. A text becomes a list, split at commas. null gives zero for a number, a text or a truth value, and nothing otherwise.
"""

from __future__ import annotations

import difflib
import math
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar, cast

import attrs

from tss.core.collector.golang import duration_ns, whole, wrapped
from tss.core.collector.wrong import Findings

T = TypeVar("T")
_KIND = "kind"
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


class Kind(Protocol):
    """Reads one value. If it is refused, the finding is added, and a value that is never used is returned."""

    def __call__(self, raw: object, path: str, found: Findings) -> Any: ...


def given(kind: Kind, default: object = None) -> Any:
    """A key of a block, as a field of its class. The default stands where the key is absent."""
    return attrs.field(default=default, metadata={_KIND: kind})


def shown(raw: object) -> str:
    """A value on one line."""
    match raw:
        case None:
            return "null"
        case bool():
            return "true" if raw else "false"
        case Mapping():
            return "a mapping"
        case list():
            return "a list"
    return _short.repr(raw)


def nearest(name: str, known: Iterable[str]) -> str:
    """ "did you mean ...?" with the known name that is probably meant, or ""."""
    close = difflib.get_close_matches(name, [*known], n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else ""


# ---- scalars


def _is_number(raw: object) -> bool:
    return isinstance(raw, int | float) and not isinstance(raw, bool)


def _number_hint(raw: object) -> str:
    if not isinstance(raw, str):
        return ""
    if "${" in raw:
        return "variables are not replaced here: write the number itself"
    try:
        float(raw)
    except ValueError:
        return ""
    return "write the number without quotes"


def integer(allowed: str, *, bits: int = 64, signed: bool = True) -> Kind:
    """A whole number. Too large ones wrap, as in Go."""

    def read(raw: object, path: str, found: Findings) -> int:
        if raw is None:
            return 0
        if not _is_number(raw):
            found.refuse(path, shown(raw), allowed, _number_hint(raw))
            return 0
        if not signed and raw < 0:  # type: ignore[operator]  # it is a number
            found.refuse(path, shown(raw), allowed)
            return 0
        cut = whole(raw) if signed or isinstance(raw, float) else int(raw)  # type: ignore[arg-type,call-overload]
        value = wrapped(cut, bits, signed=signed)
        if value != raw:
            found.note(path, f"{shown(raw)} is read as {value}, because this is a whole number of {bits} bits")
        return value

    return read


def fraction(raw: object, path: str, found: Findings) -> float:
    """A number, with or without a fraction."""
    if raw is None:
        return 0.0
    if not _is_number(raw):
        found.refuse(path, shown(raw), "a number, such as 12.5", _number_hint(raw))
        return 0.0
    number = cast(float, raw)
    try:
        value = float(number)
    except OverflowError:  # a whole number with hundreds of digits
        value = math.inf if number > 0 else -math.inf
    if math.isnan(value):
        found.refuse(path, "a value that is no number", "a number, such as 12.5", "the Collector crashes at it")
    return value


def truth(raw: object, path: str, found: Findings) -> bool:
    """true or false."""
    if raw is None:
        return False
    if not isinstance(raw, bool):
        found.refuse(path, shown(raw), "true or false")
        return False
    return raw


def text(raw: object, path: str, found: Findings) -> str:
    """A text. A number or a truth value is refused, as YAML without quotes makes them."""
    if raw is None:
        return ""
    if not isinstance(raw, str):
        hint = "" if isinstance(raw, Mapping | list) else "write it in quotes"
        found.refuse(path, shown(raw), "a text", hint)
        return ""
    if any("\ud800" <= letter <= "\udfff" for letter in raw):
        found.refuse(path, shown(raw), "a text", "it has half a character: YAML writes a whole one as \\U and 8 digits")
        return ""
    if "${" in raw:
        found.note(path, f"{shown(raw)} is taken literally: variables are not replaced here")
    return raw


def texts(raw: object, path: str, found: Findings) -> tuple[str, ...]:
    """A list of texts. A text alone is split at its commas."""
    if raw is None:
        return ()
    if isinstance(raw, str):
        split = tuple(raw.split(",")) if raw else ()
        if len(split) > 1:
            found.note(path, f"this text is split at its commas into {len(split)} entries: write a list instead")
        return tuple(text(each, path, found) for each in split)
    if not isinstance(raw, list):
        found.refuse(path, shown(raw), "a list of texts")
        return ()
    return tuple(text(each, f"{path}[{place}]", found) for place, each in enumerate(raw))


def duration(raw: object, path: str, found: Findings) -> int:
    """A duration in nanoseconds. A number without a unit is nanoseconds too."""
    if raw is None:
        found.note(path, "null is 0 here, not the default")
        return 0
    if isinstance(raw, str):
        try:
            return duration_ns(raw)
        except ValueError as error:
            found.refuse(path, shown(raw), "a duration such as 30s, 500ms or 1m30s", str(error))
            return 0
    if not _is_number(raw):
        found.refuse(path, shown(raw), "a duration such as 30s, 500ms or 1m30s")
        return 0
    value = whole(raw)  # type: ignore[arg-type]  # it is a number
    if value:
        found.note(path, f"{shown(raw)} is {value} nanoseconds, because it has no unit: {shown(raw)}s is seconds")
    return value


# ---- blocks


def known_keys(cls: type[Any]) -> dict[str, Kind]:
    """The keys of a block, with the kind of each."""
    return {field.name: field.metadata[_KIND] for field in attrs.fields(cls) if _KIND in field.metadata}


def block(cls: type[T]) -> Kind:
    """A mapping with the keys of this class, and no others."""

    def read(raw: object, path: str, found: Findings) -> T:
        return read_block(cls, raw, path, found)

    return read


def read_block(cls: type[T], raw: object, path: str, found: Findings) -> T:
    """A mapping as an object of its class. null is the block without keys."""
    if raw is None:
        return cls()
    kinds = known_keys(cls)
    if not isinstance(raw, Mapping):
        found.refuse(path, shown(raw), f"a mapping with {', '.join(kinds)}")
        return cls()
    below = f"{path}." if path else ""
    for name in raw:
        if name not in kinds:
            found.refuse(f"{below}{name}", "an unknown key", ", ".join(kinds), nearest(str(name), kinds))
    return cls(**{name: kind(raw[name], f"{below}{name}", found) for name, kind in kinds.items() if name in raw})


def list_of(kind: Kind) -> Kind:
    """A list of mappings."""

    def read(raw: object, path: str, found: Findings) -> tuple[Any, ...]:
        if raw is None:
            return ()
        if not isinstance(raw, list):
            found.refuse(path, shown(raw), "a list")
            return ()
        return tuple(kind(each, f"{path}[{place}]", found) for place, each in enumerate(raw))

    return read
