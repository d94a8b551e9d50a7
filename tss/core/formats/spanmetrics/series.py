"""What a series of span metrics is: its names, its bounds, its numbers.

Names and ideas are those of the OpenTelemetry Collector's `spanmetrics` connector, so that its dashboards and alerts work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import attrs

CALLS = "traces.span.metrics.calls"
DURATION = "traces.span.metrics.duration"
OVERFLOW = "otel.metric.overflow"
KEYS = ("service.name", "span.name", "span.kind", "status.code")  # of every series, before the dimensions

UNKNOWN_SERVICE = "unknown_service"  # as OpenTelemetry's SDKs call it; the connector leaves such spans out
KINDS = tuple(f"SPAN_KIND_{name}" for name in ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"))
STATUSES = tuple(f"STATUS_CODE_{name}" for name in ("UNSET", "OK", "ERROR"))
MAX_LABEL_CHARS = 200  # law 5: a label is for telling series apart, and a statement of 10 kB in a span's name is not

# Of a series on average: 16 dimensions of 200 letters that are not Latin take 16 kB, and usual ones 600 bytes.
LABEL_BYTES = 2000


@attrs.frozen
class Dimension:
    """An attribute, of the span or else of its resource, that tells series apart; absent ones have the default."""

    key: str
    default: str | None = None


@attrs.frozen
class Shape:
    """What is counted. ``bounds_ns`` are the histogram's upper bounds, rising; a value at a bound is below it."""

    dimensions: tuple[Dimension, ...] = ()
    bounds_ns: tuple[int, ...] = (2_000_000, 10_000_000, 100_000_000, 1_000_000_000)
    max_series: int = 10_000
    exemplars: bool = True

    @property
    def max_label_bytes(self) -> int:
        """What the labels of all series may take; once they do, further series are overflow, as beyond `max_series`."""
        return self.max_series * LABEL_BYTES

    @property
    def keys(self) -> tuple[str, ...]:
        """What a series' labels are called."""
        return (*KEYS, *(dimension.key for dimension in self.dimensions))


Labels = tuple[str | None, ...]
"""The values for `Shape.keys`; None is absent. Of the overflow all but the status are."""

# The first series: what no other has room for, by status, so that the share of errors stays right even then.
OVERFLOWS: tuple[Labels, ...] = tuple((None, None, None, status) for status in STATUSES)


class Exemplar(NamedTuple):
    """A span of a kept trace: the newest of its series in its bucket. ``order`` is which of all counted spans it was."""

    bucket: int
    order: int
    trace_id: bytes
    span_id: bytes
    duration_ns: int
    end_ns: int


class Point(NamedTuple):
    """What a series has come to. ``counts`` are the spans by bucket, the last one of all that is longer."""

    counts: Sequence[int]
    sum_ns: float
    exemplars: Sequence[Exemplar]


def bytes_of(labels: Labels) -> int:
    """What the labels of a series take in memory, with their places in a dict and a list, and the tuple's in the collector."""
    return 150 + 16 + labels.__sizeof__() + sum(label.__sizeof__() for label in labels)


def rounded(counts: Sequence[float]) -> list[int]:
    """Whole spans by bucket. Of spans that were sampled at the head each counts for several, which need be no whole
    number; the exact sums are kept, so this is never off by more than half a span, and never falls."""
    return [round(count) for count in counts]
