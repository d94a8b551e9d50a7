"""The rate of a head sampler, read from the spans of the trace.

Sources: OpenTelemetry, "TraceState: Probability Sampling" (`ot=th`, and `ot=p` before it); W3C, "Trace Context", section
"tracestate Header"; the Datadog agent's OTLP intake for `_sample_rate`.
"""

from __future__ import annotations

import re

import attrs

SAMPLE_RATE = "_sample_rate"

_SPACE = 1 << 56  # of thresholds
_THRESHOLD = re.compile("[0-9a-f]{1,14}")
_POWER = re.compile("[0-9]{1,2}")
_NEVER = 63  # this power means: not sampled


@attrs.frozen
class Head:
    """``rate`` is the probability with which the head sampler kept the span, above 0. ``own``: it used its own randomness.

    Otherwise it compared the trace id with a threshold, as this daemon does. Then the rate of both together is the lower one.
    """

    rate: float
    own: bool


def head(sample_rate: object, trace_state: str) -> Head | None:
    """The head sampler, from a span's `_sample_rate`, else from its trace state. None if neither has a valid rate."""
    if isinstance(sample_rate, int | float) and not isinstance(sample_rate, bool) and 0 < sample_rate <= 1:
        return Head(float(sample_rate), own=True)
    told = _of_opentelemetry(trace_state)
    if _THRESHOLD.fullmatch(threshold := told.get("th", "")):
        rate = (_SPACE - int(threshold.ljust(14, "0"), 16)) / _SPACE
        return Head(rate, own="rv" in told)
    if _POWER.fullmatch(power := told.get("p", "")) and int(power) < _NEVER:
        return Head(1 / (1 << int(power)), own=True)
    return None


def _of_opentelemetry(trace_state: str) -> dict[str, str]:
    """OpenTelemetry's member of a trace state, `ot=th:c;rv:...`, by key. The first of two counts, because the newest
    member is written first."""
    for member in trace_state.split(","):
        vendor, _, values = member.strip(" \t").partition("=")
        if vendor == "ot":
            pairs = [pair.partition(":") for pair in values.split(";")]
            return {key: value for key, _, value in reversed(pairs)}
    return {}
