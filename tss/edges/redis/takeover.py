"""Parked traces: taken over from earlier owners when a partition is assigned, then parked and fetched by the tasks."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence

import attrs
import structlog
import trio

from tss.core import measures
from tss.core.errors import Away, Lost
from tss.core.measures import Meter
from tss.core.parked import Parcel, Shelf, Summary
from tss.core.startposition import StartPosition
from tss.edges.redis.parking import RedisParking

log = structlog.get_logger()


@attrs.frozen
class ParkedTraces:
    """`Takeover` of the member, on its thread, and `Parking` of the tasks."""

    parking: RedisParking
    meter: Meter

    def take_over(self, starts: Mapping[int, StartPosition], breathe: Callable[[], None]) -> dict[int, StartPosition]:
        """The same starts, with the parked traces where Redis has all of them; else from the floor, where the oldest of
        them begins.

        The link's timeouts bound it: once Redis is known to be away, no further partition asks.
        """
        taken: dict[int, StartPosition] = {}
        for id, start in starts.items():
            breathe()
            taken[id] = self._take_over(id, start)
        return taken

    def _take_over(self, id: int, start: StartPosition) -> StartPosition:
        token, place = secrets.token_hex(8), start.parked
        known = None if place is None else (place.token, place.seq)
        try:
            found = self.parking.take_over(id, known, token)
            if place is None:  # the committed offset says that nothing is parked
                return attrs.evolve(start, shelf=Shelf(token))
            if found is not None:
                parked = {
                    trace_id: attrs.evolve(Summary.from_bytes(data), program=found.programs.get(trace_id, ""))
                    for trace_id, data in found.summaries.items()
                }
                shelf = Shelf(token, found.seq)
                for trace_id, last_offset in found.ended.items():
                    # With its last record below the offset the trace is decided (law 2): only its removal is left to do.
                    if last_offset < start.offset and parked.pop(trace_id, None) is not None:
                        shelf.end(trace_id, last_offset)
                return attrs.evolve(start, shelf=shelf, summaries=parked)
        except Away as error:
            # Not `committed`: before traces are parked again, a commit must prove that the partition is ours.
            return attrs.evolve(self._at_floor(id, start, "away", str(error)), committed=False)
        except Lost as error:
            return attrs.evolve(self._at_floor(id, start, "not_fitting", str(error)), committed=False)
        return attrs.evolve(self._at_floor(id, start, "not_fitting", "Redis does not have it"), shelf=Shelf(token))

    def _at_floor(self, id: int, start: StartPosition, reason: str, detail: str) -> StartPosition:
        back = start.at_floor()
        if back.offset < start.offset:
            self.meter.count(measures.REREAD, 1, reason)
            log.warning(
                "parked traces cannot be taken over from Redis: the partition is read again from where the oldest of them begins",
                partition=id, offset=back.offset, committed=start.offset, reason=reason, detail=detail,
            )  # fmt: skip
        return back

    async def begin(self, partition: int, token: str) -> None:
        """Clear the partition's hash, and give it this token. Raises Away."""
        await trio.to_thread.run_sync(self.parking.take_over, partition, None, token)

    async def park(self, partition: int, token: str, seq: int, parcels: Sequence[Parcel], unheard: int) -> int:
        """Park these; returns the new seq. Raises Away, Full, Lost."""
        return await self.parking.park(partition, token, seq, parcels, unheard)

    async def fetch(self, partition: int, token: str, ids: Sequence[bytes]) -> dict[bytes, list[bytes]]:
        """The frames of these traces. Raises Away, Lost."""
        return await self.parking.fetch(partition, token, ids)

    async def tell(self, partition: int, token: str, ends: Mapping[bytes, int]) -> None:
        """These traces have ended. Raises Away, Lost."""
        await self.parking.tell(partition, token, ends)

    async def remove(self, partition: int, token: str, ids: Sequence[bytes]) -> None:
        """Remove these traces. Raises Away, Lost."""
        await self.parking.remove(partition, token, ids)
