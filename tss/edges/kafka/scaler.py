"""The scaler's group: a consumer group that nobody joins, whose offsets are the read positions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import trio
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from tss.core.errors import CannotCommit
from tss.edges.kafka_client.config import admin_config
from tss.edges.kafka_client.errors import cause_of, said
from tss.settings import Kafka

REQUEST_SECS = 4.0


def scaler_group(kafka: Kafka, client_id: str) -> ScalerGroup | None:
    """The scaler's group; None without `kafka.scalerGroup`, and in a rehearsal, whose positions are not the fleet's."""
    return ScalerGroup(kafka, client_id) if kafka.scaler_group and kafka.enable_auto_commit else None


class ScalerGroup:
    """`ReadGroup` of the task. It has its own client, so that slow answers and errors cannot hold up the group member. It
    is an admin client, since requests of an admin client always end with their timeout."""

    def __init__(self, kafka: Kafka, client_id: str) -> None:
        self._group = kafka.scaler_group
        self._topic = kafka.input_topic
        self._one_at_a_time = trio.CapacityLimiter(1)
        self._config = admin_config(kafka, client_id)
        self._made: AdminClient | None = None

    def __repr__(self) -> str:
        return f"<ScalerGroup {self._group} of {self._topic}>"

    async def standing(self, ids: Sequence[int]) -> dict[int, int]:
        """The group's offsets of these partitions, -1 without one. Raises CannotCommit."""
        found = await self._ask(self._list, [TopicPartition(self._topic, id) for id in ids])
        return {place.partition: max(-1, place.offset) for place in found}

    async def commit(self, positions: Mapping[int, int]) -> None:
        """Commit these positions. Raises CannotCommit, also when the group has members: a consumer with the same group id."""
        await self._ask(self._alter, [TopicPartition(self._topic, id, offset) for id, offset in positions.items()])

    async def _ask(
        self, ask: Callable[[list[TopicPartition]], list[TopicPartition]], places: list[TopicPartition]
    ) -> list[TopicPartition]:
        # Abandoned at the stop: the request ends with its own timeout.
        return await trio.to_thread.run_sync(
            self._translated, ask, places, limiter=self._one_at_a_time, abandon_on_cancel=True
        )

    def _translated(
        self, ask: Callable[[list[TopicPartition]], list[TopicPartition]], places: list[TopicPartition]
    ) -> list[TopicPartition]:
        try:
            answered = ask(places)
        except KafkaException as error:
            raise CannotCommit(said(cause_of(error))) from error
        refused = next((place.error for place in answered if place.error), None)
        if refused:
            raise CannotCommit(said(refused))
        return answered

    @property
    def _client(self) -> AdminClient:
        """Made at the first use, so that the group member reports wrong settings first."""
        self._made = self._made or AdminClient(self._config)
        return self._made

    def _list(self, places: list[TopicPartition]) -> list[TopicPartition]:
        asked = [ConsumerGroupTopicPartitions(self._group, places)]
        answer = self._client.list_consumer_group_offsets(asked, request_timeout=REQUEST_SECS)[self._group]
        return list(answer.result().topic_partitions)

    def _alter(self, places: list[TopicPartition]) -> list[TopicPartition]:
        asked = [ConsumerGroupTopicPartitions(self._group, places)]
        answer = self._client.alter_consumer_group_offsets(asked, request_timeout=REQUEST_SECS)[self._group]
        return list(answer.result().topic_partitions)
