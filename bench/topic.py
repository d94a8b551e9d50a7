"""The topic of a run: filling it, and what its group has committed."""

from __future__ import annotations

import time

from attrs import frozen
from confluent_kafka import Consumer, Producer, TopicPartition

from bench.corpus import STEP_MS, records
from tests.real.brokers import Broker

PARTITIONS = 4
_TIMEOUT_SECS = 10.0


@frozen
class Topic:
    """A filled topic, and what of it must be kept."""

    broker: Broker
    name: str
    record_spans: int
    records: int
    size_bytes: int
    traces: int
    kept: frozenset[tuple[bytes, bytes]]  # (trace id, span id)
    kept_traces: int

    @property
    def spans(self) -> int:
        return self.records * self.record_spans

    @classmethod
    def filled(cls, broker: Broker, name: str, record_spans: int, count: int) -> Topic:
        """Make the topic and put ``count`` records into it, the last of them with the time of now."""
        broker.create_topic(name, PARTITIONS)
        first_ms = time.time_ns() // 1_000_000 - count * STEP_MS
        # Records are made and sent by one thread, and go out in batches as a collector's do.
        producer = Producer(
            {
                "bootstrap.servers": broker.bootstrap,
                "linger.ms": 20,
                "batch.size": 256 * 1024,
                "queue.buffering.max.messages": 100_000,
                "partitioner": "murmur2_random",
            }
        )
        size = 0
        traces: set[bytes] = set()
        kept: set[tuple[bytes, bytes]] = set()
        for number, record in enumerate(records(record_spans, count, first_ms * 1_000_000)):
            _produce(producer, name, record.key, record.value, first_ms + number * STEP_MS)
            size += len(record.value)
            traces.add(record.trace_id)
            if record.keep:
                kept.update((record.trace_id, span_id) for span_id in record.span_ids)
        producer.flush()
        kept_traces = len({trace_id for trace_id, _ in kept})
        return cls(broker, name, record_spans, count, size, len(traces), frozenset(kept), kept_traces)

    def uncommitted(self, group: str) -> int:
        """Records that the group has not committed."""
        consumer = Consumer({"bootstrap.servers": self.broker.bootstrap, "group.id": group, "log_level": 0})
        try:
            places = [TopicPartition(self.name, each) for each in range(PARTITIONS)]
            committed = consumer.committed(places, timeout=_TIMEOUT_SECS)
            return self.records - sum(max(0, place.offset) for place in committed)
        finally:
            consumer.close()


def _produce(producer: Producer, topic: str, key: bytes, value: bytes, timestamp_ms: int) -> None:
    while True:
        try:
            producer.produce(topic, value, key, timestamp=timestamp_ms)
        except BufferError:
            producer.poll(0.1)
        else:
            producer.poll(0)
            return
