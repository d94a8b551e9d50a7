"""Kept traces to any OTLP/HTTP server, in the bytes that the preparer left.

Source: opentelemetry-proto, `docs/specification.md`, "OTLP/HTTP".
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

import trio

from tss import __version__
from tss.core.delivery import Accepted, Batching, Outcome, Retrying
from tss.core.otlp import join
from tss.core.otlp.counts import with_counts
from tss.core.otlp.wire import WireError
from tss.core.trace import Trace
from tss.core.weights import Weight, chance_of, count_of
from tss.edges.http.gzip_body import MIN_GZIP_BYTES, compress
from tss.edges.http.otlp_answers import PROTOBUF, TRACES
from tss.edges.http.posting import Client, open_client, send
from tss.edges.tls import tls_context
from tss.settings import OtlpExporter

PATH = "/v1/traces"
COUNT_BYTES = 128 * 1024  # some 1 ms of counting; more is counted in a thread


class OtlpTraces:
    """Sends to one server."""

    def __init__(self, settings: OtlpExporter, client: Client) -> None:
        self.name = settings.name
        self.comes_last = False
        self.batching = Batching(settings.batch_size, settings.batch_timeout_secs, settings.max_in_flight)
        self.retrying = Retrying(settings.retry_initial_delay_ms / 1000)
        self._count_key = settings.sample_rate_attribute.encode()
        self._gzip = settings.compression == "gzip"
        self._timeout_secs = settings.request_timeout_secs
        self._client = client
        self._limiter = trio.CapacityLimiter(os.cpu_count() or 1)

    def __repr__(self) -> str:
        return f"<OtlpTraces {self.name} to {self._client.base_url}>"

    async def send(self, traces: Sequence[Trace]) -> Outcome:
        """One request with the spans of all these traces."""
        body = await self._body(traces)
        headers = {"Content-Type": PROTOBUF}
        if self._gzip and len(body) >= MIN_GZIP_BYTES:
            body = await compress(body, self._limiter)
            headers["Content-Encoding"] = "gzip"
        return await send(self._client, PATH, body, headers, self._timeout_secs, TRACES)

    async def _body(self, traces: Sequence[Trace]) -> bytes:
        if not self._count_key:
            return join(chunk for trace in traces for chunk in trace.chunks())
        work = partial(_counted, traces, self._count_key)
        if sum(trace.payload_bytes for trace in traces) < COUNT_BYTES:
            return work()
        return await trio.to_thread.run_sync(work, limiter=self._limiter, abandon_on_cancel=True)

    async def ask(self) -> Outcome:
        """The outcome of a request without spans: an empty body is an empty ExportTraceServiceRequest."""
        return await send(self._client, PATH, b"", {"Content-Type": PROTOBUF}, self._timeout_secs, TRACES)

    async def knock(self) -> bool:
        """Whether it takes a request without spans."""
        return isinstance(await self.ask(), Accepted)

    def forget(self, traces: Sequence[Trace]) -> None:
        """Nothing to do: nothing is remembered about a trace."""


def _counted(traces: Sequence[Trace], key: bytes) -> bytes:
    """The spans of these traces, each with the number of spans that it stands for."""
    pieces = []
    for trace in traces:
        payload = trace.payload
        if trace.decision is not None and trace.decision.weighted:
            count = partial(count_of, weight=Weight.of(trace.decision, trace.trace_id))
            # Broken where the scanner does not look: it goes as it is.
            with suppress(WireError):
                payload = with_counts(payload, key, count, chance_of(trace.trace_id))
        pieces.append(payload)
    return join(pieces)


@asynccontextmanager
async def open_otlp(settings: OtlpExporter) -> AsyncIterator[OtlpTraces]:
    """Raises UnusableFile when a file of certificates or keys cannot be used."""
    headers, context = _headers(settings), tls_context(settings, spoken=settings.endpoint.startswith("https:"))
    async with open_client(settings.endpoint, headers, settings.max_in_flight, verify=context, proxies=True) as client:
        yield OtlpTraces(settings, client)


def _headers(settings: OtlpExporter) -> Mapping[str, str]:
    headers = {"User-Agent": f"tss/{__version__}", "Accept": PROTOBUF}
    if settings.bearer_token:
        headers["Authorization"] = f"Bearer {settings.bearer_token}"
    return headers | dict(settings.headers)
