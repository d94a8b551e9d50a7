"""Traces in which every convention that the Datadog mapping knows occurs, seeded, and much that no convention knows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from random import Random
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status, TracesData

from tests.core.test_datadog import pairs

EPOCH_NS = 1_750_000_000 * 10**9
_KINDS = (0, 1, 2, 2, 3, 3, 3, 4, 5, 77)

# Attributes that come together: for each a few values to choose from.
SHAPES: tuple[dict[str, tuple[Any, ...]], ...] = (
    {  # HTTP, as it was
        "http.method": ("GET", "post", "_OTHER", ""),
        "http.route": ("/cart/{id}", ""),
        "http.url": ("https://shop/cart/1?x=2",),
        "http.status_code": (200, 404, 599, 799, "500", "404.0", "abc", "-1", 404.0, -5, "", 2**40, "+200"),
        "http.host": ("shop:8080", "10.0.0.1"),
        "net.peer.name": ("shop.example", "10.1.2.3"),
        "http.user_agent": ("curl/8",),
    },
    {  # HTTP, as it is
        "http.request.method": ("GET", "DELETE", "_OTHER"),
        "http.route": ("/cart/{id}",),
        "url.template": ("/cart/{id}",),
        "url.full": ("https://shop/cart/1",),
        "http.response.status_code": (200, 503, "429", True),
        "http.request.header.accept": (["a", "b"], "text/html"),
        "http.request.header.referrer": ("https://x/",),
        "http.request.body.size": (17, "17"),
        "http.response.body.size": (2**60 + 1,),
        "server.address": ("cart.internal", "::1", "[2001:db8::1]:443"),
        "client.address": ("192.168.1.1",),
        "network.protocol.version": ("1.1", 2),
        "user_agent.original": ("Mozilla/5.0",),
    },
    {
        "db.system": (
            *("postgresql", "PostgreSQL", "mysql", "mssql", "redis", "memcached", "mongodb", "cassandra", "h2"),
            *("elasticsearch", "opensearch", "dynamodb", "clickhouse", "something new!", "!!!", 5, "cosmosdb"),
        ),
        "db.statement": ("SELECT * FROM carts WHERE id = 5", "GET user:5", "not ( sql", ""),
        "db.name": ("shop", ""),
        "db.instance": ("main",),
        "db.operation": ("SELECT",),
        "net.peer.name": ("db-1",),
    },
    {
        "db.system.name": ("postgresql", "microsoft.sql_server", "actian.ingres", "h2database", "softwareag.adabas"),
        "db.query.text": ("INSERT INTO carts VALUES (1, 'x')",),
        "db.namespace": ("shop|public", 7, ""),
        "db.collection.name": ("carts",),
        "server.address": ("db.internal",),
        "server.port": (5432,),
    },
    {
        "messaging.system": ("kafka", "rabbitmq", "aws_sqs", "Google PubSub", ""),
        "messaging.operation": ("publish", "receive", "process", "Settle It"),
        "messaging.destination": ("orders",),
        "messaging.destination.name": ("orders.v2",),
        "messaging.kafka.bootstrap.servers": ("10.0.0.1:9092,10.0.0.2:9092,kafka:9092",),
        "messaging.rabbitmq.exchange": ("x",),
    },
    {
        "rpc.system": ("grpc", "aws-api", "java_rmi", "GRPC"),
        "rpc.system.name": ("grpc", "jsonrpc"),
        "rpc.service": ("shop.Cart", "S3", "Dynamo DB", "!!"),
        "rpc.method": ("Get", "PutObject"),
        "rpc.grpc.status_code": (0, 5, "NOT_FOUND", "", 2.0),
        "grpc.code": (7, "OK"),
        "rpc.response.status_code": ("UNAVAILABLE", 14),
        "aws.s3.bucket": ("pictures",),
        "tablename": ("carts",),
        "queuename": ("jobs",),
    },
    {
        "faas.trigger": ("http", "timer", "Other Thing"),
        "faas.invoked_provider": ("aws", "gcp"),
        "faas.invoked_name": ("resize", "My-Function"),
        "faas.name": ("f",),
    },
    {"graphql.operation.type": ("query", "mutation", "!"), "graphql.operation.name": ("cart",)},
    {
        "gen_ai.request.model": ("m-1",),
        "gen_ai.usage.input_tokens": (512,),
        "gen_ai.operation.name": ("chat",),
        "server.address": ("api.example",),
    },
    {"network.protocol.name": ("amqp", "HTTP", "a b"), "peer.service": ("Cart Service", "ü" * 90)},
    {
        "operation.name": ("My.Op", "9lives", "!!!", "a._b c", "x" * 150, "ünï", "a_.._b!", "__"),
        "resource.name": ("mine", "r" * 6000),
        "span.type": ("worker", "t" * 150, "cache"),
        "service.name": ("Own", "!!!", "x" * 300, "käse😀käse", "İΣ½٣K", ""),
        "analytics.event": (True, "false", "1", "maybe", 1, 0.5),
        "env": ("Prod EU", 7, ""),
        "version": ("1.2.3", 3, ""),
        "_dd.measured": (1, 0, "1", 1.0),
        "_dd.base_service": ("Base Service", ""),
        "peer.service": ("Other",),
    },
    {  # what is ours to say
        "sampling.priority": (2, 1.0, "keep"),
        "_sampling_priority_v1": (1,),
        "_sample_rate": (0.5, 1, "0.5"),
        "_dd.p.dm": ("-1",),
        "_dd.p.tid": ("0123456789abcdef",),
        "_top_level": (1,),
        "_dd.top_level": (1, "1"),
    },
    {  # of every sort
        "text": ("", "käse 🧀", 'quote " and \\', "a\nb\t\x01\x7f", "<&>\u2028", "v" * 30_000, "ü" * 13_000),
        "number": (0, -1, 2**53 + 1, 2**63 - 1, -(2**63)),
        "fraction": (0.5, 1e21, 1e-7, 123456789012345680.0, -0.0, math.inf, -math.inf, math.nan, 2.0),
        "truth": (True, False),
        "bytes": (b"", b"\x00\xff"),
        "list": ([], ["a", 1, True, 0.5, b"\x00", None], [2.0, 1e16, 1e-7, 1.5e-9, -0.0], [[1], {"z": 1, "a": "<"}]),
        "map": ({}, {"b": {"c": [1]}, "a": None, "ü": "\u2028"}, {"n": math.nan}),
        "nothing": (None,),
        "k" * 250: ("v", 3),
        "_dd.appsec.json": ("j" * 26_000,),
        "": ("no name", 1),
        "http.server_name": ("first", "", 3),
        "error.msg": ("own", ""),
        "error.type": ("Own",),
        "error.message": ("own message",),
        "otel.trace_id": ("theirs",),
        "otel.status_code": ("theirs",),
        "otel.scope.name": ("theirs",),
        "otel.library.version": ("theirs",),
        "span.kind": ("theirs", 3),
        "w3c.tracestate": ("theirs",),
        "events": ("theirs",),
        "_dd.span_links": ("theirs",),
    },
)
_RESOURCES: dict[str, tuple[Any, ...]] = {
    "service.name": ("shop", "Cart Service", "", 5, "pay"),
    "service.version": ("1.2", "V 2"),
    "deployment.environment.name": ("prod", "Prod EU"),
    "deployment.environment": ("stage",),
    "telemetry.sdk.language": ("python",),
    "host.name": ("h1",),
    "env": ("Plain One",),
    "number": (3,),
}
_TRACE_STATES = ("", "", "", "dd=s:1", "ot=th:8", "ot=th:c;rv:12345678901234,x=y", "ot=p:2;r:5", "broken")
_NAMES = ("GET /cart", "SELECT", "", "käse", "n" * 6000)


def traces(seed: int, count: int, spans: int = 12) -> Iterator[bytes]:
    """TracesData of one trace each."""
    for number in range(count):
        yield _trace(Random(f"{seed} {number}"), spans)


def _trace(rng: Random, count: int) -> bytes:
    trace_id = rng.randbytes(16)
    numbers = rng.sample(range(1, 2**63), count)
    data, left = TracesData(), numbers
    while left:
        resource = _some(rng, _RESOURCES, 0.6)
        resource |= _some(rng, rng.choice(SHAPES), 0.3) if rng.random() < 0.3 else {}
        scope = InstrumentationScope(name=rng.choice(("", "lib")), version=rng.choice(("", "1")))
        if rng.random() < 0.2:
            scope.attributes.extend(pairs(_some(rng, rng.choice(SHAPES), 0.3)))
        size = rng.randint(1, len(left))
        made = [_span(rng, trace_id, number, rng.choice((0, rng.choice(numbers), 7))) for number in left[:size]]
        scoped = ScopeSpans(scope=scope, spans=made)
        data.resource_spans.append(ResourceSpans(resource=Resource(attributes=pairs(resource)), scope_spans=[scoped]))
        left = left[size:]
    return data.SerializeToString()


def _some(rng: Random, shape: dict[str, tuple[Any, ...]], share: float) -> dict[str, Any]:
    return {key: rng.choice(values) for key, values in shape.items() if rng.random() < share}


def _span(rng: Random, trace_id: bytes, number: int, parent: int) -> Span:
    attributes: dict[str, Any] = {}
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        attributes |= _some(rng, rng.choice(SHAPES), rng.choice((0.2, 0.7)))
    start = EPOCH_NS + rng.randrange(10**10)
    return Span(
        trace_id=trace_id,
        span_id=number.to_bytes(8, "big"),
        parent_span_id=parent.to_bytes(8, "big") if parent not in (0, number) else b"",
        name=rng.choice(_NAMES),
        kind=rng.choice(_KINDS),  # type: ignore[arg-type]  # enums of proto3 are open
        start_time_unix_nano=start,
        end_time_unix_nano=start + rng.choice((0, -5, 1, 10**6, 10**9 + 1)),
        attributes=pairs(attributes),
        trace_state=rng.choice(_TRACE_STATES),
        status=Status(code=rng.choice((0, 1, 2)), message=rng.choice(("", "it broke"))),  # type: ignore[arg-type]
        events=[_event(rng, start) for _ in range(rng.choice((0, 0, 1, 3)))],
        links=[_link(rng) for _ in range(rng.choice((0, 0, 0, 2)))],
    )


def _event(rng: Random, at_ns: int) -> Span.Event:
    exception = {
        "exception.type": ("ValueError",),
        "exception.message": ('no "such" cart', ""),
        "exception.stacktrace": ("at x\n" * 30, "at y\n" * 6000),
    }
    return Span.Event(
        time_unix_nano=rng.choice((0, at_ns)),
        name=rng.choice(("exception", "exception", "log", "")),
        attributes=pairs(_some(rng, exception, 0.7) | _some(rng, SHAPES[-1], 0.1)),
        dropped_attributes_count=rng.choice((0, 3)),
    )


def _link(rng: Random) -> Span.Link:
    return Span.Link(
        trace_id=rng.randbytes(16),
        span_id=rng.randbytes(8),
        trace_state=rng.choice(("", "a=b")),
        attributes=pairs(_some(rng, {"why": ("audit", 1, 'a "quote"'), "list": ([1.0, "x"],)}, 0.5)),
        flags=rng.choice((0, 1, 257)),
        dropped_attributes_count=rng.choice((0, 2)),
    )
