"""Whether a value matches a matcher.

Values are compared as text, because the author of a rule does not know which type a client sends: 500 matches "500" and
500.0, and true matches "true". Only GT, GTE, LT and LTE compare numbers; they also accept a number given as text. Arrays,
maps and bytes have no text: only EXISTS matches them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from tss.core.force.rule import KINDS, STATUSES, Matcher, Op, Scalar, Where
from tss.core.otlp.lookup import MAX_VALUES, Value
from tss.core.otlp.valuetext import as_text
from tss.core.patterns import expression

Test = Callable[[Value], bool]
"""Whether one value matches."""

_NUMBER = re.compile(r"[+-]?(?:\d++\.?+\d*+|\.\d++)(?:[eE][+-]?\d++)?+", re.ASCII)
_LONGEST_NUMBER = 40  # characters; `int` takes quadratic time, and no measurement is longer


def number(value: Value) -> int | float | None:
    """The value as a number, also if it is a number written as text; None for any other value."""
    match value:
        case bool() | bytes():
            return None
        case str() if len(value) <= _LONGEST_NUMBER and _NUMBER.fullmatch(value):
            return int(value) if value.lstrip("+-").isdigit() else float(value)
        case str():
            return None
    return value


class Condition:
    """A matcher, compiled."""

    __slots__ = ("_needs_a_value", "_test", "ask")

    def __init__(self, matcher: Matcher) -> None:
        self.ask = matcher.ask
        self._test = _worded(matcher.where, _test(matcher.op, matcher.value))
        # NEQ and "exists: false" match if no value does, so they also match a span without the attribute.
        self._needs_a_value = matcher.op is not Op.NEQ and not (matcher.op is Op.EXISTS and not matcher.value)

    def fits(self, values: Sequence[Value]) -> bool:
        """Whether the values of one span match. Most spans have one value or none."""
        for value in values:
            if self._test(value):
                return self._needs_a_value
        return not self._needs_a_value

    def may_fit(self, values: Sequence[Value]) -> bool:
        """Whether any span of the trace can match. `values` has at most MAX_VALUES of the trace's distinct values."""
        return not self._needs_a_value or len(values) >= MAX_VALUES or self.fits(values)

    @property
    def decides_alone(self) -> bool:
        """Whether one matching value, in any span, is enough for a rule that has only this matcher."""
        return self._needs_a_value


def _worded(where: Where, test: Test) -> Test:
    """Translate kind and status, which are numbers on the wire, to the words that rules use."""
    words = {Where.KIND: KINDS, Where.STATUS: STATUSES}.get(where)
    if words is None:
        return test
    return lambda value: test(words[value] if isinstance(value, int) and 0 <= value < len(words) else "unknown")


def _test(op: Op, wanted: Any) -> Test:
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


def _one_of(wanted: Sequence[Scalar]) -> Test:
    texts = frozenset(as_text(each) for each in wanted)
    return lambda value: not isinstance(value, bytes) and as_text(value) in texts


def _part(op: Op, wanted: str) -> Test:
    if op is Op.REGEX:
        search = expression(wanted).search
        return _on_text(lambda found: search(found) is not None)
    if op is Op.CONTAINS:
        return _on_text(lambda found: wanted in found)
    if op is Op.STARTS_WITH:
        return _on_text(lambda found: found.startswith(wanted))
    return _on_text(lambda found: found.endswith(wanted))


def _on_text(test: Callable[[str], bool]) -> Test:
    def tested(value: Value) -> bool:
        found = as_text(value)
        return found is not None and test(found)

    return tested


def _compared(op: Op, wanted: float) -> Test:
    compare: Callable[[float], bool] = {
        Op.GT: lambda found: found > wanted,
        Op.GTE: lambda found: found >= wanted,
        Op.LT: lambda found: found < wanted,
        Op.LTE: lambda found: found <= wanted,
    }[op]

    def tested(value: Value) -> bool:
        found = number(value)
        return found is not None and compare(found)

    return tested
