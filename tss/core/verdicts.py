"""Which traces closed of late, and how each was decided: the same for every reading of the log (laws 2 and 3).

A trace is entered when it closes, not when it is decided or delivered, and forgotten in the order of the closings. So
what is remembered at a record is a function of the records before it, however slow a destination is.
"""

from __future__ import annotations

import math

from tss.core.decision import Decision
from tss.core.table import Table, key_of

# What ``look`` finds. From KEPT on it is the number of a decision.
UNKNOWN = 0
UNDECIDED = 1
DROPPED = 2
KEPT = 3

TRACE_BYTES = 30  # of a trace at most; see ``Table``
MOST_STEPS = 60  # of the remembered time; a trace is remembered for one step longer than asked for, at most
MARK_BYTES = 130
MOST_DECISIONS = 10_000  # policy, reason, rate and destinations make few; 3 MB
DECISION_BYTES = 300
_TABLES = 64  # so that rebuilding one takes a moment only: at a million traces some 0.3 ms
_CODE_BITS = 16
_CODES = 1 << _CODE_BITS
_UNDECIDED = UNDECIDED
_UNKNOWN = UNKNOWN


class Lookback:
    """How far back one partition's decisions are remembered: for each step of its stream time the number of the first
    closing in it, as long as that is remembered. ``floor`` is the first number that is."""

    __slots__ = ("_forgotten", "_marks", "_step", "_step_ms", "_steps", "floor", "ours")

    def __init__(self, secs: float) -> None:
        self._step_ms = max(1, math.ceil(secs / MOST_STEPS)) * 1000
        self._steps = math.ceil(secs * 1000 / self._step_ms)
        self._marks: list[tuple[int, int]] = []  # (step, number), both ascending
        self._step = -1  # the one that stream time is in
        self._forgotten = -1  # the last one whose closings are too long ago
        self.floor = 0
        self.ours = True

    def __repr__(self) -> str:
        return f"<Lookback from closing {self.floor}, {len(self._marks)} steps of {self._step_ms} ms>"

    @property
    def held_bytes(self) -> int:
        """Memory taken by the marks."""
        return MARK_BYTES * len(self._marks)

    def turn(self, now_ms: int, number: int) -> None:
        """Stream time has come here, and the next closing has this number.

        Time goes back where a partition is read again. What was remembered there then is remembered again.
        """
        step = now_ms // self._step_ms
        if step == self._step:
            return
        self._step = step
        marks = self._marks
        if not marks or step > marks[-1][0]:
            marks.append((step, number))
        oldest = step - self._steps
        while marks[0][0] < oldest:
            self._forgotten = marks.pop(0)[0]
        self.floor = marks[0][1] if 0 <= self._forgotten < oldest else 0

    def reach_secs(self, now_ms: int, first: int) -> float:
        """How much stream time lies between now and the oldest closing that is remembered; ``first`` is the lowest
        number that still is, of all partitions."""
        for step, number in self._marks:
            if number >= first:
                return max(0.0, (now_ms - step * self._step_ms) / 1000)
        return 0.0

    def is_cut(self, first: int) -> bool:
        """Whether something was forgotten before its time."""
        return bool(self._marks) and first > max(self.floor, self._marks[0][1])


class Verdicts:
    """The last closings, ``limit`` at most, by trace id; each with its number and what was decided.

    Two of ten million traces share a hash once in 400,000 runs.
    """

    __slots__ = ("_codes", "_decisions", "_limit", "_lookbacks", "_made", "_secs", "_tables", "next")

    def __init__(self, limit: int, secs: float) -> None:
        self._limit = limit
        self._secs = secs
        self._tables = [Table() for _ in range(_TABLES)]
        self._lookbacks: dict[int, Lookback] = {}  # by partition
        self._decisions: list[Decision] = []
        self._codes: dict[Decision, int] = {}
        self._made = 0  # how many were given a number
        self.next = 1  # the number of the next closing

    def __repr__(self) -> str:
        return f"<Verdicts {len(self)} up to closing {self.next}>"

    def __len__(self) -> int:
        """How many closings are remembered, about."""
        return self.next - self._oldest()

    @property
    def held_bytes(self) -> int:
        """Memory taken by the tables and marks."""
        marks = sum([each.held_bytes for each in self._lookbacks.values()])
        return marks + DECISION_BYTES * len(self._decisions) + sum([table.held_bytes for table in self._tables])

    # -- the log

    def turn(self, partition: int, now_ms: int) -> int:
        """The partition's stream time has come here; returns the lowest number that is remembered for it."""
        lookback = self._lookbacks.get(partition)
        if lookback is None:
            lookback = self._lookbacks[partition] = Lookback(self._secs)
        lookback.ours = True
        lookback.turn(now_ms, self.next)
        return lookback.floor

    def leave(self, partition: int) -> None:
        """The partition is another's now: nothing is kept for its sake."""
        lookback = self._lookbacks.get(partition)
        if lookback is not None:
            lookback.ours = False

    def reach_secs(self, partition: int, now_ms: int) -> float:
        """How much of the partition's stream time is remembered; what was read since the start at most."""
        lookback = self._lookbacks.get(partition)
        return 0.0 if lookback is None else lookback.reach_secs(now_ms, self._first())

    def is_cut(self, partition: int) -> bool:
        """Whether closings of the partition were forgotten before their time, since there were too many."""
        lookback = self._lookbacks.get(partition)
        return lookback is not None and lookback.is_cut(self._first())

    def _first(self) -> int:
        """The lowest number that is still among the last ``limit``."""
        return max(0, self.next - self._limit)

    def _oldest(self) -> int:
        """The lowest number that anybody may still ask for."""
        floors = [each.floor for each in self._lookbacks.values() if each.ours]
        return max(1, self._first(), min(floors, default=0))

    # -- traces

    def close(self, trace_id: bytes) -> int:
        """A trace has closed; returns its number."""
        number, key = self.next, key_of(trace_id)
        self.next = number + 1
        table = self._tables[key & (_TABLES - 1)]
        floor = self._oldest() << _CODE_BITS if table.is_full() else 0
        table.put(key, (number << _CODE_BITS) | _UNDECIDED, floor)
        return number

    def decide(self, trace_id: bytes, number: int, code: int) -> bool:
        """The trace that closed with this number has its decision. False when another of its id has closed since, or
        it is forgotten: it is that one's decision then which counts."""
        key = key_of(trace_id)
        table = self._tables[key & (_TABLES - 1)]
        known = table.get(key)
        if known < 0 or known >> _CODE_BITS != number:
            return False
        table.replace(key, (number << _CODE_BITS) | code)
        return True

    def look(self, trace_id: bytes, floor: int) -> int:
        """What is known of a trace; ``floor`` is what ``turn`` returned for the partition that asks."""
        key = key_of(trace_id)
        known = self._tables[key & (_TABLES - 1)].get(key)
        if known < 0:
            return _UNKNOWN
        number = known >> _CODE_BITS
        if number < floor or number < self.next - self._limit:
            return _UNKNOWN
        return known & (_CODES - 1)

    # -- decisions

    def code_of(self, decision: Decision) -> int:
        """The number of a decision to keep. Where there are more different ones than MOST_DECISIONS, the oldest gives
        its number to the newest."""
        code = self._codes.get(decision)
        if code is None:
            at = self._made % MOST_DECISIONS
            self._made += 1
            if at < len(self._decisions):
                del self._codes[self._decisions[at]]
                self._decisions[at] = decision
            else:
                self._decisions.append(decision)
            code = self._codes[decision] = KEPT + at
        return code

    def decision_of(self, code: int) -> Decision:
        """The decision of this number."""
        return self._decisions[code - KEPT]
