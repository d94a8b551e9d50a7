"""Weights: what a span's trace state says of the probability with which the span was kept, `ot=th` and `ot=rv`.

Sources: W3C, "Trace Context Level 2", section "tracestate Header"; OpenTelemetry, "TraceState Handling" and "TraceState:
Probability Sampling" (OTEP 235). Where they leave a choice, this module chooses as the Collector's pkg/sampling.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Final, NamedTuple
from zlib import crc32

import attrs

from tss.core import tracestate
from tss.core.decision import Decision
from tss.core.policies.probability import DIGITS, SPACE, randomness, threshold

# What became of a span's trace state.
WEIGHTED, INVALID, CONTRADICTED, FULL, OLD = range(5)
REASONS: Final = {INVALID: "invalid", CONTRADICTED: "contradicted", FULL: "full", OLD: "old_sampler"}
"""Why a span carries no weight: the label of the metric, by outcome."""

UNKNOWN = -1  # in place of a threshold or a randomness

MOST_BYTES = 512  # which every participant has to pass on (W3C); a longer trace state does not become longer still


class Weight(NamedTuple):  # made for each kept trace
    """What the spans of a kept trace are to carry.

    ``threshold`` of the decision, in [0, 2**56); UNKNOWN if the decision is not weighted: then no span may have one.
    ``randomness`` is that of the trace id. ``rv`` is the one that a span of the trace brought, else UNKNOWN.
    """

    threshold: int
    randomness: int
    rv: int = UNKNOWN

    @classmethod
    def of(cls, decision: Decision, trace_id: bytes, rv: int = UNKNOWN) -> Weight:
        """The weight that a decision to keep gives."""
        return cls(threshold(decision.rate) if decision.weighted else UNKNOWN, randomness(trace_id), rv)


@attrs.frozen
class TraceState:
    """A valid trace state in its parts. ``th`` and ``rv`` are as they came, empty if there is none."""

    th: bytes = b""
    rv: bytes = b""
    pairs: Sequence[bytes] = ()  # the other pairs of ``ot``, in order
    members: Sequence[bytes] = ()  # the members of others, in order

    @classmethod
    def parse(cls, text: bytes) -> TraceState | None:
        """None if the text is not valid. Of two equal keys of OpenTelemetry's the last counts, as in `tracestate.read`."""
        members = tracestate.members(text)
        if members is None:
            return None
        found = cls()
        for key, value in members:
            if key == b"ot":
                if tracestate.ot(value) is None:
                    return None
                pairs = value.split(b";")
                own = {pair[:3]: pair[3:] for pair in pairs}
                others = [pair for pair in pairs if pair[:3] not in (b"th:", b"rv:")]
                found = cls(own.get(b"th:", b""), own.get(b"rv:", b""), others)
        return attrs.evolve(found, members=[key + b"=" + value for key, value in members if key != b"ot"])

    @property
    def ot(self) -> bytes:
        """The value of the member ``ot``; empty if there is nothing to say."""
        own = [*([b"rv:" + self.rv] if self.rv else ()), *([b"th:" + self.th] if self.th else ())]
        return b";".join([*own, *self.pairs])

    def text(self) -> bytes:
        """The trace state as a text, ``ot`` first, because whoever changes a member moves it there."""
        ot = self.ot
        return b",".join([*([b"ot=" + ot] if ot else ()), *self.members])


def th_of(threshold: int) -> bytes:
    """A threshold in [0, 2**56) as `th`: 14 hexadecimal digits without the zeros at the end. 0 is ``0``."""
    return (b"%014x" % threshold).rstrip(b"0") or b"0"


def threshold_of(th: bytes) -> int:
    """The threshold that a `th` of 1 to 14 hexadecimal digits means."""
    return int(th.ljust(DIGITS, b"0"), 16)


def adjusted_count(threshold: int) -> float:
    """How many spans one stands for that passed this threshold: 1 / the probability to pass it."""
    return SPACE / (SPACE - threshold)


def weighed(text: bytes, weight: Weight) -> tuple[bytes | None, int]:
    """A span's trace state with the weight of its trace; None if it stays as it is. And the outcome.

    The larger of both thresholds counts, the span's own and the decision's. The span passed both, and both were compared
    with the same randomness, so it passed exactly if it passed the larger. A threshold above the span's randomness cannot
    be true: it is taken out, and none is written.
    """
    if not text and weight.rv == UNKNOWN:
        return _first(weight.threshold, weight.randomness)
    state = TraceState.parse(text)
    if state is None:
        return None, INVALID
    own = threshold_of(state.th) if state.th else UNKNOWN
    if weight.threshold == UNKNOWN:
        return _without(state), WEIGHTED
    if own == UNKNOWN and _has_old(state):
        return None, OLD
    rv = state.rv or (b"%014x" % weight.rv if weight.rv != UNKNOWN else b"")
    highest = max(own, weight.threshold)
    if (int(rv, 16) if rv else weight.randomness) < highest:
        return _without(state), CONTRADICTED
    if highest == own and rv == state.rv:
        return None, WEIGHTED
    changed = attrs.evolve(state, th=state.th if highest == own else th_of(highest), rv=rv)
    new = changed.text()
    if (
        len(new) > max(MOST_BYTES, len(text))
        or len(changed.ot) > tracestate.MOST_OF_OURS
        or len(changed.members) >= tracestate.MOST_MEMBERS
    ):
        return _without(state), FULL
    return new, WEIGHTED


def count_of(text: bytes, weight: Weight) -> float:
    """How many spans a kept span with this trace state stands for; 0 if that is unknown."""
    if weight.threshold == UNKNOWN:
        return 0.0
    state = TraceState.parse(text) if text else None
    if state is None or not state.th:
        return 0.0 if state is not None and _has_old(state) else adjusted_count(weight.threshold)
    own = threshold_of(state.th)
    found = int(state.rv, 16) if state.rv else weight.randomness
    return adjusted_count(max(own, weight.threshold)) if found >= own else 0.0


def chance_of(trace_id: bytes) -> float:
    """A number in [0, 1), the same for each span of the trace, and independent of its randomness."""
    return crc32(trace_id) / (1 << 32)


@functools.lru_cache(1024)
def _only(threshold: int) -> bytes:
    return b"ot=th:" + th_of(threshold)


def _first(threshold: int, randomness: int) -> tuple[bytes | None, int]:
    """For a span without a trace state, the usual case."""
    if threshold == UNKNOWN:
        return None, WEIGHTED
    return (_only(threshold), WEIGHTED) if randomness >= threshold else (None, CONTRADICTED)


def _has_old(state: TraceState) -> bool:
    """Whether a head sampler wrote its rate as there was before `th`. It had a randomness of its own."""
    return any(pair.startswith(b"p:") for pair in state.pairs)


def _without(state: TraceState) -> bytes | None:
    """The trace state without the threshold. None if it has none."""
    return attrs.evolve(state, th=b"").text() if state.th else None
