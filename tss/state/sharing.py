"""The memory of decisions that replicas share: asked when a trace closes, told when it is delivered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import attrs
import trio

from tss.core import measures
from tss.core.buffer import Buffer
from tss.core.errors import Away
from tss.core.measures import Meter
from tss.core.partition import Partition
from tss.core.shared_decisions import (
    NOTHING,
    from_bytes,
    homes_of,
    mark_of,
    reach_of,
    to_bytes,
    unknown_here,
    within_reach,
)
from tss.core.trace import Trace

# For so long nobody asks again how far others' decisions reach: one who lost a partition and does not know it yet may
# still write some. A look-up that comes in before they are written does not find them either.
REACH_SECS = 1.0


class SharedDecisions(Protocol):
    """Where all replicas look. Both raise Away, at once or after a bounded time."""

    async def write(self, kept: Mapping[bytes, bytes], dropped: Sequence[bytes], reach: Mapping[int, int]) -> None:
        """Remember these by trace id, for a while; all that they are about lies below ``reach`` of its partition."""

    async def reach(self, partitions: Sequence[int]) -> dict[int, int]:
        """The same of what others have written, for those partitions that it is about."""

    async def read(
        self, ids: Sequence[bytes], from_offsets: Mapping[int, int] | None = None
    ) -> tuple[dict[bytes, bytes], set[bytes]]:
        """What was written of kept ones among these, and which are remembered as dropped.

        ``from_offsets``: these are only about records of these partitions from there on. What was written by us, or
        since ``reach`` was last asked, may not be found then.
        """


@attrs.frozen
class Sharing:
    """What there is to share with: for ``ttl_secs`` decisions are found there."""

    decisions: SharedDecisions
    ttl_secs: float
    remembers_dropped: bool = False


class Memories(Protocol):
    """What evaluator and exporter need to know of the others."""

    async def recall(self, batch: list[Trace]) -> list[Trace]:
        """The batch, with what others have decided following that, or gone."""

    async def keep(self, traces: Sequence[Trace]) -> None:
        """Every destination has these; called before they settle."""

    async def drop(self, traces: Sequence[Trace]) -> None:
        """These have ended, the dropped among them by our decision; called before they settle."""


class Alone:
    """Without Redis: every replica knows what it knows."""

    async def recall(self, batch: list[Trace]) -> list[Trace]:
        """As it came."""
        return batch

    async def keep(self, traces: Sequence[Trace]) -> None:
        """Nobody is told."""

    async def drop(self, traces: Sequence[Trace]) -> None:
        """Nobody is told."""


ALONE = Alone()


class Shared:
    """With Redis, as long as it is there. While it is away, what is known locally decides (law 8)."""

    def __init__(self, sharing: Sharing, buffer: Buffer, meter: Meter) -> None:
        self._decisions = sharing.decisions
        self._ttl_ms = round(sharing.ttl_secs * 1000)
        self._remembers_dropped = sharing.remembers_dropped
        self._buffer = buffer
        self._meter = meter
        self._reaches: dict[Partition, int] = {}  # how far others' decisions go, as it was
        self._reached_at = -REACH_SECS  # then

    async def recall(self, batch: list[Trace]) -> list[Trace]:
        """One question for all that could be known; most batches have none."""
        asked = unknown_here(batch, self._buffer.memory, self._ttl_ms)
        if not asked:
            return batch
        try:
            await self._learn_reaches(asked)
            anywhere, whole, from_offsets = within_reach(asked, self._reaches, self._buffer.memory)
            if not (anywhere or whole):
                return batch
            kept, dropped = await self._decisions.read(_ids(anywhere))
            some_kept, some_dropped = await self._decisions.read(_ids(whole), from_offsets)
        except Away:
            self._meter.count(measures.DECISION_LOOKUPS, len(asked), "away")
            return batch
        return self._follow(batch, {*anywhere, *whole}, kept | some_kept, dropped | some_dropped)

    async def _learn_reaches(self, asked: list[Trace]) -> None:
        homes, now = homes_of(asked), trio.current_time()
        if now - self._reached_at < REACH_SECS and homes <= self._reaches.keys():
            return
        homes.update(home for home in self._reaches if not home.revoked)
        reach = await self._decisions.reach(sorted({home.id for home in homes}))
        self._reaches = {home: reach.get(home.id, NOTHING) for home in homes}
        self._reached_at = now

    def _follow(
        self, batch: Iterable[Trace], asked: set[Trace], kept: Mapping[bytes, bytes], dropped: set[bytes]
    ) -> list[Trace]:
        """In the order of the batch. A trace without an answer was not decided, as far as anybody knows."""
        going: list[Trace] = []
        outcomes: Counter[str] = Counter()
        for trace in batch:
            if trace not in asked:
                going.append(trace)
                continue
            value = kept.get(trace.trace_id)
            known = from_bytes(value, mark_of(trace.home.topic)) if value is not None else None
            if known is not None:
                outcomes["kept"] += 1
                going += self._buffer.kept_elsewhere(trace, known)
            elif trace.trace_id in dropped and not trace.late:  # what is late follows the decision that is known here
                outcomes["dropped"] += 1
                self._buffer.dropped_elsewhere(trace)
            else:
                outcomes["unknown" if value is None else "unreadable"] += 1
                going.append(trace)
        for outcome, count in outcomes.items():
            self._meter.count(measures.DECISION_LOOKUPS, count, outcome)
        return going

    async def keep(self, traces: Sequence[Trace]) -> None:
        """What is delivered of each, late ones included, as one message."""
        known = self._buffer.deliver(traces)
        reach = reach_of(place for kept in known.values() for place in kept.covered.items())
        marks = {trace.trace_id: mark_of(trace.home.topic) for trace in traces}
        values = {trace_id: to_bytes(kept, marks[trace_id]) for trace_id, kept in known.items()}
        await self._write(values, (), reach)

    async def drop(self, traces: Sequence[Trace]) -> None:
        """Only where that was asked for: they are most of all traces."""
        if self._remembers_dropped:
            decided = [each for each in traces if each.decision is not None and not (each.decision.keeps or each.late)]
            places = (
                (home.id, offset)
                for each in decided
                for home, offset in [(each.home, each.first_offset), *each.holds()]
            )
            await self._write({}, [each.trace_id for each in decided], reach_of(places))

    async def _write(self, kept: Mapping[bytes, bytes], dropped: Sequence[bytes], reach: Mapping[int, int]) -> None:
        count = len(kept) + len(dropped)
        if not count:
            return
        try:
            await self._decisions.write(kept, dropped, reach)
        except Away:
            self._meter.count(measures.DECISION_WRITES, count, "away")
        else:
            self._meter.count(measures.DECISION_WRITES, count, "written")


def _ids(traces: Iterable[Trace]) -> list[bytes]:
    return [trace.trace_id for trace in traces]
