"""The topic between the two stages of `kafka.rekey`: created when it is missing, and written in transactions.

Each transaction commits the offsets of its input records, for the stage's own consumer group. So a record is split and
committed, or neither. The brokers refuse the transaction of a replica whose partitions have gone to another.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import structlog
import trio
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic

from tss.core.alignment import ReadRecord
from tss.core.delivery import Again, Outcome
from tss.core.errors import WrongSetting
from tss.core.partition import Commit
from tss.core.startposition import StartPosition
from tss.edges.kafka_client.client_log import logger
from tss.edges.kafka_client.config import admin_config, connection_config, without_secrets
from tss.edges.kafka_client.errors import HEADLINE, TOPIC_MISSING, cause_of, is_fatal, said
from tss.edges.kafka_output.entry import Entry
from tss.edges.kafka_output.output_records import ConsumedTopic
from tss.edges.kafka_output.output_topic import CLOSE_SECS, REQUEST_MS, reader_config
from tss.edges.kafka_output.readback import Readback
from tss.edges.kafka_output.rekey_records import entry_of, output_traces_of, with_source
from tss.edges.kafka_output.transactions import Transaction, TransactionalProducer
from tss.settings import Kafka

log = structlog.get_logger()

ASK_SECS = 5.0
# The client's queue. The 4 MiB of a poll seldom grow by splitting. Where they do (many traces share a large resource),
# producing waits until a part of the queue is sent.
QUEUE_KIBIBYTES = 32 * 1024
# Every record that the input topic can hold must fit through the client. The brokers have their own limit.
MESSAGE_BYTES = 1_000_000_000
# Settings that the topic takes over from the input topic when it is created. With others it could delete or refuse
# records that the input topic keeps.
_ALIKE = ("retention.ms", "retention.bytes", "max.message.bytes", "message.timestamp.after.max.ms")


class RekeyTopic:
    """`Topic` of the rekeyer, and `Outbox` of its source."""

    def __init__(
        self, kafka: Kafka, consumed: ConsumedTopic, transactions: TransactionalProducer, admin: dict[str, Any]
    ) -> None:
        self._kafka = kafka
        self._consumed = consumed
        self._transactions = transactions
        self._admin = admin
        self._limiter = trio.CapacityLimiter(1)
        self._membership = b""
        self._topic_id = ""  # of the input topic

    def __repr__(self) -> str:
        return f"<RekeyTopic {self._transactions!r}>"

    async def make(self) -> str:
        """Create the topic if it is missing; returns the reason why that failed, or an empty string."""
        return await trio.to_thread.run_sync(
            partial(make_topic, self._kafka, self._admin), limiter=self._limiter, abandon_on_cancel=True
        )

    async def write(self, reads: Sequence[ReadRecord], ends: Mapping[int, int]) -> Outcome:
        """Write these records and commit ``ends``, by partition, in one transaction."""
        membership = self._membership
        if not membership:
            return Again("not_a_member", "this replica is not in the consumer group at the moment")
        run = partial(self._run, reads, ends, membership)
        # Abandoned when cancelled, since a broker may hang, and stopping is bounded.
        return await trio.to_thread.run_sync(run, limiter=self._limiter, abandon_on_cancel=True)

    def _run(self, reads: Sequence[ReadRecord], ends: Mapping[int, int], membership: bytes) -> Outcome:
        entries = [entry for read in reads for entry in self._entries(read)]
        commits = {id: Commit(offset, offset, topic=self._topic_id) for id, offset in ends.items()}
        oldest_ms = min([self._stamp_ms(read) for read in reads if read.pieces], default=0)
        return self._transactions.run(Transaction(entries, commits, oldest_ms, membership))

    def _entries(self, read: ReadRecord) -> list[Entry]:
        if not read.pieces:
            return []
        id, stamp_ms = read.partition.id, self._stamp_ms(read)
        headers = with_source(read.headers, self._consumed, id, read.offset)
        return [entry_of(*piece, id, read.offset, stamp_ms, headers) for piece in read.pieces]

    def _stamp_ms(self, read: ReadRecord) -> int:
        """The record's timestamp, or the time of its reading where the brokers gave none."""
        return read.timestamp_ms if read.timestamp_ms > 0 else read.read_ms

    # -- from the source, on its thread

    @property
    def held_bytes(self) -> int:
        """Bytes that are kept of the last transaction."""
        return self._transactions.held_bytes

    def is_member(self, membership: bytes) -> None:
        """Take in the consumer group's metadata of this replica; empty when it is no member."""
        self._membership = membership

    def identify(self, topic: str) -> None:
        """Commits have this id of the input topic from now on."""
        self._topic_id = topic

    def prepare(self) -> None:
        """End what a former process with this id left open. Raises nothing."""
        self._transactions.prepare()

    def read_back(self, starts: Mapping[int, StartPosition], breathe: Callable[[], None]) -> dict[int, StartPosition]:
        """The topic need not be read: offsets are committed together with the records. Nothing is replayed either."""
        breathe()
        self._topic_id = next(iter(starts.values())).topic
        return {id: attrs.evolve(start, replay_from=start.offset) for id, start in starts.items()}

    def close(self) -> None:
        """Let go of the client."""
        self._transactions.close()


def source_settings(kafka: Kafka) -> Kafka:
    """Settings of the first stage's reading: the input topic, in a group of its own."""
    return attrs.evolve(kafka, consumer_group=f"{kafka.consumer_group}.rekey")


def keyed_settings(kafka: Kafka) -> Kafka:
    """Settings of the second stage's reading: the topic between the stages, from its first record on. Collectors may
    write to it too, so the encoding is recognised record by record."""
    encoding = "auto" if kafka.encoding == "otlp_json" else kafka.encoding
    return attrs.evolve(kafka, input_topic=kafka.rekey.topic, auto_offset_reset="earliest", encoding=encoding)


def producer_config(kafka: Kafka, instance_id: str) -> dict[str, object]:
    """Properties of the producer, with the connection of the source."""
    timeout_ms = round(kafka.rekey.transaction_timeout_secs * 1000)
    return connection_config(kafka, instance_id) | {
        "client.id": instance_id,
        "compression.type": kafka.rekey.compression,
        "partitioner": kafka.rekey.partitioner,
        "socket.timeout.ms": min(REQUEST_MS, timeout_ms),
        "linger.ms": 5,
        "queue.buffering.max.kbytes": QUEUE_KIBIBYTES,
        "message.max.bytes": MESSAGE_BYTES,
        "batch.size": 900_000,  # below the brokers' default limit of a batch, 1 MiB
        "delivery.report.only.error": True,  # reports of success are not needed, and each would cost a call
        "logger": logger(),
        "transactional.id": f"{kafka.consumer_group}.rekey-{instance_id}",
        "transaction.timeout.ms": timeout_ms,
        "message.timeout.ms": timeout_ms,
    }


@asynccontextmanager
async def open_rekey(kafka: Kafka, instance_id: str) -> AsyncIterator[RekeyTopic]:
    """The topic, before anything is sent or waited for. Raises WrongSetting where the client refuses a setting."""
    consumed = ConsumedTopic(f"{kafka.consumer_group}.rekey", kafka.input_topic)
    config = producer_config(kafka, instance_id)
    try:
        Producer(config)
    except KafkaException as error:
        reason = without_secrets(said(cause_of(error)), config)
        raise WrongSetting(f"{HEADLINE}: {reason}, check the kafka section") from None
    readback = Readback(
        reader_config(source_settings(kafka), instance_id), kafka.rekey.topic, consumed, output_traces_of
    )
    transactions = TransactionalProducer(config, kafka.rekey.topic, readback)
    topic = RekeyTopic(kafka, consumed, transactions, admin_config(kafka, instance_id))
    try:
        yield topic
    finally:
        with trio.move_on_after(CLOSE_SECS, shield=True):  # with a broker that hangs, closing a client takes long
            await trio.to_thread.run_sync(topic.close, abandon_on_cancel=True)


def make_topic(kafka: Kafka, config: dict[str, Any]) -> str:
    """Create the topic between the stages unless it exists. Returns the reason why that failed, or an empty string.

    Raises WrongSetting when trying again is pointless.
    """
    admin = AdminClient(config)
    try:
        known = admin.list_topics(timeout=ASK_SECS).topics
        if kafka.rekey.topic in known:
            return ""
        there = known.get(kafka.input_topic)
        if there is None and not kafka.rekey.partitions:
            return f"topic {kafka.input_topic} does not exist, check kafka.inputTopic"
        count = kafka.rekey.partitions or len(there.partitions)  # type: ignore[union-attr]  # checked above
        alike = _alike(admin, kafka) if there is not None else {}
        if kafka.rekey.retention_ms:
            alike["retention.ms"] = str(kafka.rekey.retention_ms)
        # Stream time comes from the records' timestamps, so the topic has to keep them.
        made = NewTopic(kafka.rekey.topic, count, kafka.rekey.replication_factor or -1,
                        config=alike | {"message.timestamp.type": "CreateTime", "cleanup.policy": "delete"})  # fmt: skip
        admin.create_topics([made], operation_timeout=ASK_SECS, request_timeout=ASK_SECS)[kafka.rekey.topic].result()
    except KafkaException as error:
        cause = cause_of(error)
        if cause.name() == "TOPIC_ALREADY_EXISTS":  # another replica created it
            return ""
        if is_fatal(cause) and cause.name() not in TOPIC_MISSING:
            raise WrongSetting(
                f"{HEADLINE}: {kafka.rekey.topic} could not be created: {said(cause)}, create it, or allow Create on it"
            ) from None
        return said(cause)
    log.info("topic created", topic=kafka.rekey.topic, partitions=count, **alike)
    return ""


def _alike(admin: AdminClient, kafka: Kafka) -> dict[str, str]:
    """The input topic's values of these settings; empty where this replica may not describe the topic."""
    resource = ConfigResource(ResourceType.TOPIC, kafka.input_topic)
    try:
        found = admin.describe_configs([resource], request_timeout=ASK_SECS)[resource].result()
    except KafkaException as error:
        log.warning(
            "the retention of the input topic could not be read: the rekey topic gets the brokers' default;"
            " allow DescribeConfigs on the input topic, or set kafka.rekey.retentionMs",
            topic=kafka.input_topic,
            reason=said(cause_of(error)),
        )
        return {}
    return {name: str(found[name].value) for name in _ALIKE if name in found and found[name].value is not None}
