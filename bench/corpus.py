"""Records for the benchmark: many realistic traces, made quickly by filling ids and times into a few serialized ones."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from attrs import frozen
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status, TracesData

SPAN_BYTES = 460  # in the mean, its share of the resource included
TRACE_SPANS = 8  # of the traces that come in records of one span
INTERLEAVED = 16  # how many of those traces are under way at once
ERROR_SHARE = 0.05
STEP_MS = 2  # of log time between two records
TEMPLATES = 32

# What stands in a template for what each trace has of its own. All of fixed size on the wire, so that filling them in
# moves nothing: a trace id, the six bytes that all span ids of a trace share, the upper half of a time in ns.
_TRACE_ID = b"\xf5<- TRACE ID ->\xf6"
_SPAN_ID = b"\xf5SPAN\xf6"
_TIME = b"\xf5T\xf6\x17"
_TIME_UNIT = 1 << 32  # ns

_SERVICES = ("storefront", "checkout", "payment", "inventory")
_WORDS = [
    "orders",
    "items",
    "stock",
    "price",
    "session",
    "customer",
    "basket",
    "region",
    "channel",
    "coupon",
    "carrier",
    "invoice",
    "refund",
    "catalog",
]
# Attributes before and after the one that is stretched to bring a template to its size.
_HTTP: dict[str, str | int] = {
    "http.request.method": "GET",
    "http.response.status_code": 200,
    "server.address": "checkout.shop.svc.cluster.local",
    "server.port": 8080,
    "network.protocol.version": "1.1",
    "url.full": "",
}
_SQL: dict[str, str | int] = {
    "db.system.name": "postgresql",
    "db.namespace": "checkout",
    "db.operation.name": "SELECT",
    "server.address": "checkout-db.shop.svc.cluster.local",
    "db.response.returned_rows": 17,
    "db.query.text": "",
}
_STRETCHED = frozenset(("url.full", "db.query.text"))


@frozen
class Record:
    """One Kafka record to be."""

    key: bytes
    value: bytes
    keep: bool  # whether its trace has an error
    trace_id: bytes
    span_ids: tuple[bytes, ...]


def records(spans: int, count: int, epoch_ns: int) -> Iterator[Record]:
    """``count`` records of ``spans`` spans, the same ones each time but for the clock: their traces begin at ``epoch_ns``.

    A record is a whole trace, unless it has one span: then eight records are a trace, mixed with those of others.
    """
    rng = Random(spans)  # the same each time
    pieces = 1 if spans > 1 else TRACE_SPANS
    good, bad = (
        [_template(rng, spans * pieces, pieces, error=error) for _ in range(TEMPLATES)] for error in (False, True)
    )
    made = 0
    while made < count:
        under_way = []
        for _ in range(1 if pieces == 1 else INTERLEAVED):
            keep = rng.random() < ERROR_SHARE
            template = rng.choice(bad if keep else good)
            time = (epoch_ns + made * STEP_MS * 1_000_000) // _TIME_UNIT
            under_way.append(_filled(template, keep, rng.randbytes(16), rng.randbytes(6), time))
        for record in _mixed(rng, under_way):
            if made == count:
                break
            yield record
            made += 1


def _mixed(rng: Random, traces: list[list[Record]]) -> Iterator[Record]:
    """One of each, in any order, then the next of each."""
    for row in zip(*traces, strict=True):
        yield from rng.sample(row, len(row))


def _filled(template: list[bytes], keep: bool, trace_id: bytes, prefix: bytes, time: int) -> list[Record]:
    key, time_bytes = trace_id.hex().encode(), time.to_bytes(4, "little")
    filled, number = [], 0
    for message in template:
        value = message.replace(_TRACE_ID, trace_id).replace(_SPAN_ID, prefix).replace(_TIME, time_bytes)
        spans = message.count(_TRACE_ID)
        span_ids = tuple(prefix + (number + each).to_bytes(2, "big") for each in range(spans))
        number += spans
        filled.append(Record(key, value, keep, trace_id, span_ids))
    return filled


def _template(rng: Random, spans: int, pieces: int, *, error: bool) -> list[bytes]:
    """A trace of so many spans, cut into so many messages."""
    made = [_span(rng, number) for number in range(spans)]
    if error:
        rng.choice(made).status.CopyFrom(Status(code=Status.STATUS_CODE_ERROR, message="upstream connect timeout"))
    each = spans // pieces
    messages = [_message(rng, made[start : start + each]) for start in range(0, spans, each)]
    return [message.SerializeToString() for message in messages]


def _message(rng: Random, spans: list[Span]) -> TracesData:
    """The spans by service, one to four of them, brought to their size."""
    services = rng.sample(_SERVICES, min(len(_SERVICES), -(-len(spans) // 6)))
    data = TracesData()
    for number, service in enumerate(services):
        scope = InstrumentationScope(name="io.opentelemetry.http-client", version="2.7.0")
        group = ResourceSpans(resource=_resource(rng, service))
        group.scope_spans.append(ScopeSpans(scope=scope, spans=spans[number :: len(services)]))
        data.resource_spans.append(group)
    _stretch(rng, data, SPAN_BYTES * len(spans))
    return data


def _stretch(rng: Random, data: TracesData, size: int) -> None:
    texts = [
        attribute.value
        for resource in data.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
        for attribute in span.attributes
        if attribute.key in _STRETCHED
    ]
    while (room := size - data.ByteSize()) > 0:
        rng.choice(texts).string_value += f"&{rng.choice(_WORDS)}={rng.randrange(10_000)}"[:room]


def _resource(rng: Random, service: str) -> Resource:
    return Resource(
        attributes=_attributes({"service.name": service, "k8s.pod.name": f"{service}-{rng.randrange(1 << 32):08x}"})
    )


def _span(rng: Random, number: int) -> Span:
    """Number 0 is the root; the others hang below an earlier one."""
    start = rng.randrange(1_000_000_000)
    http = number == 0 or rng.random() < 0.6
    attributes = _HTTP if http else _SQL
    return Span(
        trace_id=_TRACE_ID,
        span_id=_span_id(number),
        parent_span_id=_span_id(rng.randrange(number)) if number else b"",
        name="GET /api/checkout" if http else "SELECT checkout.orders",
        kind=Span.SPAN_KIND_SERVER if number == 0 else Span.SPAN_KIND_CLIENT,
        start_time_unix_nano=_time(start),
        end_time_unix_nano=_time(start + rng.randrange(1_000_000_000)),
        attributes=_attributes(attributes),
        flags=0x101,
    )


def _span_id(number: int) -> bytes:
    return _SPAN_ID + number.to_bytes(2, "big")


def _time(lower: int) -> int:
    return int.from_bytes(_TIME, "little") * _TIME_UNIT + lower


def _attributes(values: dict[str, str | int]) -> list[KeyValue]:
    return [
        KeyValue(key=key, value=AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value))
        for key, value in values.items()
    ]
