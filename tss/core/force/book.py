"""The rules that a replica knows, and the rules in force at a given time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from tss.core.combining import Sampler
from tss.core.decision import Decision
from tss.core.force.matching import Condition
from tss.core.force.rule import Action, Rule, in_order
from tss.core.otlp import Encoding, Lookup, Scanner, Values
from tss.core.otlp.fragment import ScanError
from tss.core.otlp.lookup import merge
from tss.core.trace import Trace


class Enforcer:
    """Finds the first rule that a trace matches.

    The compiled scanner first looks up, in the whole trace, the values that the rules ask for. Most traces have none that
    match. The spans are checked one by one only if every matcher of a rule found a matching value, because a single span
    has to match all of them.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = in_order(rules)
        self.lookup = Lookup.of([matcher.ask for rule in self.rules for matcher in rule.matchers])
        places = {ask: place for place, ask in enumerate(self.lookup.asks)}
        self._conditions = [
            [(places[matcher.ask], Condition(matcher)) for matcher in rule.matchers] for rule in self.rules
        ]
        self._scanner = Scanner(self.lookup)

    def decide(self, trace: Trace, sampler: Sampler) -> Decision | None:
        """The decision by the first rule that matches; None if no rule does, so that the policies decide."""
        rule = self.find(trace.payload)
        if rule is None:
            return None
        return sampler.forced(trace, rule.policy, rule.action is Action.KEEP)

    def find(self, payload: bytes) -> Rule | None:
        """The first rule that a trace with this serialized `TracesData` matches."""
        values = self._values(payload)
        spans: list[Values] | None = None
        for rule, conditions in zip(self.rules, self._conditions, strict=True):
            if not all(condition.may_fit(values[place]) for place, condition in conditions):
                continue
            if len(conditions) == 1 and _is_plain(values, *conditions[0]):
                return rule
            if spans is None:
                spans = self._scanner.each_span(payload)
            if _any_fits(spans, conditions):
                return rule
        return None

    def _values(self, payload: bytes) -> Values:
        """The distinct values of the trace, in the order of the lookup's asks."""
        scan_errors: list[ScanError] = []
        values: Values = ()
        for fragment in self._scanner.fragments(payload, Encoding.OTLP_PROTO, scan_errors):
            values = merge(values, fragment.values)
        return values or ((),) * len(self.lookup.asks)


def _is_plain(values: Values, place: int, condition: Condition) -> bool:
    """Whether a rule's only matcher already matches a value of the trace. Some span has that value, and nothing else needs
    to match in it."""
    return condition.decides_alone and condition.fits(values[place])


def _any_fits(spans: Sequence[Values], conditions: Sequence[tuple[int, Condition]]) -> bool:
    return any(all(condition.fits(values[place]) for place, condition in conditions) for values in spans)


class Rulebook:
    """The rules as they were last read, at ``as_of`` (seconds since 1970; None if they were never read)."""

    def __init__(self, rules: Iterable[Rule] = (), as_of: float | None = None) -> None:
        self._rules: dict[str, Rule] = {}
        self._enforcer: Enforcer | None = None
        self._until = -math.inf  # when the first rule of the enforcer expires
        self.as_of: float | None = None
        if as_of is not None:
            self.replace(rules, as_of)

    def __repr__(self) -> str:
        return f"<Rulebook of {len(self._rules)} rules, as of {self.as_of}>"

    def replace(self, rules: Iterable[Rule], as_of: float) -> bool:
        """Replace all rules. Returns whether the new set differs from the old one."""
        before, self._rules = self._rules, {rule.id: rule for rule in rules}
        self.as_of = as_of
        if before == self._rules:
            return False
        self._until = -math.inf
        return True

    def rules(self, now: float) -> list[Rule]:
        """The rules that have not expired, enabled or not, in the order in which they are tried."""
        return in_order(rule for rule in self._rules.values() if not rule.is_over(now))

    @property
    def is_empty(self) -> bool:
        """Whether there are no rules at all, expired ones included."""
        return not self._rules

    def active(self, now: float) -> Enforcer | None:
        """The enforcer of the rules that are enabled and not expired; None if there is none."""
        if not self._rules:
            return None
        if now >= self._until:
            chosen = [rule for rule in self.rules(now) if rule.enabled]
            self._enforcer = Enforcer(chosen) if chosen else None
            self._until = min((rule.expires for rule in chosen), default=math.inf)
        return self._enforcer
