"""How many spans one stands for, whose others a sampler in front of us has left out."""

from __future__ import annotations

from tss.core.head import SAMPLE_RATE, head
from tss.core.otlp import Value
from tss.core.otlp.attributes import value_of

SAMPLE_RATE_KEY = SAMPLE_RATE.encode()
# As in the statistics: one span that tells nonsense must not drown, or make infinite, all that is counted.
MOST = 1 << 20


def weight(sample_rate: Value | None, trace_state: bytes) -> float:
    """1 over the probability with which it was kept, as it tells itself; 1 when it says nothing that can be right."""
    told = head(sample_rate, trace_state.decode("utf-8", "replace"))
    return 1.0 if told is None else 1 / max(told.rate, 1 / MOST)


def weight_of_bytes(sample_rate: bytes, trace_state: bytes) -> float:
    """The same, where the rate is a serialized attribute, or empty."""
    return weight(value_of(sample_rate), trace_state)
