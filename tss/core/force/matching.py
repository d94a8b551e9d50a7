"""What a force rule says of a trace: a condition on its spans, its root and its own numbers.

The values of matchers are compared as text, because the author of a rule does not know which type a client sends: 500 matches
"500" and 500.0, and true matches "true". Only GT, GTE, LT and LTE compare numbers; they also accept a number given as text.
Arrays, maps and bytes have no text: only EXISTS matches them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from tss.core.conditions.automaton import Texts
from tss.core.conditions.errors import ConditionError
from tss.core.conditions.expressions import exactly, literal
from tss.core.conditions.fields import ATTRIBUTES
from tss.core.conditions.formula import FALSE, TRUE, All, Field, Found, Leaf, OfSpans, Place, Truth
from tss.core.conditions.of_trace import statement
from tss.core.conditions.statement import Asked, Statement
from tss.core.force.rule import KINDS, STATUSES, Matcher, Op, Rule, Scalar, Where
from tss.core.otlp.valuetext import as_text
from tss.core.patterns import expression

_NUMBER = re.compile(r"[+-]?(?:\d++\.?+\d*+|\.\d++)(?:[eE][+-]?\d++)?+", re.ASCII)
_LONGEST_NUMBER = 40  # characters; `int` takes quadratic time, and no measurement is longer

_PLAIN = {Where.NAME: "name", Where.KIND: "kind", Where.STATUS: "status.code"}
_WORDS = {Where.KIND: KINDS, Where.STATUS: STATUSES}


def statement_of(rule: Rule) -> Statement:
    """The rule's condition, or that all its matchers hold for one span and its resource."""
    if rule.condition:
        return condition_statement(rule.condition)
    return Asked(OfSpans(All(tuple(Leaf(_field(matcher), Matches(matcher)) for matcher in rule.matchers))))


@functools.lru_cache(256)
def condition_statement(text: str) -> Statement:
    """What a condition in OTTL says of a trace. Raises ValueError for any other text."""
    try:
        return statement(text)
    except ConditionError as error:
        raise ValueError(f"is not a condition: {error}") from error


def number(value: Found) -> int | float | None:
    """The value as a number, also if it is a number written as text; None for any other value."""
    match value:
        case str() if len(value) <= _LONGEST_NUMBER and _NUMBER.fullmatch(value):
            return int(value) if value.lstrip("+-").isdigit() else float(value)
        case bool():
            return None
        case int() | float():
            return value
    return None


@attrs.frozen
class Matches:
    """A matcher as a test of its field."""

    matcher: Matcher
    _test: Callable[[Found], bool] = attrs.field(init=False, eq=False, repr=False)

    @_test.default
    def _compiled(self) -> Callable[[Found], bool]:
        return _worded(self.matcher.where, _test(self.matcher.op, self.matcher.value))

    @property
    def told(self) -> str:
        """Its canonical text."""
        return f"force {self.matcher.where.value} {self.matcher.op.value} {self.matcher.value!r}"

    @property
    def of_text(self) -> Texts | None:
        """See Test."""
        matcher = self.matcher
        patterns = _patterns(matcher.op, matcher.value)
        is_negated = matcher.op is Op.NEQ or (matcher.op is Op.EXISTS and not matcher.value)
        return None if patterns is None else Texts(patterns, is_negated)

    def answer(self, value: Found) -> Truth:
        """See Test. NEQ and "exists: false" match if the value does not, so they also match a span without it."""
        matcher = self.matcher
        wanted = matcher.op is not Op.NEQ and not (matcher.op is Op.EXISTS and not matcher.value)
        return TRUE if (value is not None and self._test(value)) == wanted else FALSE


def _field(matcher: Matcher) -> Field:
    plain = _PLAIN.get(matcher.where)
    if plain is not None:
        return Field(Place.SPAN, plain)
    return Field(Place.RESOURCE if matcher.where is Where.RESOURCE else Place.SPAN, ATTRIBUTES, matcher.key)


def _worded(where: Where, test: Callable[[Found], bool]) -> Callable[[Found], bool]:
    """Translate kind and status, which are numbers on the wire, to the words that rules use."""
    words = _WORDS.get(where)
    if words is None:
        return test
    return lambda value: test(words[value] if isinstance(value, int) and 0 <= value < len(words) else "unknown")


def _test(op: Op, wanted: Any) -> Callable[[Found], bool]:
    match op:
        case Op.EQ | Op.NEQ:
            return _one_of((wanted,))
        case Op.IN:
            return _one_of(wanted)
        case Op.EXISTS:
            return lambda _: True
        case Op.GT | Op.GTE | Op.LT | Op.LTE:
            return _compared(op, wanted)
    return _part(op, str(as_text(wanted)))


def _patterns(op: Op, wanted: Any) -> tuple[str, ...] | None:
    """The expressions of which one matches a text if the operation is true of it. None: it compares numbers."""
    match op:
        case Op.EQ | Op.NEQ | Op.IN:
            each = wanted if op is Op.IN else (wanted,)
            return tuple(exactly(str(as_text(one))) for one in each)
        case Op.EXISTS:
            return ("",)
        case Op.REGEX:
            return (str(wanted),)
        case Op.CONTAINS:
            return (literal(str(as_text(wanted))),)
        case Op.STARTS_WITH:
            return (rf"\A(?:{literal(str(as_text(wanted)))})",)
        case Op.ENDS_WITH:
            return (rf"(?:{literal(str(as_text(wanted)))})\z",)
    return None


def _one_of(wanted: Sequence[Scalar]) -> Callable[[Found], bool]:
    texts = frozenset(as_text(each) for each in wanted)
    return lambda value: as_text(value) in texts


def _part(op: Op, wanted: str) -> Callable[[Found], bool]:
    if op is Op.REGEX:
        search = expression(wanted).search
        return _on_text(lambda found: search(found) is not None)
    if op is Op.CONTAINS:
        return _on_text(lambda found: wanted in found)
    if op is Op.STARTS_WITH:
        return _on_text(lambda found: found.startswith(wanted))
    return _on_text(lambda found: found.endswith(wanted))


def _on_text(test: Callable[[str], bool]) -> Callable[[Found], bool]:
    def tested(value: Found) -> bool:
        found = as_text(value)
        return found is not None and test(found)

    return tested


def _compared(op: Op, wanted: float) -> Callable[[Found], bool]:
    compare: Callable[[float], bool] = {
        Op.GT: lambda found: found > wanted,
        Op.GTE: lambda found: found >= wanted,
        Op.LT: lambda found: found < wanted,
        Op.LTE: lambda found: found <= wanted,
    }[op]

    def tested(value: Found) -> bool:
        found = number(value)
        return found is not None and compare(found)

    return tested
