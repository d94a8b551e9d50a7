"""The values that policies need beyond a trace's summary: attributes and a few fields, looked up during the scan."""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from hashlib import sha256

import attrs

Value = str | bool | int | float | bytes
"""A value of OTLP's AnyValue. Arrays and maps are their serialized message, which only shows that they are present."""

Values = tuple[tuple[Value, ...], ...]

MAX_VALUES = 64  # for one ask in one trace; a key with more distinct values does not describe a trace


class Location(enum.Enum):
    """The part of a span from which a value is taken."""

    SPAN = "span"  # an attribute of a span
    RESOURCE = "resource"  # an attribute of the resource of a span
    SCOPE = "scope"  # an attribute of the instrumentation scope of a span
    NAME = "name"  # the span's name; this and the next three have no key
    KIND = "kind"  # its kind, an int
    STATUS = "status"  # its status code, an int
    TRACE_STATE = "trace_state"  # its W3C trace state, unchanged


@attrs.frozen
class Ask:
    """One value to look up. ``key`` is the key of an attribute."""

    location: Location
    key: str = ""


@attrs.frozen
class Lookup:
    """All asks, without repetitions. A trace's values are in the same order."""

    asks: tuple[Ask, ...] = ()

    @classmethod
    def of(cls, asks: Sequence[Ask]) -> Lookup:
        """The lookup of these asks, without repetitions."""
        return cls(tuple(dict.fromkeys(asks)))

    @property
    def fingerprint(self) -> str:
        """A hash of the asks in 16 hexadecimal digits. Stored values carry it, since the settings may have changed when they
        are read."""
        told = json.dumps([[ask.location.value, ask.key] for ask in self.asks], separators=(",", ":"))
        return sha256(told.encode()).hexdigest()[:16]


NOTHING = Lookup()


def merge(one: Values, other: Values) -> Values:
    """The distinct values of both, which must come from the same lookup. An empty tuple means that there are no values."""
    if not one:
        return other
    if not other:
        return one
    return tuple(_merged(mine, theirs) for mine, theirs in zip(one, other, strict=True))


def _merged(mine: tuple[Value, ...], theirs: tuple[Value, ...]) -> tuple[Value, ...]:
    """The distinct values of one ask. True, 1 and 1.0 differ, since they are three types in OTLP. 0.0 and -0.0 differ. All
    NaN are one value."""
    found = {(type(value), repr(value) if isinstance(value, float) else value): value for value in (*mine, *theirs)}
    return tuple(found.values())[:MAX_VALUES]
