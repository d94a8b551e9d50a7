"""`spanMetrics`: calls, errors and durations of all spans."""

from collections.abc import Mapping

from attrs import frozen

from tss.settings.keys import key
from tss.settings.kinds.headers import headers
from tss.settings.kinds.metrics import bounds, dimensions
from tss.settings.kinds.numbers import number, truth, whole
from tss.settings.kinds.texts import choice, url
from tss.settings.kinds.units import SECONDS

_IF_ENABLED = "Has an effect only with `enabled`."
_IF_ENDPOINT = "Has an effect only with `otlpEndpoint`."


@frozen(kw_only=True)
class SpanMetricsSettings:
    """Calls, errors and durations of all spans, kept and dropped. The metrics have the names of the OpenTelemetry Collector's `spanmetrics` connector."""

    enabled: bool = key(
        False,
        truth,
        "Count every span, and serve `traces_span_metrics_calls_total` and `traces_span_metrics_duration_...` on /metrics.",
    )
    dimensions: tuple[str, ...] = key(
        (),
        dimensions,
        "Attributes that become labels, in addition to service, span name, kind and status. The value is the span's, or if it has "
        "none its resource's. "
        f"{_IF_ENABLED}",
    )
    buckets_ms: tuple[float, ...] = key(
        (2, 4, 6, 8, 10, 50, 100, 200, 400, 800, 1000, 1400, 2000, 5000, 10_000, 15_000),
        bounds,
        f"Upper bounds of the duration buckets, in milliseconds even if `unit` is s. {_IF_ENABLED}",
    )
    unit: str = key("ms", choice("ms", "s"), f"Unit of the duration metrics. {_IF_ENABLED}")
    max_series: int = key(
        10_000,
        # At most 4 kB each on average: numbers, exemplars, labels, and the compressed answer to a scrape.
        whole(1, 100_000),
        "The most series; fewer if their labels take more than 2 kB on average. Spans of further series are counted in the series "
        f"`otel_metric_overflow`. A series takes about 2 kB. {_IF_ENABLED}",
    )
    exemplars: bool = key(
        True,
        truth,
        f"Give each bucket an exemplar: the trace id and span id of the newest span in it whose trace is kept. {_IF_ENABLED}",
    )
    otlp_endpoint: str = key(
        "",
        url(empty=True, suffix_added="/v1/metrics"),
        f"Base address of a backend that also receives the metrics, by OTLP/HTTP. The daemon adds /v1/metrics. {_IF_ENABLED}",
    )
    otlp_headers: Mapping[str, str] = key({}, headers, f"Headers of each request. {_IF_ENDPOINT}", secret=True)
    otlp_interval_secs: float = key(60, number(1, 3600, units=SECONDS), f"Time between two requests. {_IF_ENDPOINT}")
