"""A series of span metrics: the names of its labels, its buckets, its counts.

The names are those of the OpenTelemetry Collector's `spanmetrics` connector, so that its dashboards and alerts work here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import attrs

CALLS = "traces.span.metrics.calls"
DURATION = "traces.span.metrics.duration"
OVERFLOW = "otel.metric.overflow"
KEYS = ("service.name", "span.name", "span.kind", "status.code")  # the labels of every series, before the dimensions

UNKNOWN_SERVICE = "unknown_service"  # the name that OpenTelemetry's SDKs use; the connector ignores such spans
KINDS = tuple(f"SPAN_KIND_{name}" for name in ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"))
STATUSES = tuple(f"STATUS_CODE_{name}" for name in ("UNSET", "OK", "ERROR"))
MAX_LABEL_CHARS = 200  # law 5: labels distinguish series; a statement of 10 kB as a span's name would not

# Allowed per series on average. Usual labels take 600 bytes; 16 dimensions of 200 non-Latin characters take 16 kB.
LABEL_BYTES = 2000


@attrs.frozen
class Dimension:
    """An attribute of the span, or else of its resource, that distinguishes series. ``default`` is used if it is absent."""

    key: str
    default: str | None = None


@attrs.frozen
class Shape:
    """What is counted. ``bounds_ns`` are the histogram's upper bounds in rising order; a bound belongs to its bucket."""

    dimensions: tuple[Dimension, ...] = ()
    bounds_ns: tuple[int, ...] = (2_000_000, 10_000_000, 100_000_000, 1_000_000_000)
    max_series: int = 10_000
    exemplars: bool = True

    @property
    def max_label_bytes(self) -> int:
        """The limit in bytes for the labels of all series. Beyond it, as beyond `max_series`, new series are overflow."""
        return self.max_series * LABEL_BYTES

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of a series' labels."""
        return (*KEYS, *(dimension.key for dimension in self.dimensions))


Labels = tuple[str | None, ...]
"""The values for `Shape.keys`; None means absent. The overflow series have only the status."""

# The first series count spans whose series has no room. There is one per status, so that the share of errors stays right.
OVERFLOWS: tuple[Labels, ...] = tuple((None, None, None, status) for status in STATUSES)


class Exemplar(NamedTuple):
    """The newest span of a kept trace in a bucket of a series. ``order`` is its number among all counted spans."""

    bucket: int
    order: int
    trace_id: bytes
    span_id: bytes
    duration_ns: int
    end_ns: int


class Point(NamedTuple):
    """The counts of a series. ``counts`` are spans by bucket; the last bucket has all spans above the highest bound."""

    counts: Sequence[int]
    sum_ns: float
    exemplars: Sequence[Exemplar]


def bytes_of(labels: Labels) -> int:
    """The memory of a series' labels: with their entries in a dict and a list, and the tuple's garbage collector header."""
    return 150 + 16 + labels.__sizeof__() + sum(label.__sizeof__() for label in labels)


def rounded(counts: Sequence[float]) -> list[int]:
    """The counts by bucket as whole numbers. A span that was sampled at the head represents several spans, not always a whole
    number. The exact sums are kept, so the error never exceeds half a span, and a count never falls."""
    return [round(count) for count in counts]
