"""The rules that a replica knows, and the rules in force at a given time."""

from __future__ import annotations

import math
from collections.abc import Iterable

from tss.core.combining import Sampler
from tss.core.conditions.formula import TRUE
from tss.core.conditions.program import Program
from tss.core.decision import Decision
from tss.core.force.matching import ask_of
from tss.core.force.rule import Action, Rule, in_order
from tss.core.otlp import Scanner
from tss.core.parked import facts_of
from tss.core.trace import Trace

_KNOWN = 4096  # facts whose rule is known, at a time


class Enforcer:
    """Finds the first rule that a trace matches.

    The scanner has answered the rules for each span. A trace that was open when they changed has no answers, or those to
    other rules: its spans are scanned again.
    """

    def __init__(self, rules: Iterable[Rule], program: Program | None = None) -> None:
        """``program`` asks for these rules, and perhaps for others."""
        self.rules = in_order(rules)
        asks = [ask_of(rule) for rule in self.rules]
        self.program = Program(asks) if program is None else program
        self._slots = [self.program.slot(ask) for ask in asks]
        self._scanner = Scanner(self.program)
        self._known: dict[bytes, Rule | None] = {}  # the rule by facts: most traces have the same few

    def knows(self, trace: Trace) -> bool:
        """Whether the rules can be applied without the trace's spans."""
        return trace.rules is self.program

    def decide(self, trace: Trace, sampler: Sampler) -> Decision | None:
        """The decision by the first rule that matches; None if no rule does, so that the policies decide."""
        rule = self._rule(trace.forced) if self.knows(trace) else self.find(*trace.chunks())
        if rule is None:
            return None
        return sampler.forced(trace, rule.policy, rule.action is Action.KEEP)

    def find(self, *chunks: bytes) -> Rule | None:
        """The first rule that a trace with these spans, each chunk a serialized `TracesData`, matches."""
        return self._rule(facts_of(chunks, self._scanner, self.program))

    def _rule(self, facts: bytes) -> Rule | None:
        if facts in self._known:
            return self._known[facts]
        if len(self._known) >= _KNOWN:
            self._known.clear()
        matching = (
            rule for rule, slot in zip(self.rules, self._slots, strict=True) if self.program.answer(facts, slot) == TRUE
        )
        found = self._known[facts] = next(matching, None)
        return found


class Rulebook:
    """The rules as they were last read, at ``as_of`` (seconds since 1970; None if they were never read)."""

    def __init__(self, rules: Iterable[Rule] = (), as_of: float | None = None) -> None:
        self._rules: dict[str, Rule] = {}
        self._enforcer: Enforcer | None = None
        self._until = -math.inf  # when the first rule of the enforcer expires
        self.program: Program | None = None
        """What the scanner has to answer: the disabled rules too, and those that have ended since the last one was added, so
        that only a new rule leaves open traces without answers. None without rules. Other threads read it."""
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
        asks = sorted({ask.told: ask for ask in map(ask_of, self._rules.values())}.items())
        if (
            not asks
            or self.program is None
            or not {told for told, _ in asks} <= {ask.told for ask in self.program.asks}
        ):
            self.program = Program([ask for _, ask in asks]) if asks else None
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
            self._enforcer = Enforcer(chosen, self.program) if chosen else None
            self._until = min((rule.expires for rule in chosen), default=math.inf)
        return self._enforcer
