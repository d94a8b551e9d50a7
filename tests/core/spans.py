"""Small spans for tests of the core: real OTLP bytes, and fragments without them."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status, TracesData

from tss.core.otlp import Encoding, Fragment, Scanner
from tss.core.partition import Partition
from tss.core.record import Record
from tss.core.trace import Trace


def trace_id(number: int) -> bytes:
    """A trace id whose last 56 bits are spread evenly by the golden ratio."""
    return (number + 1).to_bytes(8, "big") + (((number + 1) * 0x9E3779B97F4A7C15) % (1 << 64)).to_bytes(8, "big")


def span_id(number: int) -> bytes:
    return (number + 1).to_bytes(8, "big")


def span(
    trace: int, number: int, parent: int | None = None, *, start_ms: int = 1, ms: int = 1, error: bool = False
) -> Span:
    return Span(
        trace_id=trace_id(trace),
        span_id=span_id(number),
        parent_span_id=b"" if parent is None else span_id(parent),
        name=f"span {number}",
        start_time_unix_nano=start_ms * 1_000_000,
        end_time_unix_nano=(start_ms + ms) * 1_000_000,
        status=Status(code=Status.STATUS_CODE_ERROR if error else Status.STATUS_CODE_UNSET),
    )


def message(spans: Sequence[Span]) -> bytes:
    return TracesData(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])]).SerializeToString()


def fragment(
    trace: int,
    spans: Sequence[int] = (0,),
    *,
    root: bool = False,
    parents: Sequence[int] = (),
    errors: int = 0,
    ms: int = 1,
    size: int = 100,
    payload: bytes = b"",
) -> Fragment:
    """A fragment with these span numbers, naming these parents that are not among them."""
    return Fragment(
        trace_id(trace), payload or bytes(size), len(spans), errors, 1_000_000, 1_000_000 + ms * 1_000_000, root,
        b"".join(map(span_id, spans)), b"".join(map(span_id, parents)),
    )  # fmt: skip


def record(offset: int, at_secs: float, *fragments: Fragment, partition: int = 0) -> Record:
    return Record(partition, offset, round(at_secs * 1000), fragments)


def whole(payload: bytes) -> Trace:
    """A trace of one record, which holds these spans. Nothing was asked of them."""
    trace = Trace(trace_id(0), Partition(0, 0, 300_000), 0)
    found = Scanner().fragments(payload, Encoding.OTLP_PROTO, [])
    for each in found:
        trace.absorb(each)
    trace.home.ledger.read(0)
    trace.hold(trace.home, 0, Fragment(trace.trace_id, payload, trace.spans, trace.errors, 0, 0, False, b"", b""))
    return trace
