"""The operator's rules: which spans are compressed, and which statements count as the same."""

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
    """The ``spanCompression`` section with its patterns compiled. An empty ``only`` means every operation."""

    min_count: int
    window_ns: int
    max_duration_ns: int
    only: tuple[Any, ...]
    never: tuple[Any, ...]
    statements: tuple[tuple[Any, str], ...]  # (pattern, group name); "" means the statement itself

    @classmethod
    def of(cls, configured: CompressionSettings) -> Rules:
        """Raises ValueError for an invalid pattern. The settings check all patterns first, so this is not expected."""
        return cls(
            configured.min_compression_count,
            round(configured.compression_window_secs * 1e9),
            round(configured.max_span_duration_secs * 1e9),
            tuple(map(_of_operation, configured.compress_operations)),
            tuple(map(_of_operation, configured.exclude_operations)),
            tuple((_of_statement(entry), entry.group_name) for entry in configured.sql_patterns),
        )

    def wants(self, operation: str) -> bool:
        """Whether spans of this operation are compressed. excludeOperations takes precedence."""
        if any(pattern.search(operation) for pattern in self.never):
            return False
        return not self.only or any(pattern.search(operation) for pattern in self.only)

    def group_of(self, statement: str) -> str | None:
        """The group of a normalised statement, by the first pattern that matches it.

        The statement itself if there are no patterns, or the pattern names no group. None if no pattern matches: then it is
        not compressed.
        """
        if not self.statements:
            return statement
        for pattern, group in self.statements:
            if pattern.search(statement):
                return group or statement
        return None


def _of_operation(text: str) -> Any:
    """Compile a glob that matches the whole operation, or, after `re:`, a regular expression that matches any part."""
    if text.startswith(_REGEX):
        return expression(text.removeprefix(_REGEX), any_case=True)
    return expression(whole(text), any_case=True, any_character=True)


def _of_statement(entry: SqlPattern) -> Any:
    """Compile a pattern for statements. `?` stands for a value there, so `*` is the only wildcard. Without a `*` the text
    may occur anywhere in the statement."""
    if entry.is_regex:
        return expression(entry.pattern, any_case=True)
    text = whole(entry.pattern, one=False) if "*" in entry.pattern else escaped(entry.pattern)
    return expression(text, any_case=True, any_character=True)
