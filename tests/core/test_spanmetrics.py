"""Span metrics: every span counted once in the series that is named by its values, whatever is kept of it (law 7)."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status, TracesData
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.core.spans import span_id, trace_id
from tss.core.formats import spanmetrics
from tss.core.formats.spanmetrics import Dimension, Exemplar, Exposition, Reporter, Shape, reference, shape_of
from tss.core.formats.spanmetrics.series import MAX_LABEL_CHARS, OVERFLOWS, bytes_of
from tss.settings import SpanMetricsSettings as Settings

MS = 1_000_000
SHAPE = Shape(bounds_ns=(10 * MS, 100 * MS, 1000 * MS))
OVERFLOWED = {"otel_metric_overflow": "true"}


@pytest.fixture(scope="module", params=[reference, spanmetrics], ids=["reference", "chosen"])
def module(request):
    return request.param


def value_of(value: Any) -> AnyValue:
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case list():
            return AnyValue(array_value=ArrayValue(values=map(value_of, value)))
    return AnyValue(string_value=value)


def attributes(**values: Any) -> list[KeyValue]:
    return [KeyValue(key=key, value=value_of(value)) for key, value in values.items()]


def span(
    number: Any = 0,
    *,
    name: Any = "GET /",
    kind: Any = 2,
    status: Any = 0,
    ms: Any = 5,
    state: Any = "",
    **values: Any,
) -> Span:
    return Span(
        trace_id=trace_id(0), span_id=span_id(number), name=name, kind=kind, status=Status(code=status), trace_state=state,
        start_time_unix_nano=10**18, end_time_unix_nano=10**18 + round(ms * MS), attributes=attributes(**values),
    )  # fmt: skip


def message(*spans: Span, service: Any = "shop", **resource: Any) -> bytes:
    named = {} if service is None else {"service.name": service}
    group = ResourceSpans(
        resource=Resource(attributes=attributes(**named, **resource)), scope_spans=[ScopeSpans(spans=spans)]
    )
    return TracesData(resource_spans=[group]).SerializeToString()


def counted(module, *chunks: bytes, shape: Shape = SHAPE, kept: bool = False) -> Any:
    metrics = module.SpanMetrics(shape)
    metrics.add(trace_id(0), list(chunks), kept)
    return metrics


def series(metrics: Any) -> dict[tuple[str | None, ...], list[int]]:
    """Counts by labels, of those that have any."""
    points = {labels: [*metrics.point(number).counts] for number, labels in enumerate(metrics.labels)}
    return {labels: counts for labels, counts in points.items() if any(counts)}


def samples(metrics: Any, *, openmetrics: bool = True, unit: str = "ms") -> dict[str, dict[tuple, Any]]:
    """What /metrics shows: samples by name, by labels."""
    text = Exposition(metrics, unit).text(openmetrics)
    families = parse_openmetrics(text + "# EOF\n") if openmetrics else parse_text(text)
    found: dict[str, dict[tuple, Any]] = {}
    for family in families:
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample
    return found


def test_a_span_counts_once_by_service_name_kind_and_status(module):
    metrics = counted(module, message(span(), span(ms=50), span(status=2)), message(span(kind=3), service="cart"))
    assert series(metrics) == {
        ("shop", "GET /", "SPAN_KIND_SERVER", "STATUS_CODE_UNSET"): [1, 1, 0, 0],
        ("shop", "GET /", "SPAN_KIND_SERVER", "STATUS_CODE_ERROR"): [1, 0, 0, 0],
        ("cart", "GET /", "SPAN_KIND_CLIENT", "STATUS_CODE_UNSET"): [1, 0, 0, 0],
    }
    assert (metrics.spans, len(metrics)) == (4, 3)


def test_a_start_that_is_not_known_is_no_duration(module):
    """54 years since 1970 would be in the sum of its series, and in each average, for ever."""
    one = span(ms=5)
    one.start_time_unix_nano = 0
    metrics = counted(module, message(one))
    assert [*series(metrics).values()] == [[1, 0, 0, 0]]
    assert sum(metrics.point(number).sum_ns for number, _ in enumerate(metrics.labels)) == 0


@pytest.mark.parametrize("kept", [True, False])
def test_what_is_dropped_counts_as_what_is_kept(module, kept):
    assert series(counted(module, message(span(), span()), kept=kept)).popitem()[1] == [2, 0, 0, 0]


def test_a_duration_at_a_bound_is_below_it_and_one_that_ends_before_it_began_is_0(module):
    metrics = counted(module, message(*(span(ms=ms) for ms in (10, 10.000001, 100, 1000, 1000.000001, -5, 0))))
    assert series(metrics).popitem()[1] == [3, 2, 1, 1]
    assert metrics.point(3).sum_ns == pytest.approx(2120.000002 * MS)


def test_a_dimension_is_of_the_span_else_of_its_resource_else_the_default_else_not_there(module):
    shape = Shape(dimensions=(Dimension("host"), Dimension("region", "eu")))
    spans = span(host="a"), span(host=7), span(), span(host=True, region=1.5), span(host=2.0), span(region="")
    metrics = counted(module, message(*spans, host="b"), message(span(host=[1])), shape=shape)
    assert Counter({labels[4:]: sum(counts) for labels, counts in series(metrics).items()}) == Counter(
        {("a", "eu"): 1, ("7", "eu"): 1, ("b", "eu"): 2, ("true", "1.5"): 1, ("2", "eu"): 1, (None, "eu"): 1}
    )
    shown = samples(metrics)["traces_span_metrics_calls_total"]
    assert sorted(dict(labels).get("host", "none") for labels in shown) == ["2", "7", "a", "b", "none", "true"]


@pytest.mark.parametrize("service", [None, ""])
def test_a_span_without_a_service_counts_too(module, service):
    assert series(counted(module, message(span(), service=service))).popitem()[0][0] == "unknown_service"


@pytest.mark.parametrize(("kind", "status"), [(6, 3), (-1, -1), (2**31 - 1, -(2**31))])
def test_unknown_kinds_and_codes_make_no_new_series(module, kind, status):
    found = Span(
        trace_id=trace_id(0), span_id=span_id(0), kind=kind, status=Status.FromString(b"\x18" + varint(status))
    )
    assert series(counted(module, message(found))).popitem()[0][2:] == ("SPAN_KIND_UNSPECIFIED", "STATUS_CODE_UNSET")


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


# ---- law 5: bounded


def test_what_there_is_no_room_for_is_counted_together_and_nothing_is_lost(module):
    metrics = module.SpanMetrics(Shape(bounds_ns=SHAPE.bounds_ns, max_series=3))
    for number in range(100):
        metrics.add(
            trace_id(number), [message(span(name=f"/{number}", status=2 if number % 4 == 0 else 0, ms=50))], True
        )
    assert len(metrics) == 3
    assert len(metrics.labels) == 6
    assert sum(map(sum, series(metrics).values())) == metrics.spans == 100
    calls = samples(metrics)["traces_span_metrics_calls_total"]
    lost = {
        dict(labels)["status_code"]: sample.value for labels, sample in calls.items() if OVERFLOWED.items() <= {*labels}
    }
    assert lost == {"STATUS_CODE_UNSET": 73, "STATUS_CODE_ERROR": 24}


def test_a_series_that_is_there_goes_on_when_there_is_no_room_for_others(module):
    metrics = module.SpanMetrics(Shape(bounds_ns=SHAPE.bounds_ns, max_series=1))
    metrics.add(trace_id(0), [message(span(name="/first"), span(name="/second"), span(name="/first"))], False)
    assert [labels[1] for labels in series(metrics)] == [None, "/first"]
    assert series(metrics)["shop", "/first", "SPAN_KIND_SERVER", "STATUS_CODE_UNSET"] == [2, 0, 0, 0]


def test_labels_that_are_long_make_fewer_series(module):
    """Law 5: bytes are bounded and not only how many series there are."""
    shape = Shape(tuple(Dimension(f"key{number}") for number in range(16)), SHAPE.bounds_ns, max_series=20)
    long = {f"key{number}": "\u4e2d" * MAX_LABEL_CHARS for number in range(16)}
    metrics = counted(module, *(message(span(name=f"/{number}", **long)) for number in range(20)), shape=shape)
    assert 1 < len(metrics) < 10
    assert sum(map(bytes_of, metrics.labels[len(OVERFLOWS) : -1])) < shape.max_label_bytes
    assert sum(map(sum, series(metrics).values())) == 20


def test_labels_are_cut_and_what_is_alike_then_is_one_series(module):
    long = "x" * MAX_LABEL_CHARS
    metrics = counted(module, message(*(span(name=f"{long}{number}") for number in range(9)), service=f"{long}y"))
    assert series(metrics) == {(long, long, "SPAN_KIND_SERVER", "STATUS_CODE_UNSET"): [9, 0, 0, 0]}


def test_names_that_are_no_text_are_read_as_text(module):
    odd = message(span(name="caf\u00e9")).replace("caf\u00e9".encode(), b"caf\xff\xff")
    assert series(counted(module, odd)).popitem()[0][1] == "caf\ufffd\ufffd"


# ---- law 7: what a head sampler left out


@pytest.mark.parametrize(
    ("state", "values", "stands_for"),
    [
        ("ot=th:c", {}, 4),
        ("ot=rv:abcdefabcdefab;th:8", {}, 2),
        ("vendor=1,ot=th:8 ", {}, 2),
        ("ot=th:0", {}, 1),
        ("ot=th:", {}, 1),
        ("ot=th:123456789abcdef", {}, 1),
        ("other=th:c", {}, 1),
        ("", {"_sample_rate": 0.25}, 4),
        ("", {"_sample_rate": 1}, 1),
        ("ot=th:8", {"_sample_rate": 0.1}, 10),
        ("ot=th:8", {"_sample_rate": 0.0}, 2),
        ("", {"_sample_rate": 1e-310}, 1 << 20),  # 1 over that is infinite
        ("", {"_sample_rate": 1e-300}, 1 << 20),
        ("ot=th:ffffffffffffff", {}, 1 << 20),
        ("", {"_sample_rate": "0.5"}, 1),
        ("", {"_sample_rate": True}, 1),
        ("", {"_sample_rate": 2.0}, 1),
    ],
)
def test_a_span_counts_for_those_that_were_left_out(module, state, values, stands_for):
    metrics = counted(module, message(span(state=state, ms=50, **values)))
    assert series(metrics).popitem()[1] == [0, stands_for, 0, 0]
    assert metrics.point(3).sum_ns == stands_for * 50 * MS


def test_fractions_of_spans_add_up_before_they_are_rounded(module):
    third = "ot=th:aaaaaaaaaaaaab"  # one in three, as near as can be
    rate = 0.4  # each stands for two and a half
    metrics = counted(
        module, message(*(span(state=third) for _ in range(100)), *(span(_sample_rate=rate) for _ in range(5)))
    )
    assert series(metrics).popitem()[1] == [312, 0, 0, 0]  # 300 and 12.5, to the even


# ---- exemplars


def ids(number: int) -> tuple[bytes, bytes]:
    return trace_id(number), span_id(number)


def test_an_exemplar_is_the_newest_span_of_a_kept_trace_in_its_bucket(module):
    metrics = module.SpanMetrics(SHAPE)
    for number, (ms, kept) in enumerate([(1, True), (50, True), (2, True), (3, False), (60, False)]):
        metrics.add(trace_id(number), [message(span(number, ms=ms))], kept)
    assert metrics.point(3).exemplars == [
        Exemplar(0, 3, *ids(2), 2 * MS, 10**18 + 2 * MS),
        Exemplar(1, 2, *ids(1), 50 * MS, 10**18 + 50 * MS),
    ]


def test_no_exemplars_where_none_are_wanted(module):
    metrics = counted(module, message(span()), shape=Shape(exemplars=False), kept=True)
    assert metrics.point(3).exemplars == []


# ---- brute force

names = st.sampled_from(["/a", "/b", "/c", "", '\u00fc\n"\\'])
values = st.sampled_from(["x", "y", 1, 1.0, True, 2.5, ""])
states = st.sampled_from(["", "ot=th:8", "ot=th:c"])


@st.composite
def spans_of(draw: st.DrawFn) -> Span:
    extra = draw(st.dictionaries(st.sampled_from(["region", "host", "other"]), values))
    return span(
        draw(st.integers(0, 99)), name=draw(names), kind=draw(st.integers(0, 5)), status=draw(st.integers(0, 2)),
        ms=draw(st.integers(-5, 2000)), state=draw(states), **extra,
    )  # fmt: skip


chunks = st.builds(
    lambda spans, service, resource: message(*spans, service=service, **resource),
    st.lists(spans_of(), max_size=6),
    st.sampled_from(["shop", "cart", None]),
    st.dictionaries(st.sampled_from(["region", "host"]), values),
)
traces = st.lists(st.tuples(st.lists(chunks, max_size=3), st.booleans()), max_size=5)
KEYS = {2: "/a", 1: "eu"}


def text_of(value: AnyValue) -> str:
    match value.WhichOneof("value"):
        case "bool_value":
            return str(value.bool_value).lower()
        case "double_value":
            return f"{value.double_value:g}"
        case "int_value":
            return f"{value.int_value}"
    return value.string_value


def by_hand(found: Sequence[tuple[list[bytes], bool]], bounds: Sequence[int]) -> Counter:
    """Spans by labels and bucket, in the plainest way."""
    counts: Counter = Counter()
    for data in (TracesData.FromString(chunk) for pieces, _ in found for chunk in pieces):
        for group in data.resource_spans:
            resource = {pair.key: text_of(pair.value) for pair in group.resource.attributes}
            for each in (each for scope in group.scope_spans for each in scope.spans):
                own = resource | {pair.key: text_of(pair.value) for pair in each.attributes}
                labels = (
                    resource.get("service.name") or "unknown_service", each.name, Span.SpanKind.Name(each.kind),
                    Status.StatusCode.Name(each.status.code), own.get("region") or "eu", own.get("host") or None,
                )  # fmt: skip
                ns = max(0, each.end_time_unix_nano - each.start_time_unix_nano)
                stands_for = {"": 1, "ot=th:8": 2, "ot=th:c": 4}[each.trace_state]
                counts[labels, bisect_left(bounds, ns)] += stands_for
    return counts


@settings(max_examples=50, deadline=None)
@given(traces)
def test_the_counts_are_those_of_counting_by_hand(module, found):
    shape = Shape((Dimension("region", "eu"), Dimension("host")), SHAPE.bounds_ns)
    metrics = module.SpanMetrics(shape)
    for number, (pieces, kept) in enumerate(found):
        metrics.add(trace_id(number), pieces, kept)
    mine = Counter(
        {
            (labels, bucket): count
            for labels, counts in series(metrics).items()
            for bucket, count in enumerate(counts)
            if count
        }
    )
    assert mine == by_hand(found, shape.bounds_ns)
    examples = {each.trace_id for number in range(len(metrics.labels)) for each in metrics.point(number).exemplars}
    assert examples <= {trace_id(number) for number, (_, kept) in enumerate(found) if kept}
    check_exposition(metrics)
    check_otlp(metrics)


def check_exposition(metrics: Any) -> None:
    """Both formats can be read, and say what is counted."""
    for openmetrics in (True, False):
        shown = samples(metrics, openmetrics=openmetrics)
        calls = shown.get("traces_span_metrics_calls_total", {})
        counts = shown.get("traces_span_metrics_duration_milliseconds_count", {})
        assert {labels: sample.value for labels, sample in calls.items()} == {
            labels: sample.value for labels, sample in counts.items()
        }
        assert Counter(sample.value for sample in calls.values()) == Counter(map(sum, series(metrics).values()))


def check_otlp(metrics: Any) -> None:
    request = exported(Reporter(metrics, "ms", instance="a", service="tss", version="1", began_ns=5))
    found = Counter(tuple(point.bucket_counts) for point in points(request, "traces.span.metrics.duration"))
    assert found == Counter(map(tuple, series(metrics).values()))


# ---- exposition


def test_openmetrics_has_exemplars_and_the_text_format_has_none(module):
    metrics = module.SpanMetrics(SHAPE)
    metrics.add(trace_id(1), [message(span(7, ms=50))], True)
    buckets = samples(metrics)["traces_span_metrics_duration_milliseconds_bucket"]
    examples = {dict(labels)["le"]: sample.exemplar for labels, sample in buckets.items() if sample.exemplar}
    assert [*examples] == ["100.0"]
    example = examples["100.0"]
    assert example.labels == {"trace_id": trace_id(1).hex(), "span_id": span_id(7).hex()}
    assert (example.value, float(example.timestamp)) == (50, 10**9 + 0.05)
    assert "#" not in Exposition(metrics, "ms").text(False).replace("# HELP", "").replace("# TYPE", "")


def test_seconds(module):
    shown = samples(counted(module, message(span(ms=50))), unit="s")
    (total,) = shown["traces_span_metrics_duration_seconds_sum"].values()
    assert total.value == 0.05
    assert [dict(labels)["le"] for labels in shown["traces_span_metrics_duration_seconds_bucket"]] == [
        "0.01", "0.1", "1.0", "+Inf",
    ]  # fmt: skip


def test_labels_stand_in_the_text_as_they_are(module):
    odd = 'a\\b"c\nd\u00fc{}#,= '
    shape = Shape((Dimension("http.route"), Dimension("1st", odd)))
    metrics = counted(module, message(span(name=odd, **{"http.route": odd}), service=odd), shape=shape)
    for openmetrics in (True, False):
        (labels,) = samples(metrics, openmetrics=openmetrics)["traces_span_metrics_calls_total"]
        assert dict(labels) == {
            "service_name": odd, "span_name": odd, "span_kind": "SPAN_KIND_SERVER", "status_code": "STATUS_CODE_UNSET",
            "http_route": odd, "key_1st": odd,
        }  # fmt: skip


def test_the_share_of_errors_can_be_asked_for(module):
    """By calls and status code, as with the connector: the alert that the documentation gives."""
    metrics = counted(module, message(span(status=2), span(), span(), span(name="/b")))
    calls = samples(metrics)["traces_span_metrics_calls_total"]
    errors = sum(each.value for labels, each in calls.items() if dict(labels)["status_code"] == "STATUS_CODE_ERROR")
    assert errors / sum(each.value for each in calls.values()) == 0.25


# ---- OTLP


def exported(reporter: Reporter, now_ns: int = 9) -> ExportMetricsServiceRequest:
    return ExportMetricsServiceRequest.FromString(b"".join(reporter.requests(now_ns)))


def points(request: ExportMetricsServiceRequest, name: str) -> list[Any]:
    found = [metric for each in request.resource_metrics for scope in each.scope_metrics for metric in scope.metrics]
    return [
        point
        for metric in found
        if metric.name == name
        for point in (metric.sum if metric.HasField("sum") else metric.histogram).data_points
    ]


def plain(pairs: Sequence[KeyValue]) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "") for pair in pairs}


def test_otlp_is_cumulative_since_the_beginning_with_a_resource_for_each_service(module):
    shape = Shape((Dimension("http.route"),), SHAPE.bounds_ns)
    metrics = counted(
        module, message(span(ms=50, **{"http.route": "/a"}), span(ms=70)), message(span(), service="cart"), shape=shape
    )
    request = exported(Reporter(metrics, "s", instance="pod-1", service="tss", version="1", began_ns=5))
    assert [plain(each.resource.attributes) for each in request.resource_metrics] == [
        {"service.name": "cart"}, {"service.name": "shop"},
    ]  # fmt: skip
    calls, durations = request.resource_metrics[1].scope_metrics[0].metrics
    assert (calls.name, durations.name, durations.unit) == (
        "traces.span.metrics.calls", "traces.span.metrics.duration", "s",
    )  # fmt: skip
    assert calls.sum.is_monotonic
    assert {calls.sum.aggregation_temporality, durations.histogram.aggregation_temporality} == {
        AGGREGATION_TEMPORALITY_CUMULATIVE
    }
    call, duration = calls.sum.data_points[0], durations.histogram.data_points[0]
    assert plain(call.attributes) == plain(duration.attributes) == {
        "service.name": "shop", "span.name": "GET /", "span.kind": "SPAN_KIND_SERVER", "status.code": "STATUS_CODE_UNSET",
        "http.route": "/a", "collector.instance.id": "pod-1",
    }  # fmt: skip
    assert (call.as_int, call.start_time_unix_nano, call.time_unix_nano) == (1, 5, 9)
    assert (duration.count, duration.sum, [*duration.bucket_counts]) == (1, 0.05, [0, 1, 0, 0])
    assert [*duration.explicit_bounds] == [0.01, 0.1, 1]
    assert (duration.start_time_unix_nano, duration.time_unix_nano) == (5, 9)


def test_otlp_says_what_there_was_no_room_for(module):
    metrics = module.SpanMetrics(Shape(max_series=1))
    metrics.add(trace_id(0), [message(span(), span(name="/b", status=2))], False)
    request = exported(Reporter(metrics, "ms", instance="a", service="tss", version="1", began_ns=5))
    (lost,) = [
        each
        for each in points(request, "traces.span.metrics.calls")
        if "otel.metric.overflow" in plain(each.attributes)
    ]
    assert plain(lost.attributes) == {
        "status.code": "STATUS_CODE_ERROR", "otel.metric.overflow": True, "collector.instance.id": "a",
    }  # fmt: skip
    assert plain(request.resource_metrics[0].resource.attributes) == {"service.name": "tss"}


def test_an_exemplar_is_sent_until_it_has_arrived_and_then_no_more(module):
    metrics = module.SpanMetrics(SHAPE)
    reporter = Reporter(metrics, "ms", instance="a", service="tss", version="1", began_ns=5)

    def sent() -> list[bytes]:
        return [
            example.span_id
            for point in points(exported(reporter), "traces.span.metrics.duration")
            for example in point.exemplars
        ]

    metrics.add(trace_id(0), [message(span(1))], True)
    assert sent() == sent() == [span_id(1)]
    upto = metrics.spans
    metrics.add(trace_id(0), [message(span(2, ms=50))], True)
    reporter.told(upto)
    assert sent() == [span_id(2)]
    reporter.told(metrics.spans)
    assert sent() == []


def test_many_series_are_written_some_at_a_time(module):
    metrics = counted(module, message(*(span(name=f"/{number}") for number in range(1000))))
    reporter = Reporter(metrics, "ms", instance="a", service="tss", version="1", began_ns=5)
    assert len([*reporter.requests(9)]) == 11
    assert len(points(exported(reporter), "traces.span.metrics.calls")) == 1000


def test_from_the_settings_to_what_is_counted():
    settings = Settings(
        dimensions=("http.route", "region=eu", "tenant="), buckets_ms=(0.5, 2), max_series=7, exemplars=False
    )
    assert shape_of(settings) == Shape(
        (Dimension("http.route"), Dimension("region", "eu"), Dimension("tenant", "")), (500_000, 2 * MS), 7, False
    )
    assert len(shape_of(Settings()).bounds_ns) == 16
