"""The results of a scan: fragments of traces, and errors with the bytes to dead-letter."""

from __future__ import annotations

import enum

import attrs

from tss.core.conditions.program import Program


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


# Memory in CPython 3.11 on 64 bits (tests/core/test_otlp_values.py checks it).
FRAGMENT_BYTES = 290  # the object, its record's share, and the headers of its id, its payload, and the ids of its spans
BYTES_BYTES = 33  # the header of a bytes object


def _size(payload: bytes) -> str:
    return f"<{len(payload)} bytes>"


class Fragment:
    """The spans of one trace in one record.

    A span that names itself as its parent has no missing parent and is not a root. No other parent will arrive for it, but
    nothing shows that its trace is complete. So such a trace ends by inactivity.
    """

    __slots__ = (
        "end_ns", "errors", "facts", "forced", "has_root", "missing", "payload", "rules", "span_ids", "spans", "start_ns", "trace_id",
    )  # fmt: skip

    def __init__(
        self,
        trace_id: bytes,
        payload: bytes,
        spans: int,
        errors: int,
        start_ns: int,
        end_ns: int,
        has_root: bool,
        span_ids: bytes,
        missing: bytes,
        facts: bytes = b"",
        forced: bytes = b"",
        rules: Program | None = None,
    ) -> None:
        self.trace_id = trace_id
        """16 bytes, not all zero."""
        self.payload = payload
        """A serialized `TracesData` (or `ExportTraceServiceRequest`, the same on the wire) with this trace's spans only."""
        self.spans = spans
        """The number of spans. A span that occurs twice counts twice."""
        self.errors = errors
        """Spans whose status code is ERROR."""
        self.start_ns = start_ns
        """The smallest start time that is not zero; 0 = there is none."""
        self.end_ns = end_ns
        """The largest end time; 0 = there is none. Clocks differ, so it may lie before `start_ns`."""
        self.has_root = has_root
        """Whether there is a span whose parent id is empty or eight zero bytes."""
        self.span_ids = span_ids
        """The span ids, 8 bytes each, concatenated in the order of the spans."""
        self.missing = missing
        """The parent ids that are not among `span_ids`: 8 bytes each, without repetitions, in the order of the spans. Eight
        zero bytes stand for parent ids of an invalid length."""
        self.facts = facts
        """What a program found in the spans (`conditions/program.py`)."""
        self.forced = forced
        """What the program of the force rules found in them."""
        self.rules = rules
        """This program. None: there were no force rules."""

    def _fields(self) -> tuple[object, ...]:
        times = self.start_ns, self.end_ns
        return self.trace_id, self.payload, self.spans, self.errors, times, self.has_root, self.span_ids, self.missing, self.facts, self.forced  # fmt: skip

    def held_bytes(self) -> int:
        """Memory in bytes, including payload and facts."""
        ids = len(self.span_ids) + len(self.missing)
        return FRAGMENT_BYTES + len(self.payload) + ids + facts_bytes(self.facts) + facts_bytes(self.forced)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fragment) and self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash(self._fields())

    def __repr__(self) -> str:
        return (
            f"Fragment({self.trace_id.hex()}, {_size(self.payload)}, spans={self.spans}, errors={self.errors}, "
            f"start_ns={self.start_ns}, end_ns={self.end_ns}, has_root={self.has_root}, "
            f"missing={self.missing.hex(' ', 8)}, facts={self.facts.hex()}, forced={self.forced.hex()})"
        )


def facts_bytes(facts: bytes) -> int:
    """Memory of facts, in bytes. Shared facts count for each trace, since it is not known whether they are shared."""
    return BYTES_BYTES + len(facts) if facts else 0


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
