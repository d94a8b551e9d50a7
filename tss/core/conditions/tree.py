"""The tree of a condition as it is written, with the place of each part (line and column from 1).

Source: pkg/ottl v1.4.1, `grammar.go`.
"""

from __future__ import annotations

from typing import final

import attrs

from tss.core.conditions.errors import ConditionError


@final
@attrs.frozen
class At:
    """A place in the text."""

    line: int
    column: int

    def error(self, message: str) -> ConditionError:
        """An error at this place."""
        return ConditionError(self.line, self.column, message)


@final
@attrs.frozen
class Literal:
    """nil, a text, a bool, an int64, a float or bytes."""

    at: At
    value: str | bool | int | float | bytes | None


@final
@attrs.frozen
class Symbol:
    """An enum's name: `SPAN_KIND_SERVER`."""

    at: At
    name: str


@final
@attrs.frozen
class ListOf:
    """`[1, 2]`."""

    at: At
    items: tuple[Value, ...]


@final
@attrs.frozen
class MapOf:
    """`{"a": 1}`."""

    at: At
    items: tuple[tuple[str, Value], ...]


@final
@attrs.frozen
class Section:
    """One name of a path, with the keys after it."""

    at: At
    name: str
    keys: tuple[Value, ...] = ()


@final
@attrs.frozen
class Path:
    """`resource.attributes["a"]["b"]`."""

    at: At
    sections: tuple[Section, ...]

    @property
    def text(self) -> str:
        """Its names, joined by dots."""
        return ".".join(section.name for section in self.sections)


@final
@attrs.frozen
class Argument:
    """A value in a call, with its name or ""."""

    at: At
    name: str
    value: Value


@final
@attrs.frozen
class Call:
    """A converter with its arguments, and the keys after it: `ParseJSON(name)["a"]`."""

    at: At
    name: str
    arguments: tuple[Argument, ...]
    keys: tuple[Value, ...] = ()


@final
@attrs.frozen
class Negative:
    """`-x`, of anything but a number that is written out."""

    at: At
    of: Value


@final
@attrs.frozen
class Arithmetic:
    """`left + right`, with one of + - * /."""

    at: At
    operator: str
    left: Value
    right: Value


Value = Literal | Symbol | ListOf | MapOf | Path | Call | Negative | Arithmetic


@final
@attrs.frozen
class Comparison:
    """`left == right`, with one of == != < <= > >=."""

    at: At
    operator: str
    left: Value
    right: Value


@final
@attrs.frozen
class Constant:
    """`true` or `false`."""

    at: At
    value: bool


@final
@attrs.frozen
class Holds:
    """A converter alone, which has to answer with a bool."""

    at: At
    call: Call


@final
@attrs.frozen
class And:
    """`a and b`."""

    at: At
    of: tuple[Boolean, ...]


@final
@attrs.frozen
class Or:
    """`a or b`."""

    at: At
    of: tuple[Boolean, ...]


@final
@attrs.frozen
class Not:
    """`not a`."""

    at: At
    of: Boolean


Boolean = Comparison | Constant | Holds | And | Or | Not
