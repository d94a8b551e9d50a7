"""Which records of several partitions may go on, so that no partition runs far ahead of the others in record time.

`kafka.rekey` merges the input partitions into one topic. The stream time there is the largest record timestamp of all of
them. If the backlog of one partition is read before another's, the newer timestamps close traces whose spans are still
unread on the other partition.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence

import attrs

from tss.core.headers import Headers, headers_bytes
from tss.core.otlp import Records
from tss.core.streamtime import NO_TIME

# A partition without news for this long no longer holds the others back: its broker may be away for hours.
SILENCE_MS = 5_000
# The most bytes that may wait for slower partitions. A pause discards what the client has fetched ahead, so pauses must
# not alternate quickly: reading pauses above this, and resumes below half of it.
WAITING_BYTES = 16 * 1024 * 1024


@attrs.define(eq=False)
class ReadRecord:
    """A record that was read and has to be written."""

    partition: InputPartition
    offset: int
    timestamp_ms: int  # since the epoch; negative if the record has no timestamp
    pieces: Sequence[tuple[bytes, bytes]]  # trace id and payload of each fragment
    headers: Headers
    read_ms: int  # the wall time
    size: int  # bytes of its fragments and its headers


@attrs.define(eq=False)
class InputPartition:
    """One assignment of one partition."""

    id: int
    heard_ms: int = 0  # the wall time of its last news; 0: no time has passed since it was assigned
    time_ms: int = NO_TIME  # the largest record timestamp read so far
    at_end: bool = False
    gone: bool = False
    waiting: deque[ReadRecord] = attrs.field(factory=deque, repr=lambda waiting: str(len(waiting)))

    def holds_back(self, wall_ms: int) -> bool:
        """Whether the others have to wait for it: it may still send records that are older than theirs."""
        return not self.at_end and not self.waiting and wall_ms - self.heard_ms < SILENCE_MS


class Alignment:
    """The assigned input partitions, and the records of each that wait for slower partitions."""

    def __init__(self, max_ahead_ms: int) -> None:
        self._max_ahead_ms = max_ahead_ms
        self._partitions: dict[int, InputPartition] = {}
        self._waiting_bytes = 0
        self._held: set[int] = set()

    def __repr__(self) -> str:
        return f"<Alignment {[*self._partitions.values()]}>"

    def hold(self) -> set[int]:
        """The partitions to pause, because more bytes wait than may wait."""
        if self._waiting_bytes > WAITING_BYTES:
            self._held = {partition.id for partition in self._partitions.values() if partition.waiting}
        elif self._waiting_bytes <= WAITING_BYTES // 2:
            self._held = set()
        return self._held

    def begin(self, ids: Iterable[int]) -> None:
        """These partitions were assigned."""
        for id in ids:
            self._partitions[id] = InputPartition(id)

    def forget(self, ids: Iterable[int]) -> None:
        """These partitions were revoked or lost. Their waiting records are dropped: the next owner writes them."""
        for id in ids:
            partition = self._partitions.pop(id, None)
            if partition is not None:
                partition.gone = True
                self._waiting_bytes -= sum([read.size for read in partition.waiting])
                partition.waiting.clear()
                self._held = self._held - {id}

    def add(self, records: Records, number: int, headers: Headers, wall_ms: int) -> None:
        """Add a record, in the order of its partition. A record of a revoked partition is ignored."""
        id, offset, timestamp_ms = records.place(number)
        partition = self._partitions.get(id)
        if partition is not None:
            pieces = records.pieces(number)
            size = sum([len(payload) for _, payload in pieces]) + headers_bytes(headers)
            self._waiting_bytes += size
            read = ReadRecord(partition, offset, timestamp_ms, pieces, headers, wall_ms, size)
            partition.waiting.append(read)
            partition.time_ms = max(partition.time_ms, _believable(read, wall_ms))
            partition.heard_ms, partition.at_end = wall_ms, False

    def hear(self, wall_ms: int) -> None:
        """Reading resumes after a pause: silence during the pause does not count as silence of a broker."""
        for partition in self._partitions.values():
            partition.heard_ms = max(partition.heard_ms, wall_ms)

    def reach(self, ids: Iterable[int]) -> None:
        """These partitions were read to their end."""
        for id in ids:
            if id in self._partitions:
                self._partitions[id].at_end = True

    def waiting_from(self, id: int) -> ReadRecord | None:
        """The oldest waiting record of the partition."""
        partition = self._partitions.get(id)
        return partition.waiting[0] if partition is not None and partition.waiting else None

    def take(self, most: int, wall_ms: int) -> list[ReadRecord]:
        """At most ``most`` records that may go on now, those of each partition in their order."""
        for partition in self._partitions.values():
            partition.heard_ms = partition.heard_ms or wall_ms
        taken: list[ReadRecord] = []
        while len(taken) < most:
            limit_ms = self._limit_ms(wall_ms)
            before = len(taken)
            for partition in self._partitions.values():
                _take_some(partition, limit_ms, most, wall_ms, taken)
            if len(taken) == before:
                break
        self._waiting_bytes -= sum([read.size for read in taken])
        return taken

    def _limit_ms(self, wall_ms: int) -> int | None:
        """The largest timestamp that may go on; None while that is unknown.

        It depends on the slowest partition: the timestamp of its first waiting record, or, if no record waits, of the
        newest record read.
        """
        firsts = [_believable(each.waiting[0], wall_ms) for each in self._partitions.values() if each.waiting]
        silent = [each.time_ms for each in self._partitions.values() if each.holds_back(wall_ms)]
        if not firsts or NO_TIME in silent:
            return None  # a partition that was just assigned has delivered no record, and is not at its end
        # A record without a timestamp goes on together with any other.
        return min([each for each in firsts if each != NO_TIME] + silent, default=wall_ms) + self._max_ahead_ms


def _take_some(
    partition: InputPartition, limit_ms: int | None, most: int, wall_ms: int, taken: list[ReadRecord]
) -> None:
    waiting = partition.waiting
    while limit_ms is not None and waiting and len(taken) < most:
        if _believable(waiting[0], wall_ms) > limit_ms:
            return
        taken.append(waiting.popleft())


def _believable(record: ReadRecord, wall_ms: int) -> int:
    """The record's timestamp, at most the wall time: a producer's clock that is ahead must not block its partition."""
    return min(record.timestamp_ms, wall_ms) if record.timestamp_ms > 0 else NO_TIME


def still_ours(reads: Iterable[ReadRecord]) -> list[ReadRecord]:
    """These records without those of partitions that were revoked or lost since they were read."""
    return [read for read in reads if not read.partition.gone]


def ends_of(reads: Collection[ReadRecord]) -> dict[int, int]:
    """For each partition: the offset after the last of these records."""
    return {read.partition.id: read.offset + 1 for read in reads}
