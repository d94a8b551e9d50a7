"""Reads RE2's syntax, as far as an automaton for ASCII text is made of it. Everything else is refused, and RE2 answers it.

Only patterns that RE2 has compiled come here, so that what is no valid pattern is not checked. Source: RE2, `parse.cc` and
its `syntax.html`; the options are those of `patterns.expression`.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable
from typing import final

import attrs


class UnknownSyntaxError(Exception):
    """The pattern has something that is left to RE2."""


Letters = int
"""A set of ASCII characters, a bit for each. Characters beyond ASCII are in no set: a text that has one is left to RE2."""

ALL = (1 << 128) - 1


def letters(of: Iterable[str]) -> Letters:
    """The set of these characters."""
    found = 0
    for each in of:
        if each.isascii():
            found |= 1 << ord(each)
    return found


@final
@attrs.frozen
class One:
    """One character of a set."""

    of: Letters


@final
@attrs.frozen
class Start:
    """The start of the text."""


@final
@attrs.frozen
class End:
    """The end of the text."""


@final
@attrs.frozen
class Joined:
    """One after the other."""

    parts: tuple[Node, ...]


@final
@attrs.frozen
class Either:
    """One of these."""

    parts: tuple[Node, ...]


@final
@attrs.frozen
class Repeated:
    """So many times; `most` None: without a limit."""

    of: Node
    least: int
    most: int | None


Node = One | Start | End | Joined | Either | Repeated

_DIGITS = letters(string.digits)
_WORD = letters(string.ascii_letters + string.digits + "_")
_SPACE = letters("\t\n\f\r ")
_SETS = {"d": _DIGITS, "w": _WORD, "s": _SPACE, "D": ALL & ~_DIGITS, "W": ALL & ~_WORD, "S": ALL & ~_SPACE}
_CONTROLS = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_POSIX = {
    "alnum": letters(string.ascii_letters + string.digits),
    "alpha": letters(string.ascii_letters),
    "digit": _DIGITS,
    "lower": letters(string.ascii_lowercase),
    "upper": letters(string.ascii_uppercase),
    "space": letters("\t\n\v\f\r "),
    "punct": letters(string.punctuation),
    "word": _WORD,
    "xdigit": letters(string.hexdigits),
}
_PUNCTUATION = frozenset(string.punctuation) - {"_"}
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|x\{([0-9A-Fa-f]{1,6})\}|(.))", re.DOTALL)
_GROUP = re.compile(r"\((?:\?(?:P?<\w+>|([is]*):))?+(?!\?)")
_FLAGS = re.compile(r"\(\?([is]+)\)")
_COUNT = re.compile(r"\{(\d{1,4})(?:(,)(\d{1,4})?)?\}")
_MOST_DEPTH = 40  # of groups
_SPECIAL = frozenset("\\.+*?()|[{^$")


def literal(text: str) -> str:
    """The pattern that matches this text. RE2's own `escape` does not take half of a character (a surrogate)."""
    return "".join([rf"\{each}" if each in _PUNCTUATION else each for each in text])


def exactly(text: str) -> str:
    """The pattern that matches this text and no longer one."""
    return rf"\A(?:{literal(text)})\z"


def read(pattern: str) -> Node:
    """The pattern as a tree. Raises UnknownSyntaxError."""
    reader = _Reader(pattern)
    node = reader.whole()
    if reader.at < len(pattern):
        raise UnknownSyntaxError(pattern)
    return node


@attrs.frozen
class _Flags:
    any_case: bool = False
    any_character: bool = False  # a dot is also a line break

    def also(self, names: str) -> _Flags:
        return _Flags(self.any_case or "i" in names, self.any_character or "s" in names)


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0

    def whole(self) -> Node:
        flags = _FLAGS.match(self.text)
        if flags is not None:
            self.at = flags.end()
        return self._either(_Flags().also(flags[1] if flags else ""))

    def _next(self) -> str:
        """The next character, "" at the end."""
        return self.text[self.at : self.at + 1]

    def _take(self, expression: re.Pattern[str]) -> re.Match[str]:
        found = expression.match(self.text, self.at)
        if found is None:
            raise UnknownSyntaxError(self.text)
        self.at = found.end()
        return found

    def _either(self, flags: _Flags) -> Node:
        parts = [self._joined(flags)]
        while self._next() == "|":
            self.at += 1
            parts.append(self._joined(flags))
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _joined(self, flags: _Flags) -> Node:
        parts = []
        while self._next() not in ("", "|", ")"):
            parts.append(self._repeated(self._atom(flags)))
        return parts[0] if len(parts) == 1 else Joined(tuple(parts))

    def _repeated(self, node: Node) -> Node:
        """The atom with the repetition that follows it. Whether it is a lazy one makes no difference to whether there is a match."""
        sign = self._next()
        if sign not in ("*", "+", "?", "{"):
            return node
        if isinstance(node, (Start, End)):
            raise UnknownSyntaxError(self.text)
        if sign == "{":
            count = self._take(_COUNT)
            least, most = int(count[1]), int(count[3] or count[1]) if count[3] or not count[2] else None
        else:
            self.at += 1
            least, most = int(sign == "+"), 1 if sign == "?" else None
        if self._next() == "?":
            self.at += 1
        if self._next() in ("*", "+", "?", "{"):
            raise UnknownSyntaxError(self.text)
        return Repeated(node, least, most)

    def _atom(self, flags: _Flags) -> Node:
        sign = self._next()
        if sign == "(":
            return self._group(flags)
        if sign == "[":
            return One(self._set(flags))
        if sign == "\\":
            return self._escaped(flags)
        self.at += 1
        if sign == ".":
            return One(ALL if flags.any_character else ALL & ~letters("\n"))
        if sign in ("^", "$"):
            return Start() if sign == "^" else End()
        if sign in _SPECIAL:
            raise UnknownSyntaxError(self.text)
        return One(self._folded(sign, flags))

    def _group(self, flags: _Flags) -> Node:
        found = self._take(_GROUP)
        self.depth += 1
        if self.depth > _MOST_DEPTH:
            raise UnknownSyntaxError(self.text)
        node = self._either(flags.also(found[1] or ""))
        self.depth -= 1
        if self._next() != ")":
            raise UnknownSyntaxError(self.text)
        self.at += 1
        return node

    def _escaped(self, flags: _Flags) -> Node:
        follows = self.text[self.at + 1 : self.at + 2]
        if follows in ("A", "z"):
            self.at += 2
            return Start() if follows == "A" else End()
        if follows in _SETS:
            self.at += 2
            return One(_SETS[follows])
        return One(self._folded(self._escape(), flags))

    def _escape(self) -> str:
        """The character that an escape stands for."""
        one, many, name = self._take(_ESCAPE).groups()
        if name is None:
            code = int(one or many, 16)
            if code > 0x10FFFF:
                raise UnknownSyntaxError(self.text)
            return chr(code)
        if name in _CONTROLS:
            return _CONTROLS[name]
        if name not in _PUNCTUATION:
            raise UnknownSyntaxError(self.text)
        return str(name)

    def _folded(self, letter: str, flags: _Flags) -> Letters:
        """The set of a character. Beyond ASCII are characters that are ASCII in another case: these are left to RE2."""
        if not flags.any_case:
            return letters(letter)
        if not letter.isascii():
            raise UnknownSyntaxError(self.text)
        return letters((letter, letter.lower(), letter.upper()))

    # -- sets

    def _set(self, flags: _Flags) -> Letters:
        self.at += 1
        is_negated = self._next() == "^"
        self.at += is_negated
        first, found = self.at, 0
        while self._next() != "]" or self.at == first:
            if self._next() in ("", "]") or (self._next() == "-" and not self._is_plain_minus(first)):
                raise UnknownSyntaxError(self.text)
            found |= self._members(flags)
        self.at += 1
        return ALL & ~found if is_negated else found

    def _is_plain_minus(self, first: int) -> bool:
        """Whether a minus stands first or last in a set."""
        return self.text[self.at + 1 : self.at + 2] == "]" or (
            self.at == first and self.text[self.at + 1 : self.at + 2] != "-"
        )

    def _members(self, flags: _Flags) -> Letters:
        if self.text.startswith("[:", self.at):
            name, end = self.text[self.at + 2 : self.at + 12].partition(":]")[:2]
            if not end or name not in _POSIX:
                raise UnknownSyntaxError(self.text)
            self.at += len(name) + 4
            return _both_cases(_POSIX[name]) if flags.any_case else _POSIX[name]
        if self._next() == "\\" and self.text[self.at + 1 : self.at + 2] in _SETS:
            self.at += 2
            return _SETS[self.text[self.at - 1]]
        low = self._member()
        high = low
        if self._next() == "-" and self.text[self.at + 1 : self.at + 2] not in ("]", ""):
            self.at += 1
            high = self._member()
        if flags.any_case and not high.isascii():
            raise UnknownSyntaxError(self.text)
        found = letters(map(chr, range(ord(low), min(ord(high), 127) + 1)))
        return _both_cases(found) if flags.any_case else found

    def _member(self) -> str:
        if self._next() == "\\":
            return self._escape()
        self.at += 1
        return self.text[self.at - 1]


def _both_cases(of: Letters) -> Letters:
    found = [chr(each) for each in range(128) if of >> each & 1]
    return letters((*map(str.lower, found), *map(str.upper, found)))
