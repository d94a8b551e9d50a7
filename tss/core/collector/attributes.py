"""What the policies ask of one field of a span or of a resource, with the Collector's own rules.

Source: the processor's `internal/sampling`. It reads a value of another type as the zero value of the type that it wants: 0, "" or
false. `pdata` gives that value from `Int()`, `Str()` and `Bool()`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import attrs

from tss.core.conditions.automaton import Texts
from tss.core.conditions.expressions import exactly
from tss.core.conditions.formula import (
    FALSE,
    TRUE,
    Compare,
    Field,
    Formula,
    Found,
    Leaf,
    Place,
    Test,
    Truth,
)
from tss.core.conditions.formula import (
    Any as AnyOf,
)
from tss.core.conditions.w3c import members
from tss.core.patterns import expression, finder

FEW = 4  # texts that are compared one by one, by the scanner; more are looked up in a set


@final
@attrs.frozen
class NumberInRange:
    """`numeric_attribute`: whether a whole number is within the bounds, both included. Any other value is read as 0."""

    low: int
    high: int

    @property
    def of_no_value(self) -> Truth:
        """See Test."""
        return TRUE if self.low <= 0 <= self.high else FALSE

    @property
    def told(self) -> str:
        """See Test."""
        return f"otel number {self.low}..{self.high}"

    @property
    def of_int(self) -> tuple[int, int]:
        """See Test."""
        return self.low, self.high

    def answer(self, value: Found) -> Truth:
        """See Test."""
        if value is None:
            return FALSE
        number = value if isinstance(value, int) and not isinstance(value, bool) else 0
        return TRUE if self.low <= number <= self.high else FALSE


@final
@attrs.frozen
class ReadsAsFalse:
    """`boolean_attribute` with `value: false`: whether there is a value that is not true."""

    of_no_value = TRUE

    @property
    def told(self) -> str:
        """See Test."""
        return "otel false"

    def answer(self, value: Found) -> Truth:
        """See Test."""
        return FALSE if value is None or value is True else TRUE


@final
@attrs.frozen
class OneOf:
    """`string_attribute`: whether a text is one of these. None of them is empty."""

    texts: frozenset[str]

    @property
    def told(self) -> str:
        """See Test."""
        return f"otel one of {sorted(self.texts)!r}"

    @property
    def of_text(self) -> Texts:
        """See Test."""
        return Texts(tuple(exactly(text) for text in sorted(self.texts)))

    def answer(self, value: Found) -> Truth:
        """See Test."""
        return TRUE if isinstance(value, str) and value in self.texts else FALSE


@final
@attrs.frozen
class Expressions:
    """`string_attribute` with `enabled_regex_matching`: whether a text has a match of one of these RE2 expressions.

    A resource's value that is no text is read as an empty text. A span's empty text, and a span's value that is no text,
    never match.
    """

    patterns: tuple[str, ...]
    of_resource: bool
    _finds: tuple[Callable[[str], bool], ...] = attrs.field(init=False, eq=False, repr=False)

    @_finds.default
    def _compiled(self) -> tuple[Callable[[str], bool], ...]:
        return tuple(finder(expression(pattern)) for pattern in self.patterns)

    @property
    def of_no_value(self) -> Truth:
        """See Test."""
        return self.answer(b"")  # as any value that is no text

    @property
    def told(self) -> str:
        """See Test."""
        return f"otel {'resource ' if self.of_resource else ''}matches {list(self.patterns)!r}"

    @property
    def of_text(self) -> Texts:
        """See Test."""
        return Texts(self.patterns)

    def answer(self, value: Found) -> Truth:
        """See Test."""
        if value is None:
            return FALSE
        subject = value if isinstance(value, str) else ""
        if not subject and not self.of_resource:
            return FALSE
        return TRUE if any(finds(subject) for finds in self._finds) else FALSE


@final
@attrs.frozen
class StateMember:
    """`trace_state`: whether a valid header has this key with one of these values. None of them is empty."""

    key: str
    values: frozenset[str]

    @property
    def told(self) -> str:
        """See Test."""
        return f"otel state {self.key!r} one of {sorted(self.values)!r}"

    def answer(self, value: Found) -> Truth:
        """See Test."""
        if not isinstance(value, str):
            return FALSE
        found = members(value)
        return TRUE if found is not None and found.get(self.key) in self.values else FALSE


@final
@attrs.frozen
class FlaggedSampled:
    """`trace_flags`: whether bit 0 of a span's flags is set, W3C's "sampled"."""

    @property
    def told(self) -> str:
        """See Test."""
        return "otel sampled flag"

    def answer(self, value: Found) -> Truth:
        """See Test."""
        return TRUE if isinstance(value, int) and value & 1 else FALSE


def on_either(key: str, of_resource: Test, of_span: Test) -> Formula:
    """The attribute with this key, of a span's resource or of the span: one of them is enough. Scopes and events are not read."""
    resource, span = (Field(place, "attributes", key) for place in (Place.RESOURCE, Place.SPAN))
    return AnyOf((Leaf(resource, of_resource), Leaf(span, of_span)))


def text_in(key: str, texts: frozenset[str]) -> Formula:
    """`string_attribute` without expressions. The scanner compares a few texts without Python."""
    if len(texts) > FEW:
        return on_either(key, OneOf(texts), OneOf(texts))
    return AnyOf(tuple(on_either(key, Compare("==", each), Compare("==", each)) for each in sorted(texts)))


def status_in(codes: frozenset[int]) -> Formula:
    """`status_code`: whether a span's status is one of these."""
    field = Field(Place.SPAN, "status.code")
    return AnyOf(tuple(Leaf(field, Compare("==", code)) for code in sorted(codes)))
