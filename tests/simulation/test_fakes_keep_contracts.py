"""The fakes under the contracts that the real edges keep (style, habit 15), on a simulated clock."""

import random
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import cast

import attrs
import pytest
import trio
from trio.testing import MockClock

from tests.contracts import destination as destination_contract
from tests.contracts import source as source_contract
from tests.contracts.source import Check, Group, Member, Sent
from tests.fakes.destination import FakeDestination, Mood
from tests.fakes.kafka import FakeKafka, Habits, wall_ms
from tss.state.assignments import Assignments


@attrs.define
class FakeWorld:
    """The contract's World, of fakes; one broker a topic."""

    seed: int
    keeps_metadata = True
    outlives_restart = True
    topics: dict[str, FakeKafka] = attrs.field(factory=dict)
    names: int = 0

    async def make_topic(self, partitions: int = 1) -> str:
        topic = f"topic{len(self.topics)}"
        self.topics[topic] = FakeKafka(partitions, Habits(), random.Random(self.seed))
        return topic

    async def produce(self, topic: str, records: Sequence[Sent]) -> None:
        await trio.lowlevel.checkpoint()
        for record in records:
            timestamp_ms = wall_ms() if record.timestamp_ms is None else record.timestamp_ms
            self.topics[topic].append(
                record.partition, record.value, timestamp_ms, key=record.key, headers=record.headers
            )

    def open(
        self, topic: str, group: Group, *, reset: str = "earliest", eager: bool = False
    ) -> AbstractAsyncContextManager[Member]:
        kafka = self.topics[topic]
        kafka.topic = topic
        kafka.habits.eager = eager
        kafka.habits.reset = reset
        self.names += 1
        return kafka.open_member(f"member{self.names}", cast(Assignments, group))

    def wall_ms(self) -> int:
        return wall_ms()

    async def stall(self) -> None:
        await self.stop_broker()

    async def unstall(self) -> None:
        await self.start_broker()

    async def stop_broker(self) -> None:
        await trio.sleep(0.1)
        for kafka in self.topics.values():
            kafka.down = True

    async def start_broker(self) -> None:
        await trio.sleep(0.1)
        for kafka in self.topics.values():
            kafka.down = False


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("check", source_contract.CONTRACT, ids=lambda check: check.__name__)
def test_kafka(check: Check, seed: int) -> None:
    async def run() -> None:
        await check(FakeWorld(seed))

    trio.run(run, clock=MockClock(autojump_threshold=0))


def test_destination() -> None:
    fake = FakeDestination(max_delay_secs=0.05)
    world = destination_contract.World(
        destination=fake,
        taken=lambda: {(arrival.key.trace_id, arrival.key.span_id) for arrival in fake.arrivals},
        go_away=lambda: fake.set_mood(Mood.AGAIN),
        come_back=lambda: fake.set_mood(Mood.WELL),
        hang=lambda: fake.set_mood(Mood.HANGING),
    )

    async def run() -> None:
        await destination_contract.check_destination(world)

    trio.run(run, clock=MockClock(autojump_threshold=0))
