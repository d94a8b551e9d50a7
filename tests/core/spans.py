"""Small spans for tests of the core: real OTLP bytes, and fragments without them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status, TracesData

from tss.core.otlp import Encoding, Fragment, Records, Scanner
from tss.core.partition import Partition
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


def one_record(partition: int, offset: int, timestamp_ms: int, fragments: Iterable[Fragment]) -> Records:
    """A batch of one record."""
    records = Records()
    records.add(partition, offset, timestamp_ms)
    for each in fragments:
        records.append(each)
    return records


def record(offset: int, at_secs: float, *fragments: Fragment, partition: int = 0) -> Records:
    return one_record(partition, offset, round(at_secs * 1000), fragments)


@attrs.frozen
class Row:
    """One record of a batch, with its fragments."""

    partition: int
    offset: int
    timestamp_ms: int
    fragments: tuple[Fragment, ...]


def rows(records: Records) -> list[Row]:
    return [Row(*records.place(number), records.fragments(number)) for number in range(len(records))]


def lone(fragment: Fragment) -> Records:
    """A batch of one record with this fragment, which has number 0."""
    return one_record(0, 0, 0, (fragment,))


def scanned(
    scanner: Scanner, value: bytes, offset: int = 0, timestamp_ms: int = 0, encoding: Encoding = Encoding.OTLP_PROTO
) -> Records:
    """A batch of one record of partition 0 with this value. What cannot be read is left out."""
    records = scanner.records()
    records.add(0, offset, timestamp_ms)
    scanner.read(value, encoding, records, [])
    return records


def batch(several: Sequence[Records]) -> Records:
    """All records of several batches of the same programs in one."""
    records = Records(several[0].program, several[0].rules) if several else Records()
    for each in several:
        for number in range(len(each)):
            records.add(*each.place(number))
            for fragment in each.fragments(number):
                records.append(fragment)
    return records


def whole(payload: bytes) -> Trace:
    """A trace of one record, which holds these spans. Nothing was asked of them."""
    trace = Trace(trace_id(0), Partition(0, 0, 300_000), 0)
    found = scanned(Scanner(), payload)
    for at in range(len(found.fragments(0))):
        trace.absorb(found, at)
    ids = bytes(8 * trace.spans)
    all_of_it = Fragment(trace.trace_id, payload, trace.spans, trace.errors, 0, 0, False, ids, b"")
    trace.home.ledger.read(0)
    trace.hold(trace.home, 0, lone(all_of_it), 0)
    return trace
