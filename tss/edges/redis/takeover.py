"""What earlier owners parked of a partition, taken up when it is assigned; and the same Redis for the tasks."""

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
        """The same starts, with what was parked where Redis has all of it, or at the floor.

        Bounded by the link's own timeouts: once Redis is known to be away the other partitions do not ask again.
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
            if place is None:  # nothing was parked, as far as Kafka knows
                return attrs.evolve(start, shelf=Shelf(token))
            if found is not None:
                parked = {
                    trace_id: attrs.evolve(Summary.from_bytes(data), lookup=found.lookups.get(trace_id, ""))
                    for trace_id, data in found.summaries.items()
                }
                return attrs.evolve(start, shelf=Shelf(token, found.seq), summaries=parked)
        except Away as error:
            # Not as committed: Kafka's answer has to say that it is ours before anything is parked of it.
            return attrs.evolve(self._at_floor(id, start, "away", str(error)), committed=False)
        except Lost as error:
            return attrs.evolve(self._at_floor(id, start, "not_fitting", str(error)), committed=False)
        return attrs.evolve(self._at_floor(id, start, "not_fitting", "Redis does not have it"), shelf=Shelf(token))

    def _at_floor(self, id: int, start: StartPosition, reason: str, detail: str) -> StartPosition:
        back = start.at_floor()
        if back.offset < start.offset:
            self.meter.count(measures.REREAD, 1, reason)
            log.warning(
                "what was parked cannot be taken over: the partition is read again from where the oldest of that begins",
                partition=id, offset=back.offset, committed=start.offset, reason=reason, detail=detail,
            )  # fmt: skip
        return back

    async def begin(self, partition: int, token: str) -> None:
        """Clear what is there; from now on it is that token's. Raises Away."""
        await trio.to_thread.run_sync(self.parking.take_over, partition, None, token)

    async def park(self, partition: int, token: str, seq: int, parcels: Sequence[Parcel], unheard: int) -> int:
        """Put these. Raises Away, Full, Lost."""
        return await self.parking.park(partition, token, seq, parcels, unheard)

    async def fetch(self, partition: int, token: str, ids: Sequence[bytes]) -> dict[bytes, list[bytes]]:
        """Their frames. Raises Away, Lost."""
        return await self.parking.fetch(partition, token, ids)

    async def remove(self, partition: int, token: str, ids: Sequence[bytes]) -> None:
        """They are done with. Raises Away, Lost."""
        await self.parking.remove(partition, token, ids)
