"""Metrics to any OTLP/HTTP backend; the rules are those of traces.

Source: opentelemetry-proto, `docs/specification.md`, "OTLP/HTTP".
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio
from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]
from isal import igzip
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

from tss import __version__
from tss.core.delivery import Accepted, Misconfigured, Outcome
from tss.edges.otlphttp import GZIP_LEVEL, PROTOBUF, RULES, THREAD_BYTES, WHOSE, message
from tss.edges.posting import Answer, Client, is_page, judge, open_client, plain_message, post, stranger
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
        return _success(answer) if answer.accepted else judge(answer, RULES, message(answer))


@asynccontextmanager
async def open_otlp_metrics(settings: SpanMetrics) -> AsyncIterator[OtlpMetrics]:
    """To ``settings.otlp_endpoint``."""
    headers = {"User-Agent": f"tss/{__version__}", "Accept": PROTOBUF} | dict(settings.otlp_headers)
    verify = settings.otlp_endpoint.startswith("https:")
    async with open_client(settings.otlp_endpoint, headers, 1, verify=verify, proxies=True) as client:
        yield OtlpMetrics(client)


def _success(answer: Answer) -> Accepted | Misconfigured:
    """An answer that cannot be read is a full success: the status says that the request was taken. A web page is not one."""
    if is_page(answer):
        return stranger(answer, WHOSE)
    if answer.headers.get("content-type", PROTOBUF).partition(";")[0].strip().lower() != PROTOBUF:
        return Accepted()
    try:
        partial_success = ExportMetricsServiceResponse.FromString(answer.body).partial_success
    except DecodeError:
        return Accepted()
    return Accepted(max(0, partial_success.rejected_data_points), plain_message(partial_success.error_message.encode()))
