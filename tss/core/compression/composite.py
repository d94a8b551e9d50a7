"""Builds the composite span that replaces a group of similar spans."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tss.core.compression.likeness import PREFIX, STATEMENTS, Candidate, fact_of
from tss.core.compression.outline import Outline
from tss.core.otlp.wire import varint_bytes

# Fields of Span that the composite does not copy from the first span: name, start, end, attributes, events, links, their
# dropped counts, and status.
_NOT_COPIED = frozenset((5, 7, 8, 9, 10, 11, 12, 13, 14, 15))
_MOST = 2**32 - 1  # the dropped counts are uint32
_ATTRIBUTE, _SPAN, _NAME = b"\x4a", b"\x12", b"\x2a"


def composite(outline: Outline, name: str, members: Sequence[Candidate]) -> bytes:
    """The serialized `ScopeSpans.spans` field that replaces these spans. `members` are sorted by start and span id.

    The composite has the id, kind, trace state, flags and unknown fields of the first span. It lasts from the first start
    to the last end. Its attributes are those that all spans share, and the `tss.composite.*` counts
    (docs/operations.md). Attributes that only some spans have are counted as dropped.
    """
    first = members[0].seen
    common = _common(members)
    events = sum(seen.events + seen.dropped_events for seen, *_ in members)
    dropped = sum(len(seen.attributes) + seen.dropped_attributes - len(common) for seen, *_ in members)
    same_name = all(seen.name == first.name for seen, *_ in members)
    rest = Span(
        start_time_unix_nano=first.start_ns,
        end_time_unix_nano=max(seen.end_ns for seen, *_ in members),
        dropped_attributes_count=min(dropped, _MOST),
        dropped_events_count=min(events, _MOST),
        status=Status(code=Status.STATUS_CODE_OK) if first.code == Status.STATUS_CODE_OK else None,
        attributes=[*_statements(members, common), *_counts(members, name, same_name=same_name)],
    )
    body = b"".join((
        outline.without(first, _NOT_COPIED),
        _field(_NAME, first.name if same_name else name.encode()),
        *(_field(_ATTRIBUTE, raw) for raw in common),
        rest.SerializeToString(deterministic=True),
    ))  # fmt: skip
    return _field(_SPAN, body)


def _field(tag: bytes, content: bytes) -> bytes:
    return tag + varint_bytes(len(content)) + content


def _common(members: Sequence[Candidate]) -> list[bytes]:
    """The serialized attributes that all spans have, byte for byte, in the order of the first span."""
    first = members[0].seen.attributes
    left = {raw for raw in first if not raw.startswith(PREFIX, 2)}
    for seen, *_ in members:
        if seen.attributes != first:
            left.intersection_update(seen.attributes)
    return [raw for raw in dict.fromkeys(first) if raw in left]


def _statements(members: Sequence[Candidate], common: Sequence[bytes]) -> Iterable[KeyValue]:
    """The normalised statement, if the spans' statements differ only in their values."""
    first, _, statement = members[0]
    if not statement or any(other.statement != statement for other in members):
        return
    for raw in first.attributes:
        fact = fact_of(raw)
        if fact is not None and fact[0] in STATEMENTS and raw not in common:
            yield _text(fact[0].decode(), statement)


def _counts(members: Sequence[Candidate], name: str, *, same_name: bool) -> Iterable[KeyValue]:
    first, statement, _ = members[0]
    durations = [seen.end_ns - seen.start_ns for seen, *_ in members]
    exact = same_name and all(other.raw == statement for other in members)
    yield KeyValue(key="tss.composite", value=AnyValue(bool_value=True))
    yield _whole("count", len(durations))
    yield _whole("sum_ns", sum(durations))
    yield _whole("min_ns", min(durations))
    yield _whole("max_ns", max(durations))
    yield _whole("mean_ns", sum(durations) // len(durations))
    yield _whole("window_ns", max(seen.end_ns for seen, *_ in members) - first.start_ns)
    yield _text("tss.composite.name", name)
    yield _text("tss.composite.strategy", "exact_match" if exact else "same_kind")


def _whole(name: str, value: int) -> KeyValue:
    return KeyValue(key=f"tss.composite.{name}", value=AnyValue(int_value=min(value, 2**63 - 1)))


def _text(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))
