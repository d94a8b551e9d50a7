"""Which spans the operator wants compressed, and which statements shall count as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import attrs

from tss.core.patterns import escaped, expression, whole

_REGEX = "re:"


class SqlPattern(Protocol):
    """An entry of ``sqlPatterns``."""

    @property
    def pattern(self) -> str: ...
    @property
    def is_regex(self) -> bool: ...
    @property
    def group_name(self) -> str: ...


class CompressionSettings(Protocol):
    """The ``spanCompression`` section of the settings."""

    @property
    def enabled(self) -> bool: ...
    @property
    def min_compression_count(self) -> int: ...
    @property
    def compression_window_secs(self) -> float: ...
    @property
    def max_span_duration_secs(self) -> float: ...
    @property
    def compress_operations(self) -> Sequence[str]: ...
    @property
    def exclude_operations(self) -> Sequence[str]: ...
    @property
    def sql_patterns(self) -> Sequence[SqlPattern]: ...


@attrs.frozen
class Rules:
    """The section, ready for use."""

    min_count: int
    window_ns: int
    max_duration_ns: int
    only: tuple[Any, ...]
    never: tuple[Any, ...]
    statements: tuple[tuple[Any, str], ...]  # and the name of the group, "" for the statement's own

    @classmethod
    def of(cls, configured: CompressionSettings) -> Rules:
        """Raises ValueError for a pattern that is none; the settings have seen to it that all are."""
        return cls(
            configured.min_compression_count,
            round(configured.compression_window_secs * 1e9),
            round(configured.max_span_duration_secs * 1e9),
            tuple(map(_of_operation, configured.compress_operations)),
            tuple(map(_of_operation, configured.exclude_operations)),
            tuple((_of_statement(entry), entry.group_name) for entry in configured.sql_patterns),
        )

    def wants(self, operation: str) -> bool:
        """Whether spans of this operation are to be compressed. What is excluded stays excluded."""
        if any(pattern.search(operation) for pattern in self.never):
            return False
        return not self.only or any(pattern.search(operation) for pattern in self.only)

    def group_of(self, statement: str) -> str | None:
        """By what a normalised statement goes: the group of the first pattern it matches, or itself; None for not at all."""
        if not self.statements:
            return statement
        for pattern, group in self.statements:
            if pattern.search(statement):
                return group or statement
        return None


def _of_operation(text: str) -> Any:
    """A glob of the whole operation, or after `re:` a regular expression that is found anywhere in it."""
    if text.startswith(_REGEX):
        return expression(text.removeprefix(_REGEX), any_case=True)
    return expression(whole(text), any_case=True, any_character=True)


def _of_statement(entry: SqlPattern) -> Any:
    """In statements a `?` is a value, so `*` alone is wild; without one a text may stand anywhere."""
    if entry.is_regex:
        return expression(entry.pattern, any_case=True)
    text = whole(entry.pattern, one=False) if "*" in entry.pattern else escaped(entry.pattern)
    return expression(text, any_case=True, any_character=True)
