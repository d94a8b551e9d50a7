"""What is wrong with a condition, and where."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_SHOWN = 40  # letters of what was found


class ConditionError(ValueError):
    """A condition that cannot be used. `line` and `column` count from 1, in characters.

    The text is `line:column: found X, expected Y; did you mean Z?`
    """

    def __init__(self, line: int, column: int, message: str) -> None:
        super().__init__(f"{line}:{column}: {message}")
        self.line = line
        self.column = column
        self.message = message


class Failed(Exception):
    """The evaluation of a condition failed, as pkg/ottl's does where it returns an error."""


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
