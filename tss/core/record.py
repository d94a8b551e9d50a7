"""What comes in: records scanned into fragments, and what could not be handled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from tss.core.delivered import Delivered
from tss.core.otlp import Fragment
from tss.core.parked import Place, Shelf, Summary


class Record:
    """One Kafka message, scanned."""

    __slots__ = ("fragments", "offset", "partition", "timestamp_ms")

    def __init__(self, partition: int, offset: int, timestamp_ms: int, fragments: tuple[Fragment, ...]) -> None:
        self.partition = partition
        self.offset = offset
        self.timestamp_ms = timestamp_ms  # milliseconds since the epoch; negative when the broker gave none
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
    """A `Record`, for those who make many: compiled, no argument becomes an object on the way."""
    record = Record.__new__(Record)
    record.partition = partition
    record.offset = offset
    record.timestamp_ms = timestamp_ms
    record.fragments = fragments
    return record


def runs(records: Sequence[Record]) -> list[list[Record]]:
    """The records in their order, cut where the partition changes and where its offsets do not ascend."""
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


@attrs.frozen
class DeadLetter:
    """Bytes that could not be handled, why, and where they came from; whole, so that it can be mended and sent again."""

    reason: str
    detail: str
    payload: bytes
    topic: str = ""
    partition: int | None = None
    offset: int | None = None
    timestamp_ms: int | None = None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    trace_id: str = ""  # hex, of a refused trace
    destination: str = ""  # the exporter that refused it


Headers = tuple[tuple[str, bytes | None], ...]

UNREADABLE_HEADERS = "tss-headers-unreadable"
"""The one header of a record whose own headers cannot be read; its value is the reason. They still stand in the topic,
at the record's offset."""

HEADER_BYTES = 150  # the tuple of one header, and its name and value as objects


def headers_bytes(headers: Headers) -> int:
    """What they take in memory."""
    return sum([HEADER_BYTES + len(name) + len(value or b"") for name, value in headers])


@attrs.frozen
class Sample:
    """Of the records of a poll a few, looked at for their keys."""

    records: int = 0
    unkeyed: int = 0  # of several traces, or with another key than their trace's id
    partitions: int = 0  # of the topic; 0: not known


@attrs.frozen
class Polled:
    """One look at the topic.

    ``ends`` maps partitions with nothing more to read to the wall time (ms) up to which that is known; ``lags``
    maps partitions whose end is known to the number of records between the read position and it.
    """

    wall_ms: int
    records: Sequence[Record] = ()
    dead_letters: Sequence[DeadLetter] = ()
    ends: Mapping[int, int] = attrs.field(factory=dict)
    lags: Mapping[int, int] = attrs.field(factory=dict)
    headers: Sequence[Headers] = ()  # of each record, where they were asked for
    sample: Sample = Sample()
    read_to: Mapping[int, int] = attrs.field(factory=dict)  # the log's end, by partition in ``ends``, where it is known
    held_bytes: int = 0  # by the records
    waiting_bytes: int = 0  # of what has come and was not read yet, and of what was written last


SHOWN_PARTITIONS = 100  # an entry of the log stays below the 16 KiB at which container runtimes cut a line


def told_of(ids: Iterable[int], **each: Mapping[int, object]) -> dict[str, object]:
    """The fields of a log entry about these partitions: the lowest ids, under each name what is said of those, and how many
    partitions more there are.
    """
    found = sorted(ids)
    first = found[:SHOWN_PARTITIONS]
    fields: dict[str, object] = {"partitions": first}
    fields |= {name: {str(id): said[id] for id in first} for name, said in each.items()}
    return fields | ({"more_partitions": len(found) - len(first)} if len(found) > len(first) else {})


@attrs.frozen
class Start:
    """Where an assigned partition is taken up: read from ``replay_from``, settled below ``offset``.

    ``since_ms`` is what was committed beside the offset (see ``Commit``), ``delivered`` what the output topic has from
    there on. ``end`` is the offset after the last record there was, None where the brokers did not tell.
    """

    offset: int
    replay_from: int
    committed: bool  # whether the group had an offset there
    since_ms: int | None = None
    delivered: Mapping[bytes, Delivered] = attrs.field(factory=dict, repr=lambda known: str(len(known)))
    end: int | None = attrs.field(default=None, eq=False)  # it moves while one looks
    parked: Place | None = None  # what was committed beside the offset: it is enough only if Redis has that
    shelf: Shelf | None = None  # taken over, under a token of ours
    topic: str = attrs.field(default="", eq=False)  # the id of the topic that it is of; empty where that is not known
    anew: bool = False  # the topic was made again: what is known of records of the partition is of another topic's
    summaries: Mapping[bytes, Summary] = attrs.field(factory=dict, repr=lambda parked: str(len(parked)))
    why: str = attrs.field(default="", eq=False)  # it begins there, for the log

    def told(self) -> str:
        """Where it begins and why, in words."""
        why = self.why or ("committed offset" if self.committed else "no committed offset")
        if self.replay_from < self.offset:
            return f"{why}: starting at {self.offset}, replay from {self.replay_from}"
        return f"{why}: starting at {self.offset}"

    def at_floor(self) -> Start:
        """Without what was parked: read again, and held, from where the oldest of that begins."""
        floor = self.offset if self.parked is None else min(self.offset, self.parked.floor)
        return attrs.evolve(self, offset=floor, replay_from=min(floor, self.replay_from))
