"""Bounds of a number as a text: `> 2s`, `>= 100`, `> 2s, <= 10s`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction

from attrs import frozen

from tss.settings.kinds.kind import refused
from tss.settings.kinds.units import NANOSECONDS

OPERATORS = (">=", "<=", ">", "<")
_ONE = re.compile(r"\s*([<>=!~]+)\s*(.*?)\s*")
_BETWEEN = re.compile(r"([0-9.]+ ?[a-z]*) *(?:-|to|and|\.\.+) *([0-9.]+ ?[a-z]*)")
_TURNED = {"=>": ">=", "=<": "<="}
_ANY_NUMBER = re.compile(r"-?([0-9]{1,40})(?:\.([0-9]{1,40}))?")
_EXPONENT = re.compile(r"-?[0-9.]{1,40}[eE][+-]?[0-9]{1,40}")
_CLASS = re.compile(r"[1-5][xX]{2}")  # 5xx
_EXACT = 15
_MOST = (1 << 63) - 1
_NUMBER = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,15})?")


@frozen
class Bound:
    """One comparison of a number: `operator` is one of OPERATORS, and `text` is the amount as it was written."""

    operator: str
    amount: Fraction
    text: str

    @property
    def plain(self) -> int | float:
        """The amount as a number; a float has fewer digits."""
        return int(self.amount) if self.amount.denominator == 1 else float(self.amount)

    @property
    def is_lower(self) -> bool:
        return self.operator[0] == ">"


def within(bounds: tuple[Bound, ...]) -> tuple[int | None, int | None]:
    """The least and the largest whole number inside; None where there is no bound."""
    low = high = None
    for each in bounds:
        match each.operator:
            case ">":
                low = math.floor(each.amount) + 1
            case ">=":
                low = math.ceil(each.amount)
            case "<":
                high = math.ceil(each.amount) - 1
            case "<=":
                high = math.floor(each.amount)
    return low, high


def looks_like_bounds(raw: object) -> bool:
    """Whether a text begins with a comparison."""
    return isinstance(raw, str) and raw.lstrip()[:1] in {"<", ">"}


def durations(raw: object) -> tuple[Bound, ...]:
    """Bounds of a duration, in nanoseconds. Raises InvalidValue."""
    return _read(raw, "'> 2s' or '> 2s, <= 10s'", _duration)


def counts(raw: object) -> tuple[Bound, ...]:
    """Bounds of a count. Raises InvalidValue."""
    return _read(raw, "'>= 100' or '>= 100, < 500'", _count)


def numbers(raw: object) -> tuple[Bound, ...]:
    """Bounds of any number. Raises InvalidValue."""
    return _read(raw, "'>= 500' or '>= 500, < 600'", _any_number)


def _read(raw: object, examples: str, read: Callable[[str], Fraction]) -> tuple[Bound, ...]:
    allowed = f"a lower bound, an upper bound or both: {examples}"
    if not isinstance(raw, str):
        raise refused(raw, allowed, _compare_with(raw, read))
    found: list[Bound] = []
    for part in raw.split(","):
        parsed = _ONE.fullmatch(part)
        if parsed is None:
            raise refused(raw, allowed, _compare_with(raw, read))
        operator, text = parsed[1], parsed[2]
        if operator not in OPERATORS:
            meant = _TURNED.get(operator)
            hint = f"did you mean '{meant} {text}'?" if meant else f"{operator} is not one of {' '.join(OPERATORS)}"
            raise refused(raw, allowed, hint)
        try:
            found.append(Bound(operator, read(text), text))
        except _Wrong as wrong:
            raise refused(raw, allowed, wrong.hint) from None
    _check_pair(raw, found, allowed)
    return tuple(found)


def _compare_with(raw: object, read: Callable[[str], Fraction]) -> str:
    """How to write what is probably meant by a value without a comparison."""
    if isinstance(raw, list):
        return "write both bounds in one text, with a comma between them"
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        return ""
    between = _BETWEEN.fullmatch(str(raw).strip())
    if between:
        return f"write '>= {between[1]}, <= {between[2]}'"
    text = str(raw).strip()
    try:
        read(text)
    except _Wrong as wrong:
        return wrong.hint
    return f"say how to compare: '> {text}' or '>= {text}'"


def _check_pair(raw: str, found: list[Bound], allowed: str) -> None:
    for name, some in (
        ("lower", [each for each in found if each.is_lower]),
        ("upper", [each for each in found if not each.is_lower]),
    ):
        if len(some) > 1:
            raise refused(raw, allowed, f"there are {len(some)} {name} bounds: leave one")
    if len(found) == 2:  # a lower and an upper one
        lower, upper = sorted(found, key=lambda each: not each.is_lower)
        both_inside = lower.operator == ">=" and upper.operator == "<="
        if lower.amount > upper.amount or (lower.amount == upper.amount and not both_inside):
            raise refused(raw, allowed, f"no number is {lower.operator} {lower.text} and {upper.operator} {upper.text}")


class _Wrong(Exception):
    def __init__(self, hint: str) -> None:
        super().__init__(hint)
        self.hint = hint


def _duration(text: str) -> Fraction:
    amount = NANOSECONDS.amount(text)
    if amount is not None:
        return amount
    if text.startswith("-"):
        raise _Wrong("a duration is not negative")
    number, unit = re.fullmatch(r"([0-9.]*) *(.*)", text).groups()  # type: ignore[union-attr]  # it fits every text
    if _NUMBER.fullmatch(number):
        unit = NANOSECONDS.aliases.get(unit.lower(), unit)
        if not unit:
            raise _Wrong(f"add the unit and a comparison: '> {number}ms' or '> {number}s'")
        if unit in NANOSECONDS.factors:
            raise _Wrong(f"write the unit so: {number}{unit}")
    raise _Wrong(f"write a duration such as 500ms or 1m30s; units: {', '.join(NANOSECONDS.factors)}")


def _count(text: str) -> Fraction:
    if _NUMBER.fullmatch(text) and "." not in text and text[0] != "-":
        return Fraction(text)
    raise _Wrong("write a whole number, without a unit")


def _any_number(text: str) -> Fraction:
    """A number that a comparison takes exactly: an attribute is a whole number of 64 bits or a float."""
    written = _ANY_NUMBER.fullmatch(text)
    if written is None:
        if _CLASS.fullmatch(text):
            raise _Wrong(f"write the number {text[0]}00, or the glob {text[0]}?? without a comparison")
        if _EXPONENT.fullmatch(text):
            raise _Wrong("write the number without an exponent")
        raise _Wrong("write a number, without a unit; other texts are compared by OTTL only")
    amount = Fraction(text)
    if amount.denominator != 1 and len((written[1] + (written[2] or "").rstrip("0")).lstrip("0")) > _EXACT:
        raise _Wrong(f"a number with a fraction has at most {_EXACT} digits, as a float has")
    if abs(amount) > _MOST:
        raise _Wrong(f"write a number from -{_MOST} to {_MOST}")
    return amount
