"""The topic of a run: filling it, and what its groups have read and committed."""

from __future__ import annotations

import time

from attrs import frozen
from confluent_kafka import Consumer, Producer, TopicPartition

from bench.corpus import STEP_MS, Corpus
from tests.real.brokers import Broker

PARTITIONS = 4
_TIMEOUT_SECS = 10.0


@frozen
class Topic:
    """A filled topic, and what of it must be kept."""

    broker: Broker
    name: str
    corpus: Corpus
    records: int
    size_bytes: int
    kept: frozenset[bytes]  # of each span: trace id and span id
    kept_traces: int
    fill_secs: float

    @property
    def spans(self) -> int:
        return self.records // self.corpus.group_records * self.corpus.group_spans

    @property
    def traces(self) -> int:
        return self.records // self.corpus.group_records * self.corpus.group_traces

    @classmethod
    def filled(cls, broker: Broker, name: str, corpus: Corpus, count: int) -> Topic:
        """Make the topic and put ``count`` records into it, or some more: whole traces; the last with the time of now."""
        return cls.empty(broker, name, corpus).fill(count)

    @classmethod
    def empty(cls, broker: Broker, name: str, corpus: Corpus) -> Topic:
        """Make the topic."""
        broker.create_topic(name, PARTITIONS)
        return cls(broker, name, corpus, 0, 0, frozenset(), 0, 0.0)

    def fill(self, count: int) -> Topic:
        """The empty topic with so many records in it, as ``filled`` says."""
        broker, name, corpus = self.broker, self.name, self.corpus
        began = time.monotonic()
        groups = -(-count // corpus.group_records)
        records = groups * corpus.group_records
        first_ms = time.time_ns() // 1_000_000 - records * STEP_MS
        producer = producer_to(broker)
        size = number = kept_traces = 0
        kept: set[bytes] = set()
        for group in corpus.groups(groups, first_ms * 1_000_000):
            for key, value in group.records:
                produce(producer, name, key, value, first_ms + number * STEP_MS)
                size += len(value)
                number += 1
            kept.update(group.keep)
            kept_traces += len({each[:16] for each in group.keep})
            producer.poll(0)
        producer.flush()
        return Topic(broker, name, corpus, records, size, frozenset(kept), kept_traces, time.monotonic() - began)

    def __str__(self) -> str:
        return (
            f"{self.corpus}: {self.records} records, {self.size_bytes / self.spans:.0f} B a span, {self.traces} traces, "
            f"{self.kept_traces} to be kept; {self.fill_secs:.0f} s to fill {PARTITIONS} partitions of {self.broker.name}"
        )

    def uncommitted(self, group: str) -> int:
        """Records that the group has not committed."""
        consumer = Consumer({"bootstrap.servers": self.broker.bootstrap, "group.id": group, "log_level": 0})
        try:
            places = [TopicPartition(self.name, each) for each in range(PARTITIONS)]
            committed = consumer.committed(places, timeout=_TIMEOUT_SECS)
            return self.records - sum(max(0, place.offset) for place in committed)
        finally:
            consumer.close()


def producer_to(broker: Broker) -> Producer:
    """Records are made and sent by one thread, and go out in batches as a collector's do."""
    return Producer(
        {
            "bootstrap.servers": broker.bootstrap,
            "linger.ms": 20,
            "batch.size": 256 * 1024,
            "queue.buffering.max.messages": 100_000,
            "partitioner": "murmur2_random",
        }
    )


def produce(producer: Producer, topic: str, key: bytes, value: bytes, timestamp_ms: int) -> None:
    """Waits for room in the producer's queue."""
    while True:
        try:
            producer.produce(topic, value, key, timestamp=timestamp_ms)
        except BufferError:
            producer.poll(0.1)
        else:
            return
