"""Decisions that replicas share through Redis: looked up when a trace closes, written when it has ended."""

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

# How long the answer about the reach of others' decisions is used. A replica that has lost a partition and does not know it
# yet may still write decisions about it. No interval helps there: a look-up before they are written misses them anyway.
REACH_SECS = 1.0


class SharedDecisions(Protocol):
    """The store of decisions for all replicas. Each call raises Away when the store does not answer, after a bounded time."""

    async def write(self, kept: Mapping[bytes, bytes], dropped: Sequence[bytes], reach: Mapping[int, int]) -> None:
        """Remember decisions for a while.

        ``kept``: by trace id, the decision as bytes. ``dropped``: trace ids. ``reach``: by partition, an offset above every
        record of these traces.
        """

    async def reach(self, partitions: Sequence[int]) -> dict[int, int]:
        """By partition, an offset above every record of the traces that other replicas have written decisions about."""

    async def read(
        self, ids: Sequence[bytes], from_offsets: Mapping[int, int] | None = None
    ) -> tuple[dict[bytes, bytes], set[bytes]]:
        """Of these trace ids, the decisions about kept traces, and the ids of dropped traces.

        With ``from_offsets``, the traces have only records of these partitions, from these offsets on. Then a decision may be
        missing if this replica wrote it, or if it was written after ``reach`` was last asked.
        """


@attrs.frozen
class Sharing:
    """The store, and how it is used."""

    decisions: SharedDecisions
    ttl_secs: float  # how long a decision is found there
    remembers_dropped: bool = False  # they are most of all traces, so they are written only on request


class Memories:
    """What this replica knows of the decisions of others: nothing, without Redis."""

    async def recall(self, batch: list[Trace]) -> list[Trace]:
        """Closed traces, before they are decided. Returns those that still go on: traces that another replica dropped are
        taken out, and for traces that another replica kept, the late spans that follow that decision take their place."""
        return batch

    async def keep(self, traces: Sequence[Trace]) -> None:
        """Remember kept traces that every destination has. Call it before they are settled: after a crash in between, their
        records are read again."""

    async def drop(self, traces: Sequence[Trace]) -> None:
        """Remember the traces among these that this replica decided to drop. Call it before they are settled."""


ALONE = Memories()


class SharedMemories(Memories):
    """With Redis. While Redis is away, this replica decides by its own memory (law 8)."""

    def __init__(self, sharing: Sharing, buffer: Buffer, meter: Meter) -> None:
        self._decisions = sharing.decisions
        self._ttl_ms = round(sharing.ttl_secs * 1000)
        self._remembers_dropped = sharing.remembers_dropped
        self._buffer = buffer
        self._meter = meter
        self._reaches: dict[Partition, int] = {}  # the last answer of SharedDecisions.reach
        self._reached_at = -REACH_SECS  # when it was given

    async def recall(self, batch: list[Trace]) -> list[Trace]:
        """Ask once for all traces of the batch that another replica may have decided. Most batches have none."""
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
        """Apply the answers, in the order of the batch. For a trace without one, no replica is known to have decided."""
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
            elif trace.trace_id in dropped and not trace.late:  # late spans follow this replica's decision
                outcomes["dropped"] += 1
                self._buffer.dropped_elsewhere(trace)
            else:
                outcomes["unknown" if value is None else "unreadable"] += 1
                going.append(trace)
        for outcome, count in outcomes.items():
            self._meter.count(measures.DECISION_LOOKUPS, count, outcome)
        return going

    async def keep(self, traces: Sequence[Trace]) -> None:
        """Write the decisions about these traces, and which of their spans are delivered, as one message."""
        known = self._buffer.deliver(traces)
        reach = reach_of(place for kept in known.values() for place in kept.covered.items())
        marks = {trace.trace_id: mark_of(trace.home.topic) for trace in traces}
        values = {trace_id: to_bytes(kept, marks[trace_id]) for trace_id, kept in known.items()}
        await self._write(values, (), reach)

    async def drop(self, traces: Sequence[Trace]) -> None:
        """Write them if `redis.rememberDropped` asks for it."""
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
