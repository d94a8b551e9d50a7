"""Commits the read positions to a group of their own, for an autoscaler. Nothing else depends on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import structlog
import trio

from tss.core import measures
from tss.core.errors import CannotCommit
from tss.core.measures import Meter
from tss.core.readpositions import ReadPositions
from tss.core.throttle import LogThrottle
from tss.state.assignments import Assignments

log = structlog.get_logger()

ANSWER_SECS = 5.0  # for one question; the next turn asks again
PARTED = 16  # revocations during one call; the new owners commit the positions of further ones


class ReadGroup(Protocol):
    """A consumer group without members. It only has offsets."""

    async def standing(self, ids: Sequence[int]) -> dict[int, int]:
        """The committed offsets of these partitions; -1 for none. Raises CannotCommit."""

    async def commit(self, positions: Mapping[int, int]) -> None:
        """Raises CannotCommit."""


async def run(group: ReadGroup, assignments: Assignments, meter: Meter, stop: trio.Event, interval_secs: float) -> None:
    """Commit at every interval, when partitions are revoked, and a last time when told to stop."""
    scaler = _Scaler(group, meter)
    assignments.parting, parted = trio.open_memory_channel[Mapping[int, int]](PARTED)
    with parted:
        while not stop.is_set():
            parting = await _wait(parted, stop, interval_secs)
            await scaler.tell(parting)
            await scaler.turn(assignments.positions())


async def _wait(
    parted: trio.MemoryReceiveChannel[Mapping[int, int]], stop: trio.Event, secs: float
) -> Mapping[int, int]:
    """The positions of partitions that are being revoked; empty after ``secs``, or at the stop."""
    parting: Mapping[int, int] = {}

    async def listen() -> None:
        nonlocal parting
        parting = await parted.receive()
        either.cancel_scope.cancel()

    async with trio.open_nursery() as either:
        either.cancel_scope.deadline = trio.current_time() + secs
        either.start_soon(listen)
        await stop.wait()
        either.cancel_scope.cancel()
    return parting


class _Scaler:
    def __init__(self, group: ReadGroup, meter: Meter) -> None:
        self._group = group
        self._meter = meter
        self._positions = ReadPositions()
        self._telling = LogThrottle()

    async def turn(self, positions: Mapping[int, int]) -> None:
        """Commit the positions of all our partitions."""
        self._positions.keep(positions)
        await self.tell(positions)

    async def tell(self, positions: Mapping[int, int]) -> None:
        try:
            with trio.fail_after(ANSWER_SECS):
                await self._tell(positions)
        except (CannotCommit, trio.TooSlowError) as error:
            self._meter.count(measures.SCALER_COMMITS, 1, "failed")
            count = self._telling.add(1, trio.current_time())
            if count:
                reason = str(error) or f"no answer in {ANSWER_SECS:g} s"
                log.warning(
                    "read positions were not committed to the scaler's group; the next interval tries again",
                    count=count,
                    reason=reason,
                )

    async def _tell(self, positions: Mapping[int, int]) -> None:
        unknown = self._positions.unknown(positions)
        if unknown:
            self._positions.learn(await self._group.standing(unknown), trio.current_time())
        due = self._positions.due(positions, trio.current_time())
        if due:
            await self._group.commit(due)
            self._positions.learn(due, trio.current_time())
            self._meter.count(measures.SCALER_COMMITS, 1, "ok")
