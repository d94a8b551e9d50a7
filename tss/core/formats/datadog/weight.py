"""How many spans a kept span represents: Datadog counts it 1 / `_sample_rate` times."""

from __future__ import annotations

from tss.core.head import head


def kept_share(sample_rate: object, trace_state: str, rate: float, *, weighted: bool = True) -> float:
    """The probability with which a span passes both the head sampler and this daemon.

    ``sample_rate`` is the value of the span's `_sample_rate`, ``rate`` the rate of this daemon's decision. A head sampler
    without its own randomness decides by the trace's, like this daemon, so the lower rate applies to both. The decisions
    of any other head sampler are independent, so the rates are multiplied. So are all if the decision is not ``weighted``.
    """
    told = head(sample_rate, trace_state)
    if told is None:
        return rate
    return told.rate * rate if told.own or not weighted else min(told.rate, rate)
