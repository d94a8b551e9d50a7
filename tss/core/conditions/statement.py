"""What a policy's `when` says of a whole trace: formulas that hold for some span or for the root, and the trace's own numbers.

The short forms of the settings and OTTL conditions compile to it. `matching.py` answers it for each trace.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from typing import final

import attrs

from tss.core.conditions import formula as formulas
from tss.core.conditions.formula import (
    ERROR,
    FALSE,
    TRUE,
    Ask,
    Compare,
    Field,
    Formula,
    Leaf,
    OfRoot,
    OfSpans,
    Place,
    Truth,
)

NS_PER_MS = 1_000_000
MOST = (1 << 63) - 1
"""The upper bound of a number that has none."""


class Number(enum.Enum):
    """A number of a whole trace."""

    DURATION_NS = "duration"  # from the earliest start to the latest end; 0 while either is unknown
    SPANS = "spans"
    ERRORS = "errors"  # spans with status ERROR


@final
@attrs.frozen
class Asked:
    """A formula holds for some span, or for the root. An error counts as not true, and so does its negation."""

    ask: Ask


@final
@attrs.frozen
class Within:
    """A number of the trace lies in [low, high]; both are whole numbers from 0 on. Nothing lies in it if low > high."""

    number: Number
    low: int = 0
    high: int = MOST


@final
@attrs.frozen
class Every:
    """All of these hold. Empty: true."""

    of: tuple[Statement, ...]


@final
@attrs.frozen
class Some:
    """One of these holds. Empty: false."""

    of: tuple[Statement, ...]


@final
@attrs.frozen
class Denied:
    """This does not hold."""

    of: Statement


@final
@attrs.frozen
class Computed:
    """A condition on the numbers of the trace that is no plain comparison. `told` is its canonical text."""

    told: str
    _answer: Callable[[Mapping[str, float]], Truth] = attrs.field(eq=False, repr=False)

    def answer(self, duration_ns: int, spans: int, errors: int) -> Truth:
        """The answer for a trace. Never raises."""
        return self._answer({"duration_ms": duration_ns / NS_PER_MS, "spans": spans, "errors": errors})


Statement = Asked | Within | Computed | Every | Some | Denied

ALWAYS: Statement = Every(())
NEVER: Statement = Some(())


FAILS: Statement = Computed("an error", lambda _: ERROR)


def truth(statement: Statement, duration_ns: int, spans: int, errors: int) -> Truth:
    """The answer for a trace with these numbers, of a statement without asks (see `reduced`)."""
    match statement:
        case Within(number, low, high):
            value = {Number.DURATION_NS: duration_ns, Number.SPANS: spans, Number.ERRORS: errors}[number]
            return TRUE if low <= value <= high else FALSE
        case Computed():
            return statement.answer(duration_ns, spans, errors)
        case Denied(of):
            answer = truth(of, duration_ns, spans, errors)
            return answer if answer == ERROR else TRUE - answer
        case Every(of) | Some(of):
            settles = FALSE if isinstance(statement, Every) else TRUE
            answers = {truth(each, duration_ns, spans, errors) for each in of}
            return settles if settles in answers else ERROR if ERROR in answers else TRUE - settles
    raise TypeError(f"an ask without its answer: {statement}")


def reduced(statement: Statement, answer: Callable[[Ask], Truth]) -> Statement:
    """The same statement with the answers of its asks: ALWAYS, NEVER, FAILS, or what is left to say about the numbers."""
    match statement:
        case Asked(ask):
            return (NEVER, ALWAYS, FAILS)[answer(ask)]
        case Denied(of):
            left = reduced(of, answer)
            return NEVER if left == ALWAYS else ALWAYS if left == NEVER else left if left == FAILS else Denied(left)
        case Every(of) | Some(of):
            settles, unit = (NEVER, ALWAYS) if isinstance(statement, Every) else (ALWAYS, NEVER)
            left_over = [left for each in of if (left := reduced(each, answer)) != unit]
            if settles in left_over:
                return settles
            if not left_over or len(left_over) == 1:
                return left_over[0] if left_over else unit
            if all(left == FAILS for left in left_over):
                return FAILS
            return type(statement)(tuple(left_over))
    return statement


def asks(statement: Statement) -> Iterator[Ask]:
    """All asks, with repetitions."""
    match statement:
        case Asked(ask):
            yield ask
        case Every(of) | Some(of):
            for each in of:
                yield from asks(each)
        case Denied(of):
            yield from asks(of)


def told(statement: Statement) -> str:
    """The canonical text of a statement: equal ones have the same."""
    match statement:
        case Asked(ask):
            return ask.told
        case Within(number, low, high):
            return f"{low} <= {number.value} <= {high}"
        case Computed(text):
            return f"({text})"
        case Every(of):
            return f"every({', '.join(map(told, of))})"
        case Some(of):
            return f"some({', '.join(map(told, of))})"
        case Denied(of):
            return f"not({told(of)})"


def every(*of: Statement) -> Statement:
    """`Every`, unless it is only one."""
    return of[0] if len(of) == 1 else Every(of)


def unguarded(statement: Statement) -> bool:
    """Whether a part of it has to run in Python for every span (or event, or root): it needs several fields at once, and no
    comparison of a single field before it, joined by `and`, tells most spans beforehand."""
    return any(_runs_always(ask.formula) for ask in asks(statement) if isinstance(ask, OfSpans))


def _runs_always(formula: Formula) -> bool:
    match formula:
        case Leaf():
            return False
        case formulas.All(of):
            return bool(of) and _runs_always(of[0])  # the others are asked where the first one holds
        case formulas.Any(of):
            return any(map(_runs_always, of))
        case formulas.Not(of):
            return _runs_always(of)
    return True


# ---- statements that are the same for every trace


def settled(statement: Statement) -> bool | None:
    """True or False if the statement has this answer for every trace; None if it depends on the trace, or is too hard to tell."""
    match statement:
        case Asked(OfSpans(formula)):
            return False if _never(formula) else None  # a trace has spans, but perhaps none has an event
        case Asked(OfRoot(formula)):
            return False if _never(formula) else None
        case Within(_, low, high):
            return False if low > high else True if low <= 0 and high >= MOST else None
        case Every(of):
            return _settled_every(of)
        case Some(of):
            found = [settled(each) for each in of]
            return True if True in found else None if None in found else False
        case Denied(of):
            found_of = settled(of)
            return None if found_of is None else not found_of
    return None


def _settled_every(of: tuple[Statement, ...]) -> bool | None:
    found = [settled(each) for each in of]
    if False in found or _ranges_exclude_each_other(of):
        return False
    return None if None in found else True


def _ranges_exclude_each_other(of: tuple[Statement, ...]) -> bool:
    for number in Number:
        ranges = [each for each in of if isinstance(each, Within) and each.number is number]
        if ranges and max(each.low for each in ranges) > min(each.high for each in ranges):
            return True
    return False


# Fields that always have one type, by their place and name.
_TEXTS = frozenset({"name", "trace_state", "status.message", "schema_url", "version"})
_NUMBERS = frozenset({
    "kind", "status.code", "flags", "duration", "start_time_unix_nano", "end_time_unix_nano", "time_unix_nano",
    "dropped_attributes_count", "dropped_events_count", "dropped_links_count", "event_index",
})  # fmt: skip


def _never(formula: Formula) -> bool:
    """Whether a formula is true of no span: because it wants two values of one field, or a value of another type."""
    match formula:
        case Leaf(field, Compare(operator, constant)):
            return operator != "!=" and _is_of_another_type(field, constant)
        case formulas.All(of):
            return any(map(_never, of)) or _wants_two_values(of)
        case formulas.Any(of):
            return all(map(_never, of))
        case formulas.Not(formulas.All(())):
            return True
    return False


def _is_of_another_type(field: Field, constant: object) -> bool:
    if field.name in _TEXTS:
        return not isinstance(constant, str)
    if field.name in _NUMBERS:
        return isinstance(constant, bool) or not isinstance(constant, int | float)
    return False


def _wants_two_values(of: tuple[Formula, ...]) -> bool:
    wanted: dict[tuple[Place, str, str], object] = {}
    for each in of:
        match each:
            case Leaf(Field(place, name, key), Compare("==", constant)):
                if wanted.setdefault((place, name, key), constant) != constant:
                    return True
    return False
