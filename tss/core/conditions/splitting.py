"""Splits a condition into what the scanner answers: tests of one field, and conditions that need more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import attrs

from tss.core.conditions import evaluation, formula
from tss.core.conditions.automaton import Texts
from tss.core.conditions.checked import (
    AllOf,
    AnyOf,
    Applied,
    Asked,
    Compared,
    Computed,
    Expression,
    Fixed,
    Known,
    Logic,
    Opposite,
    Reference,
    references,
)
from tss.core.conditions.comparing import FLIPPED
from tss.core.conditions.errors import Failed
from tss.core.conditions.formula import ERROR, TRUE, Compare, Field, Formula, Found, Leaf, Place, SpanView, Truth
from tss.core.conditions.language import Condition, field_of, from_view
from tss.core.conditions.paths import TARGETS, Keys, Of
from tss.core.conditions.values import Duration

_PARENT = Field(Place.SPAN, "parent_span_id")
_DURATION = Field(Place.SPAN, "duration")
_NOT_SCANNED = {"events", "links"}  # only their number is asked, and rarely
_TEXT_FIELDS = {"name", "trace_state", "status.message", "schema_url", "version"}


@final
@attrs.frozen
class Part:
    """A part of a condition that reads one field, as a test of it. `told` is its canonical text."""

    told: str
    _answer: Callable[[Found], Truth] = attrs.field(eq=False, repr=False)
    of_text: Texts | None = attrs.field(default=None, eq=False)

    def answer(self, value: Found) -> Truth:
        """See formula.Test."""
        return self._answer(value)


@final
@attrs.frozen
class Whole:
    """A part of a condition that reads several fields, or all attributes of something. See formula.General."""

    told: str
    places: frozenset[Place]
    _answer: Callable[[SpanView], Truth] = attrs.field(eq=False, repr=False)

    def answer_of(self, view: SpanView) -> Truth:
        """See formula.General."""
        return self._answer(view)


def to_formula(condition: Condition) -> Formula:
    """The formula of a condition on spans or events, or of one on the root. Its answers are the condition's.

    Raises ValueError if the condition reads the trace, or the root and spans.
    """
    if len(condition.owners) > 1 or Of.TRACE in condition.owners:
        raise ValueError(f"not of one span: {condition.told}")
    return formula_of(condition.logic)


def formula_of(node: Logic) -> Formula:
    """The formula of a part of a condition."""
    match node:
        case Fixed(value):
            return formula.All(()) if value else formula.Any(())
        case AllOf(of):
            return formula.All(tuple(map(formula_of, of)))
        case AnyOf(of):
            return formula.Any(tuple(map(formula_of, of)))
        case Opposite(inner):
            return formula.Not(formula_of(inner))
    return _plain(node) or _part(node)


def _plain(node: Compared | Asked) -> Formula | None:
    """A comparison of a field with a constant, which the scanner does without Python; else None."""
    if isinstance(node, Asked):
        call = node.call
        if call.function.name == "IsRootSpan" and not call.keys:
            return Leaf(_PARENT, Compare("==", bytes(8)))
        return _matches(call)
    for operator, one, other in (
        (node.operator, node.left, node.right),
        (FLIPPED[node.operator], node.right, node.left),
    ):
        constant = _constant(other)
        if constant is not None:
            return _duration(operator, one, constant[0]) or _comparison(operator, one, constant[0])
    return None


def _constant(node: Expression) -> tuple[Any] | None:
    """The value of what reads nothing; None if it reads something, or fails."""
    if next(references(node), None) is not None:
        return None
    try:
        return (evaluation.expression(node, from_view)(None),)
    except Failed:
        return None


def _matches(call: Applied) -> Formula | None:
    """IsMatch of a field that is always a text."""
    if call.function.name != "IsMatch" or call.keys:
        return None
    target, pattern = call.arguments
    if not isinstance(target, Reference) or not isinstance(pattern, Known) or target.keys:
        return None
    if target.found.target is not TARGETS[target.found.place].get(target.found.target.name):
        return None
    field = field_of(target)
    if field is None or field.name not in _TEXT_FIELDS:
        return None
    return Leaf(field, formula.Matches(pattern.value))


def _duration(operator: str, node: Expression, constant: Any) -> Formula | None:
    """The time between a span's start and end, in ns or as a duration."""
    match node:
        case Computed("-", Reference() as end, Reference() as start):
            names = (end.found.target, start.found.target)
        case _:
            return None
    if end.found.place is not Place.SPAN or start.found.place is not Place.SPAN:
        return None
    its = TARGETS[Place.SPAN]
    if names == (its["end_time_unix_nano"], its["start_time_unix_nano"]) and isinstance(constant, (int, float)):
        return None if isinstance(constant, bool) else Leaf(_DURATION, Compare(operator, constant))
    if names == (its["end_time"], its["start_time"]) and isinstance(constant, Duration):
        return Leaf(_DURATION, Compare(operator, constant.ns))
    return None


def _comparison(operator: str, node: Expression, constant: Any) -> Formula | None:
    if not isinstance(node, Reference) or len(node.keys) > 1:
        return None
    field = field_of(node)
    if field is None or field.name in _NOT_SCANNED or (field.name == "attributes" and node.key is None):
        return None
    if field.name == "trace_state" and node.keys:
        return None
    if constant is not None:
        target = node.found.target
        constant = target.back(constant) if target.has_order or operator in {"==", "!="} else None
        if constant is None:
            return None
    return Leaf(field, Compare(operator, constant))


def _part(node: Logic) -> Formula:
    """A part of a condition that the scanner asks in Python."""
    told = f"ottl {node.told}"
    found = [(field_of(each), each) for each in references(node)]
    read = {field for field, _ in found if field is not None}
    if not read:
        return _unread(node, told)
    field = next(iter(read))
    whole = any(each.found.target.keys is Keys.MAP and each.key is None for each in references(node))
    if len(read) == 1 and not whole and field.name not in _NOT_SCANNED:
        ask = evaluation.logic(node, _of_one)
        return Leaf(field, Part(told, lambda value: evaluation.decided(ask, value), _texts_of(node)))
    ask_view = evaluation.logic(node, from_view)
    places = frozenset(field.place for field in read)
    return Whole(told, places, lambda view: evaluation.decided(ask_view, view))


def _texts_of(node: Logic) -> Texts | None:
    """How IsMatch of an attribute with a known pattern answers for texts."""
    if not isinstance(node, Asked) or node.call.function.name != "IsMatch" or node.call.keys:
        return None
    target, pattern = node.call.arguments
    if (
        isinstance(target, Reference)
        and target.key is not None
        and len(target.keys) == 1
        and isinstance(pattern, Known)
    ):
        return Texts((str(pattern.value),))
    return None


def _unread(node: Logic, told: str) -> Formula:
    """The formula of what reads no field: it is the same for every span."""
    answer = evaluation.decided(evaluation.logic(node, _of_nothing), None)
    if answer == ERROR:
        return Whole(told, frozenset(), lambda _: ERROR)
    return formula.All(()) if answer == TRUE else formula.Any(())


def _of_one(reference: Reference) -> Callable[[Found], Found]:
    """The view is the field's value."""
    return (lambda value: value) if reference.found.target.name else (lambda _: None)


def _of_nothing(_: Reference) -> Callable[[object], None]:
    return lambda _: None
