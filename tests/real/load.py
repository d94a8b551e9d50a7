"""Steady traffic into a topic, from a thread of its own, and the truth about it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

import attrs
from confluent_kafka import KafkaError, Message, Producer
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from demo import traffic
from demo.traffic import ERROR, SLOW, Mix, Trace

SpanId = tuple[bytes, bytes]
Place = tuple[int, int]
"""Partition and offset."""
PARTITION_UA = -1  # librdkafka's: the partitioner chooses, by key

# More of everything that is rare, so that a minute has hundreds of each: late spans come up to some seconds after the
# decision, and so often after a restart.
MIX = Mix(
    traces_per_sec=60, errors=0.1, slow=0.1, rootless=0.02, late=0.15, split=0.6, slow_ms=1000, late_secs=(3.0, 6.0)
)
SLOW_RATE = 0.5


def must_be_kept(trace: Trace) -> bool:
    """The truth, by the settings of `tests.real.daemon.settings`: with an error anywhere, or slow and R >= T.

    R is the last 56 bits of the trace id (W3C Trace Context level 2), T is (1 - rate) * 2^56 (OTEP 235).
    """
    randomness = int.from_bytes(trace.trace_id[9:], "big")
    return ERROR in trace.why or (SLOW in trace.why and randomness >= (1 - SLOW_RATE) * 2**56)


@attrs.frozen
class Sent:
    """A record that the broker has."""

    place: Place
    spans: frozenset[SpanId]


class Load:
    """Sends traffic until told to stop; traces that have begun by then are sent to their end."""

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        seed: int,
        mix: Mix = MIX,
        *,
        change: Callable[[Trace], Trace] = lambda trace: trace,
        partition_of: Callable[[Trace], int] = lambda trace: PARTITION_UA,
    ) -> None:
        """``change`` makes another trace of some; ``partition_of`` is asked once a trace, when it begins: by default the
        client chooses by key."""
        self.traces: list[Trace] = []
        self._topic = topic
        self._made = map(change, traffic.traces(seed, mix, time.time_ns()))
        self._partition_of = partition_of
        self._partitions: dict[bytes, int] = {}
        self._records: list[tuple[Place, bytes]] = []
        self._failed: list[KafkaError] = []
        self._stop = threading.Event()
        # Idempotent: a broker that goes away and comes back has each record once.
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "linger.ms": 5,
                "enable.idempotence": True,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
            }
        )
        self._thread = threading.Thread(target=self._run, name=f"load on {topic}", daemon=True)
        self._began = time.monotonic()

    def __repr__(self) -> str:
        return f"<Load {len(self.traces)} traces, {len(self._records)} records>"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if error is None:
            self.finish()

    def finish(self) -> None:
        """Begin no more traces, and wait until the broker has all of those that have begun."""
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "the traffic does not end"
        assert self._producer.flush(60) == 0, "records that did not arrive"
        assert not self._failed, self._failed[0]

    def learn(self) -> None:
        """Hear now of partitions that were added."""
        self._producer.list_topics(self._topic, timeout=10)

    @property
    def records(self) -> int:
        """How many the broker has."""
        return len(self._records)

    def kept(self) -> set[SpanId]:
        """Every span of every trace that must be kept."""
        return {(trace.trace_id, span) for trace in self.traces if must_be_kept(trace) for span in trace.span_ids}

    def places(self) -> dict[SpanId, Place]:
        """In which record each span is."""
        found: dict[SpanId, Place] = {}
        for place, value in self._records:
            for resource in TracesData.FromString(value).resource_spans:
                for scope in resource.scope_spans:
                    found |= {(span.trace_id, span.span_id): place for span in scope.spans}
        return found

    def _begun(self) -> Iterator[Trace]:
        for trace in self._made:
            self._wait(trace.began_secs)
            if self._stop.is_set():
                return
            self.traces.append(trace)
            self._partitions[trace.trace_id] = self._partition_of(trace)
            yield trace

    def _wait(self, at_secs: float) -> None:
        delay = self._began + at_secs - time.monotonic()
        if delay > 0:
            self._producer.flush(0)
            time.sleep(delay)

    def _run(self) -> None:
        for message, trace in traffic.in_order(self._begun()):
            self._wait(message.at_secs)
            self._producer.produce(
                self._topic,
                message.value,
                message.key,
                self._partitions[trace.trace_id],
                timestamp=message.timestamp_ms,
                on_delivery=self._delivered,
            )
            self._producer.poll(0)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        partition, offset, value = message.partition(), message.offset(), message.value()
        if error is not None:
            self._failed.append(error)
        else:
            assert partition is not None and offset is not None and value is not None
            self._records.append(((partition, offset), value))
