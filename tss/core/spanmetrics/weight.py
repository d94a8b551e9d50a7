"""How many spans one stands for, whose others a sampler in front of us has left out.

Sources: OpenTelemetry, "TraceState: Probability Sampling"; the Datadog agent's OTLP intake for `_sample_rate`.
"""

from __future__ import annotations

import re

from google.protobuf.message import DecodeError

from tss.core.otlp import Value, schema
from tss.core.spanmetrics.naming import value_of

SAMPLE_RATE = b"_sample_rate"

_MEMBER = re.compile(rb"(?:^|,)[ \t]*ot=([^,]*)")
_THRESHOLD = re.compile(rb"(?:^|;)th:([0-9a-f]{1,14})[ \t]*(?:;|$)")
_ALL = 1 << 56
# As in the statistics: one span that tells nonsense must not drown, or make infinite, all that is counted.
MOST = 1 << 20


def weight(sample_rate: Value | None, trace_state: bytes) -> float:
    """1 over the probability with which it was kept, as it tells itself; 1 when it says nothing that can be right."""
    if isinstance(sample_rate, int | float) and not isinstance(sample_rate, bool) and 0 < sample_rate <= 1:
        return 1 / max(sample_rate, 1 / MOST)
    return _of_threshold(trace_state) if trace_state else 1.0


def weight_of_bytes(sample_rate: bytes | None, trace_state: bytes) -> float:
    """The same, where the rate is a serialized AnyValue."""
    if sample_rate is None:
        return weight(None, trace_state)
    try:
        return weight(value_of(schema.AnyValue.FromString(sample_rate)), trace_state)
    except DecodeError:
        return weight(None, trace_state)


def _of_threshold(trace_state: bytes) -> float:
    member = _MEMBER.search(trace_state)
    found = member and _THRESHOLD.search(member[1])
    if not found:
        return 1.0
    threshold = int(found[1].ljust(14, b"0"), 16)
    return min(_ALL / (_ALL - threshold), MOST)
