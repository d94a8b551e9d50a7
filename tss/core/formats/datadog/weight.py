"""What a kept span stands for: Datadog counts it 1 / `_sample_rate` times."""

from __future__ import annotations

from tss.core.head import head


def kept_share(sample_rate: object, trace_state: str, rate: float) -> float:
    """The probability with which such a span gets through the head sampler and this daemon together.

    ``sample_rate`` is the value of its `_sample_rate`. A head sampler without randomness of its own decides by the trace
    id, as this daemon does: then the lower rate is that of both. Any other knew nothing of ours: then they multiply.
    """
    told = head(sample_rate, trace_state)
    if told is None:
        return rate
    return told.rate * rate if told.own else min(told.rate, rate)
