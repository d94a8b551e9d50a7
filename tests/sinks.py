"""HTTP backends that take spans: real servers on loopback, which decode what they get and answer as they are told.

In a test: `with OtlpSink() as sink: ...`. As a child, for the benchmark and the kill tests:

    python -m tests.sinks --port 4318 --out spans.txt [--kind otlp|datadog|intake]

writes a line `<trace id> <span id>` (hex) for each span it takes, and answers only when the line is with the system, so
that what it says it took is in the file whatever is killed. `GET /count` tells how many it has; `PUT /replies` with a
JSON list of replies (`[{"status": 503, "headers": {"Retry-After": "1"}}]`) makes it answer the next requests so.
SIGTERM ends it.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import signal
import socket
import ssl
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import attrs
import msgpack
import zstandard
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tss.core.formats.datadog import schema

SpanId = tuple[bytes, bytes]
"""Trace id (16 bytes) and span id (8 bytes)."""


@attrs.frozen
class Reply:
    """How to answer one request. Spans are taken with a status of 2xx, but not if the answer is cut off before."""

    status: int = 200
    headers: dict[str, str] = attrs.field(factory=dict)
    body: bytes | None = None  # None: what such a backend says when all is well
    rejected_spans: int = 0
    message: str = ""  # of a partial success
    hang_secs: float = 0  # before the answer
    hang_body_secs: float = 0  # between the head of the answer and its body
    cut: str = ""  # "before": close without reading; "after": take the spans, close without an answer; "body": or with its head

    @property
    def takes(self) -> bool:
        return self.cut != "before" and 200 <= self.status < 300


_PLAIN: dict[str, Callable[[bytes], bytes]] = {
    "identity": bytes,
    "gzip": gzip.decompress,
    "zstd": lambda body: zstandard.ZstdDecompressor().decompress(body),
}


def _size(content: bytes) -> str:
    return f"<{len(content)} bytes>"


@attrs.frozen
class Received:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    raw: bytes = attrs.field(repr=_size)  # as it came
    body: bytes = attrs.field(repr=_size)  # without its compression


class HttpSink:
    """A server in threads of its own. ``spans_of`` and ``success`` are what one sort of backend differs in."""

    content_type = "application/octet-stream"
    max_bytes = 2**31  # of a request's body, without its compression: 413 beyond it

    def __init__(
        self,
        port: int = 0,
        *,
        tls: ssl.SSLContext | None = None,
        keep: bool = True,
        took: Callable[[Sequence[SpanId]], None] = lambda spans: None,
    ) -> None:
        self.requests: list[Received] = []
        self.counts: Counter[SpanId] = Counter()  # of spans taken; empty with keep=False
        self.span_count = self.request_count = 0
        self.usual = Reply()
        self.crashes_on: set[bytes] = set()  # trace ids of which it answers 500 to the whole request
        self._replies: deque[Reply] = deque()
        self._keep, self._took = keep, took
        self._lock = threading.Lock()
        self.closing = threading.Event()
        self._server = _Server(port, self)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port: int = self._server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url} {self.request_count} requests, {self.span_count} spans>"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening, and let hanging answers go."""
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.drop_connections()

    def script(self, *replies: Reply) -> None:
        """Answer the next requests so; those after them get the usual reply."""
        with self._lock:
            self._replies.extend(replies)

    @property
    def spans(self) -> set[SpanId]:
        """The spans taken, each once."""
        with self._lock:
            return set(self.counts)

    @property
    def trace_ids(self) -> set[bytes]:
        """The traces of which at least one span was taken."""
        return {trace_id for trace_id, _ in self.spans}

    def next_reply(self) -> Reply:
        with self._lock:
            return self._replies.popleft() if self._replies else self.usual

    def note(self, received: Received) -> None:
        with self._lock:
            self.request_count += 1
            if self._keep:
                self.requests.append(received)

    def take(self, spans: Sequence[SpanId]) -> None:
        with self._lock:
            self.span_count += len(spans)
            if self._keep:
                self.counts.update(spans)
            self._took(spans)

    def count(self) -> dict[str, int]:
        with self._lock:
            return {"requests": self.request_count, "spans": self.span_count, "distinct": len(self.counts)}

    def spans_of(self, received: Received) -> Sequence[SpanId]:
        """Raises ValueError for what such a backend refuses."""
        raise NotImplementedError

    def success(self, reply: Reply) -> bytes:
        """The body of an answer that takes the request."""
        raise NotImplementedError


def _otlp_spans(body: bytes) -> Sequence[SpanId]:
    try:
        request = ExportTraceServiceRequest.FromString(body)
    except Exception as error:
        raise ValueError(str(error)) from error
    return [
        (span.trace_id, span.span_id)
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _otlp_success(reply: Reply) -> bytes:
    partial = ExportTracePartialSuccess(rejected_spans=reply.rejected_spans, error_message=reply.message)
    message: bytes = ExportTraceServiceResponse(
        partial_success=partial if reply.rejected_spans or reply.message else None
    ).SerializeToString()
    return message


class OtlpSink(HttpSink):
    """Takes OTLP/HTTP at /v1/traces."""

    content_type = "application/x-protobuf"

    def spans_of(self, received: Received) -> Sequence[SpanId]:
        if received.path != "/v1/traces" or received.headers.get("content-type") != self.content_type:
            raise ValueError(f"{received.path} {received.headers.get('content-type')}")
        return _otlp_spans(received.body)

    def success(self, reply: Reply) -> bytes:
        return _otlp_success(reply)


Span = dict[str, Any]


class DatadogSink(HttpSink):
    """A Datadog agent: takes v0.4 and v0.7 traces, as strictly as its documentation is. No chunk is without a priority."""

    content_type = "application/json"
    max_bytes = 25 * 1024 * 1024

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.traces: list[list[Span]] = []
        self.payloads: list[dict[str, Any]] = []  # TracerPayloads, as in v0.7

    def spans_of(self, received: Received) -> Sequence[SpanId]:
        if received.headers.get("content-type") != "application/msgpack":
            raise ValueError(f"{received.path} {received.headers.get('content-type')}")
        traces = self._read_traces(received)
        if received.headers.get("x-datadog-trace-count") != str(len(traces)):
            raise ValueError("X-Datadog-Trace-Count is not the number of traces")
        return self._checked(traces)

    def _read_traces(self, received: Received) -> list[list[Span]]:
        match received.path:
            case "/v0.4/traces":
                traces: list[list[Span]] = msgpack.unpackb(received.body)
                return traces
            case "/v0.7/traces":
                return self._read_payload(msgpack.unpackb(received.body))
        raise ValueError(received.path)

    def _read_payload(self, payload: dict[str, Any]) -> list[list[Span]]:
        if any(chunk["priority"] != 2 for chunk in payload["chunks"]):
            raise ValueError("priority")
        if self._keep:
            self.payloads.append(payload)
        return [chunk["spans"] for chunk in payload["chunks"]]

    def _checked(self, traces: list[list[Span]]) -> Sequence[SpanId]:
        for trace in traces:
            _check_chunk(trace)
        if self._keep:
            self.traces += traces
        return [
            (bytes.fromhex(span["meta"]["otel.trace_id"]), span["span_id"].to_bytes(8, "big"))
            for trace in traces
            for span in trace
        ]

    def success(self, reply: Reply) -> bytes:
        return b'{"rate_by_service":{"service:,env:":1}}'


class DatadogIntakeSink(DatadogSink):
    """Datadog's intakes: `/api/v0.2/traces` for who speaks as an agent, and `/v1/traces` for OTLP.

    The real one has no documentation and no double of its own: this one is written from the agent's field tables. That
    our bytes are what an agent's are is proved by the agent's own modules (tests/real).
    """

    content_type = "application/x-protobuf"
    api_key = "key"
    max_bytes = 3_200_000

    def spans_of(self, received: Received) -> Sequence[SpanId]:
        if received.headers.get("content-type") != self.content_type:
            raise ValueError(f"{received.path} {received.headers.get('content-type')}")
        if received.headers.get("dd-api-key") != self.api_key:
            raise ValueError("the API key")
        if received.path == "/v1/traces":
            return _otlp_spans(received.body)
        if received.path != "/api/v0.2/traces":
            raise ValueError(received.path)
        payloads = [_tracer_payload(each) for each in schema.AgentPayload.FromString(received.body).tracer_payloads]
        languages = sorted({payload["language_name"] for payload in payloads} - {""})
        if received.headers.get("x-datadog-reported-languages", "") != "|".join(languages):
            raise ValueError("X-Datadog-Reported-Languages are not the payloads'")
        return self._checked([trace for payload in payloads for trace in self._read_payload(payload)])

    def success(self, reply: Reply) -> bytes:
        return _otlp_success(reply)


def _tracer_payload(body: bytes) -> dict[str, Any]:
    payload = schema.TracerPayload.FromString(body)
    names = [field.name for field in payload.DESCRIPTOR.fields if field.name not in ("chunks", "tags")]
    chunks = [schema.TraceChunk.FromString(chunk) for chunk in payload.chunks]
    return {name: getattr(payload, name) for name in names} | {
        "chunks": [{"priority": chunk.priority, "spans": [*map(_span, chunk.spans)]} for chunk in chunks]
    }


def _span(body: bytes) -> Span:
    span = schema.Span.FromString(body)
    found = {field.name: getattr(span, field.name) for field in span.DESCRIPTOR.fields}
    return found | {"meta": dict(span.meta), "metrics": dict(span.metrics)}


def _check_chunk(trace: list[Span]) -> None:
    first = trace[0]
    high = first["meta"]["_dd.p.tid"]
    if first["meta"]["_dd.p.dm"] != "-4" or first["metrics"]["_sampling_priority_v1"] != 2:
        raise ValueError("no decision")
    for span in trace:
        if not span["trace_id"] or not span["span_id"] or span["trace_id"] != first["trace_id"]:
            raise ValueError("ids")
        if f"{high}{span['trace_id']:016x}" != span["meta"]["otel.trace_id"]:
            raise ValueError("the high half of the trace id")
        if not all(isinstance(value, str) for value in span["meta"].values()):
            raise ValueError("meta")
        if not all(isinstance(value, float) for value in span["metrics"].values()):
            raise ValueError("metrics")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, sink: HttpSink) -> None:
        self.sink = sink
        self._connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def drop_connections(self) -> None:
        for connection in [*self._connections]:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are what many tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body in one packet
    server: _Server

    def do_POST(self) -> None:
        sink = self.server.sink
        reply = sink.next_reply()
        if reply.cut == "before":
            self.close_connection = True
            return
        received = self._read()
        sink.note(received)
        gone = bool(reply.hang_secs) and sink.closing.wait(reply.hang_secs)
        if not gone:
            reply, content_type, answer = self._take(sink, reply, received)
        if gone or reply.cut == "after":
            self.close_connection = True
            return
        self._answer(reply, content_type, answer)

    def do_PUT(self) -> None:
        if self.path != "/replies":
            self.do_POST()
            return
        self.server.sink.script(*[Reply(**each) for each in json.loads(self._read().raw)])
        self._answer(Reply(), "application/json", b"{}")

    def do_GET(self) -> None:
        self._answer(Reply(), "application/json", json.dumps(self.server.sink.count()).encode())

    def _read(self) -> Received:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        body = _PLAIN[self.headers.get("Content-Encoding", "identity")](raw)
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Received(self.command, self.path, headers, raw, body)

    @staticmethod
    def _take(sink: HttpSink, reply: Reply, received: Received) -> tuple[Reply, str, bytes]:
        if reply.takes and len(received.body) > sink.max_bytes:
            reply = Reply(status=413)
        if not reply.takes:
            return reply, sink.content_type, reply.body or b""
        try:
            spans = sink.spans_of(received)
            if any(trace_id in sink.crashes_on for trace_id, _ in spans):
                return Reply(status=500), "text/plain", b"index out of range"
            sink.take(spans)
        except ValueError as error:
            return Reply(status=400), "text/plain", f"refused: {error}".encode()
        return reply, sink.content_type, sink.success(reply) if reply.body is None else reply.body

    def _answer(self, reply: Reply, content_type: str, answer: bytes) -> None:
        self.send_response(reply.status)
        for name, value in ({"Content-Type": content_type} | reply.headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if reply.hang_body_secs:
            self.wfile.flush()
            self.server.sink.closing.wait(reply.hang_body_secs)
        if reply.cut == "body":
            self.close_connection = True
            return
        self.wfile.write(answer)

    def log_message(self, format: str, *arguments: object) -> None:
        """Thousands of them a second."""


def _lines(spans: Iterable[SpanId]) -> bytes:
    return b"".join(b"%s %s\n" % (trace.hex().encode(), span.hex().encode()) for trace, span in spans)


_SORTS: dict[str, type[HttpSink]] = {"otlp": OtlpSink, "datadog": DatadogSink, "intake": DatadogIntakeSink}


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.sinks", description="Takes spans over HTTP.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--kind", choices=tuple(_SORTS), default="otlp")
    parser.add_argument("--out", type=Path, help="add a line for each span here; without it they are only counted")
    parsed = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    out = parsed.out.open("ab", buffering=0) if parsed.out else None
    took = (lambda spans: out.write(_lines(spans))) if out else (lambda spans: None)
    with _SORTS[parsed.kind](parsed.port, keep=False, took=took) as sink:
        print(sink.url, flush=True)
        stop.wait()
    print(json.dumps(sink.count()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
