"""The destinations of a kept trace, by the policy that kept it and by attributes of its spans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from tss.core.otlp.lookup import Ask, Location, Value, Values
from tss.core.otlp.valuetext import as_text
from tss.core.patterns import expression, whole

ALL: tuple[str, ...] | None = None
"""In a decision: the trace goes to all destinations."""


@attrs.frozen
class Match:
    """Which traces one destination takes.

    One of ``policies`` must have kept the trace; if there are no policies, any may have. For each of ``attributes`` a span
    or a resource must have a value that fits one of the patterns, in which ``*`` is any text and ``?`` any character.
    """

    policies: tuple[str, ...] = ()
    attributes: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)

    @property
    def takes_all(self) -> bool:
        return not self.policies and not self.attributes


class Router:
    """Names the destinations of a trace once, at its decision, so that late spans go to the same destinations."""

    def __init__(self, matches: Mapping[str, Match]) -> None:
        """``matches``: by the name of the destination."""
        self.asks = tuple(
            Ask(location, key)
            for match in matches.values()
            for key in match.attributes
            for location in (Location.SPAN, Location.RESOURCE)
        )
        self._routes = not all(match.takes_all for match in matches.values())
        self._takers = [(name, match, _patterns(match)) for name, match in matches.items()]
        self._known: dict[
            tuple[str, ...], tuple[str, ...]
        ] = {}  # equal tuples become one object: there are few, each of many traces

    def destinations(self, policy: str, asks: Sequence[Ask], values: Values) -> tuple[str, ...] | None:
        """The names in the order of the settings; ALL if every destination takes all. ``values`` are the trace's, by ``asks``."""
        if not self._routes:
            return ALL
        found = dict(zip(asks, values, strict=True)) if values else {}
        names = tuple(
            name
            for name, match, patterns in self._takers
            if (not match.policies or policy in match.policies) and _fits(patterns, found)
        )
        return self._known.setdefault(names, names)


_Patterns = Sequence[tuple[str, Any]]


def _patterns(match: Match) -> _Patterns:
    return [(key, _pattern(texts)) for key, texts in match.attributes.items()]


def _pattern(texts: Sequence[str]) -> Any:
    """One expression for all patterns; ``fnmatch`` is not used, because brackets have a meaning in it."""
    return expression("|".join(map(whole, texts)), any_character=True)


def _fits(patterns: _Patterns, found: Mapping[Ask, tuple[Value, ...]]) -> bool:
    return all(
        any(
            pattern.fullmatch(as_text(value) or "")
            for location in (Location.SPAN, Location.RESOURCE)
            for value in found.get(Ask(location, key), ())
        )
        for key, pattern in patterns
    )
