"""Span metrics in protobuf's words: slow but plainly right, the measure for the compiled ones and their stand-in."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any

import attrs
from google.protobuf.message import DecodeError

from tss.core.otlp import Value, schema
from tss.core.spanmetrics.series import OVERFLOWS, Exemplar, Labels, Point, Shape, Table, overflow_of, rounded
from tss.core.spanmetrics.weight import SAMPLE_RATE, weight

_SERVICE = b"service.name"


@attrs.define
class _Series:
    counts: list[float]
    sum_ns: float = 0.0
    exemplars: dict[int, Exemplar] = attrs.field(factory=dict)


class SpanMetrics:
    """Counts every span it is given by the series that it belongs to. A SpanObserver."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self._table = Table(shape)
        self._keys = tuple(dimension.key.encode() for dimension in shape.dimensions)
        # By all that names a series, uncut: no more of these are told apart than there may be series.
        self._known: dict[object, int] = {}
        self._series = [self._new() for _ in OVERFLOWS]
        self.spans = 0

    def __repr__(self) -> str:
        return f"<SpanMetrics {len(self)} of {self.shape.max_series} series>"

    def __len__(self) -> int:
        """How many series have been told apart, those in one because their names are alike when cut each for itself."""
        return len(self._known)

    @property
    def labels(self) -> Sequence[Labels]:
        """Of each series, by its number; they only ever become more."""
        return self._table.labels

    def point(self, number: int) -> Point:
        """What series `number` has come to."""
        series = self._series[number]
        return Point(rounded(series.counts), series.sum_ns, [found for _, found in sorted(series.exemplars.items())])

    def add(self, trace_id: bytes, chunks: Sequence[bytes], kept: bool) -> None:
        """Count the spans of a trace; only one that is kept can be an example."""
        for chunk in chunks:
            for group in schema.TracesData.FromString(chunk).resource_spans:
                resource = _attributes(group.resource)
                for scope in group.scope_spans:
                    for span in scope.spans:
                        self._add(trace_id if kept and self.shape.exemplars else b"", span, resource)

    def _add(self, trace_id: bytes, span: Any, resource: dict[bytes, Value]) -> None:
        own = _pairs(span.attributes)
        values = [own.get(key, resource.get(key)) for key in self._keys]
        series = self._series[self._number(resource.get(_SERVICE), span, values)]
        duration_ns = max(0, span.end_time_unix_nano - span.start_time_unix_nano)
        bucket = bisect_left(self.shape.bounds_ns, duration_ns)
        count = weight(own.get(SAMPLE_RATE), span.trace_state)
        self.spans += 1
        series.counts[bucket] += count
        series.sum_ns += count * duration_ns
        if trace_id:
            found = Exemplar(bucket, self.spans, trace_id, span.span_id, duration_ns, span.end_time_unix_nano)
            series.exemplars[bucket] = found

    def _number(self, service: Value | None, span: Any, values: Sequence[Value | None]) -> int:
        status = overflow_of(span.status.code)
        key = (_distinct(service), span.name, span.kind, status, *map(_distinct, values))
        number = self._known.get(key)
        if number is not None:
            return number
        if len(self._known) == self.shape.max_series:
            return status
        number = self._known[key] = self._table.number(service, span.name, span.kind, status, values)
        if number == len(self._series):
            self._series.append(self._new())
        return number

    def _new(self) -> _Series:
        return _Series([0.0] * (len(self.shape.bounds_ns) + 1))


def _distinct(value: Value | None) -> object:
    """As a key: 1, 1.0 and True are three values."""
    return type(value), repr(value) if isinstance(value, float) else value


def _attributes(resources: Iterable[bytes]) -> dict[bytes, Value]:
    """Those of a resource; one that cannot be parsed has none."""
    found: dict[bytes, Value] = {}
    for resource in resources:
        try:
            parsed = schema.Resource.FromString(resource)
        except DecodeError:
            continue
        for key, value in _pairs(parsed.attributes).items():
            found.setdefault(key, value)
    return found


def _pairs(attributes: Iterable[bytes]) -> dict[bytes, Value]:
    """By key. OTLP forbids a key twice; where it is, the first counts, as in the Collector."""
    found: dict[bytes, Value] = {}
    for attribute in attributes:
        try:
            pair = schema.KeyValue.FromString(attribute)
        except DecodeError:
            continue
        kind = pair.value.WhichOneof("value")
        if kind is not None:
            value = getattr(pair.value, kind)
            found.setdefault(pair.key, value.decode("utf-8", "replace") if kind == "string_value" else value)
    return found
