"""How many spans one span represents, if a sampler before this daemon dropped the others."""

from __future__ import annotations

from tss.core.head import SAMPLE_RATE, head
from tss.core.otlp import Value
from tss.core.otlp.attributes import value_of

SAMPLE_RATE_KEY = SAMPLE_RATE.encode()
# As in the APM statistics: one span with a nonsensical rate must not outweigh all others, or make a sum infinite.
MOST = 1 << 20


def weight(sample_rate: Value | None, trace_state: bytes) -> float:
    """1 / the rate of the head sampler, from the span's `_sample_rate` or trace state; 1 if neither gives a valid rate."""
    told = head(sample_rate, trace_state.decode("utf-8", "replace"))
    return 1.0 if told is None else 1 / max(told.rate, 1 / MOST)


def weight_of_bytes(sample_rate: bytes, trace_state: bytes) -> float:
    """The same; `sample_rate` is the serialized attribute, or empty."""
    return weight(value_of(sample_rate), trace_state)
