"""Traces for which a statement holds: the policies of the settings."""

from __future__ import annotations

from tss.core.conditions.formula import ERROR, FALSE, TRUE
from tss.core.conditions.program import Program
from tss.core.conditions.statement import Asked, Computed, Denied, Every, Number, Some, Statement, Within, asks
from tss.core.policies.policy import ABSTAIN, Policy
from tss.core.trace import Trace

_DURATION, _SPANS, _ERRORS = range(3)
_NUMBERS = {Number.DURATION_NS: _DURATION, Number.SPANS: _SPANS, Number.ERRORS: _ERRORS}


class Matching(Policy):
    """Votes ``says``, a rate or DROP, on every trace for which the statement holds."""

    def __init__(self, name: str, says: float, statement: Statement, *, shadow: bool = False) -> None:
        super().__init__(name, tuple({ask.told: ask for ask in asks(statement)}.values()), shadow=shadow)
        self.says = says
        self.statement = statement
        self._node: Node = Node()

    def bind(self, program: Program) -> None:
        """See Policy."""
        self._node = _node(self.statement, program)

    def vote(self, trace: Trace) -> float:
        """See Policy."""
        return self.says if self._node.answer(trace) == TRUE else ABSTAIN


class Node:
    """A statement that can be answered for a trace: FALSE, TRUE or ERROR."""

    def answer(self, trace: Trace) -> int:
        """The statement's truth for this trace. Kleene's logic: an error settles nothing that another part settles."""
        raise NotImplementedError


class _Asked(Node):
    def __init__(self, program: Program, slot: int) -> None:
        self.program = program
        self.slot = slot

    def answer(self, trace: Trace) -> int:
        return self.program.answer(trace.facts, self.slot)


class _Within(Node):
    def __init__(self, number: int, low: int, high: int) -> None:
        self.number = number
        self.low = low
        self.high = high

    def answer(self, trace: Trace) -> int:
        if self.number == _DURATION:
            value = trace.duration_ns()
        elif self.number == _SPANS:
            value = trace.spans
        else:
            value = trace.errors
        return TRUE if self.low <= value <= self.high else FALSE


class _Computed(Node):
    def __init__(self, of: Computed) -> None:
        self.of = of

    def answer(self, trace: Trace) -> int:
        return self.of.answer(trace.duration_ns(), trace.spans, trace.errors)


class _Every(Node):
    def __init__(self, nodes: tuple[Node, ...]) -> None:
        self.nodes = nodes

    def answer(self, trace: Trace) -> int:
        found = TRUE
        for node in self.nodes:
            answer = node.answer(trace)
            if answer == FALSE:
                return FALSE
            if answer == ERROR:
                found = ERROR
        return found


class _Some(Node):
    def __init__(self, nodes: tuple[Node, ...]) -> None:
        self.nodes = nodes

    def answer(self, trace: Trace) -> int:
        found = FALSE
        for node in self.nodes:
            answer = node.answer(trace)
            if answer == TRUE:
                return TRUE
            if answer == ERROR:
                found = ERROR
        return found


class _Denied(Node):
    def __init__(self, node: Node) -> None:
        self.node = node

    def answer(self, trace: Trace) -> int:
        answer = self.node.answer(trace)
        return ERROR if answer == ERROR else TRUE if answer == FALSE else FALSE


def _node(statement: Statement, program: Program) -> Node:
    match statement:
        case Asked(ask):
            return _Asked(program, program.slot(ask))
        case Within(number, low, high):
            return _Within(_NUMBERS[number], low, high)
        case Computed():
            return _Computed(statement)
        case Every(of):
            return _Every(tuple(_node(each, program) for each in of))
        case Some(of):
            return _Some(tuple(_node(each, program) for each in of))
        case Denied(of):
            return _Denied(_node(of, program))
