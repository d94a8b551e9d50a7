"""What policies ask of the spans beyond the summary: attributes and a few fields, found during the scan."""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from hashlib import sha256

import attrs

Value = str | bool | int | float | bytes
"""As in OTLP's AnyValue; arrays and maps are the bytes of their message, which only tell that they are there."""

Values = tuple[tuple[Value, ...], ...]

MAX_VALUES = 64  # of one ask in one trace; a policy that needs more asks for something that is no property of a trace


class Location(enum.Enum):
    """Where a value stands."""

    SPAN = "span"  # an attribute of a span
    RESOURCE = "resource"  # an attribute of the resource of a span
    SCOPE = "scope"  # an attribute of the instrumentation scope of a span
    NAME = "name"  # the span's name; no key, as for the next three
    KIND = "kind"  # its kind, an int
    STATUS = "status"  # its status code, an int
    TRACE_STATE = "trace_state"  # its W3C trace state, as it stands


@attrs.frozen
class Ask:
    """One thing to look up; ``key`` is the attribute's."""

    location: Location
    key: str = ""


@attrs.frozen
class Lookup:
    """All that is asked, each once. A trace's values come in the same order."""

    asks: tuple[Ask, ...] = ()

    @classmethod
    def of(cls, asks: Sequence[Ask]) -> Lookup:
        """Without repetitions."""
        return cls(tuple(dict.fromkeys(asks)))

    @property
    def fingerprint(self) -> str:
        """What is asked, in 16 hexadecimal digits: values that outlive the settings are of one lookup, and say so by it."""
        told = json.dumps([[ask.location.value, ask.key] for ask in self.asks], separators=(",", ":"))
        return sha256(told.encode()).hexdigest()[:16]


NOTHING = Lookup()


def merge(one: Values, other: Values) -> Values:
    """The values of both, each once; the two come from the same lookup. An empty tuple has none at all."""
    if not one:
        return other
    if not other:
        return one
    return tuple(_merged(mine, theirs) for mine, theirs in zip(one, other, strict=True))


def _merged(mine: tuple[Value, ...], theirs: tuple[Value, ...]) -> tuple[Value, ...]:
    """True, 1 and 1.0 are three values, as they are three kinds in OTLP; 0.0 and -0.0 are two, and not a number is one."""
    found = {(type(value), repr(value) if isinstance(value, float) else value): value for value in (*mine, *theirs)}
    return tuple(found.values())[:MAX_VALUES]
