"""The metrics as Prometheus reads them, made from the table in ``core/measures.py``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Protocol, Self, TypeVar

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

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
        self._histograms: _Series[Histogram] = {}
        for measure in measures.TABLE:
            self._add(measure)
        prometheus_client.ProcessCollector(registry=self._registry)
        prometheus_client.GCCollector(registry=self._registry)
        prometheus_client.PlatformCollector(registry=self._registry)

    def __repr__(self) -> str:
        series = len(self._counters) + len(self._gauges) + len(self._histograms)
        return f"<PrometheusMeter {len(measures.TABLE)} metrics, {series - len(measures.TABLE)} with labels>"

    def count(self, measure: Measure, amount: float = 1, *labels: str) -> None:
        """Add to a counter; an amount of 0 makes the series appear."""
        _at(self._counters, measure, labels).inc(amount)

    def observe(self, measure: Measure, value: float, *labels: str) -> None:
        """Add one value to a histogram."""
        _at(self._histograms, measure, labels).observe(value)

    def observe_all(self, measure: Measure, values: Sequence[float], *labels: str) -> None:
        """Add many values to a histogram."""
        histogram = _at(self._histograms, measure, labels)
        for value in values:
            histogram.observe(value)

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
                _forget(self._histograms, measure, labels)

    def watch(self, measure: Measure, read: Reading, *labels: str) -> None:
        """Let a gauge be read at each exposition, in the thread that asks for it."""
        _at(self._gauges, measure, labels).set_function(read)

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics, and their content type, in the format that an Accept header asks for."""
        try:
            encode, content_type = choose_encoder(accept)
        except (ValueError, TypeError):  # a version that is no number
            encode, content_type = choose_encoder("")
        return encode(self._registry), content_type

    def _add(self, measure: Measure) -> None:
        key = (measure, ())
        name, text, labels = measure.name, measure.help, measure.labels
        match measure.kind:
            case Kind.COUNTER:
                self._counters[key] = Counter(name, text, labels, registry=self._registry)
            case Kind.GAUGE:
                self._gauges[key] = Gauge(name, text, labels, registry=self._registry)
            case Kind.HISTOGRAM:
                self._histograms[key] = Histogram(name, text, labels, registry=self._registry, buckets=measure.buckets)


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
