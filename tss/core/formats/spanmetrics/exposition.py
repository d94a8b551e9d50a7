"""Span metrics in Prometheus' text format or in OpenMetrics. Only OpenMetrics has exemplars.

prometheus-client is not used, because it makes objects of every line: ten thousand series have two hundred thousand lines.
The text is made in pieces, so that no piece blocks the event loop for long.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Protocol

from tss.core.formats.spanmetrics.series import (
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
PIECE_SERIES = 64  # with all their exemplars: 2 to 4 ms of work, 250 kB
PIECE_CALLS = 1024  # one line each: 0.5 ms
_CALLS_HELP = "Spans by series, kept and dropped; a span sampled at the head counts for those it represents."
_DURATION_HELP = "Durations of the spans by series."


class Counted(Protocol):
    """The counts of `SpanMetrics`, compiled or not."""

    @property
    def shape(self) -> Shape:
        """What is counted."""

    @property
    def spans(self) -> int:
        """How many spans have been counted."""

    @property
    def labels(self) -> Sequence[Labels]:
        """The labels of each series, by its number. Series are only ever added."""

    def point(self, number: int) -> Point:
        """The counts of a series."""


class Exposition:
    """Writes the metrics for Prometheus. ``unit`` is `ms` or `s`."""

    def __init__(self, counted: Counted, unit: str) -> None:
        self._counted = counted
        self._unit, self._unit_ns = UNITS[unit]
        self._calls, duration = prometheus_name(CALLS), f"{prometheus_name(DURATION)}_{self._unit}"
        self._duration = duration
        self._keys = [*map(prometheus_name, counted.shape.keys)]
        self._bounds = [*(_number(bound / self._unit_ns) for bound in counted.shape.bounds_ns), "+Inf"]
        lines = [f'_bucket{{%s,le="{bound}"}} %s' for bound in self._bounds]
        lines += ["_count{%s} %s", "_sum{%s} %s"]
        # The lines of one series, with its labels and its numbers in turn.
        self._template = "".join(f"{self._duration}{line}\n" for line in lines)
        self._fields = 2 * len(lines)
        self._written: list[str] = []  # the labels of each series as text

    def text(self, openmetrics: bool) -> str:
        """Both metrics, with all their series."""
        return "".join(self.pieces(openmetrics))

    def pieces(self, openmetrics: bool) -> Iterator[str]:
        """The same text in pieces of a few milliseconds of work. Spans may be counted between two pieces.

        All numbers of one series are from the same instant: its calls always equal the count of its durations. For that the
        calls are remembered, in 8 bytes per series. The numbers of two series may be from different instants.
        """
        calls = array("q")
        yield self._durations_head(openmetrics)
        for first in range(0, len(self._counted.labels), PIECE_SERIES):
            yield self._durations(first, calls, openmetrics)
        total = "" if openmetrics else "_total"
        yield f"# HELP {self._calls}{total} {_CALLS_HELP}\n# TYPE {self._calls}{total} counter\n"
        for first in range(0, len(calls), PIECE_CALLS):
            written = self._written[first : first + PIECE_CALLS]
            yield "".join(
                f"{self._calls}_total{{{labels}}} {count}\n"
                for labels, count in zip(written, calls[first : first + PIECE_CALLS], strict=False)
                if count
            )

    def _durations_head(self, openmetrics: bool) -> str:
        unit = f"# UNIT {self._duration} {self._unit}\n" if openmetrics else ""
        return f"# HELP {self._duration} {_DURATION_HELP}\n# TYPE {self._duration} histogram\n{unit}"

    def _durations(self, first: int, calls: array[int], openmetrics: bool) -> str:
        """The durations of up to PIECE_SERIES series from `first` on. Their calls are appended to `calls`."""
        labels = self._counted.labels
        stop = min(first + PIECE_SERIES, len(labels))
        for number in range(len(self._written), stop):
            self._written.append(self._labels(labels[number], overflow=number < len(OVERFLOWS)))
        lines: list[str] = []
        for number in range(first, stop):
            point = self._counted.point(number)
            counts = [*accumulate(point.counts)]
            calls.append(counts[-1])
            if counts[-1]:
                lines.append(self._histogram(self._written[number], counts, point, openmetrics))
        return "".join(lines)

    def _labels(self, labels: Labels, *, overflow: bool) -> str:
        pairs = [(key, value) for key, value in zip(self._keys, labels, strict=False) if value is not None]
        if overflow:
            pairs.insert(0, (prometheus_name(OVERFLOW), "true"))
        return ",".join(f'{key}="{_escaped(value)}"' for key, value in pairs)

    def _histogram(self, labels: str, counts: Sequence[int], point: Point, openmetrics: bool) -> str:
        filled: list[object] = [labels] * self._fields
        filled[1:-4:2] = counts
        if openmetrics:
            for found in point.exemplars:
                filled[2 * found.bucket + 1] = f"{counts[found.bucket]}{self._exemplar(found)}"
        filled[-3], filled[-1] = counts[-1], repr(point.sum_ns / self._unit_ns)
        return self._template % (*filled,)

    def _exemplar(self, found: Exemplar) -> str:
        value, secs = found.duration_ns / self._unit_ns, found.end_ns / 1e9
        return f' # {{trace_id="{found.trace_id.hex()}",span_id="{found.span_id.hex()}"}} {value!r} {secs:.3f}'


def prometheus_name(key: str) -> str:
    """The Prometheus name of an OpenTelemetry name: `http.route` becomes http_route."""
    name = re.sub(r"[^a-zA-Z0-9_]", "_", key)
    return f"key_{name}" if name[:1].isdigit() else name


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    """A bound as prometheus-client writes it: OpenMetrics requires 1.0 rather than 1."""
    return repr(float(value))
