"""Conditions as v0.161 answers them: its processor copies resources and scopes without their schema URLs."""

from __future__ import annotations

from typing import final

import attrs

from tss.core.conditions.formula import All, Any, Formula, Found, General, Leaf, Not, Place, SpanView, Test, Truth

_NAME = "schema_url"


def without_schema_urls(formula: Formula) -> Formula:
    """The same formula for spans of which every schema URL is empty."""
    match formula:
        case All(of):
            return All(tuple(map(without_schema_urls, of)))
        case Any(of):
            return Any(tuple(map(without_schema_urls, of)))
        case Not(of):
            return Not(without_schema_urls(of))
        case Leaf(field, test):
            return Leaf(field, _Emptied(test)) if field.name == _NAME else formula
    return _Schemaless(formula) if formula.places & {Place.RESOURCE, Place.SCOPE} else formula


@final
@attrs.frozen
class _Emptied:
    """A test of a schema URL, as if that were empty."""

    of: Test

    @property
    def told(self) -> str:
        """See Test."""
        return f"otel emptied: {self.of.told}"

    def answer(self, value: Found) -> Truth:
        """See Test."""
        return self.of.answer("")


@final
@attrs.frozen
class _Schemaless:
    """A condition on several fields."""

    of: General

    @property
    def told(self) -> str:
        """See General."""
        return f"otel without schema URLs: {self.of.told}"

    @property
    def places(self) -> frozenset[Place]:
        """See General."""
        return self.of.places

    def answer_of(self, view: SpanView) -> Truth:
        """See General."""
        return self.of.answer_of(_View(view))


@final
@attrs.frozen
class _View:
    """A view of a span without schema URLs."""

    of: SpanView

    def value(self, place: Place, name: str) -> Found:
        """See SpanView."""
        return "" if name == _NAME else self.of.value(place, name)
