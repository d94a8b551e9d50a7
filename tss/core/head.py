"""The rate of a head sampler, read from the spans of the trace.

Sources: OpenTelemetry, "TraceState: Probability Sampling" (`ot=th`, and `ot=p` before it); the Datadog agent's OTLP intake for
`_sample_rate`.
"""

from __future__ import annotations

import re

import attrs

from tss.core.tracestate import read

SAMPLE_RATE = "_sample_rate"

_SPACE = 1 << 56  # of thresholds
_POWER = re.compile("[0-9]{1,2}")
_NEVER = 63  # this power means: not sampled


@attrs.frozen
class Head:
    """``rate`` is the probability with which the head sampler kept the span, above 0. ``own``: it used its own randomness.

    Otherwise it compared the trace's randomness with a threshold, as this daemon does. Then the rate of both together is the
    lower one.
    """

    rate: float
    own: bool


def head(sample_rate: object, trace_state: str) -> Head | None:
    """The head sampler, from a span's `_sample_rate`, else from its trace state. None if neither has a valid rate."""
    if isinstance(sample_rate, int | float) and not isinstance(sample_rate, bool) and 0 < sample_rate <= 1:
        return Head(float(sample_rate), own=True)
    told = read(trace_state.encode("utf-8", "surrogatepass"))
    if told is None:
        return None
    if told.th >= 0:
        return Head((_SPACE - told.th) / _SPACE, own=False)
    power = dict(reversed(told.others)).get("p", "")
    if _POWER.fullmatch(power) and int(power) < _NEVER:
        return Head(1 / (1 << int(power)), own=True)
    return None
