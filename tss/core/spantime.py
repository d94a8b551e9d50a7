"""A span's start and duration for formats that need both: a producer may leave them out, or use another unit.

Source: the Datadog agent's `traceutil/normalize` (0.85.2), which treats a start before the year 2000 as unknown too. The
agent then subtracts the duration from its own clock. For a start of 0 that duration is the whole time since 1970; here
such a duration is ignored.
"""

from __future__ import annotations

YEAR_2000_NS = 946_684_800 * 1_000_000_000
MAX_INT64 = 2**63 - 1  # in the year 2262


def start_and_duration(start_ns: int, end_ns: int, now_ns: int) -> tuple[int, int]:
    """A span's start and duration in ns, each within 0 to 2 ** 63 - 1, from the two times of OTLP.

    If only the start is unknown, it is the end, and the duration is 0. If both are unknown, the span ended at ``now_ns``,
    and its duration is their difference (too short if their unit is larger than a nanosecond). A negative ``now_ns`` means
    that the time is unknown: such a span keeps its times.
    """
    if _is_known(start_ns):
        return start_ns, end_ns - start_ns if start_ns <= end_ns <= MAX_INT64 else 0
    if _is_known(end_ns):
        return end_ns, 0
    duration_ns = end_ns - start_ns if start_ns <= end_ns < YEAR_2000_NS else 0
    return min(start_ns, MAX_INT64) if now_ns < 0 else max(0, now_ns - duration_ns), duration_ns


def _is_known(time_ns: int) -> bool:
    return YEAR_2000_NS <= time_ns <= MAX_INT64
