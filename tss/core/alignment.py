"""Which records of several partitions may go on, so that none of them runs far ahead of the others in the log's time.

Where they are merged into one log (`kafka.rekey`), the time of that log is the largest of theirs: a partition whose
backlog is read before another's would close traces that the other still has spans of.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable

import attrs

from tss.core.record import Headers, Record, headers_bytes
from tss.core.streamtime import NO_TIME

# Who has nothing new for so long holds nobody back: its broker may be away for hours, and the others' time goes on.
SILENCE_MS = 5_000
# What may wait for slower partitions. Not to read on throws away what the client has fetched ahead, so it must not flap:
# it begins above this, and ends below half of it.
WAITING_BYTES = 16 * 1024 * 1024


@attrs.define(eq=False)
class ReadRecord:
    """A record that was read, and has to be written."""

    record: Record
    headers: Headers
    log: InputPartition
    read_ms: int  # the wall time
    size: int  # bytes of its fragments and its headers


@attrs.define(eq=False)
class InputPartition:
    """One assignment of one partition."""

    id: int
    heard_ms: int = 0  # the wall time when it last told something; 0: since it is ours no time has passed
    time_ms: int = NO_TIME  # how far it has been read
    at_end: bool = False
    gone: bool = False
    waiting: deque[ReadRecord] = attrs.field(factory=deque, repr=lambda waiting: str(len(waiting)))

    def holds_back(self, wall_ms: int) -> bool:
        """Whether there is more to come of the time before that of others."""
        return not self.at_end and not self.waiting and wall_ms - self.heard_ms < SILENCE_MS


class Alignment:
    """The assigned partitions of the input, and what waits of each."""

    def __init__(self, max_ahead_ms: int) -> None:
        self._max_ahead_ms = max_ahead_ms
        self._logs: dict[int, InputPartition] = {}
        self._waiting_bytes = 0
        self._held: set[int] = set()

    def __repr__(self) -> str:
        return f"<Alignment {[*self._logs.values()]}>"

    def hold(self) -> set[int]:
        """The partitions that should not be read any further for now: more waits than there is room for."""
        if self._waiting_bytes > WAITING_BYTES:
            self._held = {log.id for log in self._logs.values() if log.waiting}
        elif self._waiting_bytes <= WAITING_BYTES // 2:
            self._held = set()
        return self._held

    def begin(self, ids: Iterable[int]) -> None:
        """These are ours from now on."""
        for id in ids:
            self._logs[id] = InputPartition(id)

    def forget(self, ids: Iterable[int]) -> None:
        """These are not ours any more, and what waits of them is another's to write."""
        for id in ids:
            log = self._logs.pop(id, None)
            if log is not None:
                log.gone = True
                self._waiting_bytes -= sum([read.size for read in log.waiting])
                log.waiting.clear()
                self._held = self._held - {id}

    def add(self, record: Record, headers: Headers, wall_ms: int) -> None:
        """A record was read, in its partition's order. One of a partition that has gone meanwhile is let be."""
        log = self._logs.get(record.partition)
        if log is not None:
            size = sum([len(fragment.payload) for fragment in record.fragments]) + headers_bytes(headers)
            self._waiting_bytes += size
            log.waiting.append(ReadRecord(record, headers, log, wall_ms, size))
            log.time_ms = max(log.time_ms, _believable(record, wall_ms))
            log.heard_ms, log.at_end = wall_ms, False

    def hear(self, wall_ms: int) -> None:
        """Reading goes on after a pause: who was silent because of that has not been."""
        for log in self._logs.values():
            log.heard_ms = max(log.heard_ms, wall_ms)

    def reach(self, ids: Iterable[int]) -> None:
        """These were read to their end."""
        for id in ids:
            if id in self._logs:
                self._logs[id].at_end = True

    def waiting_from(self, id: int) -> Record | None:
        """The oldest record of the partition that waits."""
        log = self._logs.get(id)
        return log.waiting[0].record if log is not None and log.waiting else None

    def take(self, most: int, wall_ms: int) -> list[ReadRecord]:
        """What may go on now, at most so many: each partition's in its order."""
        for log in self._logs.values():
            log.heard_ms = log.heard_ms or wall_ms
        taken: list[ReadRecord] = []
        while len(taken) < most:
            limit_ms = self._limit_ms(wall_ms)
            before = len(taken)
            for log in self._logs.values():
                _take_some(log, limit_ms, most, wall_ms, taken)
            if len(taken) == before:
                break
        self._waiting_bytes -= sum([read.size for read in taken])
        return taken

    def _limit_ms(self, wall_ms: int) -> int | None:
        """Up to when records may go on; None while that is not known. Of a partition with something waiting that is the
        first of it, of another how far it was read."""
        heads = [_believable(log.waiting[0].record, wall_ms) for log in self._logs.values() if log.waiting]
        silent = [log.time_ms for log in self._logs.values() if log.holds_back(wall_ms)]
        if not heads or NO_TIME in silent:
            return None  # one that was just assigned has yet to tell, or to be at its end
        # Without a time of its own, a record goes with whatever goes.
        return min([each for each in heads if each != NO_TIME] + silent, default=wall_ms) + self._max_ahead_ms


def _take_some(log: InputPartition, limit_ms: int | None, most: int, wall_ms: int, taken: list[ReadRecord]) -> None:
    waiting = log.waiting
    while limit_ms is not None and waiting and len(taken) < most:
        if _believable(waiting[0].record, wall_ms) > limit_ms:
            return
        taken.append(waiting.popleft())


def _believable(record: Record, wall_ms: int) -> int:
    """What is dated ahead of the wall clock is as old as the newest: a bad clock must not hold its partition up."""
    return min(record.timestamp_ms, wall_ms) if record.timestamp_ms > 0 else NO_TIME


def still_ours(reads: Iterable[ReadRecord]) -> list[ReadRecord]:
    """Without those of assignments that have ended."""
    return [read for read in reads if not read.log.gone]


def ends_of(reads: Collection[ReadRecord]) -> dict[int, int]:
    """By partition, the offset after the last of these."""
    return {read.record.partition: read.record.offset + 1 for read in reads}
