"""The votes of the Collector's policies. A vote is FALSE (not sampled), TRUE (sampled) or ERROR (no vote).

`and` and `drop` ask their members from left to right: the first one that is not TRUE settles the vote. `not` keeps an ERROR.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tss.core.collector.golang import threshold64
from tss.core.collector.hashing import START, fnv
from tss.core.conditions.formula import ERROR, FALSE, TRUE, Ask
from tss.core.conditions.program import ASKS_NOTHING, Program
from tss.core.policies.probability import randomness
from tss.core.trace import Trace
from tss.core.tracestate import SAW_RV, SAW_TH

DEFAULT_SALT = "default-hash-seed"
NEVER = 1 << 56
"""The threshold that no randomness reaches."""
# Copies that are numbers of C where this is compiled.
_FALSE, _TRUE, _ERROR = FALSE, TRUE, ERROR
_SAW = SAW_RV | SAW_TH


class Vote:
    """The vote of one policy on a closed trace.

    ``asks``: what it needs to know of a trace. ``by_chance``: whether the trace's hash or randomness takes part.
    ``threshold``: the sampling threshold that the Collector gives to a trace which this policy samples, of 56 bits.
    """

    def __init__(self, asks: Sequence[Ask] = (), *, by_chance: bool = False, threshold: int = 0) -> None:
        self.asks = tuple(asks)
        self.by_chance = by_chance
        self.threshold = threshold

    def bind(self, program: Program) -> None:
        """Keep the program and the slots of its asks."""

    def of(self, trace: Trace) -> int:
        """FALSE, TRUE or ERROR."""
        raise NotImplementedError

    def rate(self, trace: Trace) -> float:
        """The probability that this policy samples traces like this one."""
        return 1.0 if self.of(trace) == _TRUE else 0.0


class Always(Vote):
    """`always_sample`."""

    def of(self, trace: Trace) -> int:
        """See Vote."""
        return _TRUE


class Held(Vote):
    """Whether something holds of the trace. Inverted: whether it does not."""

    def __init__(self, ask: Ask, *, inverted: bool = False) -> None:
        super().__init__([ask])
        self.inverted = inverted
        self._slot = 0
        self._program = ASKS_NOTHING

    def bind(self, program: Program) -> None:
        """See Vote."""
        self._program = program
        self._slot = program.slot(self.asks[0])

    def of(self, trace: Trace) -> int:
        """See Vote."""
        answer = self._program.answer(trace.facts, self._slot)
        if self.inverted and answer != _ERROR:
            return _TRUE - answer
        return answer


class AnyHeld(Vote):
    """Whether one of these holds of the trace. Errors are ignored: `ottl_condition` unless its `error_mode` is propagate."""

    def __init__(self, asks: Sequence[Ask]) -> None:
        super().__init__(asks)
        self._slots: tuple[int, ...] = ()
        self._program = ASKS_NOTHING

    def bind(self, program: Program) -> None:
        """See Vote."""
        self._program = program
        self._slots = tuple([program.slot(ask) for ask in self.asks])

    def of(self, trace: Trace) -> int:
        """See Vote."""
        for slot in self._slots:
            if self._program.answer(trace.facts, slot) == _TRUE:
                return _TRUE
        return _FALSE


class SpanCount(Vote):
    """`span_count`: a span that came twice counts twice."""

    def __init__(self, least: int, most: int) -> None:
        super().__init__()
        self._least = least
        self._most = most

    def of(self, trace: Trace) -> int:
        """See Vote."""
        return _TRUE if trace.spans >= self._least and (self._most == 0 or trace.spans <= self._most) else _FALSE


class Chosen(Vote):
    """`probabilistic`: by the hash of the trace id. With ``consistent``, by the trace's randomness if it has an `ot` with `rv` or
    `th` in a tracestate; that is the gate `usetracestate`."""

    def __init__(self, percentage: float, salt: str, *, consistent: bool = False) -> None:
        ratio = percentage / 100
        within = 2.0**-56 <= ratio <= 1
        least = (1 << 56) - _rounded(ratio * 2.0**56) if within else 0 if ratio >= 1 else NEVER
        super().__init__(by_chance=True, threshold=least)
        self.salt = salt or DEFAULT_SALT
        self.share = min(max(ratio, 0.0), 1.0)
        self._highest = threshold64(percentage)
        self._salted = fnv(START, self.salt.encode("utf-8", "surrogatepass"))
        self._consistent = consistent
        self._program = ASKS_NOTHING

    def bind(self, program: Program) -> None:
        """See Vote."""
        self._program = program

    def die(self, trace: Trace) -> str:
        """What decides by chance: "" for the trace's randomness, else the salt of the hash."""
        return "" if self.is_consistent(trace) else self.salt

    def is_consistent(self, trace: Trace) -> bool:
        """Whether the trace's randomness decides, and not the hash."""
        return self._consistent and self._program.marks(trace.facts) & _SAW != 0

    def of(self, trace: Trace) -> int:
        """See Vote."""
        if self._consistent and self.is_consistent(trace):
            given = self._program.randomness(trace.facts)
            found = randomness(trace.trace_id) if given < 0 else given
            return _TRUE if found >= self.threshold else _FALSE
        return _TRUE if fnv(self._salted, trace.trace_id) <= self._highest else _FALSE

    def rate(self, trace: Trace) -> float:
        """See Vote."""
        return self.share


class AllOf(Vote):
    """`and`, and the members of `drop`. Without members it is TRUE. ``only`` is the one member that chooses by chance, if
    there is just one and it is `probabilistic`."""

    def __init__(self, of: Sequence[Vote]) -> None:
        super().__init__(
            [ask for each in of for ask in each.asks],
            by_chance=any(each.by_chance for each in of),
            threshold=max([each.threshold for each in of], default=0),
        )
        self.members = tuple(of)
        lucky = [member for member in of if member.by_chance]
        self.only = lucky[0] if len(lucky) == 1 and isinstance(lucky[0], Chosen) else None

    def bind(self, program: Program) -> None:
        """See Vote."""
        for member in self.members:
            member.bind(program)

    def of(self, trace: Trace) -> int:
        """See Vote."""
        for member in self.members:
            answer = member.of(trace)
            if answer != _TRUE:
                return answer
        return _TRUE

    def rate(self, trace: Trace) -> float:
        """See Vote."""
        if self.only is not None:
            for member in self.members:
                if member is not self.only and member.of(trace) != _TRUE:
                    return 0.0
            return self.only.share
        return self._joined(trace)

    def _joined(self, trace: Trace) -> float:
        """The rate if several members choose by chance."""
        least: dict[str, float] = {}  # members that look at one hash, or at the randomness: the lowest share decides
        others = 1.0
        for member in self.members:
            share = member.rate(trace)
            if isinstance(member, Chosen):
                die = member.die(trace)
                least[die] = min(share, least.get(die, 1.0))
            else:
                others *= share
        return others * math.prod(least.values())


class Opposite(Vote):
    """`not`."""

    def __init__(self, of: Vote) -> None:
        super().__init__(of.asks, by_chance=of.by_chance)
        self.member = of

    def bind(self, program: Program) -> None:
        """See Vote."""
        self.member.bind(program)

    def of(self, trace: Trace) -> int:
        """See Vote."""
        answer = self.member.of(trace)
        return answer if answer == _ERROR else _TRUE - answer

    def rate(self, trace: Trace) -> float:
        """See Vote."""
        if self.by_chance:
            return 1.0 - self.member.rate(trace)
        return 1.0 if self.of(trace) == _TRUE else 0.0


def _rounded(value: float) -> int:
    """Go's `math.Round`: halves away from zero. Beyond 2**53 a double is whole."""
    return math.floor(value + 0.5) if value < 2.0**52 else int(value)
