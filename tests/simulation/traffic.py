"""What producers write: traces as they happen to be, split, late, repeated, broken. All from the seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import attrs
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status, TracesData

from tests.fakes.kafka import EPOCH_MS
from tests.simulation.policies import decorated, service_of


@attrs.frozen
class Write:
    """One record to be written at a moment of simulated time."""

    at_secs: float
    partition: int
    value: bytes
    timestamp_ms: int


@attrs.frozen
class Tastes:
    """What the traffic is like."""

    partitions: int
    traces: int
    during_secs: float
    latency_threshold_ms: float
    quiet_secs: float  # rootQuietSecs
    inactive_secs: float  # inactivityTimeoutSecs
    giant_spans: int  # maxTraceSpans
    error_share: float = 0.25
    slow_share: float = 0.2
    split_share: float = 0.5
    late_share: float = 0.15
    twice_share: float = 0.05
    rootless_share: float = 0.1
    giant_share: float = 0.03
    two_partitions_share: float = 0.05
    mixed_share: float = 0.1
    absurd_share: float = 0.03
    garbage_share: float = 0.03
    decorated: bool = False  # spans have attributes, and resources a service: see `policies`
    max_delay_secs: float = 1.5  # from a record's timestamp to its place in the log; within the grace
    max_disorder_secs: float = 1.5  # how much older than its neighbours a timestamp may be


def writes(tastes: Tastes, chance: random.Random) -> list[Write]:
    """All that is written, in order of time."""
    pieces: list[tuple[float, int, list[Span]]] = []
    for _ in range(tastes.traces):
        pieces += _trace(tastes, chance)
    pieces.sort(key=lambda piece: piece[0])
    out = list(_records(pieces, tastes, chance))
    out += _garbage(tastes, chance)
    return sorted(out, key=lambda write: write.at_secs)


def ahead(written: Sequence[Write], max_ahead_secs: float, chance: random.Random) -> list[Write]:
    """The same with a producer whose clock is ahead by less than that: of single records, or of runs of eight and more."""
    single = chance.random() < 0.5
    ahead_ms, left, out = 0, 0, []
    for write in written:
        if not left and chance.random() < (0.1 if single else 0.03):
            ahead_ms, left = round(chance.uniform(5, max_ahead_secs) * 1000), 1 if single else chance.randint(8, 15)
        is_ahead = left > 0 and write.timestamp_ms > 0
        left -= is_ahead
        out.append(attrs.evolve(write, timestamp_ms=write.timestamp_ms + ahead_ms) if is_ahead else write)
    return out


def _trace(tastes: Tastes, chance: random.Random) -> Iterator[tuple[float, int, list[Span]]]:
    """The pieces of one trace: when, to which partition, which spans."""
    begins = chance.uniform(0, tastes.during_secs)
    spans = _spans(tastes, chance, begins)
    partition = chance.randrange(tastes.partitions)
    elsewhere = chance.randrange(tastes.partitions) if chance.random() < tastes.two_partitions_share else partition
    at = begins
    for index, some in enumerate(_split(spans, tastes, chance)):
        if index:
            at += _pause(tastes, chance)
        where = elsewhere if chance.random() < 0.5 else partition
        yield at, where, some
        if chance.random() < tastes.twice_share:  # a producer that did not hear the broker's answer
            yield at + chance.uniform(0, 2 * tastes.quiet_secs), where, some


def _spans(tastes: Tastes, chance: random.Random, begins_secs: float) -> list[Span]:
    trace_id = chance.randbytes(16)
    slow = chance.random() < tastes.slow_share
    giant = chance.random() < tastes.giant_share
    count = chance.randint(tastes.giant_spans, tastes.giant_spans * 2) if giant else chance.randint(1, 8)
    last_ms = chance.uniform(1.0, 1.5) * tastes.latency_threshold_ms if slow else chance.uniform(1, 50)
    start_ns = EPOCH_MS * 1_000_000 + round(begins_secs * 1e9)
    ids = [chance.randbytes(8) for _ in range(count)]
    spans = []
    for index, span_id in enumerate(ids):
        begin_ns = start_ns + (round(chance.uniform(0, last_ms / 2) * 1e6) if index else 0)
        end_ns = (
            start_ns + round(last_ms * 1e6) if not index else chance.randint(begin_ns, start_ns + round(last_ms * 1e6))
        )
        span = Span(
            trace_id=trace_id,
            span_id=span_id,
            parent_span_id=chance.choice(ids[:index]) if index else b"",
            name=f"operation {index}",
            start_time_unix_nano=begin_ns,
            end_time_unix_nano=end_ns,
            attributes=[KeyValue(key="size", value=AnyValue(bytes_value=bytes(chance.choice([0, 0, 20, 200]))))],
        )
        spans.append(decorated(span) if tastes.decorated else span)
    if chance.random() < tastes.error_share:
        chance.choice(spans).status.code = Status.STATUS_CODE_ERROR
    if chance.random() < tastes.rootless_share:  # its root is lost, or was never recorded
        spans[0].parent_span_id = chance.randbytes(8)
    if chance.random() < 0.5:  # children end before their parents, and so come first
        spans.reverse()
    if chance.random() < 0.3:  # a newer protocol: a field that nobody here knows (number 999, varint)
        spans = [Span.FromString(span.SerializeToString() + b"\xb8\x3e\x07") for span in spans]
    return spans


def _split(spans: list[Span], tastes: Tastes, chance: random.Random) -> Iterator[list[Span]]:
    while spans:
        cut = chance.randint(1, len(spans)) if chance.random() < tastes.split_share else len(spans)
        yield spans[:cut]
        spans = spans[cut:]


def _pause(tastes: Tastes, chance: random.Random) -> float:
    """Between two pieces of a trace: mostly short, sometimes so long that the trace has been decided meanwhile."""
    if chance.random() < tastes.late_share:
        return chance.uniform(0.8, 2.5) * chance.choice([tastes.quiet_secs, tastes.inactive_secs])
    return chance.uniform(0, tastes.quiet_secs * 0.4)


def _records(pieces: Sequence[tuple[float, int, list[Span]]], tastes: Tastes, chance: random.Random) -> Iterator[Write]:
    mixed: dict[int, list[list[Span]]] = {}
    for at, partition, spans in pieces:
        groups = mixed.pop(partition, [])
        groups.append(spans)
        if chance.random() < tastes.mixed_share:
            mixed[partition] = groups  # goes with the next one of this partition
        else:
            yield _record(at, partition, groups, tastes, chance)
    for partition, groups in mixed.items():
        yield _record(pieces[-1][0], partition, groups, tastes, chance)


def _record(at: float, partition: int, groups: list[list[Span]], tastes: Tastes, chance: random.Random) -> Write:
    stamped = at - chance.uniform(0, tastes.max_disorder_secs)
    timestamp_ms = EPOCH_MS + round(stamped * 1000)
    if chance.random() < tastes.absurd_share:
        timestamp_ms = chance.choice(
            [0, -1, timestamp_ms + 400 * 86_400_000, timestamp_ms + 20_000, timestamp_ms - 60_000]
        )
    # A timestamp is at most 2 s (the grace) old when the record can be read: disorder and delay share that.
    written = max(at, stamped + chance.uniform(0, tastes.max_delay_secs))
    return Write(written, partition, message(groups, chance, with_services=tastes.decorated), timestamp_ms)


def message(groups: Sequence[Sequence[Span]], chance: random.Random, *, with_services: bool = False) -> bytes:
    """A TracesData with these spans, laid out in one of the ways in which producers do that."""
    if chance.random() >= 0.5:
        groups = [[span for spans in groups for span in spans]]
    found = [ResourceSpans(scope_spans=[ScopeSpans(spans=spans)]) for spans in groups]
    if with_services:
        for resource, spans in zip(found, groups, strict=True):
            resource.resource.attributes.add(key="service.name").value.string_value = service_of(spans[0])
    return TracesData(resource_spans=found).SerializeToString()


def _garbage(tastes: Tastes, chance: random.Random) -> Iterator[Write]:
    for _ in range(round(tastes.traces * tastes.garbage_share)):
        at = chance.uniform(0, tastes.during_secs)
        bad = Span(trace_id=bytes(16), span_id=chance.randbytes(8), name="no trace")
        worse = Span(trace_id=chance.randbytes(16), span_id=b"short", name="no span")
        value = chance.choice([
            b"", b"not OTLP at all", chance.randbytes(40), message([[bad]], chance), message([[bad], [worse]], chance),
            message([_spans(tastes, chance, at), [bad]], chance),
        ])  # fmt: skip
        yield Write(at, chance.randrange(tastes.partitions), value, EPOCH_MS + round(at * 1000))
