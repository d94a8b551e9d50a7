"""The answer of a formula for a view of a span, by the rules of `formula.py`, written once more."""

from __future__ import annotations

from typing import Any

from tss.core.conditions import formula
from tss.core.conditions.formula import ERROR, FALSE, TRUE, All, Leaf, Truth


def answer_of(of: formula.Formula, view: Any) -> Truth:
    """`view` has `value` as a SpanView."""
    match of:
        case Leaf(field, test):
            value = view.value(field.place, field.name)
            return test.answer(value.get(field.key) if field.name == "attributes" else value)
        case formula.All(members) | formula.Any(members):
            settled = FALSE if isinstance(of, All) else TRUE
            for member in members:
                found = answer_of(member, view)
                if found != TRUE - settled:
                    return found
            return TRUE - settled
        case formula.Not(inner):
            found = answer_of(inner, view)
            return found if found == ERROR else TRUE - found
    return of.answer_of(view)
