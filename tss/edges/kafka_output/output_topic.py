"""Kept traces into a Kafka topic of the same cluster, each exactly once: `KafkaTopic`.

A batch is one transaction, with the offsets that it covers in it, so that the brokers refuse it once the partitions are
another's. What is committed is the low water, and above it lie records of traces that were produced already: whoever
reads them again is told by the topic itself (see `kafka_recall`).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import ClassVar

import structlog
import trio
from confluent_kafka import KafkaException, Producer

from tss.core import measures
from tss.core.delivery import Accepted, Again, Batching, Outcome, Retrying
from tss.core.errors import WrongSetting
from tss.core.measures import Meter
from tss.core.otlp import join
from tss.core.partition import Commit, Partition
from tss.core.startposition import StartPosition
from tss.core.trace import Trace
from tss.edges.kafka_client.client_log import logger
from tss.edges.kafka_client.config import client_config, connection_config, without_secrets
from tss.edges.kafka_client.errors import HEADLINE, cause_of, said
from tss.edges.kafka_output.output_records import ConsumedTopic, Output, records
from tss.edges.kafka_output.readback import Readback
from tss.edges.kafka_output.transactions import Transaction, TransactionalProducer
from tss.settings import Kafka, KafkaExporter

log = structlog.get_logger()

MESSAGE_BYTES = 1_000_000  # librdkafka's own default of message.max.bytes, a little below the brokers'
CLOSE_SECS = 1.0
REQUEST_MS = 10_000  # a broker that does not answer for so long is taken for gone


class KafkaTopic:
    """The destination, and for the source the memory of what it has (`Outbox`)."""

    comes_last: ClassVar[bool] = True  # what is in the topic is not sent again, so every other destination comes first

    def __init__(
        self,
        settings: KafkaExporter,
        consumed: ConsumedTopic,
        transactions: TransactionalProducer,
        readback: Readback,
        meter: Meter,
    ) -> None:
        self.name = settings.name
        # One transaction after the other: a producer has only one, and a batch is as large as the time it took.
        self.batching = Batching(settings.batch_size, settings.batch_timeout_secs, max_in_flight=1)
        self.retrying = Retrying(0.1, max_secs=10.0)
        self._topic = settings.topic
        self._consumed = consumed
        self._transactions = transactions
        self._readback = readback
        self._meter = meter
        self._limiter = trio.CapacityLimiter(1)
        self._membership = b""
        self._stamp_ms = 0

    def __repr__(self) -> str:
        return f"<KafkaTopic {self.name}: {self._transactions!r}>"

    def clock_ms(self) -> int:
        """The wall clock, but never back: what is produced later is not dated earlier."""
        self._stamp_ms = max(self._stamp_ms, time.time_ns() // 1_000_000)
        return self._stamp_ms

    async def send(self, traces: Sequence[Trace]) -> Outcome:
        """All of them in one transaction; without those of partitions that are another's now, who will send them."""
        # Taken before the look at the partitions: a membership that is newer than the end of an assignment could
        # vouch for what is of it.
        membership = self._membership
        outputs = [output for output in map(_output, traces) if output is not None]
        if not outputs:
            return Accepted()
        if not membership:
            return Again("not_a_member", "this replica is not in the consumer group at the moment")
        transaction = Transaction(outputs, *self._offsets(traces), membership=membership)
        run = partial(self._transactions.run, transaction)
        # Abandoned when cancelled, for a broker may hang, and stopping is bounded.
        outcome = await trio.to_thread.run_sync(run, limiter=self._limiter, abandon_on_cancel=True)
        self._meter.count(measures.TRANSACTIONS, 1, "committed" if isinstance(outcome, Accepted) else "failed")
        return outcome

    async def knock(self) -> bool:
        """There is nobody to ask without data."""
        return False

    def forget(self, traces: Sequence[Trace]) -> None:
        """Nothing is remembered of any."""

    def _offsets(self, traces: Sequence[Trace]) -> tuple[dict[int, Commit], int]:
        """What is committed together with these, for each partition that they are of, and when that is."""
        now_ms = self.clock_ms()
        highest: dict[Partition, int] = {}
        for trace in traces:
            for partition, offset in trace.holds():
                # Nothing is committed for a topic that was deleted: that would replace what stands for the new one.
                if not (partition.gone or partition.replaced):
                    highest[partition] = max(offset, highest.get(partition, -1))
        for partition, offset in highest.items():
            # Before it is produced: whatever comes of it, whoever looks for it finds it.
            partition.produced.note(now_ms, offset)
        # These may be a little older than what the committer commits meanwhile, and stand where they are appended
        # later. That is harmless: an older low water is one too, with what belongs to it beside it. And it does not
        # last: the traces of this batch are held until it is over, so the low water has yet to pass them.
        return {partition.id: partition.commit(now_ms) for partition in highest}, now_ms

    # -- from the source, on its thread

    @property
    def held_bytes(self) -> int:
        """By what the last transaction wrote."""
        return self._transactions.held_bytes

    def is_member(self, membership: bytes) -> None:
        """How the consumer group knows this replica now; empty when it does not."""
        self._membership = membership

    def identify(self, topic: str) -> None:
        """Nothing to do: the commits that are written here bear it."""

    def prepare(self) -> None:
        """The brokers may have left open what a former process of this name began."""
        self._transactions.prepare()

    def read_back(self, starts: Mapping[int, StartPosition], breathe: Callable[[], None]) -> dict[int, StartPosition]:
        """The same starts, with what the topic has from them on. Raises CannotConnect."""
        told = self._readback.with_delivered(starts, breathe)
        self._meter.count(measures.READ_BACK, self._readback.records)
        return told

    def close(self) -> None:
        """Let go of the producer."""
        self._transactions.close()


def _output(trace: Trace) -> Output | None:
    """None when all of it is of partitions that are another's now."""
    covers: dict[int, set[int]] = {}
    gone, topic_id = False, ""
    for partition, offset in trace.holds():
        if partition.gone:
            gone = True
        else:
            covers.setdefault(partition.id, set()).add(offset)
            topic_id = partition.topic  # the same for all that are still ours
    trace.withdrawn = trace.withdrawn or gone
    if not covers or trace.decision is None:
        return None
    payload = join(trace.chunks_of_ours()) if gone else trace.payload
    covered = {id: sorted(offsets) for id, offsets in covers.items()}
    return Output(trace.trace_id, payload, trace.decision, covered, topic_id)


def producer_config(settings: KafkaExporter, kafka: Kafka, instance_id: str) -> dict[str, object]:
    """The connection is the source's. ``settings.properties`` come last, but for what exactly once rests on."""
    timeout_ms = round(settings.transaction_timeout_secs * 1000)
    return (
        connection_config(kafka, instance_id)
        | {
            "compression.type": settings.compression,
            "socket.timeout.ms": min(REQUEST_MS, timeout_ms),  # librdkafka wants it so
            "linger.ms": 5,  # a transaction flushes by itself; this only gathers its records into fewer requests
            # As Java's clients and Kafka Streams do it, so that joins find their partner. (librdkafka's own is CRC32.)
            "partitioner": "murmur2_random",
            "logger": logger(),
        }
        | dict(settings.properties)
        | {
            "transactional.id": f"{kafka.consumer_group}-{instance_id}",
            "transaction.timeout.ms": timeout_ms,
            "message.timeout.ms": timeout_ms,
        }
    )


def reader_config(kafka: Kafka, instance_id: str) -> dict[str, object]:
    """Of the clients that read the topic back, which join no group."""
    config = client_config(kafka, instance_id)
    for name in ("partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms", "statistics.interval.ms",
                 "max.poll.interval.ms", "group.instance.id", "group.protocol", "group.remote.assignor"):  # fmt: skip
        config.pop(name, None)
    return config | {"logger": logger(), "fetch.wait.max.ms": 50}


@asynccontextmanager
async def open_topic(
    settings: KafkaExporter, kafka: Kafka, instance_id: str, meter: Meter
) -> AsyncIterator[KafkaTopic]:
    """Nothing is sent yet, and nobody is waited for. Raises WrongSetting for what the client refuses."""
    consumed = ConsumedTopic(kafka.consumer_group, kafka.input_topic)
    config = producer_config(settings, kafka, instance_id)
    try:
        Producer(config)
    except KafkaException as error:
        reason = without_secrets(said(cause_of(error)), config)
        raise WrongSetting(f"{HEADLINE}: {reason}, check the exporter's properties") from None
    max_bytes = int(settings.properties.get("message.max.bytes", MESSAGE_BYTES))
    readback = Readback(reader_config(kafka, instance_id), settings.topic, consumed)
    encode = partial(records, consumed=consumed, max_bytes=max_bytes)
    transactions = TransactionalProducer(config, settings.topic, encode, readback)
    topic = KafkaTopic(settings, consumed, transactions, readback, meter)
    try:
        yield topic
    finally:
        with trio.move_on_after(CLOSE_SECS, shield=True):  # a client with a broker that hangs takes its time
            await trio.to_thread.run_sync(topic.close, abandon_on_cancel=True)
