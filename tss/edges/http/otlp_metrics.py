"""Metrics to any OTLP/HTTP backend; the rules are those of traces.

Source: opentelemetry-proto, `docs/specification.md`, "OTLP/HTTP".
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio
from isal import igzip

from tss import __version__
from tss.core.delivery import Outcome
from tss.edges.http.otlp_answers import METRICS, PROTOBUF, message, success
from tss.edges.http.otlphttp import GZIP_LEVEL, RULES, THREAD_BYTES
from tss.edges.http.posting import Answer, Client, judge, open_client, post
from tss.settings import SpanMetrics

PATH = "/v1/metrics"
TIMEOUT_SECS = 10.0  # the specification's default; whoever takes longer gets the next sending


class OtlpMetrics:
    """Sends to one backend."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __repr__(self) -> str:
        return f"<OtlpMetrics to {self._client.base_url}>"

    async def send(self, body: bytes) -> Outcome:
        """One ExportMetricsServiceRequest, serialized."""
        compress = partial(igzip.compress, body, GZIP_LEVEL, mtime=0)
        small = len(body) < THREAD_BYTES
        packed = compress() if small else await trio.to_thread.run_sync(compress, abandon_on_cancel=True)
        headers = {"Content-Type": PROTOBUF, "Content-Encoding": "gzip"}
        answer = await post(self._client, PATH, packed, headers, TIMEOUT_SECS)
        if not isinstance(answer, Answer):
            return answer
        return success(answer, METRICS) if answer.accepted else judge(answer, RULES, message(answer))


@asynccontextmanager
async def open_otlp_metrics(settings: SpanMetrics) -> AsyncIterator[OtlpMetrics]:
    """To ``settings.otlp_endpoint``."""
    headers = {"User-Agent": f"tss/{__version__}", "Accept": PROTOBUF} | dict(settings.otlp_headers)
    verify = settings.otlp_endpoint.startswith("https:")
    async with open_client(settings.otlp_endpoint, headers, 1, verify=verify, proxies=True) as client:
        yield OtlpMetrics(client)
