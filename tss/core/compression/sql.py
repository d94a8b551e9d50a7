"""Normalises SQL: values are replaced by `?`, so that statements that differ only in their values become equal.

One regular expression reads the statement in any dialect and never fails. It takes 5 to 20 us per statement, 0.1 us from
the cache. `sqltext` is the same in compiled form and takes 1 us. It leaves statements with non-ASCII characters outside
of values to this module. SQL parsers were rejected: pglast (9 us) refuses other dialects and keeps lists of values,
sqlglot's tokenizer takes 60 us, sqlparse 600 us.
"""

import re
from collections.abc import Callable
from functools import lru_cache

_Compiled = Callable[[str, bool], str | None]
try:
    from tss.core.compression.sqltext import compiled
except ImportError:  # there was no C compiler when this was installed
    _compiled: _Compiled | None = None
else:
    _compiled = compiled

MAX_LENGTH = 4096  # characters that are read; the rest of a longer statement is nearly always a list of values
_CACHED = 2048  # statements: 1 MB of common ones, 16 MB of the longest

# Systems in which double quotes enclose a value by default; in the others they enclose an identifier.
_DOUBLE_QUOTED_TEXT = frozenset(("mysql", "mariadb", "tidb", "bigquery", "gcp.bigquery", "spark", "databricks", "hive"))


def _token(names: str, texts: str) -> re.Pattern[str]:
    """`names` matches quoted identifiers, `texts` quoted values. Nothing backtracks, so the time is linear in the text."""
    return re.compile(
        rf"""
        (                                            # 1: is kept
          (?: (?<![\w$])[A-Za-z_\u0080-\U0010ffff][\w$]*+(?!')   # a word, unless it is the prefix of a quoted value
            | [\s,=()<>*;|+]++ | \.(?!\d)
            | {names}
          )++
        | \[[A-Za-z_][^\]\[']*+\]                    # an identifier in SQL Server; not PostgreSQL's ARRAY[1]
        | /\*(?:[^*]++|\*(?!/))*+(?:\*/)?+           # a comment, which is removed
        | --[^\n]*+
        )
        | (?:(?<![\w$])(?:[nNxXbBeE]|_\w++))?+{texts}   # N'', X'', _utf8''
        | (?:                                        # a minus sign, where it cannot be an operator
            (?: (?<=[(,=<>*/%+|:\[]) | (?<=[(,=<>*/%+|]\ )
              | (?<=(?i:\ and\ )) | (?<=(?i:between\ )) | (?<=(?i:\ then\ )) | (?<=(?i:\ else\ ))
              | (?<=(?i:select\ )) | (?<=(?i:limit\ ))
            )-
          )?+
          (?<![\w$.])
          (?: 0[xX][0-9a-fA-F]++ | 0[bB][01]++ | (?:\d[\d_]*+(?:\.\d*+)?+ | \.\d++)(?:[eE][+-]?\d++)?+ )
          (?!\w)
        | (?<![\w$])\$(?:\d++ | ([A-Za-z_]\w*+|)\$.*?(?:\$\2\$|\Z))   # $1, $$text$$, $tag$text$tag$
        | (?<![\w:\])?]):\w++                        # :name, :1; neither a cast nor a slice
        | (?<![\w@])@\w++                            # @p1, @__id_0
        | (?<!\w)%(?:s\b|\(\w+\)s)                   # placeholders of Python's drivers
        """,
        re.VERBOSE | re.DOTALL,
    )


# ESCAPE '\' is how Django and Hibernate end a LIKE: there a backslash escapes nothing.
_SINGLE = r"(?: (?<=(?i:escape\ ))'\\'(?!') | '(?:[^'\\]++|''|\\.?)*+'?+ )"
_BACKTICKED = r"`[^`]*+`?+"
_TOKEN = _token(names=rf'"[^"]*+"?+ | {_BACKTICKED}', texts=_SINGLE)
_TOKEN_DOUBLE_QUOTED = _token(names=_BACKTICKED, texts=rf'(?: {_SINGLE} | "(?:[^"\\]++|""|\\.?)*+"?+ )')

_VALUE = r"(?:\?(?:::[\w ]++(?:\(\?\))?+(?:\[\])?+)?+|(?i:null|default|true|false)\b)"
# The closing bracket may be missing, since long statements are cut.
_LIST = re.compile(rf"\( ?{_VALUE}(?: ?, ?{_VALUE})*+ ?,? ?(?:\)|\Z)")
_ARRAY = re.compile(rf"\[ ?{_VALUE}(?: ?, ?{_VALUE})*+ ?,? ?(?:\]|\Z)")
_ROWS = re.compile(r"\(\?\)(?: ?, ?\(\?\))++")


def normalised(text: str, system: str = "") -> str:
    """The statement with `?` for each value, `(?)` for each list of values, without comments, with single spaces.

    Identifiers, keywords, operators and their case are kept. A text beyond 4,096 characters is cut and ends in `...`.
    `system` is the span's `db.system`, "" if unknown. Double quotes enclose values in some systems, and wherever backticks
    enclose identifiers. A backslash escapes the next character in any value, as in MySQL and in PostgreSQL's E''.
    """
    double_quoted = has_quoted_texts(system) or "`" in text
    head = text if len(text) <= MAX_LENGTH else text[:MAX_LENGTH]
    bare = _compiled(head, double_quoted) if _compiled is not None else None
    if bare is None:
        bare = _normalised(head, double_quoted)
    return bare if head is text else bare + "..."


def has_quoted_texts(system: str) -> bool:
    """Whether double quotes enclose values in this system, not identifiers."""
    return system in _DOUBLE_QUOTED_TEXT


@lru_cache(_CACHED)
def _normalised(text: str, double_quoted: bool) -> str:
    token = _TOKEN_DOUBLE_QUOTED if double_quoted else _TOKEN
    bare = " ".join(token.sub(_replacement, text).split())
    if "(" in bare:
        bare = _ROWS.sub("(?)", _LIST.sub("(?)", bare))
    if "[" in bare:
        bare = _ARRAY.sub("[?]", bare)
    return bare.rstrip(" ;")


def _replacement(token: re.Match[str]) -> str:
    stays = token[1]
    if stays is None:
        return "?"
    return " " if stays[:2] in ("/*", "--") else stays


_TRIES = 3  # pairs of statements to compare; statements that differ in more than one number never give a frame
_BEFORE, _AFTER = " =(,<>'", " ),;'"  # neighbours of a number that is not part of a name or of another number


class Statements:
    """Normalises the statements of one trace. A loop's statements differ in one number; from then on each takes 0.5 us."""

    def __init__(self) -> None:
        self._last = ("", "", "")  # text, system, normalised
        # The text before the number, the text after it, the system, the normalised statement.
        self._frame: tuple[str, str, str, str] | None = None
        self._tries = _TRIES

    def normalised(self, text: str, system: str) -> str:
        """The same result as the function `normalised`."""
        if self._frame is not None:
            before, after, of_system, normal = self._frame
            if (
                text.startswith(before) and text.endswith(after) and system == of_system
                and _is_number(text[len(before) : len(text) - len(after)])
            ):  # fmt: skip
                return normal
        normal = normalised(text, system)
        if self._tries and text != self._last[0] and len(text) < MAX_LENGTH // 2:
            self._learn(text, system, normal)
        self._last = (text, system, normal)
        return normal

    def _learn(self, text: str, system: str, normal: str) -> None:
        """If this statement and the last one differ in one number only, any other number there gives the same result."""
        last, of_system, last_normal = self._last
        same = 0
        shorter = min(len(text), len(last))
        while same < shorter and text[same] == last[same]:
            same += 1
        start = len(text[:same].rstrip(_DIGITS))
        number = text[start:]
        number = number[: len(number) - len(number.lstrip(_DIGITS))]
        before, after = text[:start], text[start + len(number) :]
        if (
            normal == last_normal and system == of_system and before[-1:] in _BEFORE and after[:1] in _AFTER
            and last.startswith(before) and last.endswith(after) and _is_number(number)
            and _is_number(last[len(before) : len(last) - len(after)])
        ):  # fmt: skip
            self._frame, self._tries = (before, after, system, normal), _TRIES
        else:
            self._tries -= 1


_DIGITS = "0123456789"


def _is_number(text: str) -> bool:
    return 0 < len(text) < 40 and text.isascii() and text.isdecimal()
