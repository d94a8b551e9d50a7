"""The Kafka edge at real brokers: the contract of Source and Offsets, and what is Kafka's own."""

import pytest

from tests.contracts.source import CONTRACT, Check
from tests.real.brokers import Broker
from tests.real.kafka_world import KafkaWorld


@pytest.fixture
def world(broker: Broker) -> KafkaWorld:
    return KafkaWorld(broker)


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
async def test_contract(check: Check, world: KafkaWorld) -> None:
    await check(world)
