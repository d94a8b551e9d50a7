"""The metrics as Prometheus reads them, made from the table in ``core/measures.py``."""

from __future__ import annotations

import itertools
import math
import sys
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, Self, TypeVar

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from tss.core import measures
from tss.core.measures import Kind, Measure, Reading


class _Metric(Protocol):
    def labels(self, *values: object) -> Self: ...

    def remove(self, *values: object) -> None: ...


_M = TypeVar("_M", bound=_Metric)
_Series = dict[tuple[Measure, tuple[str, ...]], _M]  # by labels; under () the whole metric, labelled or not


class PrometheusMeter:
    """A Meter on a registry of its own. Counting may be done from any thread."""

    def __init__(self) -> None:
        # A `_created` series for each counter and histogram is one more that nothing reads. Switched process-wide.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._counters: _Series[Counter] = {}
        self._gauges: _Series[Gauge] = {}
        self._histograms: dict[Measure, _Histogram] = {}
        self._others: list[Callable[[bool], str]] = []
        for measure in measures.TABLE:
            self._add(measure)
        prometheus_client.ProcessCollector(registry=self._registry)
        prometheus_client.GCCollector(registry=self._registry)
        prometheus_client.PlatformCollector(registry=self._registry)

    def __repr__(self) -> str:
        histograms = sum(histogram.labelled for histogram in self._histograms.values())
        labelled = sum(bool(labels) for _, labels in (*self._counters, *self._gauges)) + histograms
        return f"<PrometheusMeter {len(measures.TABLE)} metrics, {labelled} with labels>"

    def count(self, measure: Measure, amount: float = 1, *labels: str) -> None:
        """Add to a counter; an amount of 0 makes the series appear."""
        _at(self._counters, measure, labels).inc(amount)

    def observe(self, measure: Measure, value: float, *labels: str) -> None:
        """Add one value to a histogram."""
        self._histograms[measure].observe((value,), labels)

    def observe_all(self, measure: Measure, values: Sequence[float], *labels: str) -> None:
        """Add many values to a histogram."""
        if values:
            self._histograms[measure].observe(values, labels)

    def set(self, measure: Measure, value: float, *labels: str) -> None:
        """Set a gauge."""
        _at(self._gauges, measure, labels).set(value)

    def forget(self, measure: Measure, *labels: str) -> None:
        """Stop showing these labels; forgetting what was never shown is no fault."""
        match measure.kind:
            case Kind.COUNTER:
                _forget(self._counters, measure, labels)
            case Kind.GAUGE:
                _forget(self._gauges, measure, labels)
            case Kind.HISTOGRAM:
                self._histograms[measure].forget(labels)

    def watch(self, measure: Measure, read: Reading, *labels: str) -> None:
        """Let a gauge be read at each exposition, in the thread that asks for it."""
        _at(self._gauges, measure, labels).set_function(read)

    def show(self, text: Callable[[bool], str]) -> None:
        """Add what writes its own exposition, in OpenMetrics if it is told so, else in the text format."""
        self._others.append(text)

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics, and their content type, in the format that an Accept header asks for."""
        try:
            encode, content_type = choose_encoder(accept)
        except (ValueError, TypeError):  # a version that is no number
            encode, content_type = choose_encoder("")
        body = encode(self._registry)
        if not self._others:
            return body, content_type
        openmetrics = content_type.startswith("application/openmetrics-text")
        others = [text(openmetrics).encode() for text in self._others]
        end = b"# EOF\n" if openmetrics else b""
        return b"".join((body.removesuffix(end), *others, end)), content_type

    def _add(self, measure: Measure) -> None:
        key = (measure, ())
        name, text, labels = measure.name, measure.help, measure.labels
        match measure.kind:
            case Kind.COUNTER:
                self._counters[key] = Counter(name, text, labels, registry=self._registry)
            case Kind.GAUGE:
                self._gauges[key] = Gauge(name, text, labels, registry=self._registry)
            case Kind.HISTOGRAM:
                self._histograms[measure] = _Histogram(measure)
                self._registry.register(self._histograms[measure])


class _Histogram(Collector):
    """One histogram, for all its labels. prometheus-client's own takes one value at a time, with a lock for each of
    the two things it counts: for the delay of each trace that costs as much as deciding it."""

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, ...], list[int]] = {}  # by bucket, the last one of all that is larger
        self._sums: dict[tuple[str, ...], float] = {}
        if not measure.labels:
            self._appear(())

    @property
    def labelled(self) -> int:
        """How many series with labels it has."""
        return len(self._counts) if self._measure.labels else 0

    def _appear(self, labels: tuple[str, ...]) -> None:
        self._counts[labels] = [0] * (len(self._measure.buckets) + 1)
        self._sums[labels] = 0.0

    def observe(self, values: Sequence[float], labels: tuple[str, ...]) -> None:
        """Add these; in a crowd they are sorted once and counted bucket by bucket."""
        bounds = self._measure.buckets
        ascending = sorted(values)
        with self._lock:
            if labels not in self._counts:
                self._appear(labels)
            counts = self._counts[labels]
            self._sums[labels] += math.fsum(ascending)
            below = 0
            while below < len(ascending):
                bucket = bisect_left(bounds, ascending[below])
                upto = bisect_right(ascending, bounds[bucket]) if bucket < len(bounds) else len(ascending)
                counts[bucket] += upto - below
                below = upto

    def forget(self, labels: tuple[str, ...]) -> None:
        """Stop showing these."""
        with self._lock:
            self._counts.pop(labels, None)
            self._sums.pop(labels, None)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """For the exposition."""
        family = HistogramMetricFamily(self._measure.name, self._measure.help, labels=self._measure.labels)
        bounds = [*map(floatToGoString, (*self._measure.buckets, math.inf))]
        with self._lock:
            for labels, counts in self._counts.items():
                buckets = [*zip(bounds, itertools.accumulate(counts), strict=True)]
                family.add_metric(labels, buckets, self._sums[labels])
        yield family


def _at(series: _Series[_M], measure: Measure, labels: tuple[str, ...]) -> _M:
    """The series, made when it is new. Kept here because prometheus-client's own look-up takes a lock."""
    found = series.get((measure, labels))
    if found is None:
        found = series[measure, labels] = series[measure, ()].labels(*labels)
    return found


def _forget(series: _Series[_M], measure: Measure, labels: tuple[str, ...]) -> None:
    series[measure, ()].remove(*labels)
    series.pop((measure, labels), None)


if __name__ == "__main__":
    sys.stdout.write(measures.reference())
