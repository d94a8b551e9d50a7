"""Kafka messages to records with their fragments, and dead letters for the parts that cannot be read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

import attrs
from confluent_kafka import KafkaError, Message

from tss.core.conditions.program import Program
from tss.core.deadletter import DeadLetter
from tss.core.headers import Headers, headers_bytes
from tss.core.otlp import Encoding, Records, ScanError, Scanner
from tss.edges.kafka_client.errors import said
from tss.edges.kafka_client.headers import headers_of

NO_TIMESTAMP_MS = -1
NO_LIMIT = 1 << 62
SAMPLE_MASK = 127  # the key of one record in 128 is checked, and of the first record of each poll


# librdkafka's errors in place of records that it could not read. It fetches them again, or goes on with the next ones in
# the same answer, or, after a wrong checksum, at any offset (see Member._around).
UNREADABLE = frozenset({"_BAD_MSG", "_BAD_COMPRESSION", "_NOT_IMPLEMENTED", "_CRIT_SYS_RESOURCE"})


@attrs.frozen
class Gap:
    """Offsets of a partition that the client could not read and skipped."""

    partition: int
    first: int
    after: int  # the first offset that could be read again
    reason: str


@attrs.define
class ReadBatch:
    """The messages of one call of `consume`, read."""

    records: Records
    letters: list[DeadLetter] = attrs.field(factory=list)
    errors: list[tuple[KafkaError, int | None]] = attrs.field(
        factory=list
    )  # with the partition, None for errors without one
    gaps: list[Gap] = attrs.field(factory=list)
    stale: set[int] = attrs.field(factory=set)  # partitions that were revoked and assigned again in the call
    held_bytes: int = 0  # by scanned records, kept headers and dead letters
    taken: int = 0  # messages; the rest wait for the next poll
    headers: list[Headers] = attrs.field(factory=list)  # of each record, where the reader keeps them
    sampled: int = 0  # records whose keys were checked
    unkeyed: int = 0  # of these, records that are not keyed by trace id
    looked: int = 0  # messages whose keys and headers were measured, and are not kept
    beside_bytes: int = 0  # of the keys and headers of these messages


class MessageReader:
    """Makes a record of each message, with the fragments that could be read, and a dead letter of each part that could not."""

    def __init__(
        self, topic: str, encoding: Encoding, program: Program, keeping: bool = False, memo_bytes: int = 0
    ) -> None:
        """``memo_bytes``: see `Scanner`."""
        self._topic = topic
        self._keeping = keeping
        self._encoding = encoding
        self.program = program  # of the last scan
        self._memo_bytes = memo_bytes
        self._scanner = Scanner(program, memo_bytes=memo_bytes)
        self._rules: Program | None = None
        self._unread: dict[int, tuple[int, str]] = {}  # by partition the lowest offset that could not be read, and why

    @property
    def remembered_bytes(self) -> int:
        """Memory of the scanner for answers to values that it has met."""
        return self._scanner.held_bytes()

    def use(self, program: Program, rules: Program | None) -> None:
        """Scan what follows with this program, and this one of the force rules."""
        if program is not self.program:
            self._scanner = Scanner(program, rules, memo_bytes=self._memo_bytes)
            self.program, self._rules = program, rules
        elif rules is not self._rules:
            self._scanner.use(rules)
            self._rules = rules

    def read(
        self, messages: Sequence[Message], positions: dict[int, int], gone: AbstractSet[int], max_bytes: int = NO_LIMIT
    ) -> ReadBatch:
        """Read messages of the partitions in ``positions``, and advance these. Stops after the record that reaches
        ``max_bytes``.

        Messages of ``gone`` partitions are dropped: they were collected under an assignment that ended in the same call
        of the client, which may or may not drop them itself. If such a partition was assigned again in the call, old
        messages look like new ones. So all are dropped, and the partition is `stale`: it is read again from its start.
        """
        encoding, scanner = self._encoding, self._scanner
        records = scanner.records()
        found = ReadBatch(records)
        scan_errors: list[ScanError] = []
        current, after, ours, beside, taken = -1, -1, False, 0, 0
        for message in messages:
            taken += 1
            error = message.error()
            if error is not None:
                self._hear(found, error, message, positions, current, after)
                continue
            partition: int = message.partition()  # type: ignore[assignment]  # None only where there is an error
            offset: int = message.offset()  # type: ignore[assignment]  # as above
            if partition != current:
                if after >= 0:
                    positions[current] = after
                current, after = partition, -1
                ours = partition in positions and partition not in gone
                found.stale |= {partition} & positions.keys() & gone
            if not ours:
                continue
            if self._unread:
                self._see_gap(found, partition, offset)
            value = message.value()
            kind, timestamp = message.timestamp()
            records.add(partition, offset, timestamp if kind else NO_TIMESTAMP_MS)
            scanner.read(value, encoding, records, scan_errors)
            after = offset + 1
            sampled = not offset & SAMPLE_MASK or len(records) == 1
            if sampled or scan_errors or self._keeping:
                beside += self._take_beside(found, scan_errors, message, sampled)
            if records.held_bytes() + beside >= max_bytes:
                break
        if after >= 0:
            positions[current] = after
        found.held_bytes, found.taken = records.held_bytes() + beside, taken
        return found

    def forget(self, ids: Iterable[int]) -> None:
        """These partitions are read from other positions now."""
        for id in ids:
            self._unread.pop(id, None)

    def is_unread(self, id: int) -> bool:
        """Whether the last messages of the partition could not be read."""
        return id in self._unread

    def _hear(
        self, found: ReadBatch, error: KafkaError, message: Message, positions: dict[int, int], current: int, after: int
    ) -> None:
        # An error without a partition has partition 0, and no topic.
        partition, offset = None if message.topic() is None else message.partition(), message.offset()
        found.errors.append((error, partition))
        if error.name() in UNREADABLE and partition is not None and offset is not None and offset >= 0:
            # The error has the first offset of a batch, which may be below the position.
            wanted = after if partition == current and after >= 0 else positions.get(partition, 0)
            self._unread.setdefault(partition, (max(offset, wanted), said(error)))

    def _see_gap(self, found: ReadBatch, partition: int, offset: int) -> None:
        """Note the gap before this record, the first that could be read after unreadable ones."""
        unread = self._unread.pop(partition, None)
        if unread is not None and unread[0] < offset:
            found.gaps.append(Gap(partition, unread[0], offset, unread[1]))

    def _take_beside(self, found: ReadBatch, scan_errors: list[ScanError], message: Message, sampled: bool) -> int:
        """Handle what the last message has beside readable spans. Returns the bytes that are kept of it."""
        headers = self._look(found, message) if sampled or self._keeping else None
        kept = headers_bytes(headers or ()) if self._keeping else 0
        return kept + (self._dead_letter(found, scan_errors, message, headers) if scan_errors else 0)

    def _dead_letter(
        self, found: ReadBatch, scan_errors: list[ScanError], message: Message, looked: Headers | None
    ) -> int:
        """Make dead letters of the unreadable parts of the last record; returns their bytes."""
        headers = headers_of(message) if looked is None else looked
        found.letters += self._letters(scan_errors, message, found.records.place(len(found.records) - 1), headers)
        size = sum([len(error.payload) for error in scan_errors]) + len(message.key() or b"")
        scan_errors.clear()
        return size if self._keeping else size + headers_bytes(headers)

    def _look(self, found: ReadBatch, message: Message) -> Headers:
        """Look at the key and the headers of the last record."""
        headers, key = headers_of(message), _bytes(message.key())
        if self._keeping:
            found.headers.append(headers)
            return headers
        found.looked += 1
        found.beside_bytes += headers_bytes(headers) + len(key or b"")
        pieces = found.records.pieces(len(found.records) - 1)
        if pieces:
            found.sampled += 1
            found.unkeyed += len(pieces) > 1 or not _is_key(key, pieces[0][0])
        return headers

    def _letters(
        self, scan_errors: list[ScanError], message: Message, place: tuple[int, int, int], headers: Headers
    ) -> list[DeadLetter]:
        partition, offset, timestamp_ms = place
        return [
            DeadLetter(
                reason=error.reason.value,
                detail=error.detail,
                payload=error.payload,
                topic=self._topic,
                partition=partition,
                offset=offset,
                timestamp_ms=timestamp_ms,
                key=_bytes(message.key()),
                headers=headers,
            )
            for error in scan_errors
        ]


def _is_key(key: bytes | None, trace_id: bytes) -> bool:
    """Whether a key is this trace id: in the Collector's form, raw, in capitals, or as a UUID."""
    return key is not None and (key == trace_id or key.lower().replace(b"-", b"") == trace_id.hex().encode())


def _bytes(key: str | bytes | None) -> bytes | None:
    return key.encode() if isinstance(key, str) else key
