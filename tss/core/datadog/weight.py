"""What a kept span stands for: Datadog counts it 1 / `_sample_rate` times."""

from __future__ import annotations

import math
import re

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tss.core.sampling.probability import SPACE

_THRESHOLD = re.compile("[0-9a-f]{1,14}")
_POWER = re.compile("[0-9]{1,2}")
_NEVER = 63  # the power that means: not sampled


def kept_share(span: Span, rate: float) -> float:
    """The probability with which such a span gets through the head sampler and this daemon together.

    A head sampler that says so in `ot=th` compared the trace id with a threshold, as this daemon does: then the lower
    rate is that of both. One that brought its own randomness (`rv`; `p`, before there was `th`), or its own
    `_sample_rate`, knew nothing of ours: then they multiply.
    """
    if (head := _told_rate(span)) is not None:
        return head * rate if 0 < head <= 1 else rate
    told = _ot_values(span.trace_state)
    if _THRESHOLD.fullmatch(threshold := told.get("th", "")):
        head = 1 - int(threshold.ljust(14, "0"), 16) / SPACE
        return head * rate if "rv" in told else min(head, rate)
    if _POWER.fullmatch(power := told.get("p", "")) and int(power) < _NEVER:
        return math.ldexp(rate, -int(power))
    return rate


def _told_rate(span: Span) -> float | None:
    for pair in span.attributes:
        if pair.key == "_sample_rate":
            sort = pair.value.WhichOneof("value")
            return float(getattr(pair.value, sort)) if sort in ("double_value", "int_value") else None
    return None


def _ot_values(trace_state: str) -> dict[str, str]:
    """OpenTelemetry's part of a trace state: `ot=th:c;rv:...` (OTEP 235)."""
    for member in trace_state.split(","):
        vendor, _, values = member.strip().partition("=")
        if vendor == "ot":
            return {key: value for key, _, value in (pair.partition(":") for pair in values.split(";"))}
    return {}
