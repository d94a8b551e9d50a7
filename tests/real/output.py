"""What is in an output topic, for a reader of what is committed."""

from __future__ import annotations

import time
from collections import Counter

from confluent_kafka import Consumer, Message, TopicPartition
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

SpanId = tuple[bytes, bytes]


def committed(bootstrap: str, topic: str, secs: float = 30.0, *, isolation: str = "read_committed") -> list[Message]:
    """Every record, of every partition, up to the end that there is now."""
    base: dict[str, object] = {"bootstrap.servers": bootstrap, "group.id": "reader of outputs", "log_level": 0,
                               "enable.auto.commit": False, "auto.offset.reset": "earliest"}  # fmt: skip
    loose = Consumer(base | {"isolation.level": "read_uncommitted"})
    partitions = [*loose.list_topics(topic, timeout=10).topics[topic].partitions]
    ends = {}
    for id in partitions:
        bounds = loose.get_watermark_offsets(TopicPartition(topic, id), timeout=10)
        assert bounds is not None
        ends[id] = bounds[1]
    loose.close()
    reader = Consumer(base | {"isolation.level": isolation, "enable.partition.eof": True})
    reader.assign([TopicPartition(topic, id, 0) for id in partitions])
    positions = dict.fromkeys(partitions, 0)
    found: list[Message] = []
    deadline = time.monotonic() + secs
    while any(positions[id] < ends[id] for id in partitions):
        assert time.monotonic() < deadline, f"{positions} of {ends}: a transaction without an end?"
        for message in reader.consume(1000, 0.1):
            id, offset, error = message.partition(), message.offset(), message.error()
            assert id is not None and offset is not None
            if error is None:
                found.append(message)
                offset += 1
            else:
                assert error.name() == "_PARTITION_EOF", error
            positions[id] = max(positions[id], offset)
    reader.close()
    return found


def spans_of(message: Message) -> list[SpanId]:
    value = message.value()
    assert value is not None
    return [
        (span.trace_id, span.span_id)
        for resource in TracesData.FromString(value).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def counts(messages: list[Message]) -> Counter[SpanId]:
    """How often each span is there."""
    return Counter(span for message in messages for span in spans_of(message))
