"""Spans of the real OpenTelemetry SDK, through Kafka and the daemon: what arrives is what was sent, byte for byte."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pytest
from confluent_kafka import Producer
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    TraceState,
    set_span_in_context,
)
from opentelemetry.util.types import AnyValue

from tests.real import agent
from tests.real.brokers import Broker
from tests.real.daemon import Daemon, Group, Section, settings
from tests.real.load import SpanId
from tests.sinks import DatadogIntakeSink, OtlpSink

SECONDS_NS = 1_000_000_000
EVERY_TYPE: dict[str, AnyValue] = {
    "text": "käse 🧀 \x00 end",
    "empty": "",
    "yes": True,
    "no": False,
    "zero": 0,
    "smallest": -(2**63),
    "largest": 2**63 - 1,
    "half": 0.5,
    "infinite": float("inf"),
    "texts": ["a", "", "ü"],
    "truths": [True, False],
    "numbers": [1, -1, 2**53 + 1],
    "doubles": [0.1, -0.0, 1e300],
    "nothing": [],
}


class ToKafka(SpanExporter):
    """Writes a record for each trace in a batch, keyed by its id as the Collector does it."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.sent: list[bytes] = []
        self._topic = topic
        self._producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0})

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        by_trace: dict[int, list[ReadableSpan]] = defaultdict(list)
        for span in spans:
            by_trace[span.context.trace_id].append(span)
        for trace_id, together in by_trace.items():
            value = encode_spans(together).SerializeToString()
            self.sent.append(value)
            self._producer.produce(self._topic, value, f"{trace_id:032x}".encode())
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        assert self._producer.flush(10) == 0


def run_an_application(exporter: ToKafka) -> None:
    """Three traces with an error in each, and one that is to be dropped; a span is sent as it ends, by itself."""
    resource = Resource.create({"service.name": "Shop", "service.version": "1.2.3", **EVERY_TYPE})
    provider = TracerProvider(resource=resource, span_limits=SpanLimits(max_events=4, max_span_attributes=20))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    web = provider.get_tracer("shop.web", "0.9", "https://opentelemetry.io/schemas/1.27.0", {"scope": "attribute"})
    database = provider.get_tracer("shop.db")
    linked = _request(web, database)
    _job(web, linked)
    _called_from_outside(web)
    with web.start_as_current_span("healthy"), database.start_as_current_span("SELECT 1"):
        pass
    provider.shutdown()


def _request(web: Tracer, database: Tracer) -> SpanContext:
    with web.start_as_current_span("GET /cart/{id}", kind=SpanKind.SERVER, attributes=EVERY_TYPE) as root:
        root.add_event("cache.miss", EVERY_TYPE, timestamp=1)
        for number in range(30):  # more than the limit: the SDK counts those it dropped
            root.set_attribute(f"many.{number}", number)
        with database.start_as_current_span("SELECT", kind=SpanKind.CLIENT) as query:
            try:
                raise KeyError("no such cart")
            except KeyError as error:
                query.record_exception(error, {"exception.escaped": False})
                query.set_status(Status(StatusCode.ERROR, "näh"))
            with database.start_as_current_span("fetch", kind=SpanKind.INTERNAL) as fetch:
                for number in range(9):
                    fetch.add_event(f"row {number}")
        with web.start_as_current_span("render") as render:
            render.set_status(StatusCode.OK)
            render.update_name("render cart")
    return root.get_span_context()


def _job(web: Tracer, linked: SpanContext) -> None:
    elsewhere = SpanContext(2**127 + 1, 2**63 + 1, is_remote=True, trace_state=TraceState([("v", "1"), ("w", "a:b")]))
    links = [Link(linked, {"why": "audit"}), Link(elsewhere, EVERY_TYPE)]
    with web.start_as_current_span("nightly", kind=SpanKind.CONSUMER, links=links, start_time=SECONDS_NS) as job:
        job.set_status(StatusCode.ERROR)
        with web.start_as_current_span("publish", kind=SpanKind.PRODUCER):
            pass


def _called_from_outside(web: Tracer) -> None:
    """Its root is nobody's here: decided when it has been quiet for inactivityTimeoutSecs."""
    state = TraceState([("ot", "rv:8f1c2d3e4b5a69"), ("vendor", "opaque")])
    flags = TraceFlags(TraceFlags.SAMPLED)
    caller = SpanContext(0xABCDEF << 100 | 7, 42, is_remote=True, trace_flags=flags, trace_state=state)
    with web.start_as_current_span("called", set_span_in_context(NonRecordingSpan(caller)), SpanKind.SERVER) as called:
        _fail(called)


def _fail(span: Span) -> None:
    span.set_status(StatusCode.ERROR, "")


Wire = Iterator[tuple[int, bytes, bytes]]


def fields(message: bytes) -> Wire:
    """The fields of a protobuf message: number, all its bytes, and the body of one that has a length. (Not the daemon's
    own walk, which is what is tested.)"""
    position = 0
    while position < len(message):
        begin = position
        key, position = _varint(message, position)
        body = b""
        match key & 7:
            case 0:
                _, position = _varint(message, position)
            case 1:
                position += 8
            case 2:
                length, position = _varint(message, position)
                body = message[position : position + length]
                position += length
            case 5:
                position += 4
            case kind:
                raise ValueError(f"wire type {kind}")
        yield key >> 3, message[begin:position], body


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def located(messages: Iterable[bytes]) -> dict[SpanId, tuple[bytes, bytes, bytes]]:
    """Each span's bytes, with those of what it is in: ResourceSpans and ScopeSpans without what is inside (field 2)."""
    found = {}
    for message in messages:
        for resource, in_resource in _inside(message, 1):
            for scope, in_scope in _inside(in_resource, 2):
                for span, _ in _inside(in_scope, 2):
                    ids = {number: body for number, _, body in fields(span)}
                    assert (ids[1], ids[2]) not in found, "a span that came twice"
                    found[ids[1], ids[2]] = span, _own(resource), _own(scope)
    return found


def _inside(message: bytes, number: int) -> Iterator[tuple[bytes, bytes]]:
    return ((body, body) for each, _, body in fields(message) if each == number)


def _own(message: bytes) -> bytes:
    return b"".join(whole for number, whole, _ in fields(message) if number != 2)


def parsed(messages: Iterable[bytes]) -> dict[bytes, str]:
    """Each span as text, in what it is in, by its id."""
    return {
        span.span_id: f"{resource.resource} {resource.schema_url} {scope.scope} {scope.schema_url} {span}"
        for message in messages
        for resource in TracesData.FromString(message).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }


def states_of(messages: Iterable[bytes]) -> list[str]:
    """The trace state of each span."""
    return [
        span.trace_state
        for message in messages
        for resource in TracesData.FromString(message).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def without_states(messages: Iterable[bytes]) -> list[bytes]:
    """The messages without the trace states of their spans; the bytes of all other fields stay."""
    return [_replaced(message, 1, lambda group: _replaced(group, 2, _without_states)) for message in messages]


def _without_states(scope: bytes) -> bytes:
    return _replaced(scope, 2, lambda span: b"".join(whole for number, whole, _ in fields(span) if number != 3))


def _replaced(message: bytes, number: int, change: Callable[[bytes], bytes]) -> bytes:
    """The message with other bodies of its fields with this number, which is below 16."""
    return b"".join(
        whole if each != number else bytes([number << 3 | 2]) + _length(change(body))
        for each, whole, body in fields(message)
    )


def _length(body: bytes) -> bytes:
    head, size = bytearray(), len(body)
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*head, size]) + body


@pytest.fixture
def test_agent() -> Iterator[agent.TestAgent]:
    with agent.running() as running:
        yield running


@pytest.mark.parametrize("weights", [False, True])
def test_law_6_what_the_sdk_made_arrives(
    apache: Broker, tmp_path: Path, test_agent: agent.TestAgent, *, weights: bool
) -> None:
    """Byte for byte, or with nothing else than a weight in each span's trace state."""
    topic = f"sdk-{weights}".lower()
    apache.create_topic(topic)
    with OtlpSink() as sink, DatadogIntakeSink() as intake:
        straight = {"type": "datadog", "apiKey": intake.api_key, "intakeUrl": intake.url, "batchTimeoutSecs": 0.1}
        exporters: list[Section] = [
            {"name": "sink", "type": "otlp", "endpoint": sink.url, "batchTimeoutSecs": 0.1},
            {"name": "agent", "type": "datadog", "agentUrl": test_agent.url, "batchTimeoutSecs": 0.1},
            {"name": "intake", "compression": "zstd", **straight},
            {"name": "otlp intake", "via": "otlp", **straight},
        ]
        config = settings(
            apache.bootstrap,
            topic,
            app={"inactivityTimeoutSecs": 2},
            sampling={"weights": weights},
            exporters=exporters,
        )
        sent = ToKafka(apache.bootstrap, topic)
        with Daemon(tmp_path / "daemon", config) as daemon, Group.watch(apache, config, 1) as group:
            daemon.ready()
            run_an_application(sent)
            group.wait_until_done(20, daemon.tail)
            assert daemon.metric("dead_letters_total") == 0, daemon.tail()
            assert daemon.metric("decisions_total", verdict="keep") == 3
            assert daemon.metric("decisions_total", reason="inactive") == 1
            daemon.stop()
        arrived = [request.body for request in sink.requests]
    kept = [message for message in sent.sent if not is_healthy(message)]
    assert len(kept) == len(sent.sent) - 2
    if weights:
        states = {re.sub("rv:8f1c2d3e4b5a69;", "", state) for state in states_of(arrived)}
        assert states == {"ot=th:0", "ot=th:0,vendor=opaque"}
        arrived, kept = without_states(arrived), without_states(kept)
    assert parsed(arrived) == parsed(kept)
    assert located(arrived) == located(kept)
    check_datadog(test_agent, kept)
    by_path = {
        path: [each for each in intake.requests if each.path == path] for path in ("/api/v0.2/traces", "/v1/traces")
    }
    by_otlp = [each.body for each in by_path["/v1/traces"]]
    assert parsed(without_states(by_otlp) if weights else by_otlp) == parsed(kept)
    assert set(intake.counts.values()) == {2}, "once by each way"
    assert {each.headers["content-encoding"] for each in by_path["/api/v0.2/traces"]} <= {"zstd"}


def is_healthy(message: bytes) -> bool:
    names = {span.name for resource in TracesData.FromString(message).resource_spans
             for scope in resource.scope_spans for span in scope.spans}  # fmt: skip
    return bool(names & {"healthy", "SELECT 1"})


def check_datadog(test_agent: agent.TestAgent, kept: Sequence[bytes]) -> None:
    """The agent has each span once, with its parent and whether it failed; whole traces, a chunk each."""
    wanted: dict[bytes, dict[int, tuple[int, int]]] = defaultdict(dict)
    for message in kept:
        for resource in TracesData.FromString(message).resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    failed = span.status.code == span.status.STATUS_CODE_ERROR
                    parent = int.from_bytes(span.parent_span_id, "big")
                    wanted[span.trace_id][int.from_bytes(span.span_id, "big")] = parent, int(failed)
    chunks = test_agent.traces()
    assert len(chunks) == len(wanted)
    assert {
        bytes.fromhex(chunk[0]["meta"]["otel.trace_id"]): {
            span["span_id"]: (span["parent_id"], span["error"]) for span in chunk
        }
        for chunk in chunks
    } == wanted
