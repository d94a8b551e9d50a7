"""Consistent probability: a trace id against a threshold of 56 bits (W3C Trace Context level 2, OTEP 235)."""

from __future__ import annotations

import functools

SPACE = 1 << 56


def randomness(trace_id: bytes) -> int:
    """R: the last 56 bits of the trace id, the same on every replica and in every rerun."""
    value = 0
    for at in range(len(trace_id) - 7, len(trace_id)):
        value = value << 8 | trace_id[at]
    return value


@functools.lru_cache(1024)  # the policies ask for the same few rates again and again
def threshold(rate: float) -> int:
    """T: a trace is kept if R >= T. Rates are in [0, 1]; 1 gives 0 (all), 0 gives 2**56 (none)."""
    return round((1 - rate) * SPACE)
