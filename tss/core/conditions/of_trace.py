"""Conditions of a whole trace in OTTL: about its spans, its root (`root.`) and its own numbers (`trace.`).

A comparison reads one of the three. A condition may join them: then one span makes it true, and the rest is of the whole
trace. It is split into parts: the condition holds if one part holds, and a part holds if what it asks of a span holds for
some span, and what it asks of the root and of the trace holds. An error in a part counts as not true.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise, product
from typing import final

import attrs

from tss.core.conditions import evaluation, lexer
from tss.core.conditions.checked import (
    AllOf,
    AnyOf,
    Compared,
    Fixed,
    Known,
    Logic,
    Opposite,
    Reference,
    owners,
)
from tss.core.conditions.comparing import FLIPPED
from tss.core.conditions.errors import ConditionError
from tss.core.conditions.formula import Found, OfRoot, OfSpans, Place
from tss.core.conditions.language import Condition, Context, Of, parse
from tss.core.conditions.splitting import formula_of
from tss.core.conditions.statement import (
    MOST,
    NEVER,
    NS_PER_MS,
    Asked,
    Computed,
    Denied,
    Every,
    Number,
    Some,
    Statement,
    Within,
    every,
)

MAX_PARTS = 64
_NUMBERS = {"duration_ms": Number.DURATION_NS, "spans": Number.SPANS, "errors": Number.ERRORS}


def statement(text: str) -> Statement:
    """What a condition says of a trace. If it names `spanevent.`, it is asked of each event, else of each span.

    Raises ConditionError.
    """
    condition = read(text)
    each = Place.EVENT if condition.context is Context.SPAN_EVENT else Place.SPAN
    found = [_statement(part, each) for part in _parts(condition.logic)]
    return NEVER if not found else found[0] if len(found) == 1 else Some(tuple(found))


def read(text: str) -> Condition:
    """The condition: about events if it names `spanevent.`, else about spans. Raises ConditionError."""
    return parse(text, Context.SPAN_EVENT if _names_events(text) else Context.SPAN, ours=True)


def _names_events(text: str) -> bool:
    words = lexer.tokens(text)
    return any(
        word.kind is lexer.Kind.LOWER and word.text == "spanevent" and after.text == "."
        for word, after in pairwise(words)
    )


# ---- parts


@final
@attrs.frozen
class _Part:
    """What has to hold together: of one span, of the root, of the trace."""

    span: tuple[Logic, ...] = ()
    root: tuple[Logic, ...] = ()
    trace: tuple[Logic, ...] = ()

    @classmethod
    def of(cls, node: Logic) -> _Part:
        """Of a condition with one owner."""
        if Of.TRACE in owners(node):
            return cls(trace=(node,))
        return cls(root=(node,)) if Of.ROOT in owners(node) else cls(span=(node,))

    def __add__(self, other: _Part) -> _Part:
        return _Part(self.span + other.span, self.root + other.root, self.trace + other.trace)


def _parts(node: Logic, *, negated: bool = False) -> list[_Part]:
    """The parts of a condition, or of its negation."""
    match node:
        case Fixed(value):
            return [_Part()] if value is not negated else []
        case Opposite(of):
            return _parts(of, negated=not negated)
    if len(owners(node)) <= 1:
        return [_Part.of(Opposite(node) if negated else node)]
    if not isinstance(node, AllOf | AnyOf):
        raise TypeError(f"a comparison of several owners: {node.told}")  # the checker refuses it
    members = [_parts(each, negated=negated) for each in _by_owner(node)]
    if isinstance(node, AllOf) is not negated:
        if math.prod(map(len, members)) > MAX_PARTS:
            raise _too_many()
        return [sum(chosen, _Part()) for chosen in product(*members)]
    found = [part for parts in members for part in parts]
    if len(found) > MAX_PARTS:
        raise _too_many()
    return found


def _by_owner(node: AllOf | AnyOf) -> Iterator[Logic]:
    """The members. Those that have the same single owner are one member, so that there are few parts."""
    of_one: dict[Of, list[Logic]] = {}
    for each in node.of:
        its = owners(each)
        if len(its) == 1:
            of_one.setdefault(next(iter(its)), []).append(each)
        else:
            yield each
    for some in of_one.values():
        yield some[0] if len(some) == 1 else type(node)(tuple(some))


def _too_many() -> ConditionError:
    message = f"found a condition that joins spans, root and trace in more than {MAX_PARTS} parts, expected fewer; make it several policies"
    return ConditionError(1, 1, message)


def _statement(part: _Part, each: Place) -> Statement:
    found: list[Statement] = []
    if part.span:
        found.append(Asked(OfSpans(formula_of(_joined(part.span)), each)))
    if part.root:
        found.append(Asked(OfRoot(formula_of(_joined(part.root)))))
    found += map(_of_trace, part.trace)
    return every(*found)


def _joined(nodes: Sequence[Logic]) -> Logic:
    return nodes[0] if len(nodes) == 1 else AllOf(tuple(nodes))


# ---- the trace's numbers


def _of_trace(node: Logic) -> Statement:
    match node:
        case AllOf(of):
            return Every(tuple(map(_of_trace, of)))
        case AnyOf(of):
            return Some(tuple(map(_of_trace, of)))
        case Opposite(of):
            return Denied(_of_trace(of))
        case Compared(operator, Reference(found), Known(int() | float() as constant)) if not isinstance(constant, bool):
            return _compared(_NUMBERS[found.target.name], operator, constant)
        case Compared(operator, Known(int() | float() as constant), Reference(found)) if not isinstance(constant, bool):
            return _compared(_NUMBERS[found.target.name], FLIPPED[operator], constant)
    ask = evaluation.logic(node, _from_numbers)
    return Computed(node.told, lambda numbers: evaluation.decided(ask, numbers))


def _from_numbers(reference: Reference) -> Callable[[Mapping[str, float]], Found]:
    name = reference.found.target.name
    return lambda numbers: numbers[name]


def _compared(number: Number, operator: str, constant: float) -> Statement:
    """A comparison as a range of whole numbers, exactly: the constant is the decimal number that was written."""
    amount = Fraction(Decimal(repr(constant)))
    if number is Number.DURATION_NS:
        amount *= NS_PER_MS
    below, least = math.ceil(amount) - 1, math.ceil(amount)  # the largest number below it, the least from it on
    above, most = math.floor(amount) + 1, math.floor(amount)
    match operator:
        case ">":
            return _within(number, above, MOST)
        case ">=":
            return _within(number, least, MOST)
        case "<":
            return _within(number, 0, below)
        case "<=":
            return _within(number, 0, most)
    equal = _within(number, least, most)
    return equal if operator == "==" else Denied(equal)


def _within(number: Number, low: int, high: int) -> Within:
    """With bounds in 64 bits. A range that has nothing in it stays so."""
    return Within(number, max(low, 0), min(high, MOST)) if low <= MOST and high >= 0 else Within(number, 1, 0)
