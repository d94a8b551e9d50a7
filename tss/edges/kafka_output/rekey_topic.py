"""The topic between the two stages of `kafka.rekey`: made when it is missing, and written in transactions.

With each transaction go the offsets of the input records in it, in the name of the stage's own consumer group; so a
record is split and its offset gone, or neither, and the brokers refuse what is of partitions that are another's by then.
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
from tss.edges.kafka_output.rekey_records import entry_of, headers_of, told
from tss.edges.kafka_output.transactions import Transaction, TransactionalProducer
from tss.settings import Kafka

log = structlog.get_logger()

ASK_SECS = 5.0
# What waits in the client to be sent. A poll's 4 MiB are mostly no more once they are split; where they are (a large
# resource that many traces share), producing waits until some of it has gone.
QUEUE_KIBIBYTES = 32 * 1024
# No record that the input topic could hold shall be too large for the client; the brokers know their own limit.
MESSAGE_BYTES = 1_000_000_000
# What the topic takes over from the input topic when it is made: else it would forget, or refuse, what that one keeps.
_ALIKE = ("retention.ms", "retention.bytes", "max.message.bytes", "message.timestamp.after.max.ms")


class RekeyTopic:
    """`Topic` of the rekeyer, and for its source the `Outbox` that is told of the membership."""

    def __init__(
        self, kafka: Kafka, consumed: ConsumedTopic, transactions: TransactionalProducer, admin: dict[str, Any]
    ) -> None:
        self._kafka = kafka
        self._consumed = consumed
        self._transactions = transactions
        self._admin = admin
        self._limiter = trio.CapacityLimiter(1)
        self._membership = b""
        self._topic_id = ""  # of the input topic, as it was when its partitions were assigned

    def __repr__(self) -> str:
        return f"<RekeyTopic {self._transactions!r}>"

    async def make(self) -> str:
        """See to it that the topic is there; returns why it is not, or nothing."""
        return await trio.to_thread.run_sync(
            partial(make_topic, self._kafka, self._admin), limiter=self._limiter, abandon_on_cancel=True
        )

    async def write(self, reads: Sequence[ReadRecord], ends: Mapping[int, int]) -> Outcome:
        """All of them in one transaction, with the offsets."""
        membership = self._membership
        if not membership:
            return Again("not_a_member", "this replica is not in the consumer group at the moment")
        run = partial(self._run, reads, ends, membership)
        # Abandoned when cancelled, for a broker may hang, and stopping is bounded.
        return await trio.to_thread.run_sync(run, limiter=self._limiter, abandon_on_cancel=True)

    def _run(self, reads: Sequence[ReadRecord], ends: Mapping[int, int], membership: bytes) -> Outcome:
        entries = [entry for read in reads for entry in self._entries(read)]
        commits = {id: Commit(offset, offset, topic=self._topic_id) for id, offset in ends.items()}
        oldest_ms = min([self._stamp_ms(read) for read in reads if read.record.fragments], default=0)
        return self._transactions.run(Transaction(entries, commits, oldest_ms, membership))

    def _entries(self, read: ReadRecord) -> list[Entry]:
        record = read.record
        if not record.fragments:
            return []
        stamp_ms = self._stamp_ms(read)
        headers = headers_of(read.headers, self._consumed, record.partition, record.offset)
        return [entry_of(each, record.partition, record.offset, stamp_ms, headers) for each in record.fragments]

    def _stamp_ms(self, read: ReadRecord) -> int:
        """The record's timestamp, or the time of its reading where the brokers gave none."""
        return read.record.timestamp_ms if read.record.timestamp_ms > 0 else read.read_ms

    # -- from the source, on its thread

    @property
    def held_bytes(self) -> int:
        """By what the last transaction wrote."""
        return self._transactions.held_bytes

    def is_member(self, membership: bytes) -> None:
        """How the consumer group knows this replica now; empty when it does not."""
        self._membership = membership

    def identify(self, topic: str) -> None:
        """Commits bear it from now on."""
        self._topic_id = topic

    def prepare(self) -> None:
        """The brokers may have left open what a former process of this name began."""
        self._transactions.prepare()

    def read_back(self, starts: Mapping[int, StartPosition], breathe: Callable[[], None]) -> dict[int, StartPosition]:
        """Nothing to ask: what was written has its offsets with it."""
        breathe()
        self._topic_id = next(iter(starts.values())).topic
        return {id: attrs.evolve(start, replay_from=start.offset) for id, start in starts.items()}

    def close(self) -> None:
        """Let go of the producer."""
        self._transactions.close()


def source_settings(kafka: Kafka) -> Kafka:
    """How the first stage reads: the input topic, in a group of its own."""
    return attrs.evolve(kafka, consumer_group=f"{kafka.consumer_group}.rekey")


def keyed_settings(kafka: Kafka) -> Kafka:
    """How the second stage reads: the topic between them, from its first record on, whoever wrote it how."""
    encoding = "auto" if kafka.encoding == "otlp_json" else kafka.encoding
    return attrs.evolve(kafka, input_topic=kafka.rekey.topic, auto_offset_reset="earliest", encoding=encoding)


def producer_config(kafka: Kafka, instance_id: str) -> dict[str, object]:
    """The connection is the source's."""
    timeout_ms = round(kafka.rekey.transaction_timeout_secs * 1000)
    return connection_config(kafka, instance_id) | {
        "client.id": instance_id,
        "compression.type": kafka.rekey.compression,
        "partitioner": kafka.rekey.partitioner,
        "socket.timeout.ms": min(REQUEST_MS, timeout_ms),
        "linger.ms": 5,
        "queue.buffering.max.kbytes": QUEUE_KIBIBYTES,
        "message.max.bytes": MESSAGE_BYTES,
        "batch.size": 900_000,  # the brokers' usual limit is for whole batches
        "delivery.report.only.error": True,  # nobody asks for the others, and each would cost a call
        "logger": logger(),
        "transactional.id": f"{kafka.consumer_group}.rekey-{instance_id}",
        "transaction.timeout.ms": timeout_ms,
        "message.timeout.ms": timeout_ms,
    }


@asynccontextmanager
async def open_rekey(kafka: Kafka, instance_id: str) -> AsyncIterator[RekeyTopic]:
    """Nothing is sent yet, and nobody is waited for. Raises WrongSetting for what the client refuses."""
    consumed = ConsumedTopic(f"{kafka.consumer_group}.rekey", kafka.input_topic)
    config = producer_config(kafka, instance_id)
    try:
        Producer(config)
    except KafkaException as error:
        reason = without_secrets(said(cause_of(error)), config)
        raise WrongSetting(f"{HEADLINE}: {reason}, check the kafka section") from None
    readback = Readback(reader_config(source_settings(kafka), instance_id), kafka.rekey.topic, consumed, told)
    transactions = TransactionalProducer(config, kafka.rekey.topic, readback)
    topic = RekeyTopic(kafka, consumed, transactions, admin_config(kafka, instance_id))
    try:
        yield topic
    finally:
        with trio.move_on_after(CLOSE_SECS, shield=True):  # a client with a broker that hangs takes its time
            await trio.to_thread.run_sync(topic.close, abandon_on_cancel=True)


def make_topic(kafka: Kafka, config: dict[str, Any]) -> str:
    """Make the topic between the stages unless it is there. Returns why that could not be done, or nothing.

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
        count = kafka.rekey.partitions or len(there.partitions)  # type: ignore[union-attr]  # then it is there
        alike = _alike(admin, kafka) if there is not None else {}
        if kafka.rekey.retention_ms:
            alike["retention.ms"] = str(kafka.rekey.retention_ms)
        # The stages' time is that of the records, which the topic has to keep.
        made = NewTopic(kafka.rekey.topic, count, kafka.rekey.replication_factor or -1,
                        config=alike | {"message.timestamp.type": "CreateTime", "cleanup.policy": "delete"})  # fmt: skip
        admin.create_topics([made], operation_timeout=ASK_SECS, request_timeout=ASK_SECS)[kafka.rekey.topic].result()
    except KafkaException as error:
        cause = cause_of(error)
        if cause.name() == "TOPIC_ALREADY_EXISTS":  # another replica was quicker
            return ""
        if is_fatal(cause) and cause.name() not in TOPIC_MISSING:
            raise WrongSetting(
                f"{HEADLINE}: {kafka.rekey.topic} could not be created: {said(cause)}, create it, or allow it to be"
            ) from None
        return said(cause)
    log.info("topic created", topic=kafka.rekey.topic, partitions=count, **alike)
    return ""


def _alike(admin: AdminClient, kafka: Kafka) -> dict[str, str]:
    """What the input topic says of these; nothing where it may not be asked."""
    resource = ConfigResource(ResourceType.TOPIC, kafka.input_topic)
    try:
        found = admin.describe_configs([resource], request_timeout=ASK_SECS)[resource].result()
    except KafkaException as error:
        log.warning("the input topic's retention is not known", topic=kafka.input_topic, reason=said(cause_of(error)))
        return {}
    return {name: str(found[name].value) for name in _ALIKE if name in found and found[name].value is not None}
