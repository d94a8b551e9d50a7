"""Span metrics as Prometheus reads them, in its text format or in OpenMetrics, which alone has exemplars.

Written here and not by prometheus-client, which makes objects of every line: of ten thousand series there are two hundred
thousand, and the event loop waits for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Protocol

from tss.core.spanmetrics.series import (
    CALLS,
    DURATION,
    OVERFLOW,
    OVERFLOWS,
    Exemplar,
    Labels,
    Point,
    Shape,
)

UNITS = {"ms": ("milliseconds", 1_000_000), "s": ("seconds", 1_000_000_000)}  # name, ns
_CALLS_HELP = "Spans by the series they belong to, kept and dropped alike; each counts for those left out at the head."
_DURATION_HELP = "How long they took."


class Counted(Protocol):
    """Where the numbers are, compiled or not."""

    @property
    def shape(self) -> Shape:
        """What is counted."""

    @property
    def spans(self) -> int:
        """How many spans have been counted."""

    @property
    def labels(self) -> Sequence[Labels]:
        """Of each series, by its number; they only ever become more."""

    def point(self, number: int) -> Point:
        """What a series has come to."""


class Exposition:
    """Writes them. ``unit`` is `ms` or `s`."""

    def __init__(self, counted: Counted, unit: str) -> None:
        self._counted = counted
        self._unit, self._unit_ns = UNITS[unit]
        self._calls, duration = prometheus_name(CALLS), f"{prometheus_name(DURATION)}_{self._unit}"
        self._duration = duration
        self._keys = [*map(prometheus_name, counted.shape.keys)]
        self._bounds = [*(_number(bound / self._unit_ns) for bound in counted.shape.bounds_ns), "+Inf"]
        self._written: list[str] = []  # the labels of each series, as they stand in its lines

    def text(self, openmetrics: bool) -> str:
        """Both metrics, with all their series."""
        return "".join(self._pieces(openmetrics))

    def _pieces(self, openmetrics: bool) -> Iterator[str]:
        points = [(labels, point) for labels, point in self._points() if any(point.counts)]
        total = "" if openmetrics else "_total"
        yield f"# HELP {self._calls}{total} {_CALLS_HELP}\n# TYPE {self._calls}{total} counter\n"
        for labels, point in points:
            yield f"{self._calls}_total{{{labels}}} {sum(point.counts)}\n"
        yield f"# HELP {self._duration} {_DURATION_HELP}\n# TYPE {self._duration} histogram\n"
        if openmetrics:
            yield f"# UNIT {self._duration} {self._unit}\n"
        for labels, point in points:
            yield self._histogram(labels, point, openmetrics)

    def _points(self) -> Iterator[tuple[str, Point]]:
        labels = self._counted.labels
        for number in range(len(self._written), len(labels)):
            self._written.append(self._labels(labels[number], overflow=number < len(OVERFLOWS)))
        for number, written in enumerate(self._written):
            yield written, self._counted.point(number)

    def _labels(self, labels: Labels, *, overflow: bool) -> str:
        pairs = [(key, value) for key, value in zip(self._keys, labels, strict=False) if value is not None]
        if overflow:
            pairs.insert(0, (prometheus_name(OVERFLOW), "true"))
        return ",".join(f'{key}="{_escaped(value)}"' for key, value in pairs)

    def _histogram(self, labels: str, point: Point, openmetrics: bool) -> str:
        name, counts = self._duration, [*accumulate(point.counts)]
        start = f'{name}_bucket{{{labels},le="'
        lines = [f'{start}{bound}"}} {count}' for bound, count in zip(self._bounds, counts, strict=True)]
        if openmetrics:
            for found in point.exemplars:
                lines[found.bucket] += self._exemplar(found)
        lines.append(f"{name}_count{{{labels}}} {counts[-1]}")
        lines.append(f"{name}_sum{{{labels}}} {point.sum_ns / self._unit_ns!r}\n")
        return "\n".join(lines)

    def _exemplar(self, found: Exemplar) -> str:
        value, secs = found.duration_ns / self._unit_ns, found.end_ns / 1e9
        return f' # {{trace_id="{found.trace_id.hex()}",span_id="{found.span_id.hex()}"}} {value!r} {secs:.3f}'


def prometheus_name(key: str) -> str:
    """As OpenTelemetry's names become Prometheus': `http.route` is http_route."""
    name = re.sub(r"[^a-zA-Z0-9_]", "_", key)
    return f"key_{name}" if name[:1].isdigit() else name


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    """A bound as prometheus-client writes it: OpenMetrics asks for 1.0 and not 1."""
    return repr(float(value))
