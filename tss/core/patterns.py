"""Operators' patterns for text of producers, all as RE2 expressions, whose time grows only with the length of the text.

Python's own `re` takes 10 s for `^(\\w+\\s?)+$` and a text of 28 letters, and the whole process waits meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import re2

# Memory for one expression and its automata; RE2 discards automata when they would take more. The larger ones are only for
# expressions that do not fit, such as `\pL{1,200}`: the Collector takes them.
_BYTES = (1 << 20, 1 << 23, 1 << 26)
_TOO_LARGE = "pattern too large"


# RE2 in C++ takes these two; Go's regexp, which the Collector has, refuses them: `\C`, one byte of a character (between `\Q` and
# `\E` it is no escape), and names of groups with other letters.
_GROUP = re.compile(r"\(\?P?<(\w+)>")
_ONE_BYTE = re.compile(r"(?:[^\\]|(?>\\Q.*?(?:\\E|\Z))|\\[^CQ])*+\\C", re.DOTALL)


def expression(pattern: str, *, any_case: bool = False, any_character: bool = False) -> Any:
    """A compiled regular expression. `any_character`: a dot also matches line breaks.

    Raises ValueError with RE2's reason. RE2 has neither look-around nor backreferences.
    """
    if _ONE_BYTE.match(pattern):
        raise ValueError(r"\C, a single byte, is known to C++ only")
    if not all(map(str.isascii, _GROUP.findall(pattern))):
        raise ValueError("the name of a group has letters, digits and _ only")
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = not any_case
    options.dot_nl = any_character
    for size in _BYTES:
        options.max_mem = size
        try:
            return re2.compile(pattern, options)
        except re2.error as error:
            reason = error.args[0] if error.args else ""
            told = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
            if size == _BYTES[-1] or not told.startswith(_TOO_LARGE):
                raise ValueError(told) from error
    raise AssertionError("the last size returns or raises")


def finder(compiled: Any) -> Callable[[str], bool]:
    """Whether a text has a match of a compiled expression. It takes less than half the time of `search` with a text, which
    computes the match's place in characters."""
    search = compiled.search
    return lambda text: search(text.encode("utf-8", "surrogatepass")) is not None


def escaped(text: str) -> str:
    """The expression that matches exactly this text."""
    found: str = re2.escape(text)
    return found


def whole(glob: str, *, one: bool = True) -> str:
    """The expression of a glob for a whole text: `*` matches any characters; with `one`, `?` matches one character."""
    found = escaped(glob).replace(r"\*", ".*")
    return rf"\A(?:{found})\z" if not one else rf"\A(?:{found})\z".replace(r"\?", ".")
