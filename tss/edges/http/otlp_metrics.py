"""Span metrics to any OTLP/HTTP server.

Source: opentelemetry-proto, `docs/specification.md`, "OTLP/HTTP".
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tss import __version__
from tss.core.delivery import Outcome
from tss.edges.http.gzip_body import compress
from tss.edges.http.otlp_answers import METRICS, PROTOBUF
from tss.edges.http.posting import Client, open_client, send
from tss.settings import SpanMetricsSettings

PATH = "/v1/metrics"
TIMEOUT_SECS = 10.0  # the specification's default


class OtlpMetrics:
    """Sends to one server."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __repr__(self) -> str:
        return f"<OtlpMetrics to {self._client.base_url}>"

    async def send(self, body: bytes) -> Outcome:
        """One ExportMetricsServiceRequest, serialized."""
        headers = {"Content-Type": PROTOBUF, "Content-Encoding": "gzip"}
        return await send(self._client, PATH, await compress(body), headers, TIMEOUT_SECS, METRICS)


@asynccontextmanager
async def open_otlp_metrics(settings: SpanMetricsSettings) -> AsyncIterator[OtlpMetrics]:
    """To ``settings.otlp_endpoint``."""
    headers = {"User-Agent": f"tss/{__version__}", "Accept": PROTOBUF} | dict(settings.otlp_headers)
    verify = settings.otlp_endpoint.startswith("https:")
    async with open_client(settings.otlp_endpoint, headers, 1, verify=verify, proxies=True) as client:
        yield OtlpMetrics(client)
