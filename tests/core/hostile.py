"""`python -m tests.core.hostile KIND MIB ROUNDS`: what is said to be held, and what the process grew by, under hostile traffic.

A process of its own, since a heap that others have used gives back what they left. Everything between the source and the
destinations is there, joined by hand: the reader with the poll's bound, the scanner with a program, the buffer,
statistics and span metrics, span compression. Destinations are slow: they take a trace when closed ones have no room.
"""

from __future__ import annotations

import gc
import random
import sys
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status, TracesData

from tests.core.holding import resident
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.combining import Sampler
from tss.core.conditions.formula import Compare, Field, Leaf, Matches, OfRoot, OfSpans, Place, Window
from tss.core.evaluation import evaluate, observe, observe_late_dropped
from tss.core.formats.apm_stats import Concentrator, SpanObserver
from tss.core.formats.spanmetrics import SpanMetrics, shape_of
from tss.core.memory import Memory
from tss.core.otlp import Encoding
from tss.core.packing import train
from tss.core.partition import Partition
from tss.core.policies import ABSTAIN, Policy, policies
from tss.core.preparing import Preparation
from tss.core.trace import Trace
from tss.edges import heap
from tss.edges.kafka.records import MessageReader
from tss.settings import Sampling, SpanCompression, SpanMetricsSettings

START_MS = 1_700_000_000_000
FAR = 10**15
USER, QUERY = Field(Place.SPAN, "attributes", "user"), Field(Place.SPAN, "attributes", "query")
ASKS = (
    OfSpans(Leaf(USER, Matches("^0*7"))), OfSpans(Leaf(QUERY, Matches("99$"))), OfRoot(Leaf(USER, Matches("1"))), Window(5, 50),
    OfSpans(Leaf(Field(Place.RESOURCE, "attributes", "service.name"), Compare("==", "shop"))),
)  # fmt: skip

Batch = list[tuple[int, int, bytes]]  # partition, time in ms, value


class Message:
    """As the client gives them."""

    def __init__(self, partition: int, offset: int, at_ms: int, value: bytes) -> None:
        self._place, self._at_ms, self._value = (partition, offset), at_ms, value

    def error(self) -> None:
        return None

    def topic(self) -> str:
        return "spans"

    def partition(self) -> int:
        return self._place[0]

    def offset(self) -> int:
        return self._place[1]

    def key(self) -> None:
        return None

    def headers(self) -> None:
        return None

    def value(self) -> bytes:
        return self._value

    def timestamp(self) -> tuple[int, int]:
        return 1, self._at_ms


class Traffic:
    """Makes records; every id, name and value is a new one."""

    def __init__(self) -> None:
        self.chance = random.Random(7)
        self.now_ms = START_MS
        self.number = 0

    def id(self) -> bytes:
        return self.chance.getrandbits(128).to_bytes(16, "big")

    def span(self, trace_id: bytes, *, root: bool = True, error: bool = False, name: str = "", **texts: str) -> Span:
        self.number += 1
        made = Span(
            trace_id=trace_id,
            span_id=self.chance.getrandbits(63).to_bytes(8, "big"),
            parent_span_id=b"" if root else b"parentid",
            name=name or "GET /",
            start_time_unix_nano=self.now_ms * 1_000_000,
            end_time_unix_nano=self.now_ms * 1_000_000 + 1000,
            status=Status(code=Status.STATUS_CODE_ERROR if error else Status.STATUS_CODE_UNSET),
        )
        for key, text in texts.items():
            made.attributes.append(KeyValue(key=key, value=AnyValue(string_value=text)))
        return made

    def record(self, *spans: Span, service: str = "shop", **more: str) -> bytes:
        told = {"service.name": service, **more}
        resource = Resource(
            attributes=[KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in told.items()]
        )
        return TracesData(
            resource_spans=[ResourceSpans(resource=resource, scope_spans=[ScopeSpans(spans=spans)])]
        ).SerializeToString()

    def text(self, size: int) -> str:
        return f"{self.chance.getrandbits(4 * size):0{size}x}"


def many_traces(traffic: Traffic) -> Iterator[Batch]:
    """One record, 97 kB, of 1,500 traces."""
    while True:
        traffic.now_ms += 100
        value = traffic.record(*[traffic.span(traffic.id()) for _ in range(1500)], service="s" * 2_000)
        yield [(0, traffic.now_ms, value)]


def low_water(traffic: Traffic) -> Iterator[Batch]:
    """One trace stays open. Every other one gets a late span."""
    yield [(0, traffic.now_ms, traffic.record(traffic.span(traffic.id(), root=False)))]
    recent: deque[bytes] = deque()
    while True:
        traffic.now_ms += 100
        ids = [traffic.id() for _ in range(200)]
        recent.extend(ids)
        late = [recent.popleft() for _ in range(200)] if len(recent) > 20_000 else []
        yield [(0, traffic.now_ms, traffic.record(traffic.span(id))) for id in (*ids, *late)]


def values(traffic: Traffic) -> Iterator[Batch]:
    """Open traces with values that no other has."""
    while True:
        traffic.now_ms += 100
        yield [
            (
                0,
                traffic.now_ms,
                traffic.record(traffic.span(traffic.id(), root=False, user=traffic.text(40), query="é" * 500)),
            )
            for _ in range(200)
        ]


def huge(traffic: Traffic) -> Iterator[Batch]:
    """Attributes of a quarter of a megabyte, which nothing packs."""
    while True:
        traffic.now_ms += 100
        yield [
            (0, traffic.now_ms, traffic.record(traffic.span(traffic.id(), root=False, query=traffic.text(250_000))))
            for _ in range(4)
        ]


def partitions(traffic: Traffic) -> Iterator[Batch]:
    """Two hundred, each with an open trace, and one record a second."""
    while True:
        traffic.now_ms += 1000
        for id in range(200):
            root = traffic.chance.random() < 0.99
            yield [(id, traffic.now_ms, traffic.record(traffic.span(traffic.id(), root=root)))]


def cardinality(traffic: Traffic) -> Iterator[Batch]:
    """Each span has a name and a service of its own."""
    while True:
        traffic.now_ms += 100
        yield [
            (0, traffic.now_ms, traffic.record(
                traffic.span(traffic.id(), name=traffic.text(100), error=True), service=traffic.text(50)
            ))
            for _ in range(100)
        ]  # fmt: skip


def wide(traffic: Traffic) -> Iterator[Batch]:
    """Resources of 25 kB with two hundred attributes, of which some name the spans; each span is of a series of its own."""
    while True:
        traffic.now_ms += 100
        yield [
            (0, traffic.now_ms, traffic.record(
                *[traffic.span(id, name=traffic.text(20), error=True) for _ in range(10)],
                **{f"key{number}.{traffic.number}": traffic.text(100) for number in range(200)},
                **{"host.name": traffic.text(3000), "server.address": traffic.text(3000), "env": traffic.text(500)},
            ))
            for id in [traffic.id() for _ in range(20)]
        ]  # fmt: skip


def kept(traffic: Traffic) -> Iterator[Batch]:
    """All is kept, none is delivered soon, and half of it gets late spans."""
    recent: deque[bytes] = deque()
    while True:
        traffic.now_ms += 100
        ids = [traffic.id() for _ in range(100)]
        recent.extend(ids)
        late = [recent.popleft() for _ in range(50)] if len(recent) > 5_000 else []
        yield [
            (0, traffic.now_ms, traffic.record(traffic.span(id, error=True, query=traffic.text(100))))
            for id in (*ids, *late)
        ]


def broken(traffic: Traffic) -> Iterator[Batch]:
    """Nothing that can be read: all of it is for the dead letters."""
    while True:
        traffic.now_ms += 100
        yield [
            (0, traffic.now_ms, traffic.record(traffic.span(b"short", query=traffic.text(20_000)))) for _ in range(20)
        ]


KINDS: dict[str, Callable[[Traffic], Iterator[Batch]]] = {
    each.__name__: each for each in (many_traces, low_water, values, huge, partitions, cardinality, wide, kept, broken)
}


def everything(traffic: Traffic) -> Iterator[Batch]:
    """All of these by turns."""
    all_of_them = [each(traffic) for each in KINDS.values()]
    while True:
        for each in all_of_them:
            yield next(each)


class Asking(Policy):
    """Asks, and never votes."""

    def vote(self, trace: Trace) -> float:
        return ABSTAIN


class Daemon:
    """What stands between the source and the destinations."""

    def __init__(self, max_bytes: int) -> None:
        limits = Limits(max_bytes, FAR, FAR, 50_000)
        memory = Memory.within(limits.memory_bytes, 600, shared=True)
        asked = policies(Sampling(error_sample_rate=1.0, default_sample_rate=0.01))
        self.sampler = Sampler([*asked, Asking("asking", ASKS)])
        program = self.sampler.program
        self.buffer = Buffer(limits, Waits(2_000, 600_000, FAR), memory, observed=True, program=program)
        self.reader = MessageReader("spans", Encoding.AUTO, program)
        self.homes: dict[int, Partition] = {}
        self.positions: dict[int, int] = {}
        self.preparation = Preparation(SpanCompression(enabled=True))
        counted = SpanMetrics(shape_of(SpanMetricsSettings(enabled=True, max_series=5_000)))
        self.observers: list[SpanObserver] = [Concentrator(START_MS * 1_000_000, max_bytes=4 << 20), counted]
        self.waiting: deque[Trace] = deque()
        self.offsets: dict[int, int] = {}
        self.most = 0

    def take(self, batch: Batch) -> None:
        messages: list[Any] = []  # of `Message`
        for partition, at_ms, value in batch:
            if partition not in self.homes:
                home = self.homes[partition] = Partition(partition, 0, FAR, replay_secs=60)
                self.positions[partition] = 0
                self.buffer.adopt(home)
            offset = self.offsets.get(partition, 0)
            self.offsets[partition] = offset + 1
            messages.append(Message(partition, offset, at_ms, value))
        while messages:
            read = self.reader.read(messages, self.positions, set(), self.buffer.limits.poll_bytes)
            messages = messages[read.taken :]
            self.buffer.polled_bytes = read.held_bytes
            self._note()
            for number in range(len(read.records)):
                home = self.homes[read.records.place(number)[0]]
                self.buffer.add_some(home, read.records, number, number + 1, FAR)
                if self.buffer.closed_bytes > self.buffer.limits.closed_bytes:
                    self._decide()
            self._note()
            observe_late_dropped(
                self.buffer.take_late_dropped(), self.observers, lambda _, error: sys.exit(repr(error))
            )
            self.buffer.polled_bytes = 0
            self._decide()

    def _decide(self) -> None:
        found = evaluate(self.buffer.take(), self.sampler, self.buffer)
        observe(found, self.observers, lambda _, error: sys.exit(repr(error)))
        self.buffer.settle_all(found.ended)
        for trace in found.kept:
            prepared = self.preparation.prepare(trace.payload, complete=not trace.late)
            if not trace.further:
                self.buffer.rewrite(trace, prepared.payload, trace.held_spans)
            self.waiting.append(trace)
        self._note()
        while self.waiting and self.buffer.closed_bytes > self.buffer.limits.closed_bytes:
            self.buffer.settle(self.waiting.popleft())

    def look(self) -> None:
        """As the committer and the trainer do."""
        self.buffer.relieve_ledgers()
        for home in self.homes.values():
            home.commit()
        samples = self.buffer.packer.samples()
        if samples:
            self.buffer.packer.use(train(samples))
        self.buffer.take_counts()

    def _note(self) -> None:
        self.most = max(self.most, self.buffer.held_bytes)


def main() -> None:
    """Prints, after each third of the rounds: bytes told, the most that was told so far, bytes taken, spans made."""
    kind, mib, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    heap.share_one_arena()
    traffic, daemon = Traffic(), Daemon(mib << 20)
    source = everything(traffic) if kind == "everything" else KINDS[kind](traffic)
    gc.collect()
    before = resident()
    for number in range(1, rounds + 1):
        daemon.take(next(source))
        if not number % 10:
            daemon.look()
        if not number % (rounds // 3):
            gc.collect()
            heap.give_back()
            print(daemon.buffer.held_bytes, daemon.most, resident() - before, traffic.number, flush=True)
    print(daemon.buffer.held_by_kind(), file=sys.stderr)


if __name__ == "__main__":
    main()
