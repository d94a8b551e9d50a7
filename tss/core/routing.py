"""Which destinations a kept trace goes to: by the policy that kept it, and by attributes of its spans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from tss.core.otlp.lookup import Ask, Location, Value, Values
from tss.core.otlp.valuetext import as_text
from tss.core.patterns import expression, whole

ALL: tuple[str, ...] | None = None
"""Every destination: what a decision says where nothing is routed."""


@attrs.frozen
class Match:
    """What one destination takes: traces that one of ``policies`` kept (none given: any did), and that have, for each of
    ``attributes``, a span or a resource whose value fits one of the patterns (``*`` and ``?`` stand for other letters)."""

    policies: tuple[str, ...] = ()
    attributes: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)

    @property
    def takes_all(self) -> bool:
        return not self.policies and not self.attributes


class Router:
    """Names the destinations of a trace once, at its decision, so that what comes late of it goes the same ways."""

    def __init__(self, matches: Mapping[str, Match]) -> None:
        """``matches`` by the destination's name."""
        self.asks = tuple(
            Ask(location, key)
            for match in matches.values()
            for key in match.attributes
            for location in (Location.SPAN, Location.RESOURCE)
        )
        self._routes = not all(match.takes_all for match in matches.values())
        self._takers = [(name, match, _patterns(match)) for name, match in matches.items()]
        self._known: dict[tuple[str, ...], tuple[str, ...]] = {}  # few, and each is of many traces

    def destinations(self, policy: str, asks: Sequence[Ask], values: Values) -> tuple[str, ...] | None:
        """Names, in the settings' order; ALL where nothing is routed. ``asks`` and ``values`` are the trace's lookup."""
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
    """One expression for all of them; ``fnmatch`` would also give brackets a meaning."""
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
