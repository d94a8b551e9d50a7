"""`spanMetrics`: calls, errors and durations of all spans."""

from collections.abc import Mapping

from attrs import frozen

from tss.settings.keys import key
from tss.settings.kinds.headers import headers
from tss.settings.kinds.metrics import bounds, dimensions
from tss.settings.kinds.numbers import number, truth, whole
from tss.settings.kinds.texts import choice, url
from tss.settings.kinds.units import SECONDS

_METRICS_TOO = "Has an effect only with `enabled`."
_OTLP_TOO = "Has an effect only with `otlpEndpoint`."


@frozen(kw_only=True)
class SpanMetrics:
    """Calls, errors and durations of all spans, kept and dropped, by series: names as the OpenTelemetry Collector's `spanmetrics` connector has them."""

    enabled: bool = key(
        False, truth, "Count every span, and show `traces_span_metrics_calls_total` and `..._duration_...` on /metrics."
    )
    dimensions: tuple[str, ...] = key(
        (),
        dimensions,
        "Attributes, of the span or else of its resource, that tell series apart beside service, span name, kind and status. "
        f"{_METRICS_TOO}",
    )
    buckets_ms: tuple[float, ...] = key(
        (2, 4, 6, 8, 10, 50, 100, 200, 400, 800, 1000, 1400, 2000, 5000, 10_000, 15_000),
        bounds,
        f"Upper bounds of the durations' buckets, in ms whatever the unit. {_METRICS_TOO}",
    )
    unit: str = key("ms", choice("ms", "s"), f"Unit of the durations that are shown and sent. {_METRICS_TOO}")
    max_series: int = key(
        10_000,
        whole(
            1, 100_000
        ),  # 4 kB each at most on average: numbers, exemplars, labels, and the answer to a scrape in gzip
        "Series told apart at most, or fewer if their labels take more than 2 kB on average; spans of further ones count as "
        f"`otel_metric_overflow`. A series takes about 2 kB. {_METRICS_TOO}",
    )
    exemplars: bool = key(
        True, truth, f"Give each bucket the ids of the newest span of a kept trace in it. {_METRICS_TOO}"
    )
    otlp_endpoint: str = key(
        "",
        url(empty=True, suffix_added="/v1/metrics"),
        f"Base address of a backend that is sent them by OTLP/HTTP too; /v1/metrics is added. {_METRICS_TOO}",
    )
    otlp_headers: Mapping[str, str] = key({}, headers, f"Headers of every request. {_OTLP_TOO}", secret=True)
    otlp_interval_secs: float = key(60, number(1, 3600, units=SECONDS), f"Time between two sendings. {_OTLP_TOO}")
