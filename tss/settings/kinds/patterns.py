"""Patterns for operations and SQL statements: texts, globs, regular expressions."""

from collections.abc import Callable, Mapping
from functools import partial

import re2
from attrs import frozen

from tss.settings.errors import InvalidSetting, InvalidValue, did_you_mean, nearest
from tss.settings.kinds.kind import FILLED, TEXT, Kind, collect, list_of, refused
from tss.settings.kinds.numbers import truth
from tss.settings.kinds.texts import filled, text

_OPERATIONS = "a list of texts: globs, or regular expressions after re:"


def _read_operation(raw: object) -> str:
    value = filled.read(raw)
    if value.startswith("re:"):
        check_regex(value.removeprefix("re:"))
    return value


def check_regex(pattern: str, at: str = "") -> None:
    """Checks with RE2, which `tss.core.patterns` uses: its matching time is linear, whatever producers write."""
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        words = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise refused(
            pattern, "a regular expression for RE2, which has no look-around and no backreferences", words, at
        ) from None


def _read_operations(raw: object) -> tuple[str, ...]:
    if not isinstance(raw, list):
        raise refused(raw, _OPERATIONS)
    return tuple(collect((f"[{place}]", entry, _read_operation) for place, entry in enumerate(raw)))


operations = Kind(_OPERATIONS, _read_operations, schema=list_of(FILLED))


@frozen(kw_only=True)
class SqlPattern:
    """A pattern for SQL statements. With a name, all statements that match it form one group."""

    pattern: str
    is_regex: bool = False
    group_name: str = ""

    def plain(self) -> object:
        """The value as YAML has it."""
        if not (self.is_regex or self.group_name):
            return self.pattern
        return {"pattern": self.pattern, "isRegex": self.is_regex, "groupName": self.group_name}


_SQL_PATTERN = "a text, or a mapping of pattern, isRegex, groupName"
_SQL_PATTERN_KEYS: Mapping[str, Callable[[object], object]] = {
    "pattern": filled.read, "isRegex": truth.read, "groupName": text().read,
}  # fmt: skip


def _read_sql_pattern(raw: object) -> SqlPattern:
    if isinstance(raw, str):
        return SqlPattern(pattern=filled.read(raw))
    if not isinstance(raw, dict):
        raise refused(raw, _SQL_PATTERN)
    given = {"pattern": None} | {name: value for name, value in raw.items() if value is not None}
    found = dict(collect((f".{name}", value, partial(_read_sql_key, str(name))) for name, value in given.items()))
    pattern, is_regex, group_name = str(found["pattern"]), found.get("isRegex", False), found.get("groupName", "")
    if is_regex:
        check_regex(pattern, ".pattern")
    return SqlPattern(pattern=pattern, is_regex=bool(is_regex), group_name=str(group_name))


def _read_sql_key(name: str, raw: object) -> tuple[str, object]:
    if name not in _SQL_PATTERN_KEYS:
        hint = did_you_mean(nearest(name, _SQL_PATTERN_KEYS))
        raise InvalidValue(InvalidSetting("", "an unknown key", ", ".join(_SQL_PATTERN_KEYS), hint))
    return name, _SQL_PATTERN_KEYS[name](raw)


def _read_sql_patterns(raw: object) -> tuple[SqlPattern, ...]:
    if not isinstance(raw, list):
        raise refused(raw, f"a list, each {_SQL_PATTERN}")
    return tuple(collect((f"[{place}]", entry, _read_sql_pattern) for place, entry in enumerate(raw)))


_SQL_PATTERN_SCHEMA: Mapping[str, object] = {
    "anyOf": [
        FILLED,
        {
            "type": "object",
            "properties": {"pattern": FILLED, "isRegex": truth.schema, "groupName": TEXT},
            "required": ["pattern"],
            "additionalProperties": False,
        },
    ]
}
sql_patterns = Kind(f"a list, each {_SQL_PATTERN}", _read_sql_patterns, schema=list_of(_SQL_PATTERN_SCHEMA))
