"""Tells the scaler's group how far the partitions have been read. Nothing else depends on whether it can."""

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
PARTED = 16  # handovers that come while an answer is waited for; more are told by who has the partitions then


class ReadGroup(Protocol):
    """A consumer group without members, which only has offsets."""

    async def standing(self, ids: Sequence[int]) -> dict[int, int]:
        """What it has of these partitions, -1 for nothing. Raises CannotCommit."""

    async def commit(self, positions: Mapping[int, int]) -> None:
        """Raises CannotCommit."""


async def run(group: ReadGroup, assignments: Assignments, meter: Meter, stop: trio.Event, interval_secs: float) -> None:
    """Every interval, for a partition that goes while it does, and a last time when told to stop."""
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
    """The positions of what is about to go; empty when the time is over, or the stop has come."""
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
        """All that is ours."""
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
                log.warning("the scaler's group was not told how far was read", count=count, reason=reason)

    async def _tell(self, positions: Mapping[int, int]) -> None:
        unknown = self._positions.unknown(positions)
        if unknown:
            self._positions.learn(await self._group.standing(unknown), trio.current_time())
        due = self._positions.due(positions, trio.current_time())
        if due:
            await self._group.commit(due)
            self._positions.learn(due, trio.current_time())
            self._meter.count(measures.SCALER_COMMITS, 1, "ok")
