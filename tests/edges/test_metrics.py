"""The table of measures as Prometheus sees it."""

import re
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client import generate_latest as text_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.core.spans import message, span, trace_id
from tss.core import measures
from tss.core.formats.spanmetrics import Exposition, Shape, SpanMetrics
from tss.core.measures import Measure, Meter, MetricType
from tss.edges.metrics import PrometheusMeter

# As Prometheus 3 asks.
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
# The deployment guide, "Key Metrics" and "Alert Rules".
GUIDE_METRICS = {
    "traces_ingested_total",
    "spans_ingested_total",
    "traces_sampled_total",
    "spans_exported_total",
    "buffer_traces_current",
    "kafka_consumer_lag",
    "export_errors_total",
}
GUIDE_ALERTS = {
    "kafka_consumer_lag > 1000",
    "buffer_traces_current / buffer_traces_limit > 0.8",
    "increase(export_errors_total[5m]) > 0",
}

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def meter() -> PrometheusMeter:
    return PrometheusMeter()


def shown(meter: PrometheusMeter, accept: str = "") -> Samples:
    body, content_type = whole(meter, accept)
    parse = parse_openmetrics if "openmetrics" in content_type else parse_text
    families = list(parse(body.decode()))
    return {(sample.name, tuple(sample.labels.items())): sample.value for each in families for sample in each.samples}


def whole(meter: PrometheusMeter, accept: str = "") -> tuple[bytes, str]:
    pieces, content_type = meter.exposition(accept)
    return b"".join(pieces), content_type


def types(meter: PrometheusMeter) -> dict[str, str]:
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", whole(meter)[0].decode(), re.MULTILINE))


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", expression))


def fill(meter: Meter) -> None:
    """One series of every measure."""
    for measure in measures.TABLE:
        labels = [f"some {label}" for label in measure.labels]
        match measure.kind:
            case MetricType.COUNTER:
                meter.count(measure, 3, *labels)
            case MetricType.GAUGE:
                meter.set(measure, 3, *labels)
            case MetricType.HISTOGRAM:
                meter.observe(measure, 3, *labels)


def test_every_measure_is_there_from_the_start_under_its_name_and_type(meter):
    assert types(meter).items() >= {measure.name: measure.kind.value for measure in measures.TABLE}.items()


def test_every_counter_without_labels_is_0_from_the_start(meter):
    zeros = shown(meter)
    for measure in measures.TABLE:
        if not measure.labels and measure.kind is not MetricType.HISTOGRAM:
            assert zeros[measure.name, ()] == 0, measure.name


@pytest.mark.parametrize("accept", ["", "text/plain", PROMETHEUS])
def test_counters_keep_their_names_in_every_format_and_nothing_is_added_to_them(meter, accept):
    fill(meter)
    samples = shown(meter, accept)
    ours = {measure.name: measure for measure in measures.TABLE}
    for measure in measures.TABLE:
        name = f"{measure.name}_count" if measure.kind is MetricType.HISTOGRAM else measure.name
        labels = tuple((label, f"some {label}") for label in measure.labels)
        # The formats sort labels.
        found = [
            value for (each, shown_labels), value in samples.items() if each == name and {*shown_labels} == {*labels}
        ]
        assert found == [1 if measure.kind is MetricType.HISTOGRAM else 3], measure.name
    assert not [name for name, _ in samples if name.endswith("_created")]
    rest = {name for name, _ in samples if name not in ours and re.sub("_(bucket|sum|count)$", "", name) not in ours}
    assert all(name.startswith(("process_", "python_")) for name in rest)
    assert {"process_resident_memory_bytes", "process_cpu_seconds_total", "python_info"} <= rest


def test_the_guides_metrics_and_alerts(meter):
    known = {measure.name: measure for measure in measures.TABLE}
    assert known.keys() >= GUIDE_METRICS
    assert {measure.alert for measure in measures.TABLE} - {""} == GUIDE_ALERTS
    for expression in GUIDE_ALERTS:
        assert names_in(expression) <= known.keys()
    # One side of a quotient finds the other by its labels.
    assert known["buffer_traces_current"].labels == known["buffer_traces_limit"].labels


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/html,application/xhtml+xml", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text; version=nonsense", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    ],
)
def test_the_format_is_the_scrapers_choice(meter, accept, content_type):
    body, given = whole(meter, accept)
    assert given == content_type
    assert body.endswith(b"# EOF\n") == ("openmetrics" in content_type)


def test_prometheus_gets_openmetrics(meter):
    assert meter.exposition(PROMETHEUS)[1].startswith("application/openmetrics-text; version=1.0.0")


def test_a_watched_gauge_is_read_at_each_exposition(meter):
    channel: list[int] = []
    meter.watch(measures.CHANNEL_FILL, lambda: len(channel), "polled")
    meter.watch(measures.BUFFER_TRACES, lambda: 10 * len(channel))
    assert shown(meter)["channel_fill", (("channel", "polled"),)] == 0
    channel.append(1)
    assert shown(meter)["channel_fill", (("channel", "polled"),)] == 1
    assert shown(meter)["buffer_traces_current", ()] == 10


def test_what_is_forgotten_is_shown_no_more_and_may_come_back(meter):
    for partition in "01":
        meter.set(measures.CONSUMER_LAG, 7, "spans", partition)
    meter.forget(measures.CONSUMER_LAG, "spans", "0")
    meter.forget(measures.CONSUMER_LAG, "spans", "never shown")
    assert [labels for name, labels in shown(meter) if name == "kafka_consumer_lag"] == [
        (("partition", "1"), ("topic", "spans"))
    ]
    meter.set(measures.CONSUMER_LAG, 8, "spans", "0")
    assert shown(meter)["kafka_consumer_lag", (("partition", "0"), ("topic", "spans"))] == 8


def test_counting_nothing_makes_a_series_appear(meter):
    # The guide's alert is on an increase, which the first sample of a series is not.
    meter.count(measures.EXPORT_ERRORS, 0, "datadog", "timeout")
    assert shown(meter)["export_errors_total", (("destination", "datadog"), ("reason", "timeout"))] == 0


def test_histograms_have_the_tables_buckets(meter):
    for measure in measures.TABLE:
        if measure.kind is MetricType.HISTOGRAM:
            meter.observe(measure, 0, *("x" for _ in measure.labels))
            bounds = [float(dict(labels)["le"]) for name, labels in shown(meter) if name == f"{measure.name}_bucket"]
            assert bounds == [*measure.buckets, float("inf")]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda meter: meter.count(measures.EXPORT_ERRORS, 1),
        lambda meter: meter.count(measures.EXPORT_ERRORS, 1, "one of two"),
        lambda meter: meter.count(measures.TRACES_INGESTED, 1, "one of none"),
        lambda meter: meter.count(measures.TRACES_INGESTED, -1),
        lambda meter: meter.count(measures.PAUSED, 1),
        lambda meter: meter.set(Measure("not_in_the_table", MetricType.GAUGE, ""), 1),
    ],
)
def test_a_wrong_use_is_told_at_once(meter, wrong):
    with pytest.raises((ValueError, KeyError)):
        wrong(meter)


def test_two_meters_have_nothing_in_common(meter):
    meter.count(measures.TRACES_INGESTED, 5)
    assert shown(PrometheusMeter())["traces_ingested_total", ()] == 0


def test_label_values_may_be_anything(meter):
    meter.set(measures.CONSUMER_LAG, 1, 'a "quoted"\nback\\slash ü', "0")
    assert ("topic", 'a "quoted"\nback\\slash ü') in dict.fromkeys(
        label for _, labels in shown(meter) for label in labels
    )


def test_the_reference_page_is_fresh():
    page = Path(__file__).parents[2] / "docs" / "metrics.md"
    assert page.read_text(encoding="utf-8") == measures.reference(), (
        "stale: python -m tss.edges.metrics > docs/metrics.md"
    )


def test_the_reference_page_tells_the_guides_thresholds():
    rows = {row.split("`")[1]: row for row in measures.reference().splitlines() if row.startswith("| `")}
    assert rows.keys() == {measure.name for measure in measures.TABLE}
    assert rows["kafka_consumer_lag"].endswith("| `kafka_consumer_lag > 1000` |")
    assert rows["channel_fill"] == (
        "| `channel_fill` | gauge | `channel` | Batches waiting in a channel between two tasks. |  |"
    )


@given(st.lists(st.floats(0, 20_000), max_size=50))
def test_many_at_once_are_counted_as_one_by_one(values):
    together, apart = PrometheusMeter(), PrometheusMeter()
    together.observe_all(measures.DECISION_DELAY, values)
    for value in values:
        apart.observe(measures.DECISION_DELAY, value)
    name = measures.DECISION_DELAY.name
    one, other = (
        {key: value for key, value in shown(meter).items() if key[0].startswith(name)} for meter in (together, apart)
    )
    assert one.pop((f"{name}_sum", ())) == pytest.approx(other.pop((f"{name}_sum", ())))
    assert one == other
    assert one[f"{name}_count", ()] == len(values)
    for bound in measures.DECISION_DELAY.buckets:
        assert one[f"{name}_bucket", (("le", str(bound)),)] == sum(value <= bound for value in values)


@pytest.mark.parametrize("accept", ["", PROMETHEUS])
def test_what_writes_itself_stands_beside_the_table(meter, accept):
    """Span metrics, with their exemplars where the format has them."""
    metrics = SpanMetrics(Shape())
    metrics.add(trace_id(3), [message([span(3, 5)])], True)
    meter.show(Exposition(metrics, "ms").pieces)
    text = whole(meter, accept)[0].decode()
    assert shown(meter, accept).keys() >= {("spans_ingested_total", ())}
    parse = parse_openmetrics if accept else parse_text
    families = {family.name: family for family in parse(text)}
    (calls,) = families["traces_span_metrics_calls"].samples
    assert calls.value == 1
    buckets = families["traces_span_metrics_duration_milliseconds"].samples
    examples = [sample.exemplar.labels["trace_id"] for sample in buckets if sample.exemplar]
    assert examples == ([trace_id(3).hex()] if accept else [])


def as_prometheus_client_writes(openmetrics: bool) -> bytes:
    """The table, filled as `fill` and `odd_values` fill it, by the library's own classes."""
    registry = CollectorRegistry()
    for measure in measures.TABLE:
        labels = [f"some {label}" for label in measure.labels]
        match measure.kind:
            case MetricType.COUNTER:
                counter = Counter(measure.name, measure.help, measure.labels, registry=registry)
                (counter.labels(*labels) if labels else counter).inc(3)
            case MetricType.GAUGE:
                gauge = Gauge(measure.name, measure.help, measure.labels, registry=registry)
                (gauge.labels(*labels) if labels else gauge).set(3)
                if measure is measures.CONSUMER_LAG:
                    for number, value in enumerate(ODD_VALUES):
                        gauge.labels('a "quoted"\nback\\slash ü', str(number)).set(value)
            case MetricType.HISTOGRAM:
                histogram = Histogram(
                    measure.name, measure.help, measure.labels, buckets=measure.buckets, registry=registry
                )
                (histogram.labels(*labels) if labels else histogram).observe(3)
    return openmetrics_latest(registry) if openmetrics else text_latest(registry)


ODD_VALUES = (0, -1.5, 1e6, 1234567.25, 1e21, float("inf"), float("-inf"), float("nan"), 1e-9)


@pytest.mark.parametrize("openmetrics", [False, True])
def test_the_text_is_prometheus_clients_byte_for_byte(meter, openmetrics, monkeypatch):
    monkeypatch.setattr("prometheus_client.metrics._use_created", False)
    fill(meter)
    for number in range(len(ODD_VALUES)):
        meter.set(measures.CONSUMER_LAG, 9, 'a "quoted"\nback\\slash ü', str(number))
    whole(meter)  # numbers that change afterwards are written anew
    for number, value in enumerate(ODD_VALUES):
        meter.set(measures.CONSUMER_LAG, value, 'a "quoted"\nback\\slash ü', str(number))
    text = whole(meter, "application/openmetrics-text" if openmetrics else "")[0]
    ours = text[: text.index(b"# HELP process_virtual")]
    assert ours == as_prometheus_client_writes(openmetrics).removesuffix(b"# EOF\n")


@pytest.mark.parametrize("accept", ["", PROMETHEUS])
def test_many_series_come_in_small_pieces_and_what_is_counted_meanwhile_splits_no_series(meter, accept):
    """Spans are counted between the pieces: calls still equal the count of durations, and no series is half there."""
    metrics = SpanMetrics(Shape(max_series=1000))
    for number in range(500):
        metrics.add(trace_id(number), [message([span(number, number)])], True)
    meter.show(Exposition(metrics, "ms").pieces)
    pieces, whole_text = meter.exposition(accept)[0], b""
    for count, piece in enumerate(pieces):
        assert count == 0 or len(piece) < 200_000
        whole_text += piece
        for number in range(1000):
            metrics.add(trace_id(number), [message([span(number, number)])], True)
    parse = parse_openmetrics if accept else parse_text
    families = {family.name: family for family in parse(whole_text.decode())}
    calls = {sample.labels["span_name"]: sample.value for sample in families["traces_span_metrics_calls"].samples}
    durations = families["traces_span_metrics_duration_milliseconds"].samples
    by_name = {sample.labels["span_name"]: sample.value for sample in durations if sample.name.endswith("_count")}
    ends = {sample.labels["span_name"]: sample.value for sample in durations if sample.labels.get("le") == "+Inf"}
    assert calls == by_name == ends
    assert len(calls) >= 500
    assert len({*calls.values()}) > 1, "nothing was counted meanwhile"


def test_a_scrape_holds_few_bytes_at_a_time(meter):
    metrics = SpanMetrics(Shape(max_series=5000))
    for number in range(5000):
        metrics.add(trace_id(number), [message([span(number, number)])], True)
    meter.show(Exposition(metrics, "ms").pieces)
    list(meter.exposition()[0])  # names are written once and kept
    tracemalloc.start()
    try:
        assert sum(map(len, meter.exposition()[0])) > 4_000_000
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
