"""The metrics of the table in ``core/measures.py``, as Prometheus reads them."""

from __future__ import annotations

import itertools
import math
import sys
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import prometheus_client
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from tss.core import measures
from tss.core.measures import Measure, MetricType, ReadGauge

_Labels = tuple[str, ...]
_go_text: Callable[[float], str] = floatToGoString


class PrometheusMeter:
    """A Meter that writes its own exposition. Any thread may count."""

    def __init__(self) -> None:
        self._families = [_Family(measure) for measure in measures.TABLE]
        self._by_kind: dict[MetricType, dict[Measure, _Family]] = {kind: {} for kind in MetricType}
        for family in self._families:
            self._by_kind[family.measure.kind][family.measure] = family
        # By measure and labels, since one look-up is cheaper than two.
        self._counters: dict[tuple[Measure, _Labels], _Number] = {}
        self._gauges: dict[tuple[Measure, _Labels], _Number] = {}
        self._others: list[Callable[[bool], Iterable[str]]] = []
        self._process = CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self._process)
        prometheus_client.GCCollector(registry=self._process)
        prometheus_client.PlatformCollector(registry=self._process)

    def __repr__(self) -> str:
        labelled = sum(len(family.series) for family in self._families if family.measure.labels)
        return f"<PrometheusMeter {len(self._families)} metrics, {labelled} with labels>"

    def count(self, measure: Measure, amount: float = 1, *labels: str) -> None:
        """Add to a counter; an amount of 0 makes the series appear."""
        (self._counters.get((measure, labels)) or self._number(self._counters, measure, labels)).add(amount)

    def observe(self, measure: Measure, value: float, *labels: str) -> None:
        """Add one value to a histogram."""
        self._histogram(measure, labels).observe((value,))

    def observe_all(self, measure: Measure, values: Sequence[float], *labels: str) -> None:
        """Add many values to a histogram."""
        if values:
            self._histogram(measure, labels).observe(values)

    def set(self, measure: Measure, value: float, *labels: str) -> None:
        """Set a gauge."""
        (self._gauges.get((measure, labels)) or self._number(self._gauges, measure, labels)).set(value)

    def forget(self, measure: Measure, *labels: str) -> None:
        """Stop showing these labels. Nothing happens if they were never shown."""
        self._counters.pop((measure, labels), None)
        self._gauges.pop((measure, labels), None)
        self._by_kind[measure.kind][measure].series.pop(labels, None)

    def watch(self, measure: Measure, read: ReadGauge, *labels: str) -> None:
        """Read this gauge or counter at each exposition, in the thread that makes the exposition."""
        numbers = self._counters if measure.kind is MetricType.COUNTER else self._gauges
        (numbers.get((measure, labels)) or self._number(numbers, measure, labels)).read = read

    def show(self, pieces: Callable[[bool], Iterable[str]]) -> None:
        """Add a source that writes its own exposition: in OpenMetrics if its argument is true, else in the text format."""
        self._others.append(pieces)

    def exposition(self, accept: str = "") -> tuple[Iterator[bytes], str]:
        """All metrics in the format that an Accept header asks for, and their content type. Each piece takes a few milliseconds.

        The first piece has all metrics of the table, so that their values are of the same moment.
        """
        try:
            encode, content_type = choose_encoder(accept)
        except (ValueError, TypeError):  # a version in the header that is no number
            encode, content_type = choose_encoder("")
        return self._pieces(encode, content_type.startswith("application/openmetrics-text")), content_type

    def _pieces(self, encode: Callable[[Collector], bytes], openmetrics: bool) -> Iterator[bytes]:
        end = b"# EOF\n" if openmetrics else b""
        ours = "".join(text for family in self._families for text in family.texts(openmetrics))
        yield ours.encode("utf-8", "replace") + encode(self._process).removesuffix(end)
        for pieces in self._others:
            for piece in pieces(openmetrics):
                yield piece.encode("utf-8", "replace")
        if end:
            yield end

    def _number(self, numbers: dict[tuple[Measure, _Labels], _Number], measure: Measure, labels: _Labels) -> _Number:
        """The new number for these labels."""
        kind = MetricType.COUNTER if numbers is self._counters else MetricType.GAUGE
        found = self._by_kind[kind][measure].at(labels)
        assert isinstance(found, _Number), "only a histogram is no _Number"  # noqa: S101
        numbers[measure, labels] = found
        return found

    def _histogram(self, measure: Measure, labels: _Labels) -> _Histogram:
        found = self._by_kind[MetricType.HISTOGRAM][measure].at(labels)
        assert isinstance(found, _Histogram), "its kind is histogram"  # noqa: S101
        return found


class _Family:
    """One metric with all its labels. Its texts are made once, and a scrape formats only the numbers that have changed:
    prometheus-client makes objects for each sample, and sorts and escapes its labels at each scrape."""

    def __init__(self, measure: Measure) -> None:
        self.measure = measure
        self.series: dict[_Labels, _Number | _Histogram] = {}
        self._making = threading.Lock()
        name = measure.name.removesuffix("_total") if measure.kind is MetricType.COUNTER else measure.name
        self._heads = {
            False: _head(measure.name, measure.kind.value, _escaped_help(measure.help)),
            True: _head(name, measure.kind.value, _escaped(measure.help)),
        }
        if not measure.labels:
            self.at(())

    def at(self, labels: _Labels) -> _Number | _Histogram:
        """The series with these labels, which is created if it is new. Raises ValueError for a wrong number of labels."""
        found = self.series.get(labels)
        if found is not None:
            return found
        if len(labels) != len(self.measure.labels):
            raise ValueError(f"{self.measure.name} has the labels {self.measure.labels}, not {len(labels)} of them")
        with self._making:
            made = _Histogram if self.measure.kind is MetricType.HISTOGRAM else _Number
            return self.series.setdefault(labels, made(self.measure, labels))

    def texts(self, openmetrics: bool) -> Iterator[str]:
        """The lines of its exposition."""
        yield self._heads[openmetrics]
        for series in [*self.series.values()]:  # a copy, since other threads may add to it
            yield series.text()


class _Number:
    """A counter or a gauge with its labels."""

    def __init__(self, measure: Measure, labels: _Labels) -> None:
        self.read: ReadGauge | None = None
        self._value = self._shown = 0.0
        self._lock = threading.Lock()
        self._start = _start(measure.name, dict(zip(measure.labels, labels, strict=True)))
        self._text = f"{self._start}0.0\n"

    def add(self, amount: float) -> None:
        """For counters."""
        if amount < 0:
            raise ValueError("a counter never falls")
        with self._lock:
            self._value += amount

    def set(self, value: float) -> None:
        """For gauges."""
        self._value = float(value)

    def text(self) -> str:
        """Its line."""
        value = self._value if self.read is None else float(self.read())
        if value != self._shown:
            self._shown, self._text = value, f"{self._start}{_go_text(value)}\n"
        return self._text


class _Histogram:
    """A histogram with its labels. prometheus-client's histogram takes one value at a time, with two locks: for the delay of
    each trace that costs as much as deciding the trace."""

    def __init__(self, measure: Measure, labels: _Labels) -> None:
        self._bounds = measure.buckets
        self._lock = threading.Lock()
        self._counts = [0] * (len(measure.buckets) + 1)  # by bucket; the last bucket has all larger values
        self._sum = 0.0
        named = dict(zip(measure.labels, labels, strict=True))
        self._starts = [
            _start(f"{measure.name}_bucket", {**named, "le": _go_text(bound)}) for bound in (*measure.buckets, math.inf)
        ]
        self._ends = [_start(f"{measure.name}{suffix}", named) for suffix in ("_count", "_sum")]

    def observe(self, values: Sequence[float]) -> None:
        """Add these values. They are sorted once and counted bucket by bucket."""
        bounds = self._bounds
        ascending = sorted(values)
        with self._lock:
            counts = self._counts
            self._sum += math.fsum(ascending)
            below = 0
            while below < len(ascending):
                bucket = bisect_left(bounds, ascending[below])
                upto = bisect_right(ascending, bounds[bucket]) if bucket < len(bounds) else len(ascending)
                counts[bucket] += upto - below
                below = upto

    def text(self) -> str:
        """Its lines."""
        with self._lock:
            counts, total = [*itertools.accumulate(self._counts)], self._sum
        return "".join(
            f"{start}{_go_text(number)}\n"
            for start, number in zip((*self._starts, *self._ends), (*counts, counts[-1], total), strict=True)
        )


def _start(name: str, labels: Mapping[str, str]) -> str:
    """The part of a line before its number."""
    pairs = ",".join(f'{label}="{_escaped(str(value))}"' for label, value in sorted(labels.items()))
    return f"{name}{{{pairs}}} " if pairs else f"{name} "


def _head(name: str, kind: str, text: str) -> str:
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


def _escaped(text: str) -> str:
    return _escaped_help(text).replace('"', r"\"")


def _escaped_help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


if __name__ == "__main__":
    sys.stdout.write(measures.reference())
