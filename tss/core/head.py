"""The rate of a sampler at the head of the trace, as its spans tell it.

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
_NEVER = 63  # the power that means: not sampled


@attrs.frozen
class Head:
    """``rate`` is the probability with which it kept the span, above 0. ``own``: it had randomness of its own.

    A head sampler without compared the trace id with a threshold, as this daemon does: then the lower rate is that of both.
    """

    rate: float
    own: bool


def head(sample_rate: object, trace_state: str) -> Head | None:
    """From the value of a span's `_sample_rate`, or else from its trace state. None if neither says anything that can
    be right."""
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
    """OpenTelemetry's member of a trace state, `ot=th:c;rv:...`, by key. Of two the first counts: the newest is written
    in front."""
    for member in trace_state.split(","):
        vendor, _, values = member.strip(" \t").partition("=")
        if vendor == "ot":
            pairs = [pair.partition(":") for pair in values.split(";")]
            return {key: value for key, _, value in reversed(pairs)}
    return {}
