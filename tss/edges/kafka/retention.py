"""The retention of the input topic, and the first offset of each partition, asked from the brokers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
import trio
from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.admin._resource import ResourceType

from tss.core.retention import Retention
from tss.edges.kafka_client.config import admin_config
from tss.edges.kafka_client.errors import cause_of, said
from tss.settings import Kafka

log = structlog.get_logger()

REQUEST_SECS = 4.0
DENIED = ("TOPIC_AUTHORIZATION_FAILED", "CLUSTER_AUTHORIZATION_FAILED")


class TopicRetention:
    """`RetainedTopic` of the task. It has its own client, so that slow answers and errors cannot hold up the group member."""

    def __init__(self, kafka: Kafka, client_id: str) -> None:
        self.topic = kafka.input_topic
        self._one_at_a_time = trio.CapacityLimiter(1)
        self._config = admin_config(kafka, client_id)
        self._made: AdminClient | None = None
        self._told = ""  # the reason last logged

    def __repr__(self) -> str:
        return f"<TopicRetention of {self.topic}>"

    async def retention(self) -> Retention:
        """The topic's retention; unknown where the brokers do not tell. Raises nothing."""
        # Abandoned at the stop: the request ends with its own timeout.
        return await trio.to_thread.run_sync(self._retention, limiter=self._one_at_a_time, abandon_on_cancel=True)

    async def first(self, ids: Sequence[int]) -> Mapping[int, int]:
        """The first offset by partition, as far as the brokers tell. Raises nothing."""
        return await trio.to_thread.run_sync(self._first, ids, limiter=self._one_at_a_time, abandon_on_cancel=True)

    @property
    def _client(self) -> AdminClient:
        """Made at the first use, so that the group member reports wrong settings first."""
        self._made = self._made or AdminClient(self._config)
        return self._made

    def _retention(self) -> Retention:
        resource = ConfigResource(ResourceType.TOPIC, self.topic)
        try:
            found = self._client.describe_configs([resource], request_timeout=REQUEST_SECS)[resource].result()
        except KafkaException as error:
            cause = cause_of(error)
            self._tell(said(cause), is_denied=cause.name() in DENIED)
            return Retention()
        self._told = ""
        return retention_of({name: entry.value for name, entry in found.items()})

    def _first(self, ids: Sequence[int]) -> Mapping[int, int]:
        asked = {TopicPartition(self.topic, id): OffsetSpec.earliest() for id in ids}  # type: ignore[no-untyped-call]
        found: dict[int, int] = {}
        try:
            answers = self._client.list_offsets(
                asked, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=REQUEST_SECS
            )
        except KafkaException:
            return found
        for place, answer in answers.items():
            try:
                found[place.partition] = answer.result().offset
            except KafkaException:  # the group member reports it
                continue
        return found

    def _tell(self, reason: str, *, is_denied: bool) -> None:
        if reason != self._told:
            remedy = "allow DescribeConfigs on the topic" if is_denied else "they are asked again later"
            log.warning(
                "the brokers do not tell how long the topic keeps its records, so no alert can warn before it deletes "
                f"them; {remedy}",
                topic=self.topic,
                reason=reason,
            )
            self._told = reason


def retention_of(config: Mapping[str, Any]) -> Retention:
    """Retention from a topic's settings. A topic that is only compacted deletes nothing by age or size."""
    if "delete" not in str(config.get("cleanup.policy") or "delete"):
        return Retention(math.inf, math.inf)
    millis, size = _limit(config.get("retention.ms")), _limit(config.get("retention.bytes"))
    return Retention(millis / 1000, size)


def _limit(value: object) -> float:
    """A limit from a setting; infinite below zero, NaN where it is not a number."""
    try:
        number = float(str(value))
    except ValueError:
        return math.nan
    return number if number >= 0 else math.inf
