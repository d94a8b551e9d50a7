"""Spans as the real OpenTelemetry SDK makes them."""

from __future__ import annotations

from opentelemetry import trace as otel
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanKind, StatusCode


def sdk_payloads() -> list[tuple[bytes, bytes]]:
    """Trace id and serialized TracesData of a few traces: a web request with a failing query, a job, a message."""
    exporter = InMemorySpanExporter()
    resource = Resource.create(
        {"service.name": "Shop", "service.version": "1.2.3", "deployment.environment.name": "prod", "host.name": "h1"}
    )
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("shop.web", "0.9")
    with tracer.start_as_current_span("GET /cart", kind=SpanKind.SERVER) as web:
        web.set_attributes({"http.request.method": "GET", "http.route": "/cart", "http.response.status_code": 500})
        web.set_attributes({"ünïcode": "käse 🧀", "list": ["a", "b"], "flag": True, "ratio": 0.5, "big": 2**60})
        with tracer.start_as_current_span("SELECT", kind=SpanKind.CLIENT) as query:
            query.set_attributes({"db.system.name": "postgresql", "db.query.text": "SELECT * FROM carts"})
            query.record_exception(ValueError("no such cart"))
            query.set_status(StatusCode.ERROR, "failed")
    with tracer.start_as_current_span("nightly", links=[Link(web.get_span_context(), {"why": "audit"})]):
        pass
    with tracer.start_as_current_span("orders", kind=SpanKind.CONSUMER) as message:
        message.set_attributes({"messaging.system": "kafka", "messaging.operation": "process"})
    provider.shutdown()
    by_trace: dict[int, list] = {}
    for span in exporter.get_finished_spans():
        by_trace.setdefault(span.context.trace_id, []).append(span)
    assert otel.INVALID_TRACE_ID not in by_trace
    return [
        (trace_id.to_bytes(16, "big"), encode_spans(spans).SerializeToString()) for trace_id, spans in by_trace.items()
    ]
