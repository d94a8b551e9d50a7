"""Consistent probability: a trace id against a threshold of 56 bits (W3C Trace Context level 2, OTEP 235)."""

from __future__ import annotations

import functools
import math

SPACE = 1 << 56
DIGITS = 14  # hexadecimal, of a number below SPACE


def randomness(trace_id: bytes) -> int:
    """R: the last 56 bits of the trace id, the same on every replica and in every rerun."""
    value = 0
    for at in range(len(trace_id) - 7, len(trace_id)):
        value = value << 8 | trace_id[at]
    return value


@functools.lru_cache(1024)  # the policies ask for the same few rates again and again
def threshold(rate: float) -> int:
    """T: a trace is kept if R >= T. Rates are in [0, 1]; 1 gives 0 (all), 0 gives 2**56 (none).

    As the Collector's pkg/sampling: the rate is rounded to a multiple of 2**-56, halves up. `1 - rate` would round it to
    2**-53 before that.
    """
    scaled = rate * SPACE  # exact: SPACE is a power of two
    whole = math.floor(scaled)
    return SPACE - whole - (scaled - whole >= 0.5)
