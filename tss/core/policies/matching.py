"""Traces for which a statement holds: the policies of the settings."""

from __future__ import annotations

from tss.core.conditions.program import Program
from tss.core.conditions.statement import Asked, Computed, Denied, Every, Number, Some, Statement, Within, asks
from tss.core.policies.policy import ABSTAIN, FAILED, Policy
from tss.core.trace import Trace

# FALSE, TRUE and ERROR are 0, 1 and 2 (`formula.py`). They are written as numbers where a trace pays for it: C compares an int
# with a number at once, and with a name of Python only as an object.


class Matching(Policy):
    """Votes ``says``, a rate or DROP, on every trace for which the statement holds."""

    def __init__(self, name: str, says: float, statement: Statement, *, shadow: bool = False) -> None:
        super().__init__(name, tuple({ask.told: ask for ask in asks(statement)}.values()), says=says, shadow=shadow)
        self._abstain, self._failed = ABSTAIN, FAILED
        self.statement = statement
        self._node: Node = Node()

    def bind(self, program: Program) -> None:
        """See Policy."""
        self._node = _node(self.statement, program)

    def answer(self, trace: Trace) -> int:
        """The statement's truth for this trace: FALSE, TRUE or ERROR."""
        return self._node.answer(trace)

    def vote(self, trace: Trace) -> float:
        """See Policy."""
        answer = self._node.answer(trace)
        if answer == 1:
            return self.says
        return self._abstain if answer == 0 else self._failed


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


class _Duration(Node):
    def __init__(self, low: int, high: int) -> None:
        self.low = low
        self.high = high

    def answer(self, trace: Trace) -> int:
        value = trace.duration_ns()
        return 1 if self.low <= value <= self.high else 0


class _Spans(Node):
    def __init__(self, low: int, high: int) -> None:
        self.low = low
        self.high = high

    def answer(self, trace: Trace) -> int:
        return 1 if self.low <= trace.spans <= self.high else 0


class _Errors(Node):
    def __init__(self, low: int, high: int) -> None:
        self.low = low
        self.high = high

    def answer(self, trace: Trace) -> int:
        return 1 if self.low <= trace.errors <= self.high else 0


_OF_NUMBER = {Number.DURATION_NS: _Duration, Number.SPANS: _Spans, Number.ERRORS: _Errors}


class _Computed(Node):
    def __init__(self, of: Computed) -> None:
        self.of = of

    def answer(self, trace: Trace) -> int:
        return self.of.answer(trace.duration_ns(), trace.spans, trace.errors)


class _Every(Node):
    def __init__(self, nodes: tuple[Node, ...]) -> None:
        self.nodes = nodes

    def answer(self, trace: Trace) -> int:
        found = 1
        for node in self.nodes:
            answer = node.answer(trace)
            if answer == 0:
                return 0
            if answer == 2:
                found = 2
        return found


class _Some(Node):
    def __init__(self, nodes: tuple[Node, ...]) -> None:
        self.nodes = nodes

    def answer(self, trace: Trace) -> int:
        found = 0
        for node in self.nodes:
            answer = node.answer(trace)
            if answer == 1:
                return 1
            if answer == 2:
                found = 2
        return found


class _Denied(Node):
    def __init__(self, node: Node) -> None:
        self.node = node

    def answer(self, trace: Trace) -> int:
        answer = self.node.answer(trace)
        return answer if answer == 2 else 1 - answer


def _node(statement: Statement, program: Program) -> Node:
    match statement:
        case Asked(ask):
            return _Asked(program, program.slot(ask))
        case Within(number, low, high):
            return _OF_NUMBER[number](low, high)
        case Computed():
            return _Computed(statement)
        case Every(of):
            return _Every(tuple(_node(each, program) for each in of))
        case Some(of):
            return _Some(tuple(_node(each, program) for each in of))
        case Denied(of):
            return _Denied(_node(of, program))
