"""The world of the source's contract, with a real broker in it."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count

import attrs
import trio
from confluent_kafka import KafkaError, Message, Producer

from tests.contracts.source import Group, Sent
from tests.fakes.meter import FakeMeter
from tests.real.brokers import Broker
from tss.core.health import Health
from tss.edges.kafka.source import KafkaSource
from tss.settings import Kafka

_names = count(1)


@attrs.define
class KafkaWorld:
    """Topics, each with one consumer group, at one broker."""

    broker: Broker
    meter: FakeMeter = attrs.field(factory=FakeMeter)
    health: Health = attrs.field(factory=Health)

    @property
    def keeps_metadata(self) -> bool:
        return self.broker.keeps_metadata

    @property
    def outlives_restart(self) -> bool:
        return self.broker.keeps_data

    async def make_topic(self, partitions: int = 1) -> str:
        name = f"traces-{next(_names)}"
        await trio.to_thread.run_sync(self.broker.create_topic, name, partitions)
        return name

    async def produce(self, topic: str, records: Sequence[Sent]) -> None:
        await trio.to_thread.run_sync(produce, self.broker.bootstrap, topic, records)

    def kafka(self, topic: str, **settings: object) -> Kafka:
        """The settings of a member, with the shortest session that brokers allow."""
        known: dict[str, object] = {
            "brokers": self.broker.bootstrap,
            "input_topic": topic,
            "consumer_group": f"group of {topic}",
            "auto_offset_reset": "earliest",
            "session_timeout_ms": 6000,
        }
        return Kafka(**known | settings)  # type: ignore[arg-type]

    @asynccontextmanager
    async def open(
        self, topic: str, group: Group, *, reset: str = "earliest", eager: bool = False
    ) -> AsyncIterator[KafkaSource]:
        strategy = "range" if eager else "cooperative-sticky"
        kafka = self.kafka(topic, auto_offset_reset=reset, partition_assignment_strategy=strategy)
        async with KafkaSource.open(kafka, "test", group, self.meter, self.health) as source:
            yield source

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def stall(self) -> None:
        self.broker.freeze()

    async def unstall(self) -> None:
        self.broker.thaw()

    async def stop_broker(self) -> None:
        await trio.to_thread.run_sync(self.broker.stop)

    async def start_broker(self) -> None:
        await trio.to_thread.run_sync(self.broker.start)


def produce(bootstrap: str, topic: str, records: Sequence[Sent]) -> None:
    """Raises AssertionError when one did not arrive."""
    failed: list[KafkaError] = []

    def delivered(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            failed.append(error)

    room = {"queue.buffering.max.messages": max(1000, len(records)), "queue.buffering.max.kbytes": 2**20}
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, "acks": "all", "log_level": 0} | room)
    for record in records:
        # 0 is librdkafka's way to say now.
        producer.produce(
            topic,
            record.value,
            record.key,
            record.partition,
            on_delivery=delivered,
            timestamp=record.timestamp_ms or 0,
            headers=[*record.headers],
        )
    assert producer.flush(30) == 0, "records that did not arrive"
    assert not failed, failed[0]
