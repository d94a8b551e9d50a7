"""What stands in Redis as dicts, and the two edges over it, with moods; they pass the contract of the real ones."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence

import attrs
import trio

from tss.core.errors import Away, Full, Lost
from tss.core.parked import Parcel
from tss.edges.redis.parking import RedisParking, TakenOver

FIELD_BYTES = 64


class Mood(enum.Enum):
    """How Redis answers for a while."""

    WELL = "well"
    SLOW = "slow"  # answers, but late
    AWAY = "away"  # refuses at once
    VANISHING = "vanishing"  # does what it is asked, and goes away before it says so
    FULL = "full"  # takes no writes, but what removes


@attrs.define
class Shelf:
    """What is parked of one partition."""

    token: str
    prev: str = ""
    seq: int = 0
    summaries: dict[bytes, bytes] = attrs.field(factory=dict)
    frames: dict[bytes, list[bytes]] = attrs.field(factory=dict)
    programs: dict[bytes, str] = attrs.field(factory=dict)
    ends: dict[bytes, tuple[int, int, str]] = attrs.field(factory=dict)  # last offset, number of frames, token

    @property
    def held_bytes(self) -> int:
        sizes = (len(summary) + 2 * FIELD_BYTES for summary in self.summaries.values())
        return sum(sizes) + sum(len(frame) + FIELD_BYTES for frames in self.frames.values() for frame in frames)


@attrs.frozen
class Writing:
    """Of decisions: whose, of which traces, and how far they reach by partition."""

    writer: object
    ids: frozenset[bytes]
    reach: Mapping[int, int]


@attrs.define
class FakeRedis:
    """Shared by all replicas of a test; ``flush`` loses everything."""

    mood: Mood = Mood.WELL
    slow_secs: float = 0.5
    calls: int = 0
    kept: dict[bytes, bytes] = attrs.field(factory=dict)
    dropped: set[bytes] = attrs.field(factory=set)
    writings: list[Writing] = attrs.field(factory=list)
    shelves: dict[int, Shelf] = attrs.field(factory=dict)

    def flush(self) -> None:
        """As FLUSHALL, a restart without a disk, or a failover to a replica that had nothing yet."""
        self.kept.clear()
        self.dropped.clear()
        self.writings.clear()
        self.shelves.clear()

    def check(self, *, writes: bool = True) -> None:
        self.calls += 1
        if self.mood is Mood.AWAY:
            raise Away("Redis cannot be reached: it is in that mood")
        if self.mood is Mood.FULL and writes:
            raise Away("Redis is full: it is in that mood")

    async def arrive(self, *, writes: bool = True) -> None:
        await trio.lowlevel.checkpoint()
        if self.mood is Mood.SLOW:
            await trio.sleep(self.slow_secs)
        self.check(writes=writes)

    def leave(self) -> None:
        if self.mood is Mood.VANISHING:
            raise Away("Redis connection timeout: it is in that mood")


@attrs.define(eq=False)
class FakeDecisions:
    """RedisDecisions of one life of a replica. What it may miss, it does miss."""

    redis: FakeRedis
    remember_dropped: bool = True
    others: Sequence[Writing] = ()  # what others had written when it last asked how far that reaches

    async def write(self, kept: Mapping[bytes, bytes], dropped: Sequence[bytes], reach: Mapping[int, int]) -> None:
        dropped = dropped if self.remember_dropped else ()
        if not kept and not dropped:
            return
        await self.redis.arrive()
        self.redis.kept |= kept
        self.redis.dropped |= set(dropped)
        self.redis.writings.append(Writing(self, frozenset((*kept, *dropped)), dict(reach)))
        self.redis.leave()

    async def reach(self, partitions: Sequence[int]) -> dict[int, int]:
        await self.redis.arrive(writes=False)
        self.others = [each for each in self.redis.writings if each.writer is not self]
        self.redis.leave()
        found = {id: max((each.reach.get(id, 0) for each in self.others), default=0) for id in partitions}
        return {id: offset for id, offset in found.items() if offset}

    async def read(
        self, ids: Sequence[bytes], from_offsets: Mapping[int, int] | None = None
    ) -> tuple[dict[bytes, bytes], set[bytes]]:
        if from_offsets is not None:
            there = [
                each
                for each in self.others
                if any(each.reach.get(id, 0) > offset for id, offset in from_offsets.items())
            ]
            ids = [each for each in ids if any(each in writing.ids for writing in there)]
        if not ids:
            return {}, set()
        await self.redis.arrive(writes=False)
        kept = {each: self.redis.kept[each] for each in ids if each in self.redis.kept}
        self.redis.leave()
        return kept, (self.redis.dropped & set(ids)) - kept.keys()


@attrs.frozen
class FakeParking(RedisParking):
    """What is parked, in dicts."""

    redis: FakeRedis
    max_bytes: int = 1 << 28

    def take_over(self, partition: int, known: tuple[str, int] | None, token: str) -> TakenOver | None:
        self.redis.check()
        shelf = self.redis.shelves.get(partition)
        fits = shelf and known and known[0] and known[0] in (shelf.token, shelf.prev) and shelf.seq >= known[1]
        if not shelf or not known or not fits:
            self.redis.shelves[partition] = Shelf(token)
            self.redis.leave()
            return None
        shelf.token, shelf.prev = token, known[0]
        self.redis.leave()
        programs = {id: each for id, each in shelf.programs.items() if each}
        ended = {
            trace_id: last_offset
            for trace_id, (last_offset, count, owner) in shelf.ends.items()
            if (count, owner) == (len(shelf.frames[trace_id]), known[0])
        }
        return TakenOver(shelf.seq, dict(shelf.summaries), programs, ended)

    async def park(self, partition: int, token: str, seq: int, parcels: Sequence[Parcel], unheard: int = 0) -> int:
        await self.redis.arrive()
        shelf = self._shelf(partition, token)
        if not seq <= shelf.seq <= seq + unheard:
            raise Lost(f"seq {shelf.seq}")
        tried = attrs.evolve(
            shelf,
            summaries=dict(shelf.summaries),
            frames={trace_id: [*frames] for trace_id, frames in shelf.frames.items()},
            programs=dict(shelf.programs),
            seq=seq + unheard + 1,
        )
        for each in parcels:
            tried.summaries[each.trace_id] = each.summary
            tried.programs[each.trace_id] = each.program
            tried.frames.setdefault(each.trace_id, []).append(each.frame)
        if tried.held_bytes > self.max_bytes:
            raise Full("it is")
        self.redis.shelves[partition] = tried
        self.redis.leave()
        return tried.seq

    async def fetch(self, partition: int, token: str, ids: Sequence[bytes]) -> dict[bytes, list[bytes]]:
        if not ids:
            return {}
        await self.redis.arrive(writes=False)
        shelf = self._shelf(partition, token)
        self.redis.leave()
        return {each: [*shelf.frames[each]] for each in ids if each in shelf.frames}

    async def tell(self, partition: int, token: str, ends: Mapping[bytes, int]) -> None:
        await self.redis.arrive()
        shelf = self._shelf(partition, token)
        for trace_id, last_offset in ends.items():
            if trace_id in shelf.frames:
                shelf.ends[trace_id] = last_offset, len(shelf.frames[trace_id]), token
        self.redis.leave()

    async def remove(self, partition: int, token: str, ids: Sequence[bytes]) -> None:
        await self.redis.arrive(writes=False)
        shelf = self._shelf(partition, token)
        for each in ids:
            shelf.summaries.pop(each, None)
            shelf.programs.pop(each, None)
            shelf.frames.pop(each, None)
            shelf.ends.pop(each, None)
        self.redis.leave()

    def _shelf(self, partition: int, token: str) -> Shelf:
        shelf = self.redis.shelves.get(partition)
        if shelf is None or shelf.token != token:
            raise Lost(f"partition {partition} is another's, or gone")
        return shelf
