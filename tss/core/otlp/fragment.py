"""The results of a scan: fragments of traces, and errors with the bytes to dead-letter."""

from __future__ import annotations

import enum

import attrs


class Encoding(enum.Enum):
    """How a record's value is written. `AUTO` looks at the first byte."""

    AUTO = "auto"
    OTLP_PROTO = "otlp_proto"
    OTLP_JSON = "otlp_json"


class ScanErrorReason(enum.Enum):
    """Why bytes are dead-lettered; also the label in the metric."""

    UNREADABLE = "unreadable"
    EMPTY = "empty"
    SPLIT_TOO_LARGE = "split_too_large"
    INVALID_TRACE_ID = "invalid_trace_id"
    INVALID_SPAN_ID = "invalid_span_id"


BYTES_BYTES = 33  # the header of a bytes object, in CPython 3.11 on 64 bits
FRAGMENT_BYTES = 900  # memory of a fragment without what it owns: the object, its numbers, its ids


def _size(payload: bytes) -> str:
    return f"<{len(payload)} bytes>"


@attrs.frozen
class Fragment:
    """The spans of one trace in one record.

    Compiled, only few places make such objects: `Records` has the same in C arrays.

    A span that names itself as its parent has no missing parent and is not a root. No other parent will arrive for it, but
    nothing shows that its trace is complete. So such a trace ends by inactivity.
    """

    trace_id: bytes = attrs.field(repr=bytes.hex)
    """16 bytes, not all zero."""
    payload: bytes = attrs.field(repr=_size)
    """A serialized `TracesData` (or `ExportTraceServiceRequest`, the same on the wire) with this trace's spans only."""
    spans: int
    """The number of spans. A span that occurs twice counts twice."""
    errors: int
    """Spans whose status code is ERROR."""
    start_ns: int
    """The smallest start time that is not zero; 0 = there is none."""
    end_ns: int
    """The largest end time; 0 = there is none. Clocks differ, so it may lie before `start_ns`."""
    has_root: bool
    """Whether there is a span whose parent id is empty or eight zero bytes."""
    span_ids: bytes = attrs.field(repr=False)
    """The span ids, 8 bytes each, concatenated in the order of the spans."""
    missing: bytes = attrs.field(repr=bytes.hex)
    """The parent ids that are not among `span_ids`: 8 bytes each, without repetitions, in the order of the spans. Eight
    zero bytes stand for parent ids of an invalid length."""
    facts: bytes = attrs.field(default=b"", repr=bytes.hex)
    """What a program found in the spans (`conditions/program.py`)."""
    forced: bytes = attrs.field(default=b"", repr=bytes.hex)
    """What the program of the force rules found in them."""

    def owned_bytes(self) -> int:
        """Memory in bytes of its payload, its ids and its facts."""
        return sum(map(len, (self.payload, self.span_ids, self.missing, self.facts, self.forced)))


@attrs.frozen
class ScanError:
    """Bytes that cannot be handled, to be dead-lettered.

    For `UNREADABLE`, `EMPTY` and `SPLIT_TOO_LARGE`, `payload` is the whole value as it arrived. For invalid ids it is a
    `TracesData` with only the spans concerned.
    """

    reason: ScanErrorReason
    detail: str
    payload: bytes = attrs.field(repr=_size)


@attrs.define  # not frozen, because that would triple the time to make one, which every record pays
class Scan:
    """The result for one record: each of its spans is in exactly one fragment or one ScanError."""

    fragments: tuple[Fragment, ...]
    scan_errors: tuple[ScanError, ...]
