"""The words of a condition. Source: pkg/ottl v1.4.1, `grammar.go` (buildLexer): the first kind that fits is taken."""

from __future__ import annotations

import enum
import re
from typing import final

import attrs

from tss.core.conditions.errors import ConditionError, shown

MAX_LENGTH = 16_384
"""Characters of one condition. pkg/ottl has no bound."""


class Kind(enum.Enum):
    """The kinds of words, in the order in which they are tried."""

    BYTES = "bytes"
    FLOAT = "a float"
    INT = "an int"
    STRING = "a string"
    NIL = "nil"
    NOT = "not"
    OR = "or"
    AND = "and"
    COMPARE = "a comparison"
    ARROW = "=>"
    PLUS_MINUS = "+ or -"
    TIMES = "* or /"
    BOOL = "true or false"
    EQUAL = "="
    PAREN = "("
    CLOSE_PAREN = ")"
    BRACE = "{"
    CLOSE_BRACE = "}"
    COLON = ":"
    PUNCT = "a punctuation mark"
    UPPER = "a word in capitals"
    LOWER = "a word"
    END = "the end"


# Each rule sees only the rest of the text, so a word begins wherever the one before it ended: `Xnil` is `X` and `nil`.
_RULES = (
    (Kind.BYTES, r"0x[a-fA-F0-9]+"),
    (Kind.FLOAT, r"(?:[0-9]+\.[0-9]*|[0-9]*\.[0-9]+)(?:[eE][-+]?[0-9]+)?"),
    (Kind.INT, r"[0-9]+"),
    (Kind.STRING, r'"(?:\\[^\n]|[^\\"])*"'),
    (Kind.NIL, r"nil\b"),
    (Kind.NOT, r"not\b"),
    (Kind.OR, r"or\b"),
    (Kind.AND, r"and\b"),
    (Kind.COMPARE, r"==|!=|>=|<=|>|<"),
    (Kind.ARROW, r"=>"),
    (Kind.PLUS_MINUS, r"[+-]"),
    (Kind.TIMES, r"[*/]"),
    (Kind.BOOL, r"(?:true|false)\b"),
    (Kind.EQUAL, r"="),
    (Kind.PAREN, r"\("),
    (Kind.CLOSE_PAREN, r"\)"),
    (Kind.BRACE, r"\{"),
    (Kind.CLOSE_BRACE, r"\}"),
    (Kind.COLON, r":"),
    (Kind.PUNCT, r"[,.\[\]]"),
    (Kind.UPPER, r"[A-Z][A-Z0-9_]*"),
    (Kind.LOWER, r"[a-z][a-z0-9_]*"),
)
_WORD = re.compile("|".join(f"(?P<{kind.name}>{rule})" for kind, rule in _RULES), re.ASCII)
_BLANKS = re.compile(r"[ \t\n\f\r]+")  # Go's \s has no \v
_SECTION = re.compile(r"[^ \t\n\f\r()\[\]{},]+")

# What other languages say, and what it is here.
_INSTEAD = {
    "&&": "`and`",
    "||": "`or`",
    "!": "`not`, or `!=`",
    ";": "one condition, without `;`",
    "'": 'a string in double quotes: "..."',
    "`": 'a string in double quotes: "..."',
    "\u201c": 'a string in double quotes: "..."',
    "\u201d": 'a string in double quotes: "..."',
    "\u2018": 'a string in double quotes: "..."',
    "~": 'IsMatch(..., "pattern") for a pattern',
    "%": "one of + - * /",
    '"': "the closing quote of this string",
}
_LETTERS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"'}
_DIGITS = {"x": 2, "u": 4, "U": 8}


@final
@attrs.frozen
class Token:
    """A word with its place: line and column count from 1, in characters; `at` is the offset."""

    kind: Kind
    text: str
    line: int
    column: int
    at: int = attrs.field(eq=False)

    def error(self, expected: str) -> ConditionError:
        """That something else was expected here."""
        found = "the end of the condition" if self.kind is Kind.END else shown(self.text)
        return ConditionError(self.line, self.column, f"found {found}, expected {expected}")


def tokens(text: str) -> list[Token]:
    """The words of a condition, and one of the kind END. Raises ConditionError."""
    if len(text) > MAX_LENGTH:
        raise ConditionError(1, 1, f"found {len(text)} characters, expected at most {MAX_LENGTH}")
    found: list[Token] = []
    at, line, begin = 0, 1, 0
    while True:
        blanks = _BLANKS.match(text, at)
        if blanks is not None:
            line, begin = _moved(text, at, blanks.end(), line, begin)
            at = blanks.end()
        column = at - begin + 1
        if at == len(text):
            return [*found, Token(Kind.END, "", line, column, at)]
        word = _WORD.match(text, at)
        if word is None:
            raise _unreadable(text, at, line, column)
        found.append(Token(Kind[word.lastgroup or ""], word[0], line, column, at))
        line, begin = _moved(text, at, word.end(), line, begin)
        at = word.end()


def _moved(text: str, at: int, to: int, line: int, begin: int) -> tuple[int, int]:
    """The line at offset `to`, and the offset where that line begins."""
    breaks = text.count("\n", at, to)
    return (line, begin) if not breaks else (line + breaks, text.rindex("\n", at, to) + 1)


def _unreadable(text: str, at: int, line: int, column: int) -> ConditionError:
    rest = text[at:]
    if rest.startswith("_"):
        return ConditionError(line, column, "found `_`, expected a name that begins with a letter")
    for mark, instead in _INSTEAD.items():
        if rest.startswith(mark):
            section = _SECTION.match(rest)
            found = shown(rest if mark == '"' or section is None else section[0])
            return ConditionError(line, column, f"found {found}, expected {instead}")
    return ConditionError(
        line, column, f"found {shown(rest[:1])}, expected a name, a literal, an operator or a bracket"
    )


def unquoted(token: Token) -> str:
    """The text of a STRING. Raises ConditionError at a wrong escape.

    Source: participle v2.1.4, `map.go` (Unquote), which reads letter by letter as Go's strconv.UnquoteChar: a `\\xff` is the
    character U+00FF, and a line may break inside a string.
    """
    body = token.text[1:-1]
    if "\\" not in body:
        return body
    found, at = [], 0
    while at < len(body):
        if body[at] != "\\":
            found.append(body[at])
            at += 1
            continue
        letter, size = _escape(body, at)
        if not letter:
            wrong = shown(body[at : at + max(size, 2)])
            line, begin = _moved(token.text, 0, at + 1, token.line, 1 - token.column)
            hint = r"; write \\ for one backslash" if size <= 2 else ""
            raise ConditionError(
                line,
                at + 1 - begin + 1,
                f'found {wrong} in a string, expected one of \\\\ \\" \\n \\t \\r \\u00e9{hint}',
            )
        found.append(letter)
        at += size
    return "".join(found)


def _escape(body: str, at: int) -> tuple[str, int]:
    """The character that an escape stands for, and the escape's size; no character if it is wrong."""
    letter = body[at + 1 : at + 2]
    if letter in _LETTERS and letter:
        return _LETTERS[letter], 2
    if letter in _DIGITS and letter:
        digits = body[at + 2 : at + 2 + _DIGITS[letter]]
        if len(digits) != _DIGITS[letter] or not re.fullmatch("[0-9a-fA-F]+", digits):
            return "", 2 + len(digits)
        code = int(digits, 16)
        is_text = code < 0xD800 or 0xE000 <= code <= 0x10FFFF
        return (chr(code) if is_text else ""), 2 + len(digits)
    octal = body[at + 1 : at + 4]
    if re.fullmatch("[0-7]{3}", octal) and int(octal, 8) <= 0xFF:
        return chr(int(octal, 8)), 4
    return "", 2
