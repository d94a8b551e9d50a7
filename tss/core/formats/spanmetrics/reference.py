"""Span metrics written with protobuf: slow and simple. The reference for the compiled ones, and their fallback."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import attrs

from tss.core.formats.spanmetrics.naming import Naming, resource_attributes, status_of
from tss.core.formats.spanmetrics.series import OVERFLOWS, Exemplar, Labels, Point, Shape, bytes_of, rounded
from tss.core.formats.spanmetrics.weight import SAMPLE_RATE_KEY, weight
from tss.core.otlp import schema
from tss.core.otlp.attributes import Attributes, by_key
from tss.core.spantime import start_and_duration
from tss.core.streamtime import NO_TIME


@attrs.define
class _Series:
    counts: list[float]
    sum_ns: float = 0.0
    exemplars: dict[int, Exemplar] = attrs.field(factory=dict)


class SpanMetrics:
    """Counts every span by its series. A SpanObserver."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.spans = 0
        self._naming = Naming(shape)
        self._numbers: dict[Labels, int] = {}
        self._labels: list[Labels] = list(OVERFLOWS)
        self._label_bytes = 0
        self._series = [self._new() for _ in OVERFLOWS]

    def __repr__(self) -> str:
        return f"<SpanMetrics {len(self)} of {self.shape.max_series} series, {self.spans} spans>"

    def __len__(self) -> int:
        """The number of series, without the overflow series."""
        return len(self._numbers)

    @property
    def labels(self) -> Sequence[Labels]:
        """The labels of each series, by its number. Series are only ever added."""
        return self._labels

    def point(self, number: int) -> Point:
        """The counts of series `number`."""
        series = self._series[number]
        return Point(rounded(series.counts), series.sum_ns, [found for _, found in sorted(series.exemplars.items())])

    def add(self, trace_id: bytes, chunks: Sequence[bytes], kept: bool) -> None:
        """Count the spans of a trace. Only spans of a kept trace become exemplars."""
        for chunk in chunks:
            for group in schema.TracesData.FromString(chunk).resource_spans:
                resource = resource_attributes(b"".join(group.resource))
                for scope in group.scope_spans:
                    for span in scope.spans:
                        self._add(trace_id if kept and self.shape.exemplars else b"", span, resource)

    def _add(self, trace_id: bytes, span: Any, resource: Attributes) -> None:
        own = by_key(span.attributes)
        series = self._series[self._number(self._naming.of(span, own, resource), span.status.code)]
        _, duration_ns = start_and_duration(span.start_time_unix_nano, span.end_time_unix_nano, NO_TIME)
        bucket = bisect_left(self.shape.bounds_ns, duration_ns)
        count = weight(own.get(SAMPLE_RATE_KEY, resource.get(SAMPLE_RATE_KEY)), span.trace_state)
        self.spans += 1
        series.counts[bucket] += count
        series.sum_ns += count * duration_ns
        if trace_id:
            series.exemplars[bucket] = Exemplar(
                bucket, self.spans, trace_id, span.span_id, duration_ns, span.end_time_unix_nano
            )

    def _number(self, labels: Labels, status: int) -> int:
        """The number of the series, which is added if there is room; else the number of the overflow series."""
        number = self._numbers.get(labels)
        if number is not None:
            return number
        if len(self) == self.shape.max_series or self._label_bytes >= self.shape.max_label_bytes:
            return status_of(status)
        number = self._numbers[labels] = len(self._labels)
        self._labels.append(labels)
        self._label_bytes += bytes_of(labels)
        self._series.append(self._new())
        return number

    def _new(self) -> _Series:
        return _Series([0.0] * (len(self.shape.bounds_ns) + 1))
