"""The destination of type kafka: writes kept traces to a topic of the same cluster, each exactly once.

A batch is one transaction, together with the offsets that it covers. So the brokers refuse it once its partitions belong
to another replica. The committed offset is the low water. Above it are records of traces that are written already, and
the next owner reads these records again. It learns from the output topic which traces it has (`readback`).
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
from tss.core.delivery import Accepted, Again, Batching, Outcome, Retrying, Undeliverable
from tss.core.errors import WrongSetting
from tss.core.measures import Meter
from tss.core.partition import Commit, Partition
from tss.core.startposition import StartPosition
from tss.core.trace import Trace
from tss.edges.kafka_client.client_log import logger
from tss.edges.kafka_client.config import client_config, connection_config, without_secrets
from tss.edges.kafka_client.errors import HEADLINE, cause_of, said
from tss.edges.kafka_output.entry import Entry
from tss.edges.kafka_output.output_records import ConsumedTopic, Output, RecordTooLarge, entry_of
from tss.edges.kafka_output.readback import Readback
from tss.edges.kafka_output.transactions import Transaction, TransactionalProducer
from tss.settings import Kafka, KafkaExporter

log = structlog.get_logger()

MESSAGE_BYTES = 1_000_000  # librdkafka's own default of message.max.bytes, a little below the brokers'
CLOSE_SECS = 1.0
REQUEST_MS = 10_000  # a broker that does not answer for this long counts as gone


class KafkaTopic:
    """The destination; and for the source the `Outbox`, which knows what the topic has."""

    comes_last: ClassVar[bool] = (
        True  # a trace in the topic is not sent again, so every other destination is served first
    )

    def __init__(
        self,
        settings: KafkaExporter,
        encode: Callable[[Output], Entry],
        transactions: TransactionalProducer,
        readback: Readback,
        meter: Meter,
    ) -> None:
        self.name = settings.name
        # A producer has one transaction at a time. Batches grow while one is under way.
        self.batching = Batching(settings.batch_size, settings.batch_timeout_secs, max_in_flight=1)
        self.retrying = Retrying(0.1, max_secs=10.0)
        self._topic = settings.topic
        self._encode = encode
        self._transactions = transactions
        self._readback = readback
        self._meter = meter
        self._limiter = trio.CapacityLimiter(1)
        self._membership = b""
        self._stamp_ms = 0

    def __repr__(self) -> str:
        return f"<KafkaTopic {self.name}: {self._transactions!r}>"

    def clock_ms(self) -> int:
        """The wall clock in ms, never going back, so that later records have no earlier timestamp."""
        self._stamp_ms = max(self._stamp_ms, time.time_ns() // 1_000_000)
        return self._stamp_ms

    async def send(self, traces: Sequence[Trace]) -> Outcome:
        """Write them in one transaction, without traces of partitions that have been lost: their new owner sends these."""
        # Taken before the partitions are looked at. With a newer membership the brokers would accept the offsets of an
        # assignment that has ended.
        membership = self._membership
        outputs = [output for output in map(_output, traces) if output is not None]
        if not outputs:
            return Accepted()
        if not membership:
            return Again("not_a_member", "this replica is not in the consumer group at the moment")
        commits, stamp_ms = self._offsets(traces)
        run = partial(self._run, outputs, commits, stamp_ms, membership)
        # Abandoned when cancelled, since a broker may hang, and stopping is bounded.
        outcome = await trio.to_thread.run_sync(run, limiter=self._limiter, abandon_on_cancel=True)
        self._meter.count(measures.TRANSACTIONS, 1, "committed" if isinstance(outcome, Accepted) else "failed")
        return outcome

    async def knock(self) -> bool:
        """Kafka has no request that would try the topic without data."""
        return False

    def forget(self, traces: Sequence[Trace]) -> None:
        """Nothing is remembered between two tries of a batch."""

    def _run(
        self, outputs: Sequence[Output], commits: Mapping[int, Commit], stamp_ms: int, membership: bytes
    ) -> Outcome:
        """On a worker thread."""
        try:
            entries = [self._encode(output) for output in outputs]
        except RecordTooLarge as error:
            return Undeliverable("too_large", str(error))
        except Exception as error:  # noqa: BLE001  # only this batch has these bytes: it must not stop the others
            return Undeliverable("unencodable", f"{type(error).__name__}: {error}"[:400])
        return self._transactions.run(Transaction(entries, commits, stamp_ms, membership))

    def _offsets(self, traces: Sequence[Trace]) -> tuple[dict[int, Commit], int]:
        """The offsets to commit with these traces, by partition; and the time of the transaction in ms."""
        now_ms = self.clock_ms()
        highest: dict[Partition, int] = {}
        for trace in traces:
            for partition, offset in trace.holds():
                # The offset of a deleted topic is not committed: it would replace that of the topic made again.
                if not (partition.gone or partition.replaced):
                    highest[partition] = max(offset, highest.get(partition, -1))
        for partition, offset in highest.items():
            # Noted before the records are sent: then the next owner reads back far enough, whatever becomes of them.
            partition.produced.note(now_ms, offset)
        # The committer may commit a newer low water before this transaction ends. Then these older offsets replace it.
        # That is safe, since an older low water is also one, and its own metadata is beside it. It does not last: the
        # traces of this batch are held until the transaction ends, so a later commit has yet to pass them.
        return {partition.id: partition.commit(now_ms) for partition in highest}, now_ms

    # -- from the source, on its thread

    @property
    def held_bytes(self) -> int:
        """Bytes that are kept of the last transaction."""
        return self._transactions.held_bytes

    def is_member(self, membership: bytes) -> None:
        """Take in the consumer group's metadata of this replica; empty when it is no member."""
        self._membership = membership

    def identify(self, topic: str) -> None:
        """Nothing to do: `Partition.commit` adds the id."""

    def prepare(self) -> None:
        """End what a former process with this id left open. Raises nothing."""
        self._transactions.prepare()

    def read_back(self, starts: Mapping[int, StartPosition], breathe: Callable[[], None]) -> dict[int, StartPosition]:
        """The same starts, with the traces that the topic has from there on. Raises CannotConnect."""
        found = self._readback.with_output_traces(starts, breathe)
        self._meter.count(measures.READ_BACK, self._readback.records)
        return found

    def close(self) -> None:
        """Let go of the client."""
        self._transactions.close()


def _output(trace: Trace) -> Output | None:
    """The part of a trace that is still ours; None when all its partitions have been lost."""
    covers: dict[int, set[int]] = {}
    gone, topic_id = set[Partition](), ""
    for partition, offset in trace.holds():
        if partition.gone:
            gone.add(partition)
        else:
            covers.setdefault(partition.id, set()).add(offset)
            topic_id = partition.topic  # the same for all partitions that are still ours
    for partition in gone:  # or what is not sent here would be remembered as delivered
        trace.let_go(partition)
    if not covers or trace.decision is None:
        return None
    covered = {id: sorted(offsets) for id, offsets in covers.items()}
    return Output(trace.trace_id, trace.payload, trace.decision, covered, topic_id)


def producer_config(settings: KafkaExporter, kafka: Kafka, instance_id: str) -> dict[str, object]:
    """Properties of the producer: the connection of the source, then ``settings.properties``. These may not change the
    properties that exactly once depends on."""
    timeout_ms = round(settings.transaction_timeout_secs * 1000)
    return (
        connection_config(kafka, instance_id)
        | {
            "compression.type": settings.compression,
            "socket.timeout.ms": min(REQUEST_MS, timeout_ms),  # librdkafka refuses more than the timeout of a message
            "linger.ms": 5,  # a transaction is flushed at its end anyway; this makes fewer, larger requests
            # As Java's clients and Kafka Streams, so that topics can be joined by key. (librdkafka's default is CRC32.)
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
    """Properties of the clients that read the topic back. They join no group."""
    config = client_config(kafka, instance_id)
    for name in ("partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms", "statistics.interval.ms",
                 "max.poll.interval.ms", "group.instance.id", "group.protocol", "group.remote.assignor"):  # fmt: skip
        config.pop(name, None)
    return config | {"logger": logger(), "fetch.wait.max.ms": 50}


@asynccontextmanager
async def open_topic(
    settings: KafkaExporter, kafka: Kafka, instance_id: str, meter: Meter
) -> AsyncIterator[KafkaTopic]:
    """The destination, before it has sent or waited for anything. Raises WrongSetting where the client refuses a setting."""
    consumed = ConsumedTopic(kafka.consumer_group, kafka.input_topic)
    config = producer_config(settings, kafka, instance_id)
    try:
        Producer(config)
    except KafkaException as error:
        reason = without_secrets(said(cause_of(error)), config)
        raise WrongSetting(f"{HEADLINE}: {reason}, check the exporter's properties") from None
    max_bytes = int(settings.properties.get("message.max.bytes", MESSAGE_BYTES))
    readback = Readback(reader_config(kafka, instance_id), settings.topic, consumed)
    encode = partial(entry_of, consumed=consumed, max_bytes=max_bytes)
    transactions = TransactionalProducer(config, settings.topic, readback)
    topic = KafkaTopic(settings, encode, transactions, readback, meter)
    try:
        yield topic
    finally:
        with trio.move_on_after(CLOSE_SECS, shield=True):  # with a broker that hangs, closing a client takes long
            await trio.to_thread.run_sync(topic.close, abandon_on_cancel=True)
