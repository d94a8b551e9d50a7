"""A log, a Redis, and owners of the one partition, step by step: no task runs that a test did not start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import trio

from tests.core.spans import batch
from tests.fakes.meter import FakeMeter
from tests.fakes.redis import FakeDecisions, FakeParking, FakeRedis
from tests.rulesets import rulesets
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.combining import Sampler
from tss.core.force import Rulebook
from tss.core.judging import Judge
from tss.core.memory import Memory
from tss.core.otlp import Records
from tss.core.partition import Commit, Partition
from tss.core.policies.policy import Policy
from tss.core.policies.rest import Rest
from tss.core.routing import Match, Router
from tss.core.trace import Trace
from tss.edges.kafka.starts import start_of
from tss.edges.kafka_client.offset_metadata import to_metadata
from tss.edges.redis.takeover import ParkedTraces
from tss.state.assignments import Assignments
from tss.state.sharing import ALONE, Memories, SharedMemories, Sharing
from tss.tasks import unparker
from tss.tasks.evaluator import Deciding
from tss.tasks.parker import Parker

WALL = 10**12
NOW = 1e9  # when force rules are looked at
HOURS_3 = 3 * 3600


@attrs.define
class World:
    """What outlives an owner."""

    records: list[Records] = attrs.field(factory=list)
    redis: FakeRedis = attrs.field(factory=FakeRedis)
    committed: int | None = 0
    metadata: str = ""
    sea: dict[bytes, list[bytes]] = attrs.field(factory=dict)  # what was delivered, by trace id

    def take(self, commits: dict[int, Commit]) -> None:
        for commit in commits.values():
            self.committed, self.metadata = commit.offset, to_metadata(commit)


class Owner:
    """Of partition 0."""

    def __init__(
        self,
        world: World,
        *,
        max_bytes: int = 1 << 28,
        rate: float = 1.0,
        turn_after_secs: int = 60,
        shares: bool = False,
        rulebook: Rulebook | None = None,
        matches: Mapping[str, Match] | None = None,
        policy: Policy | None = None,
    ) -> None:
        self.world, self.meter = world, FakeMeter()
        sampler = Sampler([policy or Rest(rate)], Router(matches) if matches else None)
        limits, waits = Limits(1 << 30, 10**6, 10**6, 10**6), Waits(30_000, 600_000, HOURS_3 * 1000)
        self.buffer = Buffer(limits, waits, Memory(), program=sampler.program)
        self.rulesets = rulesets(sampler)
        self.assignments = Assignments(
            "t", self.buffer, self.meter, max_skew_ms=0, replay_secs=60, commits=True, rulesets=self.rulesets
        )
        self.parking = FakeParking(world.redis, max_bytes)
        self.parked = ParkedTraces(self.parking, self.meter)
        self.parker = Parker(
            self.parked, self.buffer, self.assignments, self.meter, turn_after_secs * 1000, self._token,
        )  # fmt: skip
        self._kept, self.kept = trio.open_memory_channel[list[Trace]](1000)
        self._settled, self.settled = trio.open_memory_channel[list[Trace]](1000)
        sharing = Sharing(FakeDecisions(world.redis), 10**6)
        self.memories: Memories = SharedMemories(sharing, self.buffer, self.meter) if shares else ALONE
        judge = Judge(self.buffer, self.rulesets.choose)
        judging = judge, self.rulesets, self.buffer, (), self.meter, self.memories, rulebook or Rulebook(), lambda: NOW
        self.deciding = Deciding(self._kept, self._settled, *judging)
        self.waiting: list[Trace] = []
        self.ways: dict[bytes, tuple[str, ...] | None] = {}  # of what was delivered
        self.position = self._tokens = 0
        self.fenced = False  # the group does not know it any more, and Kafka takes no commit of it
        self.assign()

    def assign(self) -> None:
        world = self.world
        at = start_of(world.committed, world.metadata, 0, len(world.records), "earliest")
        self.starts = self.parked.take_over({0: at}, lambda: None)
        world.take(self.assignments.assigned(self.starts))
        self.position = self.starts[0].replay_from

    def _token(self) -> str:
        self._tokens += 1
        return f"{id(self)} {self._tokens}"

    @property
    def partition(self) -> Partition:
        (partition,) = self.assignments
        return partition

    def read(self, to: int | None = None) -> None:
        """Up to, not including, this offset."""
        self.position = self.assignments.rewind().get(0, self.position)
        records = self.world.records[self.position : to]
        for run in self.assignments.bind(batch(records)):
            self.buffer.add_some(run.partition, run.records, run.first, run.stop, WALL)
        self.position += len(records)

    async def decide(self) -> None:
        """What has closed, and what waits for Redis; and deliver what can be."""
        batch = await self.deciding.memories.recall(self.buffer.take())
        enforcer = self.deciding.enforcer()
        self.waiting += [trace for trace in batch if self.deciding.lacks_spans(trace, enforcer)]
        await self.deciding.decide([trace for trace in batch if trace not in self.waiting], enforcer)
        self.waiting = await unparker._bring_back(self.waiting, self.parked, self.deciding, self.assignments)
        kept = _all(self.kept)
        await self.memories.keep(kept)
        for trace in kept:
            self.world.sea.setdefault(trace.trace_id, []).extend(trace.chunks())
            assert trace.decision is not None
            self.ways[trace.trace_id] = trace.decision.destinations
            self.buffer.settle(trace)
        self.buffer.settle_all(_all(self.settled))

    async def commit(self) -> None:
        if self.fenced:
            return
        due = self.assignments.due()
        await self.assignments.before_commit(due)
        self.world.take(due)
        self.assignments.committed(due)

    async def live(self, to: int | None = None, step: int = 1) -> None:
        """Read up to there, with a turn of everything after each few records."""
        end = len(self.world.records) if to is None else to
        while self.position < end or self.assignments._lost:
            self.read(min(end, self.position + step))
            await self.turn()

    async def turn(self) -> None:
        await self.decide()
        await self.parker.turn()
        await self.commit()

    async def leave(self) -> None:
        self.world.take(await self.assignments.revoked([0]))


def _all(channel: trio.MemoryReceiveChannel[list[Trace]]) -> Sequence[Trace]:
    found: list[Trace] = []
    while True:
        try:
            found += channel.receive_nowait()
        except trio.WouldBlock:
            return found
