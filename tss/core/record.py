"""A Kafka record, scanned into fragments, and its headers."""

from __future__ import annotations

from collections.abc import Sequence

from tss.core.otlp import Fragment


class Record:
    """One Kafka message, scanned."""

    __slots__ = ("fragments", "offset", "partition", "timestamp_ms")

    def __init__(self, partition: int, offset: int, timestamp_ms: int, fragments: tuple[Fragment, ...]) -> None:
        self.partition = partition
        self.offset = offset
        self.timestamp_ms = timestamp_ms  # milliseconds since the epoch; negative if the record has no timestamp
        self.fragments = fragments

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash(self._fields())

    def __repr__(self) -> str:
        return f"Record(partition={self.partition}, offset={self.offset}, {self.timestamp_ms} ms, {self.fragments})"

    def _fields(self) -> tuple[object, ...]:
        return self.partition, self.offset, self.timestamp_ms, self.fragments


def record_of(partition: int, offset: int, timestamp_ms: int, fragments: tuple[Fragment, ...]) -> Record:
    """A `Record`, for callers that make many: compiled, no number becomes a Python object on the way."""
    record = Record.__new__(Record)
    record.partition = partition
    record.offset = offset
    record.timestamp_ms = timestamp_ms
    record.fragments = fragments
    return record


def runs(records: Sequence[Record]) -> list[list[Record]]:
    """The records in their order, in runs of one partition with ascending offsets."""
    found: list[list[Record]] = []
    run: list[Record] = []
    partition = offset = -1
    for record in records:
        if record.partition != partition or record.offset <= offset:
            run = []
            found.append(run)
            partition = record.partition
        offset = record.offset
        run.append(record)
    return found


Headers = tuple[tuple[str, bytes | None], ...]

UNREADABLE_HEADERS = "tss-headers-unreadable"
"""The only header of a record whose own headers cannot be read. Its value is the reason. The topic still has the headers,
at the record's offset."""

HEADER_BYTES = 150  # the tuple of one header, and its name and value as objects


def headers_bytes(headers: Headers) -> int:
    """Their memory in bytes."""
    return sum([HEADER_BYTES + len(name) + len(value or b"") for name, value in headers])
