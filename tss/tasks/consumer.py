"""Reads the topic and passes on its records, in the order of each partition."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Protocol

import attrs
import structlog
import trio

from tss.core.deadletter import DeadLetter
from tss.core.measures import Meter
from tss.core.partition import Partition
from tss.core.polled import Polled
from tss.state.assignments import Assignments, Run
from tss.state.deadletters import DeadLetters, InputDeadLetters
from tss.state.keying import Keying
from tss.state.pausing import Pausing

log = structlog.get_logger()

PATIENCE_SECS = (
    1.0  # a full channel empties many times a second; if it does not, a destination is slow and reading pauses
)


class InputReader(Protocol):
    """The input topic, as a member of the consumer group."""

    async def poll(self) -> Polled:
        """New records, after a short wait. Rebalances call Assignments inside this call.

        Raises CannotConnect when the broker refuses for good.
        """

    async def pause(self) -> None:
        """Stop fetching. ``poll`` then keeps the membership alive and returns no records."""

    async def resume(self) -> None:
        """Go on fetching from where the last poll ended."""

    async def seek(self, positions: Mapping[int, int]) -> None:
        """Read these partitions on from these offsets."""

    def finish(self) -> None:
        """There will be no more polls."""


@attrs.frozen
class Batch:
    """The records of one poll, with the assignments that they were read under."""

    wall_ms: int
    runs: Sequence[Run]
    ends: Sequence[tuple[Partition, int]]  # partitions read to their end, and the wall time (ms) up to which
    size: int = 0  # bytes held by the records


async def run(
    source: InputReader,
    assignments: Assignments,
    dead_letters: DeadLetters,
    polled: trio.MemorySendChannel[Batch],
    stop: trio.Event,
    meter: Meter,
    keying: Keying,
    pausing: Pausing,
) -> None:
    """Poll until told to stop. If a destination is slow, the bounded channel fills, and reading pauses here."""
    unreadable = InputDeadLetters(
        dead_letters,
        meter,
        "records could not be read as spans and were dead-lettered",
        check="kafka.encoding, and the producers of the topic",
    )
    reader = _Reader(source, assignments, unreadable, keying, pausing)
    with polled:
        while not stop.is_set():
            batch = await reader.read()
            if not batch.runs and not batch.ends:
                continue
            with trio.move_on_after(PATIENCE_SECS):
                await polled.send(batch)
                continue
            await _hold_back(reader, polled, stop, batch)
        source.finish()


@attrs.define
class _Reader:
    """Polls, and dead-letters the records that cannot be read."""

    source: InputReader
    assignments: Assignments
    unreadable: InputDeadLetters
    keying: Keying
    pausing: Pausing
    _pauses: int = 0  # that have not ended: a full channel and dead letters each have theirs
    _ahead: deque[tuple[Batch, Sequence[DeadLetter]]] = attrs.field(factory=deque)  # polled while letters waited

    async def read(self) -> Batch:
        """The batch of one poll, once its dead letters are kept. No offset of a batch can be committed before this returns
        it."""
        batch, letters = self._ahead.popleft() if self._ahead else await self._poll()
        if letters:
            await self.unreadable.keep(letters, self)
        return batch

    async def pause(self) -> None:
        """Go on polling only for the sake of the group."""
        self._pauses += 1
        if self._pauses == 1:
            self.pausing.begins()
            await self.source.pause()

    async def resume(self) -> None:
        """Go on reading, once every pause has ended."""
        self._pauses -= 1
        if not self._pauses:
            await self.source.resume()
            self.pausing.ends()

    async def poll(self) -> None:
        """Poll while letters wait; what comes is read after them."""
        batch, letters = await self._poll()
        if batch.runs or batch.ends or letters:
            self._ahead.append((batch, letters))

    async def _poll(self) -> tuple[Batch, Sequence[DeadLetter]]:
        moves = self.assignments.rewind()
        if moves:
            await self.source.seek(moves)
        read = await self.source.poll()
        # There is no checkpoint between the poll and this look-up, so no rebalance can happen between them. Later none can
        # happen either, because rebalances happen only inside a poll.
        assignments = self.assignments
        runs, ends = assignments.bind(read.records), assignments.bind_ends(read.ends)
        assignments.reach(read.read_to)
        assignments.show_lags(read.lags)
        self.keying.sampled(read.sample)
        letters = [each for each in read.dead_letters if not assignments.is_settled(each.partition, each.offset)]
        size = assignments.holds(read.held_bytes if runs else 0, read.waiting_bytes, read.remembered_bytes)
        return Batch(read.wall_ms, runs, ends, size), letters


async def _hold_back(reader: _Reader, polled: trio.MemorySendChannel[Batch], stop: trio.Event, batch: Batch) -> None:
    """Pause, keep polling for the group's sake, and resume once the channel is empty.

    A pause throws away the records that librdkafka has prefetched, so it must not flap. It begins after PATIENCE_SECS, and ends
    only when all waiting batches are taken. Records that a poll still returns are kept, in order.
    """
    await reader.pause()
    waiting = [batch]
    while not stop.is_set() and (waiting or polled.statistics().current_buffer_used):
        more = await reader.read()
        if more.runs or more.ends:
            waiting.append(more)
        while waiting:
            try:
                polled.send_nowait(waiting[0])
            except trio.WouldBlock:
                break
            del waiting[0]
    await reader.resume()
