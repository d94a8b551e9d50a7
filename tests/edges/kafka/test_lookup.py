"""How long a lookup of offsets is tried: a scripted client in librdkafka's place."""

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tss.core.errors import CannotConnect
from tss.edges.kafka.connection import BrokerConnection
from tss.edges.kafka.lookup import OffsetLookup


class AwayAtFirst:
    """Brokers that answer at the third try."""

    def __init__(self) -> None:
        self.tries = 0

    def offsets_for_times(self, asked: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        self.tries += 1
        if self.tries < 3:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return [TopicPartition(place.topic, place.partition, 40) for place in asked]


def test_a_lookup_waits_for_brokers_that_are_away_for_a_moment():
    client: Any = AwayAtFirst()
    unused: Any = None
    breaths: list[None] = []
    lookup = OffsetLookup(client, "t", BrokerConnection("b:1", "t"), lambda: breaths.append(None), unused, unused)
    try:
        first = lookup.first([0])
    except CannotConnect as error:
        pytest.fail(f"after {client.tries} tries: {error}")
    assert (first, client.tries, len(breaths)) == ({0: 40}, 3, 2)
