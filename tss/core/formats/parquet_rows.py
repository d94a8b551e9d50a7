"""Spans as rows of a table for analysis: columns to group by, and beside them the bytes that arrived."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from tss.core.formats.datadog.values import attributes, text
from tss.core.otlp.reading import read
from tss.core.otlp.wire import fields
from tss.core.trace import Trace

Row = dict[str, Any]
ROW_BYTES = "row_bytes"  # not a column: an estimate of the row's size in bytes

KINDS: Mapping[int, str] = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}
STATUSES: Mapping[int, str] = {0: "unset", 1: "ok", 2: "error"}

_RESOURCE_SPANS = 1 << 3 | 2  # TracesData.resource_spans
_DOWN = 2 << 3 | 2  # ResourceSpans.scope_spans and ScopeSpans.spans alike
_MAX_INT64 = 2**63 - 1


def rows(trace: Trace) -> Iterator[Row]:
    """A row for each span of a decided trace, in the order of the payload.

    ``otlp_span`` is the span as it arrived. ``otlp_scope`` and ``otlp_resource`` are its ScopeSpans without the spans, and
    its ResourceSpans without the ScopeSpans. Raises WireError (a ValueError) for bytes that `scan` rejects.
    """
    payload, decision = trace.payload, _decision(trace)
    for resource_spans in _parts(payload, _RESOURCE_SPANS):
        inside, around = _apart(resource_spans)
        resource = _resource(around)
        for scope_spans in inside:
            spans, envelope = _apart(scope_spans)
            scope = _scope(envelope)
            for span in spans:
                size = _SPAN_TIMES * len(span) + scope[ROW_BYTES] + resource[ROW_BYTES]
                yield {**_span(span), **scope, **resource, **decision, ROW_BYTES: size}


def _parts(message: bytes, tag: int) -> Iterator[bytes]:
    for found, _, start, stop in fields(message, 0, len(message)):
        if found == tag:
            yield message[start:stop]


def _apart(message: bytes) -> tuple[list[bytes], bytes]:
    """The messages one level down (ScopeSpans or spans), and the message without them."""
    inside: list[bytes] = []
    around = bytearray()
    for tag, begin, start, stop in fields(message, 0, len(message)):
        if tag == _DOWN:
            inside.append(message[start:stop])
        else:
            around += message[begin:stop]
    return inside, bytes(around)


def _decision(trace: Trace) -> Row:
    decision = trace.decision
    assert decision is not None, "only kept traces come here"  # noqa: S101
    return {
        "decision_policy": decision.policy,
        "decision_reason": decision.reason.value,
        "decision_rate": decision.rate,
        "late": trace.late,
    }


def _resource(envelope: bytes) -> Row:
    found = texts(read(ResourceSpans, envelope).resource.attributes)
    return {
        "service": found.get("service.name"),
        "resource_attributes": [*found.items()],
        "otlp_resource": envelope,
        ROW_BYTES: _size(found, envelope),
    }


def _scope(envelope: bytes) -> Row:
    scope = read(ScopeSpans, envelope).scope
    found = texts(scope.attributes)
    return {
        "scope_name": scope.name or None,
        "scope_version": scope.version or None,
        "scope_attributes": [*found.items()],
        "otlp_scope": envelope,
        ROW_BYTES: _size(found, envelope) + len(scope.name) + len(scope.version),
    }


_SPAN_TIMES = 2  # the bytes that arrived, and the columns
_PAIR_BYTES = 8  # the overhead of an attribute: the offsets of its key and its value


def _size(found: Mapping[str, str], envelope: bytes) -> int:
    return sum([len(key) + len(value) + _PAIR_BYTES for key, value in found.items()]) + len(envelope)


def _span(message: bytes) -> Row:
    span = read(Span, message)
    start, end = span.start_time_unix_nano, span.end_time_unix_nano
    return {
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "parent_span_id": span.parent_span_id.hex() or None,
        "trace_state": span.trace_state or None,
        "flags": span.flags,
        "name": span.name,
        "kind": KINDS.get(span.kind, "unspecified"),
        "start": _moment(start),
        # Signed, so that a clock that was set back is visible.
        "duration_ns": max(-_MAX_INT64, min(end - start, _MAX_INT64)) if start and end else None,
        "status": STATUSES.get(span.status.code, str(span.status.code)),
        "status_message": span.status.message or None,
        "attributes": [*texts(span.attributes).items()],
        "events": [_event(event) for event in span.events],
        "links": [_link(link) for link in span.links],
        "otlp_span": message,
    }


def _event(event: Span.Event) -> Row:
    attributes = [*texts(event.attributes).items()]
    return {"time": _moment(event.time_unix_nano), "name": event.name, "attributes": attributes}


def _link(link: Span.Link) -> Row:
    return {
        "trace_id": link.trace_id.hex(),
        "span_id": link.span_id.hex(),
        "trace_state": link.trace_state or None,
        "attributes": [*texts(link.attributes).items()],
    }


def _moment(nanoseconds: int) -> int | None:
    """The time; None if it is unknown (0) or does not fit into a timestamp."""
    return nanoseconds if 0 < nanoseconds <= _MAX_INT64 else None


def texts(pairs: Iterable[KeyValue]) -> dict[str, str]:
    """Attributes with their values as text: bytes as base64, lists and mappings as JSON."""
    return {key: text(value) for key, value in attributes(pairs).items()}
