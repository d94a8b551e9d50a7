"""The rules that a replica knows, and the rules in force at a given time."""

from __future__ import annotations

import math
from collections.abc import Iterable

from tss.core.combining import Sampler
from tss.core.conditions.formula import TRUE
from tss.core.conditions.program import Program
from tss.core.conditions.statement import ALWAYS, FAILS, NEVER, Statement, asks, reduced, truth
from tss.core.decision import Decision
from tss.core.force.matching import statement_of
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
        self._statements = [statement_of(rule) for rule in self.rules]
        self.program = Program([ask for each in self._statements for ask in asks(each)]) if program is None else program
        self._scanner = Scanner(self.program)
        self._known: dict[bytes, list[tuple[Rule, Statement | None]]] = {}  # most traces have the same few facts

    def knows(self, trace: Trace) -> bool:
        """Whether the rules can be applied without the trace's spans."""
        return trace.rules is self.program

    def decide(self, trace: Trace, sampler: Sampler) -> Decision | None:
        """The decision by the first rule that matches; None if no rule does, so that the policies decide."""
        rule = self.rule_of(trace)
        if rule is None:
            return None
        return sampler.forced(trace, rule.policy, rule.action is Action.KEEP)

    def rule_of(self, trace: Trace) -> Rule | None:
        """The first rule that a trace matches, or None."""
        facts = trace.forced if self.knows(trace) else facts_of(trace.chunks(), self._scanner, self.program)
        known = self._known.get(facts)
        if known is None:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            known = self._known[facts] = self._left(facts)
        for rule, left in known:
            if left is None or truth(left, trace.duration_ns(), trace.spans, trace.errors) == TRUE:
                return rule
        return None

    def _left(self, facts: bytes) -> list[tuple[Rule, Statement | None]]:
        """The rules that a trace with these facts may match, each with what its own numbers must still fulfil. The last one
        may have None: nothing."""
        found: list[tuple[Rule, Statement | None]] = []
        for rule, said in zip(self.rules, self._statements, strict=True):
            left = reduced(said, lambda ask: self.program.answer(facts, self.program.slot(ask)))
            if left == ALWAYS:
                return [*found, (rule, None)]
            if left not in (NEVER, FAILS):
                found.append((rule, left))
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
        asked = {ask.told: ask for rule in self._rules.values() for ask in asks(statement_of(rule))}
        if not self._rules:
            self.program = None
        elif self.program is None or not asked.keys() <= {ask.told for ask in self.program.asks}:
            self.program = Program([ask for _, ask in sorted(asked.items())])
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
