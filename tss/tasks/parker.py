"""Moves the spans of long-open traces to Redis, so that their offsets can be committed, and removes ended traces there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

import attrs
import structlog
import trio

from tss.core import measures
from tss.core.buffer import Buffer
from tss.core.errors import Away, Full, Lost
from tss.core.measures import Meter
from tss.core.packing import Packed
from tss.core.parked import Parcel, Shelf, Summary, to_frame
from tss.core.partition import Partition
from tss.core.trace import Trace
from tss.state.assignments import Assignments

log = structlog.get_logger()

TURN_SECS = 1.0
LOOKS = 50_000  # open traces looked at in one turn: some 2 ms
EVERY = 1 << 60
BATCH_TRACES = 500
BATCH_BYTES = 1 << 20  # of one call: tens of milliseconds in Redis at most
THREAD_BYTES = 256 * 1024  # from there on compressing them would be felt on the event loop
FULL_SECS = 30.0  # between two tries while Redis has no room
REMOVED_AT_ONCE = 5_000  # a second for each partition: more than can be parked in that time
TOLD_AT_ONCE = 5_000  # some milliseconds in Redis
TELL_SECS = 1.0  # that a commit waits at most
TOUCH_SECS = 60.0


class Parking(Protocol):
    """Parked traces in Redis, by partition. A call with a token other than the one in Redis changes nothing and raises Lost.

    Every call raises Away if Redis cannot be used now.
    """

    async def begin(self, partition: int, token: str) -> None:
        """Delete the parked traces of the partition. From now on it belongs to this token."""

    async def park(self, partition: int, token: str, seq: int, parcels: Sequence[Parcel], unheard: int) -> int:
        """Park these if Redis still has everything parked up to ``seq``; returns the new ``seq``. Raises Lost and Full.

        ``unheard`` is the number of calls since then without an answer. Those of them that Redis has not done yet become void.
        """

    async def fetch(self, partition: int, token: str, ids: Sequence[bytes]) -> dict[bytes, list[bytes]]:
        """The frames of these traces, in the order in which they were parked. Raises Lost."""

    async def tell(self, partition: int, token: str, ends: Mapping[bytes, int]) -> None:
        """These traces have ended, with these last offsets: who resumes above them need not decide them. Raises Lost."""

    async def remove(self, partition: int, token: str, ids: Sequence[bytes]) -> None:
        """Delete these traces; with none, only renew the time until Redis forgets the partition. Raises Lost."""


Leaving = tuple[Trace, Summary, list["bytes | Packed"]]


@attrs.define(eq=False)
class Parker:
    """All parking goes through this object, one call after the other."""

    parking: Parking
    buffer: Buffer
    assignments: Assignments
    meter: Meter
    after_ms: int  # of stream time that a trace holds a record before it is parked
    make_token: Callable[[], str]
    _turns: trio.Lock = attrs.field(factory=trio.Lock)

    def __attrs_post_init__(self) -> None:
        self.assignments.tell_ended = self.tell_ended

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await trio.sleep(TURN_SECS)
            await self.turn()

    async def turn(self) -> None:
        """Remove ended traces, begin partitions that have no shelf yet, and park traces that have been open for too long."""
        async with self._turns:
            for each in [*self.assignments]:
                await self._begin(each)
                await self._remove(each)
            leaving = self.buffer.to_park(self.after_ms, LOOKS)
            if self.buffer.shelf_bytes <= self.buffer.limits.shelf_bytes:
                await self._park_all(leaving)
            elif leaving:
                self.meter.count(measures.PARKING_REFUSED, len(leaving), "memory")

    async def hand_over(self) -> None:
        """At a stop, after reading has ended: park all open traces for the next owners of their partitions."""
        async with self._turns:
            before = self.buffer.open_traces, len(self.buffer.to_park(0, EVERY))
            # Twice: the first walk begins where the last one ended.
            for _ in range(2):
                await self._park_all(self.buffer.to_park(0, EVERY))
            left = len(self.buffer.to_park(0, EVERY))
            log.info("open traces handed over by way of Redis", open=before[0], left_in_kafka=left)

    async def tell_ended(self, homes: Iterable[Partition]) -> None:
        """Tell Redis which parked traces of these partitions have ended. Call it before a commit that is already made up: the next
        owner may resume there before they are removed. A commit waits TELL_SECS at most, and not at all while Redis is away
        (law 8)."""
        with trio.move_on_after(TELL_SECS), suppress(Away):
            for home in homes:
                await self._tell_ended(home)

    async def _tell_ended(self, home: Partition) -> None:
        shelf = home.shelf
        while shelf is not None and not shelf.lost and (ends := shelf.to_tell(TOLD_AT_ONCE)):
            try:
                await self.parking.tell(home.id, shelf.token, ends)
            except Lost:
                if home.revoked:
                    break
                self.assignments.reread(home, "lost")
            else:
                shelf.told(ends)

    # -- parking

    async def _park_all(self, traces: Iterable[Trace]) -> None:
        by_home: dict[Partition, list[Trace]] = {}
        for trace in traces:
            by_home.setdefault(trace.home, []).append(trace)
        for home, theirs in by_home.items():
            for batch in _batches(theirs):
                if not await self._park(home, batch):
                    break

    async def _park(self, home: Partition, traces: Sequence[Trace]) -> bool:
        """Park one batch. Returns False if a further batch of this partition would fail too."""
        shelf = home.shelf
        if shelf is None or shelf.lost or home.revoked or trio.current_time() < shelf.full_until:
            return False
        leaving: list[Leaving] = [(trace, *self.buffer.leave(trace)) for trace in traces if trace.may_be_parked()]
        try:
            parcels = await _pack(leaving)
            unheard, shelf.unheard = shelf.unheard, shelf.unheard + 1
            shelf.seq = await self.parking.park(home.id, shelf.token, shelf.seq, parcels, unheard)
            shelf.unheard = 0
        except (Away, Full, Lost) as error:
            self._refused(home, shelf, error, len(leaving))
            return False
        else:
            for trace, _, _ in leaving:
                self.buffer.park(trace)
            self.meter.count(measures.PARKINGS, len(leaving))
            self.meter.count(measures.PARKED_BYTES, sum(len(each.frame) + len(each.summary) for each in parcels))
            return True
        finally:
            for trace, _, _ in leaving:
                trace.stay()

    def _refused(self, home: Partition, shelf: Shelf, error: Away | Full | Lost, traces: int) -> None:
        reason = type(error).__name__.lower()
        self.meter.count(measures.PARKING_REFUSED, traces, reason)
        if isinstance(error, Full):
            shelf.full_until = trio.current_time() + FULL_SECS
            log.warning("no room in Redis for long-open traces; they stay in memory", partition=home.id)
        elif isinstance(error, Lost):
            self.assignments.reread(home, reason)

    # -- beginning and removing

    async def _begin(self, home: Partition) -> None:
        """Begin a shelf, but only once Kafka has taken a commit of this assignment. A replica that does not know yet that it is
        out of the group must not delete the traces that the new owner has parked."""
        if home.shelf is not None or home.committed is None or home.revoked:
            return
        token = self.make_token()
        try:
            await self.parking.begin(home.id, token)
        except (Away, Lost):
            return
        if not home.revoked:
            home.shelf = Shelf(token)

    async def _remove(self, home: Partition) -> None:
        """Remove ended traces. Without any, call from time to time all the same: it renews the expiry of those that stay."""
        shelf = home.shelf
        if shelf is None or shelf.lost or home.revoked:
            return
        now = trio.current_time()
        ids = shelf.to_remove(-1 if home.committed is None else home.committed, REMOVED_AT_ONCE)
        if not ids and (not len(shelf) or now < shelf.touch_at):
            return
        try:
            await self.parking.remove(home.id, shelf.token, ids)
        except Away:
            return
        except Lost:
            self.assignments.reread(home, "lost")
        else:
            shelf.removed(ids)
            shelf.touch_at = now + TOUCH_SECS


def _batches(traces: Sequence[Trace]) -> Iterator[list[Trace]]:
    batch: list[Trace] = []
    size = 0
    for trace in traces:
        if batch and (len(batch) >= BATCH_TRACES or size + trace.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(trace)
        size += trace.size
    if batch:
        yield batch


async def _pack(leaving: Sequence[Leaving]) -> list[Parcel]:
    work = partial(
        _parcels,
        [(trace.trace_id, trace.parked_to, summary, chunks, summary.program) for trace, summary, chunks in leaving],
    )
    if sum(trace.size for trace, _, _ in leaving) < THREAD_BYTES:
        return work()
    return await trio.to_thread.run_sync(work)


def _parcels(leaving: Sequence[tuple[bytes, int, Summary, list[bytes | Packed], str]]) -> list[Parcel]:
    return [
        Parcel(trace_id, summary.to_bytes(), to_frame(after, summary.parked_to, chunks), program)
        for trace_id, after, summary, chunks, program in leaving
    ]
