"""One trace's OTLP bytes to its Datadog spans, as the agent's v0.4 endpoint takes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status, TracesData

from tss.core.datadog import naming
from tss.core.datadog.naming import Subject
from tss.core.datadog.values import (
    MAX_META_KEY,
    MAX_META_VALUE,
    MAX_METRIC_KEY,
    Value,
    attributes,
    cut,
    json_array,
    tag,
    text,
)
from tss.core.sampling.probability import SPACE

DatadogSpan = dict[str, Any]

_MAX_INT64 = 2**63 - 1

USER_KEEP = 2.0
MANUAL = "-4"  # the sampling mechanism: somebody decided, so no sampler downstream decides again

# Datadog's names for OpenTelemetry's HTTP attributes, tags and metrics alike.
RENAMED: Mapping[str, str] = {
    "client.address": "http.client_ip",
    "http.response.body.size": "http.response.content_length",
    "http.response.status_code": "http.status_code",
    "http.request.body.size": "http.request.content_length",
    "http.request.method": "http.method",
    "network.protocol.version": "http.version",
    "server.address": "http.server_name",
    "url.full": "http.url",
    "user_agent.original": "http.useragent",
}
_HEADER, _DATADOG_HEADER = "http.request.header.", "http.request.headers."

# They have become fields of the span.
_FIELDS = frozenset(("service.name", "operation.name", "resource.name", "span.type"))
# What a tracer or another sampler said of these is replaced by what this daemon knows of the whole trace.
_OURS = frozenset(("_sampling_priority_v1", "_dd.p.dm", "_dd.p.tid", "_top_level", "_dd.top_level", "_sample_rate"))
_NOT_COPIED = _FIELDS | _OURS

_STATUS_NAMES = {Status.STATUS_CODE_OK: "Ok", Status.STATUS_CODE_ERROR: "Error"}

_EXCEPTION: Mapping[str, str] = {
    "exception.message": "error.msg",
    "exception.type": "error.type",
    "exception.stacktrace": "error.stack",
}


def to_spans(payload: bytes, rate: float = 1.0) -> list[DatadogSpan]:
    """All spans of one trace, in their order; `rate` is the probability with which traces like it are kept.

    Raises protobuf's `DecodeError` for bytes that `scan` would not have let through. Text is UTF-8 already: protobuf
    takes no other.
    """
    spans: list[DatadogSpan] = []
    sources: list[Span] = []
    for resource_spans in TracesData.FromString(payload).resource_spans:
        resource = attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            scope = attributes(scope_spans.scope.attributes)
            for span in scope_spans.spans:
                spans.append(_convert(span, resource, scope_spans.scope, scope))
                sources.append(span)
    _mark_tops(spans, sources, rate)
    return spans


def lead(chunk: Sequence[DatadogSpan]) -> None:
    """Put on the first span of a chunk what the agent looks for once in each chunk.

    No other span has these, so it finds them wherever it looks first.
    """
    first = chunk[0]
    first["metrics"]["_sampling_priority_v1"] = USER_KEEP
    first["meta"]["_dd.p.dm"] = MANUAL
    first["meta"]["_dd.p.tid"] = first["meta"]["otel.trace_id"][:16]


def _convert(
    span: Span, resource: Mapping[str, Value], scope: InstrumentationScope, scope_attributes: Mapping[str, Value]
) -> DatadogSpan:
    own = attributes(span.attributes)
    subject = Subject.of(span, own, resource)
    tags = _Tags()
    _set_fixed(tags, span, subject, scope)
    tags.add(own, numbers=True)
    _set_error(tags, span)
    tags.add(resource)
    tags.add(scope_attributes)
    if "db.name" not in tags.meta and (namespace := subject.find("db_namespace")):
        tags.meta["db.name"] = cut(namespace, MAX_META_VALUE)
    start = min(span.start_time_unix_nano, _MAX_INT64)
    return {
        "service": naming.service(subject),
        "name": naming.operation(subject),
        "resource": naming.resource(subject),
        "type": naming.span_type(subject),
        "trace_id": int.from_bytes(span.trace_id[-8:], "big"),
        "span_id": int.from_bytes(span.span_id, "big"),
        "parent_id": int.from_bytes(span.parent_span_id[-8:], "big"),
        "start": start,
        "duration": max(0, min(span.end_time_unix_nano, _MAX_INT64) - start),
        "error": int(span.status.code == Status.STATUS_CODE_ERROR),
        "meta": tags.meta,
        "metrics": tags.metrics,
    }


# Tags that stand for more than one attribute, or for none: (tag, where it comes from). Empty ones are left out.
_FIXED: Sequence[tuple[str, Callable[[Span, Subject, InstrumentationScope], str]]] = (
    ("span.kind", lambda span, _subject, _scope: naming.KIND_NAMES.get(span.kind, "unspecified")),
    ("otel.trace_id", lambda span, _subject, _scope: span.trace_id.hex()),
    ("otel.status_code", lambda span, _subject, _scope: _STATUS_NAMES.get(span.status.code, "Unset")),
    ("otel.status_description", lambda span, _subject, _scope: span.status.message),
    ("otel.scope.name", lambda _span, _subject, scope: scope.name),
    ("otel.scope.version", lambda _span, _subject, scope: scope.version),
    ("otel.library.name", lambda _span, _subject, scope: scope.name),  # deprecated, and still asked for
    ("otel.library.version", lambda _span, _subject, scope: scope.version),
    ("w3c.tracestate", lambda span, _subject, _scope: span.trace_state),
    ("rpc.grpc.status_code", lambda _span, subject, _scope: subject.find("grpc_status")),
    ("env", lambda _span, subject, _scope: tag(text(subject.own.get("env")) or subject.find("env"))),
    ("version", lambda _span, subject, _scope: text(subject.own.get("version")) or tag(subject.find("version"))),
    ("events", lambda span, _subject, _scope: json_array(map(_event, span.events)) if span.events else ""),
    ("_dd.span_links", lambda span, _subject, _scope: json_array(map(_link, span.links)) if span.links else ""),
    ("_dd.span_events.has_exception", lambda span, _subject, _scope: "true" if _exceptions(span) else ""),
)


def _set_fixed(tags: _Tags, span: Span, subject: Subject, scope: InstrumentationScope) -> None:
    for key, read in _FIXED:
        if value := read(span, subject, scope):
            tags.meta[key] = cut(value, MAX_META_VALUE)
    status = subject.find("status")
    if status.isascii() and status.isdigit() and len(status) <= 3:
        tags.metrics["http.status_code"] = float(status)
    if subject.find("measured") == "1":
        tags.metrics["_dd.measured"] = 1.0


class _Tags:
    """A span's tags. What is set first stays: fixed tags, then the span's attributes, the resource's, the scope's."""

    __slots__ = ("meta", "metrics")

    def __init__(self) -> None:
        self.meta: dict[str, str] = {}
        self.metrics: dict[str, float] = {}

    def add(self, found: Mapping[str, Value], *, numbers: bool = False) -> None:
        """Attributes under Datadog's names. Only a span's own numbers are metrics; truth values are text anywhere."""
        for key, value in found.items():
            if key in _NOT_COPIED:
                continue
            name = _renamed(key)
            if name in self.meta or name in self.metrics:
                continue
            if name == "analytics.event" and (choice := _truth(text(value))) is not None:
                self.metrics.setdefault("_dd1.sr.eausr", choice)
            elif numbers and isinstance(value, int | float) and not isinstance(value, bool):
                # Metrics are doubles: beyond 2**53 an integer comes out as the nearest one, here as in the agent's own
                # intake (`float64(v.Int())`). Who needs all digits of an id sends it as text.
                self.metrics[cut(name, MAX_METRIC_KEY)] = float(value)
            else:
                self.meta[cut(name, MAX_META_KEY)] = cut(text(value), MAX_META_VALUE)


def _renamed(key: str) -> str:
    if key.startswith(_HEADER):
        return _DATADOG_HEADER + key.removeprefix(_HEADER)
    return RENAMED.get(key, key)


def _truth(word: str) -> float | None:
    """What Go's ParseBool takes."""
    if word in ("1", "t", "T", "true", "TRUE", "True"):
        return 1.0
    return 0.0 if word in ("0", "f", "F", "false", "FALSE", "False") else None


def _event(event: Span.Event) -> dict[str, object]:
    fields = {
        "time_unix_nano": event.time_unix_nano,
        "name": event.name,
        "attributes": attributes(event.attributes),
        "dropped_attributes_count": event.dropped_attributes_count,
    }
    return {key: value for key, value in fields.items() if value}


def _link(link: Span.Link) -> dict[str, object]:
    fields = {
        "trace_id": link.trace_id.hex(),
        "span_id": link.span_id.hex(),
        "tracestate": link.trace_state,
        "attributes": {key: text(value) for key, value in attributes(link.attributes).items()},
        "flags": link.flags,
        "dropped_attributes_count": link.dropped_attributes_count,
    }
    return {key: value for key, value in fields.items() if value}


def _exceptions(span: Span) -> list[Span.Event]:
    return [event for event in span.events if event.name == "exception"]


def _set_error(tags: _Tags, span: Span) -> None:
    """What went wrong, from the best source there is: an attribute, the last exception, the status, HTTP's status."""
    if span.status.code != Status.STATUS_CODE_ERROR:
        return
    meta = tags.meta
    for event in _exceptions(span)[-1:]:
        found = attributes(event.attributes)
        for key, name in _EXCEPTION.items():
            if key in found:
                meta.setdefault(name, cut(text(found[key]), MAX_META_VALUE))
    message = meta.get("error.msg") or meta.get("error.message") or span.status.message or _http_message(tags)
    if message:
        # Most of Datadog's own libraries write error.message, some error.msg.
        meta.setdefault("error.msg", cut(message, MAX_META_VALUE))
        meta.setdefault("error.message", cut(message, MAX_META_VALUE))


def _http_message(tags: _Tags) -> str:
    code = int(tags.metrics.get("http.status_code", 0))
    if not code:
        return ""
    known = {status.value: status.phrase for status in HTTPStatus}
    return f"{code} {known[code]}" if code in known else str(code)


def _mark_tops(spans: Sequence[DatadogSpan], sources: Sequence[Span], rate: float) -> None:
    """Mark the spans at which a service is entered, and give local roots the weight that makes counts true.

    A span whose parent is not here counts as an entry: presumably the parent is another service's. The agent weighs a
    chunk's statistics by 1 / `_sample_rate` of its root.
    """
    services = {span["span_id"]: span["service"] for span in spans}
    for span, source in zip(spans, sources, strict=True):
        parent_service = services.get(span["parent_id"]) if span["parent_id"] else None
        if parent_service != span["service"]:
            span["metrics"]["_top_level"] = 1.0
        if parent_service is None:
            kept = _kept_share(source, rate)
            if 0 < kept < 1:
                span["metrics"]["_sample_rate"] = kept


def _kept_share(span: Span, rate: float) -> float:
    """The probability with which such a span gets through the head sampler and this daemon together.

    A head sampler that says so in `ot=th` compared the trace id with a threshold, as this daemon does: then the lower
    rate is that of both. One that brought its own randomness (`rv`), or its own `_sample_rate`, knew nothing of ours:
    then they multiply.
    """
    for pair in span.attributes:
        if pair.key == "_sample_rate":
            head = pair.value.double_value or float(pair.value.int_value)
            return head * rate if 0 < head <= 1 else rate
    thresholds = _ot_values(span.trace_state)
    try:
        head = 1 - int(thresholds["th"][:14].ljust(14, "0"), 16) / SPACE
    except (KeyError, ValueError):
        return rate
    return head * rate if "rv" in thresholds else min(head, rate)


def _ot_values(trace_state: str) -> dict[str, str]:
    """OpenTelemetry's part of a trace state: `ot=th:c;rv:...` (OTEP 235)."""
    for member in trace_state.split(","):
        vendor, _, values = member.strip().partition("=")
        if vendor == "ot":
            return {key: value for key, _, value in (pair.partition(":") for pair in values.split(";"))}
    return {}
