"""The destinations of a kept trace, by the policy that kept it and by attributes of its spans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any as Anything

import attrs

from tss.core.conditions.fields import ATTRIBUTES
from tss.core.conditions.formula import FALSE, TRUE, Any, Field, Found, Leaf, OfSpans, Place, Truth
from tss.core.conditions.program import ASKS_NOTHING, Program
from tss.core.otlp.valuetext import as_text
from tss.core.patterns import expression, whole

ALL: tuple[str, ...] | None = None
"""In a decision: the trace goes to all destinations."""

MAX_WAYS = 4096  # known at a time; each force rule has a policy name of its own


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


@attrs.frozen
class Fits:
    """Whether a value, as text, fits one of these patterns. A value without a text fits those that take an empty text."""

    patterns: tuple[str, ...]
    _whole: Anything = attrs.field(init=False, eq=False, repr=False)

    @_whole.default
    def _expression(self) -> Anything:
        # One for all patterns; ``fnmatch`` is not used, because brackets have a meaning in it.
        return expression("|".join(map(whole, self.patterns)), any_character=True)

    @property
    def told(self) -> str:
        """Its canonical text."""
        return f"fits {list(self.patterns)!r}"

    def answer(self, value: Found) -> Truth:
        """See Test."""
        return TRUE if value is not None and self._whole.fullmatch(as_text(value) or "") else FALSE


class Router:
    """Names the destinations of a trace once, at its decision, so that late spans go to the same destinations."""

    def __init__(self, matches: Mapping[str, Match]) -> None:
        """``matches``: by the name of the destination."""
        of_match = {
            name: [_ask(key, texts) for key, texts in match.attributes.items()] for name, match in matches.items()
        }
        self.asks = tuple({ask.told: ask for asks in of_match.values() for ask in asks}.values())
        self._routes = not all(match.takes_all for match in matches.values())
        places = {ask.told: place for place, ask in enumerate(self.asks)}
        self._takers = [
            (name, match.policies, [places[ask.told] for ask in of_match[name]]) for name, match in matches.items()
        ]
        self._slots: list[int] = []
        self._program = ASKS_NOTHING
        # By policy and answers. Equal tuples are one object: there are few, each of many traces.
        self._ways: dict[tuple[str, bytes], tuple[str, ...]] = {}
        self._known: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._last_policy = ""  # most traces have the policy and the facts of the one before
        self._last_facts: bytes | None = None
        self._last: tuple[str, ...] = ()

    def bind(self, program: Program) -> None:
        """Read facts of this program from now on. It has all of ``asks``."""
        self._program = program
        self._slots = [program.slot(ask) for ask in self.asks]

    def destinations(self, policy: str, facts: bytes) -> tuple[str, ...] | None:
        """The names in the order of the settings; ALL if every destination takes all. ``facts`` are the trace's."""
        if not self._routes:
            return ALL
        if facts is not self._last_facts or policy is not self._last_policy:
            self._last = self._of(policy, facts)
            self._last_facts, self._last_policy = facts, policy
        return self._last

    def _of(self, policy: str, facts: bytes) -> tuple[str, ...]:
        answers = bytearray(len(self._slots))
        for place in range(len(self._slots)):
            answers[place] = self._program.answer(facts, self._slots[place])
        key = (policy, bytes(answers))
        ways = self._ways.get(key)
        if ways is None:
            if len(self._ways) >= MAX_WAYS:
                self._ways.clear()
            names = _taking(self._takers, policy, answers)
            ways = self._ways[key] = self._known.setdefault(names, names)
        return ways


def _taking(
    takers: Sequence[tuple[str, Sequence[str], Sequence[int]]], policy: str, answers: Sequence[Truth]
) -> tuple[str, ...]:
    return tuple(
        name
        for name, policies, places in takers
        if (not policies or policy in policies) and all(answers[place] == TRUE for place in places)
    )


def _ask(key: str, texts: Sequence[str]) -> OfSpans:
    """Whether any span, or its resource, has an attribute with this key that fits one of the patterns."""
    fits = Fits(tuple(texts))
    return OfSpans(Any(tuple(Leaf(Field(place, ATTRIBUTES, key), fits) for place in (Place.SPAN, Place.RESOURCE))))
