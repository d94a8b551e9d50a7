"""Joins the observers that count all spans before sampling with the tasks that send their counts."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import AsyncExitStack
from functools import partial

import attrs
import trio

from tss import __version__
from tss.core import measures
from tss.core.formats.apm_stats import Concentrator, SpanObserver
from tss.core.formats.apm_stats.groups import MAX_BYTES
from tss.core.formats.spanmetrics import Exposition, Reporter, SpanMetrics, shape_of
from tss.edges.http.datadog_stats import endpoint_of, open_datadog_stats
from tss.edges.http.datadog_stats_forms import for_intake
from tss.edges.http.otlp_metrics import open_otlp_metrics
from tss.edges.metrics import PrometheusMeter
from tss.settings import DatadogExporter, Settings
from tss.tasks import apm_stats, spanmetrics

FEWEST_BYTES = 4 * 1024 * 1024


@attrs.frozen
class Counting:
    """The observers of all spans, and the tasks that send. Each task runs until its event is set, and then sends once more."""

    observers: list[SpanObserver] = attrs.field(factory=list)
    senders: dict[str, Callable[[trio.Event], Awaitable[None]]] = attrs.field(factory=dict)  # by the task's name


async def open_counting(
    settings: Settings, opened: AsyncExitStack, last_secs: float, meter: PrometheusMeter
) -> Counting:
    """Empty if the settings ask for no counts. The last sending takes ``last_secs`` at most."""
    counting = Counting()
    for way in ways_of_stats(settings):
        concentrator = Concentrator(time.time_ns(), max_bytes=_max_bytes(settings))
        counting.observers.append(concentrator)
        opening = open_datadog_stats(way, settings.datadog, settings.app.instance_id)
        sending = apm_stats.ApmStatsSender(
            concentrator, await opened.enter_async_context(opening), meter, random.Random()
        )
        counting.senders[f"APM statistics to {way.name}"] = partial(apm_stats.run, sending, last_secs)
    if settings.span_metrics.enabled:
        await _count_span_metrics(settings, opened, counting, last_secs, meter)
    return counting


def _max_bytes(settings: Settings) -> int:
    """The memory of the APM statistics for one destination, in addition to maxBufferBytes. Once it is full, further series
    are counted together as one."""
    return min(MAX_BYTES, max(FEWEST_BYTES, settings.app.max_buffer_bytes // 8))


def ways_of_stats(settings: Settings) -> Collection[DatadogExporter]:
    """One exporter of those that reach the same Datadog account: it would count statistics twice that are sent twice."""
    if not settings.datadog.stats:
        return ()
    datadogs = [each for each in settings.effective_exporters if isinstance(each, DatadogExporter)]
    ways = [(endpoint_of(each), each) for each in datadogs]
    return {
        (way.base_url, way.path, each.api_key if way.write is for_intake else ""): each for way, each in ways
    }.values()


async def _count_span_metrics(
    settings: Settings, opened: AsyncExitStack, counting: Counting, last_secs: float, meter: PrometheusMeter
) -> None:
    red = settings.span_metrics
    spans = SpanMetrics(shape_of(red))
    counting.observers.append(spans)
    meter.show(Exposition(spans, red.unit).pieces)
    meter.set(measures.SPAN_METRICS_LIMIT, red.max_series)
    meter.watch(measures.SPAN_METRICS_SERIES, lambda: len(spans))
    if red.otlp_endpoint:
        names = {"instance": settings.app.instance_id, "service": settings.observability.service_name}
        report = Reporter(spans, red.unit, **names, version=__version__, began_ns=time.time_ns())
        backend = await opened.enter_async_context(open_otlp_metrics(red))
        sending = spanmetrics.SpanMetricsSender(report, backend, meter, random.Random())
        counting.senders["span metrics by OTLP"] = partial(spanmetrics.run, sending, red.otlp_interval_secs, last_secs)
