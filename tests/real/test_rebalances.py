"""Each way to share out the partitions, on Apache Kafka: replicas come and go, partitions are added, names are taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.cimpl import NewPartitions

from tests.contracts.source import Notebook, sent
from tests.real.brokers import Broker
from tests.real.daemon import Daemon, Group, daemons, file_spans, settings, until
from tests.real.kafka_world import KafkaWorld
from tests.real.load import Load
from tests.real.test_kill import Arrived
from tests.real.test_replicas import Fleet, share, take_all
from tss.core.errors import CannotConnect
from tss.edges.kafka.source import KafkaSource

PARTITIONS = 4
SEED = 6
WAYS: dict[str, dict[str, Any]] = {
    "cooperative-sticky": {"partitionAssignmentStrategy": "cooperative-sticky", "staticMembership": True},
    "range": {"partitionAssignmentStrategy": "range"},
    "consumer": {"groupProtocol": "consumer", "staticMembership": True},
}


def read_positions(broker: Broker, group: str) -> dict[int, int]:
    """What an admin client, as KEDA's, finds under the scaler's group."""
    admin = broker.admin()
    answer = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group]
    return {place.partition: place.offset for place in answer.result(10).topic_partitions}


class Ahead:
    """The read positions beside the low water."""

    def __init__(self, broker: Broker, group: Group, scaler: str) -> None:
        self._broker, self._group, self._scaler = broker, group, scaler

    def wait_for_gap(self) -> None:
        """Under load: every record has been read, or nearly, and those of the last seconds are held."""
        until(self._gap, 20, lambda: f"{read_positions(self._broker, self._scaler)} {self._group.committed()}")

    def _gap(self) -> bool:
        low = self._group.committed()
        positions = read_positions(self._broker, self._scaler)
        return len(positions) == PARTITIONS and all(positions[id] > offset for id, offset in low.items())


def handovers(daemon: Daemon) -> float:
    return daemon.metric("kafka_rebalances_total")


@pytest.mark.parametrize("way", WAYS)
def test_law_1_and_2_replicas_come_and_go(apache: Broker, tmp_path: Path, way: str) -> None:
    topic = f"rebalances-{way}"
    scaler = f"scaler of {topic}"
    static = WAYS[way].get("staticMembership", False)
    apache.create_topic(topic, PARTITIONS)
    files = [tmp_path / f"kept-{name}.jsonl" for name in "ab"]
    # A static member has to be back within its session, however busy the machine is that starts it. Others leave.
    kafka = {"sessionTimeoutMs": 60_000 if static else 6000, "scalerGroup": scaler} | WAYS[way]
    a, b = (
        Daemon(
            tmp_path / path.stem,
            settings(
                apache.bootstrap,
                topic,
                kafka=kafka,
                exporters=[{"name": "file", "type": "file", "path": str(path), "batchTimeoutSecs": 0.1}],
            ),
        )
        for path in files
    )
    with (
        daemons(a, b),
        Group.watch(apache, a.config, PARTITIONS) as group,
        Load(apache.bootstrap, topic, SEED) as load,
    ):
        fleet, ahead = Fleet(group), Ahead(apache, group, scaler)
        a.start()
        a.ready()
        take_all(a)
        with fleet.handover():  # one more joins
            b.start()
            b.ready()
            share(a, b)
        ahead.wait_for_gap()
        if static:  # back within its session: nobody else notices
            before = handovers(a)
            with fleet.handover():
                b.stop()
                assert b.said("partitions revoked"), "what it had is committed although it does not leave"
                b.start()
                b.ready()
                share(a, b)
            assert handovers(a) == before
        else:
            with fleet.handover():  # one leaves, and everything goes to the other
                a.stop()
                take_all(b)
            with fleet.handover():
                a.start()
                a.ready()
                share(a, b)
        load.finish()
        group.wait_until_done(30, lambda: f"{a.tail()}\n\n{b.tail()}")
        until(lambda: read_positions(apache, scaler) == group.ends(), 5, lambda: read_positions(apache, scaler))
        for each in (a, b):
            each.stop()
            assert not each.said("scaler's group was not told")
    arrived = Arrived("files", Counter(span for path in files for span in file_spans(path)))
    arrived.check(load, fleet.handovers)


# -- one member, and what may happen to it


@pytest.fixture
def world(apache: Broker) -> KafkaWorld:
    return KafkaWorld(apache)


@asynccontextmanager
async def member(
    world: KafkaWorld, topic: str, book: Notebook, name: str = "test", **known: Any
) -> AsyncIterator[Notebook]:
    async with KafkaSource.open(world.kafka(topic, **known), name, book, world.meter, world.health) as book.member:
        yield book


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
async def test_law_1_what_is_written_to_a_new_partition_before_it_is_found_is_read(
    world: KafkaWorld, protocol: str
) -> None:
    topic, book = await world.make_topic(), Notebook(commits_starts=True)
    soon = {"topic.metadata.refresh.interval.ms": "500"}
    known: dict[str, Any] = {"auto_offset_reset": "latest", "group_protocol": protocol, "properties": soon}
    await world.produce(topic, [sent(number) for number in range(3)])
    async with member(world, topic, book, **known):
        await book.poll_until(lambda: bool(book.starts))
        assert book.starts[0].offset == 3, "a group that is new begins at the end"
        admin = world.broker.admin()
        grown = admin.create_partitions([NewPartitions(topic, 2)], operation_timeout=10)[topic]
        await trio.to_thread.run_sync(grown.result, 10)
        await world.produce(topic, [sent(number, 1) for number in range(10, 20)])
        assert 1 not in book.starts
        await book.poll_until(lambda: len(book.offsets(1)) == 10)
    assert book.offsets(0) == [] and book.offsets(1) == [*range(10)]


async def test_members_that_begin_a_group_together_all_begin_at_the_end(world: KafkaWorld) -> None:
    topic = await world.make_topic(4)
    books = [Notebook(commits_starts=True) for _ in range(4)]
    await world.produce(topic, [sent(number, number % 4) for number in range(40)])

    async def join(book: Notebook) -> None:
        async with member(world, topic, book, auto_offset_reset="latest"):
            await book.poll_until(lambda: sum(len(each.starts) for each in books) == 4 and bool(book.starts))

    async with trio.open_nursery() as nursery:
        for book in books:
            nursery.start_soon(join, book)
    assert not any(book.records for book in books)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
async def test_two_of_one_name_one_of_them_ends_and_says_why(world: KafkaWorld, protocol: str) -> None:
    """Classic: who was there first is fenced. KIP-848: who comes second is refused."""
    topic, first, second = await world.make_topic(), Notebook(), Notebook()
    known: dict[str, Any] = {"group_protocol": protocol, "static_membership": True}
    refused: list[str] = []

    async def live(book: Notebook) -> None:
        try:
            async with member(world, topic, book, "one-name", **known):
                await book.poll_for_ever()
        except* CannotConnect as errors:
            refused.extend(str(error) for error in errors.exceptions)
            nursery.cancel_scope.cancel()

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(live, first)
            while not first.starts:
                await trio.sleep(0.05)
            nursery.start_soon(live, second)
    (reason,) = refused
    assert reason.startswith("Failed to connect to Kafka") and "check that app.instanceId is of one replica" in reason


async def test_eager_members_hand_over_what_they_have_committed(world: KafkaWorld) -> None:
    topic, book, other = await world.make_topic(2), Notebook(), Notebook()
    known: dict[str, Any] = {"partition_assignment_strategy": "roundrobin"}
    await world.produce(topic, [sent(number, number % 2) for number in range(10)])
    async with member(world, topic, book, **known), trio.open_nursery() as nursery:
        await book.poll_until(lambda: len(book.records) == 10)
        nursery.start_soon(book.poll_for_ever)
        async with member(world, topic, other, "other", **known):
            await other.poll_until(lambda: len(other.starts) == 1)
            assert [start.offset for start in other.starts.values()] == [5]
        with trio.fail_after(20):
            while len(book.starts) < 2:
                await trio.sleep(0.05)
        assert [start.offset for start in book.starts.values()] == [5, 5]
        nursery.cancel_scope.cancel()
