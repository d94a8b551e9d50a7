"""Span metrics by OTLP/HTTP, against a real server on loopback that decodes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from tests.core.spans import message, span, trace_id
from tests.sinks import HttpSink, Received, Reply, SpanId
from tss.core.delivery import Accepted, Again, Misconfigured, Rejected
from tss.core.formats.spanmetrics import Reporter, Shape, SpanMetrics
from tss.edges.http.otlp_metrics import open_otlp_metrics
from tss.settings import SpanMetricsSettings


class MetricsSink(HttpSink):
    """Takes OTLP/HTTP at /v1/metrics."""

    content_type = "application/x-protobuf"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.taken: list[ExportMetricsServiceRequest] = []

    def spans_of(self, received: Received) -> Sequence[SpanId]:
        if received.path != "/v1/metrics" or received.headers.get("content-type") != self.content_type:
            raise ValueError(f"{received.path} {received.headers.get('content-type')}")
        self.taken.append(ExportMetricsServiceRequest.FromString(received.body))
        return ()

    def success(self, reply: Reply) -> bytes:
        partial = ExportMetricsPartialSuccess(rejected_data_points=reply.rejected_spans, error_message=reply.message)
        return ExportMetricsServiceResponse(
            partial_success=partial if reply.rejected_spans else None
        ).SerializeToString()


@pytest.fixture
def sink():
    with MetricsSink() as sink:
        yield sink


def settings(sink: HttpSink, **more: Any) -> SpanMetricsSettings:
    return SpanMetricsSettings(enabled=True, otlp_endpoint=sink.url, **more)


def body() -> bytes:
    metrics = SpanMetrics(Shape())
    metrics.add(trace_id(0), [message([span(0, 0)])], kept=True)
    reporter = Reporter(metrics, "ms", instance="a", service="tss", version="1", began_ns=1)
    return b"".join(reporter.requests(2))


async def test_what_is_sent_is_what_arrives_compressed(sink):
    async with open_otlp_metrics(settings(sink, otlp_headers={"X-Key": "k"})) as backend:
        assert await backend.send(body()) == Accepted()
    assert sink.taken == [ExportMetricsServiceRequest.FromString(body())]
    assert sink.requests[0].headers.items() >= {"x-key": "k", "content-encoding": "gzip"}.items()


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (Reply(503), Again),
        (Reply(429, {"Retry-After": "7"}), Again),
        (Reply(401), Misconfigured),
        (Reply(404), Misconfigured),
        (Reply(400), Rejected),
        (Reply(cut="after"), Again),
        (Reply(200, body=b"no protobuf"), Misconfigured),
        (Reply(200, {"Content-Type": "application/json"}, b'{"error": "no such index"}'), Misconfigured),
        (Reply(200, {"Content-Type": "application/json"}, b'{"partialSuccess": {}}'), Accepted),
        (Reply(200, {"Content-Type": "text/plain"}, b"fine"), Accepted),
    ],
)
async def test_answers(sink, reply, outcome):
    sink.script(reply)
    async with open_otlp_metrics(settings(sink)) as backend:
        found = await backend.send(body())
    assert isinstance(found, outcome)
    if reply.headers.get("Retry-After"):
        assert isinstance(found, Again) and found.after_secs == 7


async def test_points_that_are_rejected_are_told(sink):
    sink.script(Reply(rejected_spans=3, message="too old"))
    async with open_otlp_metrics(settings(sink)) as backend:
        assert await backend.send(body()) == Accepted(3, "too old")


async def test_points_that_are_rejected_are_told_in_json(sink):
    body_of_json = b'{"partialSuccess": {"rejectedDataPoints": "3", "errorMessage": "too old"}}'
    sink.script(Reply(headers={"Content-Type": "application/json"}, body=body_of_json))
    async with open_otlp_metrics(settings(sink)) as backend:
        assert await backend.send(body()) == Accepted(3, "too old")


async def test_nobody_there(sink):
    sink.close()
    async with open_otlp_metrics(settings(sink)) as backend:
        assert isinstance(await backend.send(body()), Again)
