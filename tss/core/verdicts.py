"""The traces that closed recently, and the decision about each. Each reading of the topic remembers the same (laws 2, 3).

A trace is entered when it closes, not when it is decided or delivered. Traces are forgotten in the order in which they
closed. So the memory at a record depends only on the records before it, however slow a destination is.
"""

from __future__ import annotations

import math

from tss.core.decision import Decision
from tss.core.table import Table, key_of

# The results of ``look``. KEPT and above are numbers of decisions.
UNKNOWN = 0
UNDECIDED = 1
DROPPED = 2
KEPT = 3

TRACE_BYTES = 30  # the most that a trace takes; see ``Table``
MOST_STEPS = 60  # of the remembered time: a trace is remembered for at most one step longer than configured
MARK_BYTES = 130
MOST_DECISIONS = 10_000  # 3 MB; policies, reasons, rates and destinations rarely make so many
DECISION_BYTES = 300
_TABLES = 64  # so that rebuilding one takes only some 0.3 ms at a million traces
_CODE_BITS = 16
_CODES = 1 << _CODE_BITS
_UNDECIDED = UNDECIDED
_UNKNOWN = UNKNOWN


class Lookback:
    """How far back one partition's decisions are remembered.

    For each remembered step of its stream time it has the number of the first closing in that step. ``floor`` is the
    lowest remembered number.
    """

    __slots__ = ("_forgotten", "_marks", "_step", "_step_ms", "_steps", "floor", "ours")

    def __init__(self, secs: float) -> None:
        self._step_ms = max(1, math.ceil(secs / MOST_STEPS)) * 1000
        self._steps = math.ceil(secs * 1000 / self._step_ms)
        self._marks: list[tuple[int, int]] = []  # (step, number), both ascending
        self._step = -1  # the current step of stream time
        self._forgotten = -1  # the last step whose closings are too old
        self.floor = 0
        self.ours = True

    def __repr__(self) -> str:
        return f"<Lookback from closing {self.floor}, {len(self._marks)} steps of {self._step_ms} ms>"

    @property
    def held_bytes(self) -> int:
        """The memory of the marks in bytes."""
        return MARK_BYTES * len(self._marks)

    def turn(self, now_ms: int, number: int) -> None:
        """Stream time is now ``now_ms``, and the next closing has this number.

        Stream time goes back if a partition is read again. Then the memory is the same as it was at that time.
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
        """Seconds of stream time between now and the oldest remembered closing. ``first`` is the lowest number that the
        tables still have, of all partitions."""
        for step, number in self._marks:
            if number >= first:
                return max(0.0, (now_ms - step * self._step_ms) / 1000)
        return 0.0

    def is_cut(self, first: int) -> bool:
        """Whether closings were forgotten early."""
        return bool(self._marks) and first > max(self.floor, self._marks[0][1])


class Verdicts:
    """At most ``limit`` recent closings by trace id, each with its number and the decision.

    The key is a hash: two of ten million traces have the same one in one of 400,000 runs.
    """

    __slots__ = ("_codes", "_decisions", "_limit", "_lookbacks", "_made", "_secs", "_tables", "next")

    def __init__(self, limit: int, secs: float) -> None:
        self._limit = limit
        self._secs = secs
        self._tables = [Table() for _ in range(_TABLES)]
        self._lookbacks: dict[int, Lookback] = {}  # by partition
        self._decisions: list[Decision] = []
        self._codes: dict[Decision, int] = {}
        self._made = 0  # how many decisions were given a number
        self.next = 1  # the number of the next closing

    def __repr__(self) -> str:
        return f"<Verdicts {len(self)} up to closing {self.next}>"

    def __len__(self) -> int:
        """How many closings are remembered, approximately."""
        return self.next - self._oldest()

    @property
    def held_bytes(self) -> int:
        """The memory of tables and marks in bytes."""
        marks = sum([each.held_bytes for each in self._lookbacks.values()])
        return marks + DECISION_BYTES * len(self._decisions) + sum([table.held_bytes for table in self._tables])

    # -- stream time

    def turn(self, partition: int, now_ms: int) -> int:
        """The partition's stream time is now ``now_ms``. Returns the lowest closing number remembered for it."""
        lookback = self._lookbacks.get(partition)
        if lookback is None:
            lookback = self._lookbacks[partition] = Lookback(self._secs)
        lookback.ours = True
        lookback.turn(now_ms, self.next)
        return lookback.floor

    def leave(self, partition: int) -> None:
        """The partition was revoked: no closing is kept because of it."""
        lookback = self._lookbacks.get(partition)
        if lookback is not None:
            lookback.ours = False

    def reach_secs(self, partition: int, now_ms: int) -> float:
        """Seconds of the partition's stream time that are remembered, at most what was read since the start."""
        lookback = self._lookbacks.get(partition)
        return 0.0 if lookback is None else lookback.reach_secs(now_ms, self._first())

    def is_cut(self, partition: int) -> bool:
        """Whether closings of the partition were forgotten early, because there were too many."""
        lookback = self._lookbacks.get(partition)
        return lookback is not None and lookback.is_cut(self._first())

    def _first(self) -> int:
        """The lowest number among the last ``limit`` closings."""
        return max(0, self.next - self._limit)

    def _oldest(self) -> int:
        """The lowest number that any partition still remembers."""
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
        """Enter the decision about the trace that closed with this number. False if the trace is forgotten, or if another
        with the same id has closed since: then the decision about that one counts."""
        key = key_of(trace_id)
        table = self._tables[key & (_TABLES - 1)]
        known = table.get(key)
        if known < 0 or known >> _CODE_BITS != number:
            return False
        table.replace(key, (number << _CODE_BITS) | code)
        return True

    def look(self, trace_id: bytes, floor: int) -> int:
        """The decision about a trace, or UNKNOWN. ``floor`` is the result of ``turn`` for the partition that asks."""
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
        """The number of a decision to keep. If there are more than MOST_DECISIONS different ones, the newest takes the
        number of the oldest."""
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
        """The decision with this number."""
        return self._decisions[code - KEPT]
