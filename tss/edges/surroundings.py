"""What the environment says about each destination, looked at without opening one: for `python -m tss check`."""

from __future__ import annotations

import os
from collections.abc import Iterator

from tss.edges.http import datadog_stats, datadog_traces
from tss.edges.http.proxies import proxy_for
from tss.edges.tls import trusted
from tss.settings import DatadogExporter, OtlpExporter, Settings


def check(settings: Settings) -> None:
    """Raises WrongSetting, as the start would. Files that the settings name are left to the start."""
    for url, trusts in _destinations(settings):
        proxy = proxy_for(url, os.environ)
        if (trusts and url.startswith("https:")) or (proxy is not None and proxy.scheme == "https"):
            trusted()


def _destinations(settings: Settings) -> Iterator[tuple[str, bool]]:
    """Base URLs of what proxies are for, and whether the environment says whom to trust there."""
    for each in settings.effective_exporters:
        if isinstance(each, OtlpExporter):
            yield each.endpoint, each.ssl_verify and not each.ssl_ca_location
        elif isinstance(each, DatadogExporter) and each.via != "agent":
            yield datadog_traces.endpoint_of(each, computes_stats=False).base_url, True
            if settings.datadog.stats:
                yield datadog_stats.endpoint_of(each).base_url, True
    if settings.span_metrics.enabled and settings.span_metrics.otlp_endpoint:
        yield settings.span_metrics.otlp_endpoint, True
