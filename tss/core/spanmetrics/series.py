"""What a series of span metrics is: its names, its bounds, its numbers.

Names and ideas are those of the OpenTelemetry Collector's `spanmetrics` connector, so that its dashboards and alerts work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import attrs

from tss.core.otlp import Value

CALLS = "traces.span.metrics.calls"
DURATION = "traces.span.metrics.duration"
OVERFLOW = "otel.metric.overflow"
KEYS = ("service.name", "span.name", "span.kind", "status.code")  # of every series, before the dimensions

UNKNOWN_SERVICE = "unknown_service"  # as OpenTelemetry's SDKs call it; the connector leaves such spans out
KINDS = tuple(f"SPAN_KIND_{name}" for name in ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"))
STATUSES = tuple(f"STATUS_CODE_{name}" for name in ("UNSET", "OK", "ERROR"))
MAX_LABEL_CHARS = 200  # law 5: a label is for telling series apart, and a statement of 10 kB in a span's name is not


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


def overflow_of(status: int) -> int:
    """The number of the overflow series for spans of this status code."""
    return status if 0 <= status < len(STATUSES) else 0


class Table:
    """The series by their labels. Numbers are given in the order of appearance, the overflow's first."""

    def __init__(self, shape: Shape) -> None:
        self._dimensions = shape.dimensions
        self._defaults = [None if each.default is None else each.default[:MAX_LABEL_CHARS] for each in shape.dimensions]
        self._numbers: dict[Labels, int] = {}
        self.labels: list[Labels] = list(OVERFLOWS)

    def number(self, service: Value | None, name: bytes, kind: int, status: int, values: Sequence[Value | None]) -> int:
        """The series that is named so, a new one if there is none: values that differ may be alike once they are cut."""
        labels = (
            _label(service) or UNKNOWN_SERVICE,
            name.decode("utf-8", "replace")[:MAX_LABEL_CHARS],
            KINDS[kind] if 0 <= kind < len(KINDS) else KINDS[0],
            STATUSES[overflow_of(status)],
            *(_label(value) or default for value, default in zip(values, self._defaults, strict=True)),
        )
        number = self._numbers.get(labels)
        if number is None:
            number = self._numbers[labels] = len(self.labels)
            self.labels.append(labels)
        return number


def _label(value: Value | None) -> str | None:
    """A value as the Collector writes it, cut. Arrays, maps and bytes tell nothing apart that anyone would ask for."""
    match value:
        case None | bytes() | "":  # to Prometheus a label that is empty is one that is not there
            return None
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer() and abs(value) < 1e21:
            return str(int(value))
    return str(value)[:MAX_LABEL_CHARS]


def rounded(counts: Sequence[float]) -> list[int]:
    """Whole spans by bucket. Of spans that were sampled at the head each counts for several, which need be no whole
    number; the exact sums are kept, so this is never off by more than half a span, and never falls."""
    return [round(count) for count in counts]
