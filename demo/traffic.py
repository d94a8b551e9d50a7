"""Realistic traffic as a pure function of a seed: records as the Collector writes them, and the truth about each trace.

Nothing here looks at a clock or sends anything: times are seconds since the traffic began, and ``epoch_ns`` says when
that was. So the demo and the tests use the same generator, the one live, the other as fast as it goes.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator, Mapping
from random import Random

from attrs import Factory, define, frozen
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status, TracesData

from demo.shop import CONSUMER, REQUESTS, SERVER, SERVICES, Value, Work

ERROR, SLOW = "error", "slow"

_FAILURES = (
    ("java.net.SocketTimeoutException", "Read timed out"),
    ("psycopg.errors.DeadlockDetected", "deadlock detected"),
    ("ConnectionRefusedError", "connect ECONNREFUSED 10.4.2.17:8080"),
    ("shop.errors.OutOfStock", "no stock left for product 8123"),
    ("context.DeadlineExceeded", "context deadline exceeded"),
)
_RANDOM_AND_SAMPLED = 0x03  # trace flags of W3C Trace Context level 2


@frozen(kw_only=True)
class Mix:
    """What the traffic is made of. Shares are of all traces."""

    traces_per_sec: float = 50.0
    errors: float = 0.02
    slow: float = 0.01
    rootless: float = 0.003  # their root was lost on the way, so they never look complete
    late: float = 0.02  # some of their spans come ``late_secs`` after the rest
    split: float = 0.5  # the spans come in several records
    slow_ms: float = 1000.0  # what counts as slow; all traces that are not slow stay well below
    late_secs: tuple[float, float] = (8.0, 12.0)


@frozen
class Message:
    """One Kafka record, and when it is sent."""

    at_secs: float
    timestamp_ms: int
    key: bytes  # lower-case hex trace id, as the Collector's partition_traces_by_id
    value: bytes  # a serialized TracesData
    spans: int


@frozen
class Trace:
    """The truth about one trace. ``why`` is what it must be kept for; empty: nothing."""

    trace_id: bytes
    began_secs: float
    service: str
    name: str
    duration_ms: float
    why: frozenset[str]
    span_ids: frozenset[bytes]  # of all spans that are sent, the late ones too
    messages: tuple[Message, ...]  # in the order they are sent
    rootless: bool
    late: bool

    @property
    def last_secs(self) -> float:
        """When the last of it is sent."""
        return self.messages[-1].at_secs


@define(eq=False)
class _Node:
    """A span before it is one. Times are milliseconds since the trace began."""

    work: Work
    parent: _Node | None
    span_id: bytes
    own_ms: float
    wait_ms: float  # between being called and starting
    calls: list[_Node] = Factory(list)
    start_ms: float = 0.0
    end_ms: float = 0.0
    failed: bool = False
    exception: tuple[str, str] | None = None

    @property
    def all(self) -> Iterator[_Node]:
        yield self
        for call in self.calls:
            yield from call.all

    @property
    def awaited(self) -> bool:
        """Whether whoever asked for the whole waits for this."""
        return not self.work.aside and (self.parent is None or self.parent.awaited)


def traces(seed: int, mix: Mix, epoch_ns: int) -> Iterator[Trace]:
    """Without end, in the order they begin."""
    rng = Random(seed)
    began = 0.0
    while True:
        began += rng.expovariate(mix.traces_per_sec)
        yield _trace(rng, mix, began, epoch_ns)


def in_order(given: Iterable[Trace]) -> Iterator[tuple[Message, Trace]]:
    """All messages in the order they are sent. No trace sends before it begins, so only the open ones have to wait."""
    waiting: list[tuple[float, int, Message, Trace]] = []
    count = itertools.count()
    for trace in given:
        while waiting and waiting[0][0] <= trace.began_secs:
            yield heapq.heappop(waiting)[2:]
        for message in trace.messages:
            heapq.heappush(waiting, (message.at_secs, next(count), message, trace))
    while waiting:
        yield heapq.heappop(waiting)[2:]


def _trace(rng: Random, mix: Mix, began_secs: float, epoch_ns: int) -> Trace:
    root, nodes = _tree(rng, mix)
    rootless = len(nodes) > 1 and rng.random() < mix.rootless
    sent = nodes[1:] if rootless else nodes
    late = [] if rootless or rng.random() >= mix.late else _latecomers(rng, sent, mix)
    on_time = [node for node in sent if node not in late]

    trace_id = rng.randbytes(16)
    write = _Writer(rng, trace_id, epoch_ns + round(began_secs * 1e9))
    groups = _by_service(on_time) if rng.random() < mix.split else [on_time]
    # A tracer's batch, then the Collector's: what has ended waits a little before it is sent.
    parts = [(began_secs + _end_ms(group) / 1000 + rng.uniform(0.2, 0.9), group) for group in groups]
    if late:
        parts.append((max(at for at, _ in parts) + rng.uniform(*mix.late_secs), late))
    messages = sorted((write.message(at, epoch_ns, group) for at, group in parts), key=lambda message: message.at_secs)
    return Trace(
        trace_id=trace_id,
        began_secs=began_secs,
        service=root.work.service,
        name=root.work.name,
        duration_ms=_duration_ms(on_time),
        why=_why(on_time, mix),
        span_ids=frozenset(node.span_id for node in sent),
        messages=tuple(messages),
        rootless=rootless,
        late=bool(late),
    )


def _tree(rng: Random, mix: Mix) -> tuple[_Node, list[_Node]]:
    """The spans of one request, laid out in time, some of them failed or slow."""
    (work,) = rng.choices([work for _, work in REQUESTS], [weight for weight, _ in REQUESTS])
    root = _grown(rng, work, None)
    nodes = list(root.all)
    awaited = [node for node in nodes if node.awaited]
    if rng.random() < mix.slow:
        rng.choice(awaited).own_ms += mix.slow_ms * rng.uniform(1.05, 3)
    if rng.random() < mix.errors:
        _fail(rng, rng.choice(awaited))
    _lay_out(root, 0.0)
    return root, nodes


def _grown(rng: Random, work: Work, parent: _Node | None) -> _Node:
    own_ms = work.own_ms * min(2.5, rng.lognormvariate(0, 0.4))
    wait_ms = rng.uniform(5, 150) if work.aside else rng.uniform(0.1, 0.6)
    node = _Node(work, parent, rng.randbytes(8), own_ms, wait_ms)
    node.calls = [_grown(rng, call, node) for call in work.calls]
    return node


def _lay_out(node: _Node, called_ms: float) -> None:
    node.start_ms = called_ms + node.wait_ms
    now = node.start_ms + node.own_ms / 2
    for call in node.calls:
        _lay_out(call, now)
        if not call.work.aside:
            now = call.end_ms + call.wait_ms
    node.end_ms = now + node.own_ms / 2


def _fail(rng: Random, node: _Node) -> None:
    """It throws; those who waited for it fail too, until one of them knows what to do instead."""
    node.exception = rng.choice(_FAILURES)
    caller: _Node | None = node
    while caller is not None:
        caller.failed = True
        caller = caller.parent if rng.random() < 0.85 else None


def _latecomers(rng: Random, nodes: list[_Node], mix: Mix) -> list[_Node]:
    """All that one service did for one call, if what is left looks complete and must be kept for the same reasons."""
    heads = [node for node in nodes if node.parent is not None and node.work.kind in (SERVER, CONSUMER)]
    if not heads:
        return []
    late = list(rng.choice(heads).all)
    rest = [node for node in nodes if node not in late]
    return late if _why(rest, mix) == _why(nodes, mix) else []


def _why(nodes: list[_Node], mix: Mix) -> frozenset[str]:
    reasons = {ERROR: any(node.failed for node in nodes), SLOW: _duration_ms(nodes) >= mix.slow_ms}
    return frozenset(name for name, holds in reasons.items() if holds)


def _end_ms(nodes: list[_Node]) -> float:
    return max(node.end_ms for node in nodes)


def _duration_ms(nodes: list[_Node]) -> float:
    return _end_ms(nodes) - min(node.start_ms for node in nodes)


def _by_service(nodes: list[_Node]) -> list[list[_Node]]:
    groups: dict[str, list[_Node]] = {}
    for node in nodes:
        groups.setdefault(node.work.service, []).append(node)
    return list(groups.values())


class _Writer:
    """Makes the OTLP of one trace."""

    def __init__(self, rng: Random, trace_id: bytes, began_ns: int) -> None:
        self._trace_id = trace_id
        self._began_ns = began_ns
        self._product = str(rng.randint(1000, 9999))
        self._session = rng.randbytes(4).hex()
        self._pods = {name: rng.randrange(service.replicas) for name, service in SERVICES.items()}

    def message(self, at_secs: float, epoch_ns: int, nodes: list[_Node]) -> Message:
        """One record with these spans."""
        data = TracesData(resource_spans=[self._resource_spans(group) for group in _by_service(nodes)])
        timestamp_ms = (epoch_ns + round(at_secs * 1e9)) // 1_000_000
        return Message(at_secs, timestamp_ms, self._trace_id.hex().encode(), data.SerializeToString(), len(nodes))

    def _resource_spans(self, nodes: list[_Node]) -> ResourceSpans:
        name = nodes[0].work.service
        service, pod = SERVICES[name], f"{name}-{self._pods[name]}"
        resource = {
            "service.name": name,
            "service.namespace": "shop",
            "service.version": service.version,
            "service.instance.id": pod,
            "deployment.environment.name": "demo",
            "telemetry.sdk.language": service.language,
            "telemetry.sdk.name": "opentelemetry",
            "k8s.pod.name": pod,
        }
        scopes: dict[str, list[_Node]] = {}
        for node in nodes:
            scopes.setdefault(node.work.scope, []).append(node)
        return ResourceSpans(
            resource=Resource(attributes=_attributes(resource)),
            scope_spans=[
                ScopeSpans(
                    scope=InstrumentationScope(name=scope, version=service.version),
                    spans=[self._span(node) for node in inside],
                )
                for scope, inside in scopes.items()
            ],
        )

    def _span(self, node: _Node) -> Span:
        span = Span(
            trace_id=self._trace_id,
            span_id=node.span_id,
            parent_span_id=node.parent.span_id if node.parent else b"",
            name=node.work.name,
            kind=node.work.kind,
            start_time_unix_nano=self._at_ns(node.start_ms),
            end_time_unix_nano=self._at_ns(node.end_ms),
            flags=_RANDOM_AND_SAMPLED,
            attributes=_attributes(
                {name: self._told(name, value, node) for name, value in node.work.attributes.items()}
            ),
        )
        if node.failed:
            span.status.code = Status.STATUS_CODE_ERROR
        if node.exception:
            kind, text = node.exception
            span.status.message = text
            event = span.events.add(name="exception", time_unix_nano=self._at_ns(node.end_ms))
            event.attributes.extend(_attributes({"exception.type": kind, "exception.message": text}))
        return span

    def _told(self, name: str, value: Value, node: _Node) -> Value:
        if isinstance(value, str):
            return value.replace("8123", self._product).replace(":?", f":{self._session}")
        if node.failed and name == "http.response.status_code":
            return 500
        if node.failed and name == "rpc.grpc.status_code":
            return 13  # INTERNAL
        return value

    def _at_ns(self, ms: float) -> int:
        return self._began_ns + round(ms * 1e6)


def _attributes(values: Mapping[str, Value]) -> list[KeyValue]:
    return [KeyValue(key=name, value=_any(value)) for name, value in values.items()]


def _any(value: Value) -> AnyValue:
    match value:
        case str():
            return AnyValue(string_value=value)
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
    return AnyValue(double_value=value)
