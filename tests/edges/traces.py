"""Traces as they come to a destination: decided, with pieces of real OTLP bytes."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, TracesData

from tests.core.spans import lone, message, span, span_id, trace_id
from tss.core.decision import Decision, Reason, Verdict
from tss.core.otlp import Encoding, Fragment, scan
from tss.core.partition import Partition
from tss.core.trace import Trace


def trace_of(payloads: Sequence[bytes], id: bytes = trace_id(0), rate: float = 1.0) -> Trace:
    """A kept trace with one piece for each payload, whatever is in them."""
    partition = Partition(0, 0, 300_000)
    trace = Trace(id, partition, 0)
    for offset, payload in enumerate(payloads):
        partition.ledger.read(offset)
        for fragment in scan(payload, Encoding.OTLP_PROTO).fragments or (
            Fragment(id, payload, 0, 0, 0, 0, False, b"", b""),
        ):
            trace.absorb(lone(fragment), 0)
            trace.hold(partition, offset, lone(fragment), 0)
    trace.reason = Reason.ROOT_QUIET
    trace.decision = Decision(Verdict.KEEP, "errors", Reason.ROOT_QUIET, rate)
    return trace


def trace(number: int, pieces: int = 2, spans: int = 3, rate: float = 1.0) -> Trace:
    """Trace `number`, of `pieces` records with `spans` spans each; the first of all is the root."""
    payloads = [
        message([span(number, at, None if at == 0 else 0) for at in range(piece * spans, (piece + 1) * spans)])
        for piece in range(pieces)
    ]
    return trace_of(payloads, trace_id(number), rate)


def repeating(number: int, attributes: int, spans: int, key: str = "key.{:04}") -> Trace:
    """Trace `number`, one record, whose resource has so many attributes of a kilobyte and so many small spans."""
    resource = Resource(
        attributes=[
            KeyValue(key=key.format(at), value=AnyValue(string_value=f"{at:04}" * 250)) for at in range(attributes)
        ]
    )
    parents = [None, *[0] * (spans - 1)]
    members = [Span(trace_id=trace_id(number), span_id=span_id(at), name="a") for at in range(spans)]
    for each, parent in zip(members, parents, strict=True):
        each.parent_span_id = b"" if parent is None else span_id(parent)
        each.start_time_unix_nano, each.end_time_unix_nano = 1_790_000_000_000_000_000, 1_790_000_000_000_000_001
    data = ResourceSpans(resource=resource, scope_spans=[ScopeSpans(spans=members)])
    return trace_of([TracesData(resource_spans=[data]).SerializeToString()], trace_id(number))


def span_ids(traces: Sequence[Trace]) -> set[tuple[bytes, bytes]]:
    """Trace id and span id of every span of these."""
    return {
        (span.trace_id, span.span_id)
        for each in traces
        for resource in TracesData.FromString(each.payload).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }
