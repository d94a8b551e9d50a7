"""What is wrong with a condition, and where."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Self, TypeVar

Read = TypeVar("Read")
Part = TypeVar("Part")

_SHOWN = 40  # letters of what was found
MOST_ERRORS = 20  # of one condition: nobody corrects more at a time


class ConditionError(ValueError):
    """A condition that cannot be used. `line` and `column` count from 1, in characters.

    The text is `line:column: found X, expected Y; did you mean Z?`, and `; and ` before each further error. These are the
    errors in other parts of the condition.
    """

    def __init__(self, line: int, column: int, message: str, further: Iterable[ConditionError] = ()) -> None:
        self.line = line
        self.column = column
        self.message = message
        self.further = tuple(further)
        super().__init__("; and ".join(f"{each.line}:{each.column}: {each.message}" for each in self.all))

    @property
    def all(self) -> tuple[ConditionError, ...]:
        """This error and the further ones."""
        return (self, *self.further)

    @classmethod
    def of(cls, errors: Iterable[ConditionError]) -> Self:
        """One for all of these."""
        first, *others = [each for error in errors for each in error.all][:MOST_ERRORS]
        return cls(first.line, first.column, first.message, others)


class Failed(Exception):
    """The evaluation of a condition failed, as pkg/ottl's does where it returns an error."""


def read_each(read: Callable[[Part], Read], parts: Iterable[Part]) -> list[Read]:
    """Read all parts. Raises ConditionError with the errors of all of them."""
    found, errors = [], []
    for part in parts:
        try:
            found.append(read(part))
        except ConditionError as error:
            errors.append(error)
    if errors:
        raise ConditionError.of(errors)
    return found


def shown(text: str) -> str:
    """A piece of a condition for a message: quoted with backticks, on one line, not too long."""
    line = " ".join(text.split())
    return f"`{line}`" if len(line) <= _SHOWN else f"`{line[:_SHOWN]}...`"


def nearest(name: str, names: Iterable[str], *, most: float = 0.6) -> str:
    """`; did you mean Z?` for the known name that is most like this one, or nothing."""
    known = list(names)
    folded = {each.lower(): each for each in reversed(known)}
    if name.lower() in folded:
        return f"; did you mean `{folded[name.lower()]}`?"
    found = difflib.get_close_matches(name.lower(), folded, 1, most)
    return f"; did you mean `{folded[found[0]]}`?" if found else ""
