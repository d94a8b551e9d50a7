"""Span metrics as OTLP: cumulative, one resource per service, explicit histograms with exemplars.

Every point has its service as an attribute, like the points of the Collector's connector. It also has the replica that
counted it (`collector.instance.id`): replicas count the same services, and without it each replica would seem to reset
the counters of the others.
Source: opentelemetry-proto, `metrics/v1/metrics.proto`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.metrics.v1 import metrics_pb2 as pb
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from tss.core.formats.spanmetrics.exposition import UNITS, Counted
from tss.core.formats.spanmetrics.series import CALLS, DURATION, OVERFLOW, OVERFLOWS, Exemplar, Point

INSTANCE = "collector.instance.id"
SLICE_SERIES = 100  # about 5 ms of work, then the event loop runs other tasks
_CUMULATIVE = pb.AGGREGATION_TEMPORALITY_CUMULATIVE
_SERVICE = "service.name"


class Reporter:
    """Writes the counts as OTLP. ``began_ns`` is the wall clock when counting began."""

    def __init__(
        self, counted: Counted, unit: str, *, instance: str, service: str, version: str, began_ns: int
    ) -> None:
        self._counted = counted
        self._unit, self._unit_ns = unit, UNITS[unit][1]
        self._bounds = [bound / self._unit_ns for bound in counted.shape.bounds_ns]
        self._instance = _pair(INSTANCE, AnyValue(string_value=instance))
        self._service = service  # the daemon's service name, used for the overflow series
        self._scope = InstrumentationScope(name="tss.spanmetrics", version=version)
        self._began_ns = began_ns
        self._told = 0  # exemplars of spans up to this number have been sent
        self._order: list[int] = []  # the numbers of the series, sorted by service

    @property
    def spans(self) -> int:
        """How many spans have been counted."""
        return self._counted.spans

    def requests(self, now_ns: int) -> Iterator[bytes]:
        """All series in several serialized ExportMetricsServiceRequest. Concatenated, they are one valid request."""
        self._sort()
        for first in range(0, len(self._order), SLICE_SERIES):
            yield self._request(self._order[first : first + SLICE_SERIES], now_ns)

    def told(self, upto: int) -> None:
        """The request was accepted that was written when ``counted.spans`` was `upto`: its exemplars are not sent again."""
        self._told = upto

    def _sort(self) -> None:
        labels = self._counted.labels
        if len(self._order) != len(labels):
            self._order = sorted(range(len(labels)), key=lambda number: labels[number][0] or "")

    def _request(self, numbers: Sequence[int], now_ns: int) -> bytes:
        request = ExportMetricsServiceRequest()
        found: dict[str, tuple[pb.Sum, pb.Histogram]] = {}
        for number in numbers:
            point = self._counted.point(number)
            if not any(point.counts):
                continue
            service = self._counted.labels[number][0] or self._service
            if service not in found:
                found[service] = self._resource(request, service)
            calls, durations = found[service]
            attributes = self._attributes(number)
            times = {"start_time_unix_nano": self._began_ns, "time_unix_nano": now_ns}
            calls.data_points.add(attributes=attributes, as_int=sum(point.counts), **times)
            durations.data_points.append(self._histogram(point, attributes, times))
        return bytes(request.SerializeToString())

    def _resource(self, request: ExportMetricsServiceRequest, service: str) -> tuple[pb.Sum, pb.Histogram]:
        name = _pair(_SERVICE, AnyValue(string_value=service))
        resource = request.resource_metrics.add(resource=Resource(attributes=[name]))
        scope = resource.scope_metrics.add(scope=self._scope)
        calls = scope.metrics.add(name=CALLS, unit="1")
        calls.sum.is_monotonic, calls.sum.aggregation_temporality = True, _CUMULATIVE
        durations = scope.metrics.add(name=DURATION, unit=self._unit)
        durations.histogram.aggregation_temporality = _CUMULATIVE
        return calls.sum, durations.histogram

    def _attributes(self, number: int) -> list[KeyValue]:
        pairs = zip(self._counted.shape.keys, self._counted.labels[number], strict=False)
        found = [_pair(key, AnyValue(string_value=value)) for key, value in pairs if value is not None]
        if number < len(OVERFLOWS):
            found.append(_pair(OVERFLOW, AnyValue(bool_value=True)))
        return [*found, self._instance]

    def _histogram(self, point: Point, attributes: Sequence[KeyValue], times: dict[str, int]) -> pb.HistogramDataPoint:
        return pb.HistogramDataPoint(
            attributes=attributes,
            count=sum(point.counts),
            sum=point.sum_ns / self._unit_ns,
            bucket_counts=point.counts,
            explicit_bounds=self._bounds,
            exemplars=[self._exemplar(found) for found in point.exemplars if found.order > self._told],
            start_time_unix_nano=times["start_time_unix_nano"],
            time_unix_nano=times["time_unix_nano"],
        )

    def _exemplar(self, found: Exemplar) -> pb.Exemplar:
        return pb.Exemplar(
            time_unix_nano=found.end_ns,
            as_double=found.duration_ns / self._unit_ns,
            trace_id=found.trace_id,
            span_id=found.span_id,
        )


def _pair(key: str, value: AnyValue) -> KeyValue:
    return KeyValue(key=key, value=value)
