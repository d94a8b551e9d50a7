"""What a scan finds: fragments, and faults with the bytes to put aside."""

import enum

import attrs


class Encoding(enum.Enum):
    """How a record's value is written. `AUTO` looks at the first byte."""

    AUTO = "auto"
    OTLP_PROTO = "otlp_proto"
    OTLP_JSON = "otlp_json"


class FaultReason(enum.Enum):
    """Why bytes were put aside; also the metric label."""

    UNREADABLE = "unreadable"
    EMPTY = "empty"
    SPLIT_TOO_LARGE = "split_too_large"
    INVALID_TRACE_ID = "invalid_trace_id"
    INVALID_SPAN_ID = "invalid_span_id"


def _size(payload: bytes) -> str:
    return f"<{len(payload)} bytes>"


@attrs.define  # not frozen only because that triples the time to make one, which is paid for each record
class Fragment:
    """The spans of one trace in one record.

    A span whose parent is itself names no missing parent and is no root either: nothing better is coming for it, but
    nothing says that its trace is complete, so such a trace ends by being inactive.
    """

    trace_id: bytes = attrs.field(repr=bytes.hex)
    """16 bytes, not all zero."""
    payload: bytes = attrs.field(repr=_size)
    """A serialized `TracesData` (or `ExportTraceServiceRequest`, the same on the wire) with this trace's spans only."""
    spans: int
    """How many, counting a span that is there twice as two."""
    errors: int
    """Spans whose status code is ERROR."""
    start_ns: int
    """The smallest start time that is not zero; 0 = there is none."""
    end_ns: int
    """The largest end time; 0 = there is none. Clocks differ, so it may lie before `start_ns`."""
    has_root: bool
    """A span whose parent id is empty or eight zero bytes is here."""
    span_ids: frozenset[bytes] = attrs.field(repr=False)
    """8 bytes each."""
    parent_ids: frozenset[bytes] = attrs.field(repr=False)
    """The parents named here that are not among `span_ids`; of any length, as they arrived."""


@attrs.frozen
class Fault:
    """Something that cannot be handled, and the bytes to put aside.

    `payload` is the whole value as it arrived for `UNREADABLE` and `EMPTY`, and a `TracesData` holding just the bad
    spans for the others.
    """

    reason: FaultReason
    detail: str
    payload: bytes = attrs.field(repr=_size)


@attrs.define  # as Fragment
class Scan:
    """All of one record: every span of it is in exactly one fragment or fault."""

    fragments: tuple[Fragment, ...]
    faults: tuple[Fault, ...]
