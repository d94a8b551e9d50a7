"""Several daemons on one topic that come and go, and the accounts of all that was delivered at the end."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import attrs
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, TracesData

from demo.traffic import Message, Trace
from tests.real.brokers import Broker
from tests.real.daemon import Daemon, Group, settings, until
from tests.real.load import MIX, Load, Place, SpanId
from tests.sinks import OtlpSink, Reply

EXIT_SECS = 3.0  # for the interpreter to end, on a machine that runs all the others
SHUTDOWN_SECS = 10
CLOCK_SECS = 0.5  # between what a daemon did and the line in its log that says so
# Long ones outlast every handover; the others end soon, so that a test does.
LOAD = attrs.evolve(MIX, late_secs=(3.0, 5.0))
LONG_SECS = (4.0, 7.0)
LONG_SPANS = 6  # at least, so that none is quiet for inactivityTimeoutSecs; most of a shop's requests have more

# What shows that there is something left to decide or to deliver, in the order in which a trace goes through them.
HOLDING = ("kafka_uncommitted_records", "buffer_traces_current", "parked_traces")

# How a group can be run; the brokers' least session is in tests.real.brokers.
PROTOCOLS: Mapping[str, Mapping[str, object]] = {
    "cooperative": {},
    "eager": {"partitionAssignmentStrategy": "range"},
    "static": {"staticMembership": True},
    "by the broker": {"groupProtocol": "consumer"},
    "static, by the broker": {"groupProtocol": "consumer", "staticMembership": True},
}


@attrs.frozen
class Arrival:
    """A span that a destination took, from whom and when."""

    at: float  # time.time()
    replica: str
    run: int


class Delivered:
    """All that arrived anywhere, in order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.spans: dict[SpanId, list[Arrival]] = defaultdict(list)

    def __repr__(self) -> str:
        return f"<Delivered {len(self.spans)} spans, {self.duplicates} more than once>"

    def take(self, replica: Daemon, spans: Sequence[SpanId]) -> None:
        arrival = Arrival(time.time(), replica.directory.name, replica.runs)
        with self._lock:
            for span in spans:
                self.spans[span].append(arrival)

    @property
    def duplicates(self) -> int:
        """Spans that came once too often, as often as they did."""
        with self._lock:
            return sum(len(each) - 1 for each in self.spans.values())

    def has(self, trace: Trace) -> bool:
        """All of it."""
        with self._lock:
            return all((trace.trace_id, span) in self.spans for span in trace.span_ids)


@attrs.define
class Fleet:
    """Replicas by name, each with a sink of its own, so that it is known who sent what."""

    broker: Broker
    topic: str
    partitions: int
    replicas: dict[str, Daemon]
    delivered: Delivered
    group: Group
    events: list[tuple[float, str]] = attrs.field(factory=list)

    @classmethod
    @contextmanager
    def of(
        cls,
        broker: Broker,
        directory: Path,
        topic: str,
        names: str,
        *,
        partitions: int = 8,
        topic_config: Mapping[str, str] | None = None,
        **sections: Any,
    ) -> Iterator[Fleet]:
        """A topic, and so many replicas that do not run yet, one for each letter."""
        broker.create_topic(topic, partitions, **(topic_config or {}))
        delivered = Delivered()
        with ExitStack() as stack:
            replicas = {name: stack.enter_context(_replica(broker, directory, topic, name, delivered, sections))
                        for name in names}  # fmt: skip
            first = next(iter(replicas.values()))
            group = stack.enter_context(Group.watch(broker, first.config, partitions))
            fleet = cls(broker, topic, partitions, replicas, delivered, group)
            try:
                yield fleet
            except BaseException:
                print(f"\n{fleet.story()}\n{fleet.tails()}")
                raise

    @property
    def config(self) -> Mapping[str, Any]:
        """Of the first, whose like all others are."""
        return next(iter(self.replicas.values())).config

    @property
    def running(self) -> list[Daemon]:
        return [each for each in self.replicas.values() if each.running]

    def note(self, event: str) -> None:
        self.events.append((time.time(), event))

    def join(self, *names: str) -> None:
        """Start them, and wait for nothing."""
        for name in names:
            self.note(f"{name} joins")
            self.replicas[name].start()

    def terminate(self, name: str) -> None:
        """SIGTERM."""
        self.note(f"{name} is to leave")
        self.replicas[name].signal(signal.SIGTERM)

    def leave(self, name: str) -> float:
        """SIGTERM, and wait for its end; returns how long that took, which law 9 bounds."""
        self.note(f"{name} leaves")
        took = self.replicas[name].stop(SHUTDOWN_SECS + EXIT_SECS)
        self.note(f"{name} has left after {took:.2f} s")
        return took

    def kill(self, name: str) -> None:
        self.note(f"{name} is killed")
        self.replicas[name].kill()

    def freeze(self, name: str) -> None:
        self.note(f"{name} stands still")
        self.replicas[name].signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        self.note(f"{name} goes on")
        self.replicas[name].signal(signal.SIGCONT)

    def settle(self, *names: str, secs: float = 40.0) -> float:
        """Wait until these, which must be all that run, have every partition between them and each has some."""

        def settled() -> bool:
            shares = [held(self.replicas[name]) for name in names]
            return sum(shares) == self.partitions and min(shares) > 0

        took = until(settled, secs, lambda: f"{ {name: held(self.replicas[name]) for name in names} }")
        self.note(f"settled on {', '.join(names)} after {took:.2f} s")
        return took

    def drain(self, secs: float = 60.0) -> float:
        """Wait until all that is in the topic is committed, and nothing is open or parked any more: decided, and
        delivered where it was kept. Parked traces are committed long before that."""

        def told() -> str:
            return f"{self.story()}\n{self.tails()}"

        took = self.group.wait_until_done(secs, told)
        return took + until(self._is_empty, secs, told)

    def _is_empty(self) -> bool:
        """Whether all partitions are in somebody's hands, and nobody holds anything of them."""
        running = self.running
        return sum(held(each) for each in running) == self.partitions and not any(
            each.metric(name) for each in running for name in HOLDING
        )

    def assignments(self) -> dict[int, list[float]]:
        """When each partition was given to somebody, over all runs, as their logs say."""
        found: dict[int, list[float]] = defaultdict(list)
        for daemon in self.replicas.values():
            for line in daemon.all_logs:
                if line.get("event") == "partitions assigned":
                    for partition in line["partitions"]:
                        found[partition].append(datetime.fromisoformat(line["timestamp"]).timestamp())
        return {id: sorted(times) for id, times in found.items()}

    def story(self, last: int = 40) -> str:
        return "\n".join(f"{at % 1000:7.2f} {event}" for at, event in self.events[-last:])

    def tails(self) -> str:
        return "\n\n".join(f"{each!r} said:\n{each.tail(12)}" for each in self.replicas.values() if each.runs)


@contextmanager
def _replica(
    broker: Broker, directory: Path, topic: str, name: str, delivered: Delivered, sections: Mapping[str, Any]
) -> Iterator[Daemon]:
    def took(spans: Sequence[SpanId]) -> None:
        delivered.take(daemon, spans)

    with OtlpSink(keep=False, took=took) as sink:
        sink.usual = Reply(hang_secs=0.05)  # so that there is always something on its way
        exporter = {"name": "sink", "type": "otlp", "endpoint": sink.url, "batchTimeoutSecs": 0.1}
        daemon = Daemon(
            directory / name, settings(broker.bootstrap, topic, **_named(sections, name), exporters=[exporter])
        )
        try:
            yield daemon
        finally:
            if daemon.running:
                daemon.signal(signal.SIGCONT)
                daemon.kill()


def _named(sections: Mapping[str, Any], name: str) -> dict[str, Any]:
    """With the replica's name where there is {name}."""

    def put(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: put(each) for key, each in value.items()}
        return value.replace("{name}", name) if isinstance(value, str) else value

    return {section: put(value) for section, value in sections.items()}


def held(daemon: Daemon) -> int:
    """How many partitions it has; -1 when it does not say."""
    try:
        counts = [daemon.metric("kafka_rebalances_total", event=event) for event in ("assigned", "revoked", "lost")]
    except AssertionError:
        return -1
    return round(counts[0] - counts[1] - counts[2])


# -- traces that last


def lasting(seed: int, share: float = 0.1) -> Any:
    """Makes some traces long: a record a span, seconds apart, the root last, so that they stay open for all that time."""
    chance = Random(seed)

    def change(trace: Trace) -> Trace:
        if trace.late or trace.rootless or chance.random() >= share or len(trace.span_ids) < LONG_SPANS:
            return trace
        return _lengthened(trace, chance)

    return change


def _lengthened(trace: Trace, chance: Random) -> Trace:
    first = trace.messages[0]
    singles = _singles(trace)
    step = chance.uniform(*LONG_SECS) / (len(singles) - 1)
    messages = [
        Message(first.at_secs + n * step, first.timestamp_ms + round(1000 * n * step), first.key, value, 1)
        for n, value in enumerate(singles)
    ]
    return attrs.evolve(trace, messages=tuple(messages))


def _singles(trace: Trace) -> list[bytes]:
    """Each span in a record of its own, those of the root's last."""
    found: list[tuple[bool, bytes]] = []
    for message in trace.messages:
        for resource in TracesData.FromString(message.value).resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    one = ResourceSpans(resource=resource.resource,
                                        scope_spans=[ScopeSpans(scope=scope.scope, spans=[span])])  # fmt: skip
                    found.append((not span.parent_span_id, TracesData(resource_spans=[one]).SerializeToString()))
    return [value for _, value in sorted(found, key=lambda each: each[0])]


# -- the accounts


@attrs.frozen
class Accounts:
    """What was delivered against what was sent."""

    load: Load
    kept: int
    duplicates: int
    repeated: Counter[tuple[str, str]]  # of spans that came again: from whom they came, and from whom again
    examples: list[str]  # of traces of which something came again

    def __str__(self) -> str:
        again = ", ".join(f"{count} {one} then {other}" for (one, other), count in self.repeated.most_common(6))
        return (
            f"{self.load.records} records, {len(self.load.traces)} traces, kept {self.kept} spans; "
            f"{self.duplicates} came again ({again})"
        )


def audit(load: Load, fleet: Fleet) -> Accounts:
    """Raises AssertionError where law 1 or 2 is broken, and for a duplicate that no change of hands explains."""
    arrived = fleet.delivered.spans
    kept = load.kept()
    lost, wrong = kept - arrived.keys(), arrived.keys() - kept
    assert kept, "a test that expects nothing"
    assert not lost, f"law 1: {_told(lost, load)}"
    assert not wrong, f"law 2: {_told(wrong, load)}"
    places = load.places()
    assert len(set(places.values())) == load.records
    assignments = fleet.assignments()
    began = {trace.trace_id: trace.messages[0].timestamp_ms / 1000 - CLOCK_SECS for trace in load.traces}
    repeated: Counter[tuple[str, str]] = Counter()
    for span, arrivals in arrived.items():
        # Who had the partition then, and each that has been given it since, may have sent it once.
        hands = [at for at in assignments[places[span][0]] if began[span[0]] < at < arrivals[-1].at + CLOCK_SECS]
        assert len(arrivals) <= 1 + len(hands), f"{span} at {places[span]} came {arrivals}, assigned at {hands}"
        repeated.update((one.replica, other.replica) for one, other in pairwise(arrivals))
    return Accounts(load, len(kept), fleet.delivered.duplicates, repeated, _again(load, arrived, places))


def _again(load: Load, arrived: Mapping[SpanId, list[Arrival]], places: Mapping[SpanId, Place]) -> list[str]:
    """What is to be known of the first traces of which something came again."""
    ids = {span[0] for span, arrivals in arrived.items() if len(arrivals) > 1}
    of = {trace.trace_id: trace for trace in load.traces}
    return [_life(of[id], arrived, places) for id in sorted(ids)[:3]]


def _life(trace: Trace, arrived: Mapping[SpanId, list[Arrival]], places: Mapping[SpanId, Place]) -> str:
    spans = [(trace.trace_id, span) for span in trace.span_ids]
    came = [
        f"{places[span]} " + ", ".join(f"{each.at % 1000:.2f} {each.replica}" for each in arrived[span])
        for span in sorted(spans, key=places.__getitem__)
    ]
    sent = ", ".join(f"{message.timestamp_ms / 1000 % 1000:.2f}" for message in trace.messages)
    return f"{trace.trace_id.hex()}{' late' * trace.late}, sent {sent}: {'; '.join(came)}"


def _told(spans: set[SpanId], load: Load) -> str:
    """Which traces, and what was special about the first."""
    of = {trace.trace_id: trace for trace in load.traces}
    ids = sorted({trace_id for trace_id, _ in spans})
    trace = of[ids[0]]
    places = load.places()
    where = sorted(places[span] for span in spans if span[0] == ids[0])
    begins = [time.strftime("%X", time.gmtime(message.timestamp_ms / 1000)) for message in trace.messages]
    kind = {name for name in ("late", "rootless") if getattr(trace, name)} | trace.why
    return (
        f"{len(spans)} spans of {len(ids)} traces ({sum(of[id].late for id in ids)} with late spans); "
        f"{trace.trace_id.hex()} {sorted(kind)}: {len(where)} of {len(trace.span_ids)} spans at {where}, sent {begins}"
    )
