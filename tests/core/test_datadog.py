"""OTLP to Datadog, a case for each line of its tables.

That the tables are the Datadog agent's, `tests/real/test_datadog_mapping.py` proves.
"""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import (
    AnyValue,
    ArrayValue,
    InstrumentationScope,
    KeyValue,
    KeyValueList,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status, TracesData

from tss.core.formats.datadog import lead, to_spans
from tss.core.formats.datadog.values import cut, metric_name, tag

TRACE = bytes(range(1, 17))
INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = range(1, 6)
ERROR = Status(code=Status.STATUS_CODE_ERROR)


_FIELDS = (
    (bool, "bool_value"),
    (int, "int_value"),
    (float, "double_value"),
    (str, "string_value"),
    (bytes, "bytes_value"),
)


def any_value(value: Any) -> AnyValue:
    for sort, field in _FIELDS:
        if isinstance(value, sort):
            return AnyValue(**{field: value})  # type: ignore[arg-type]  # the field is that sort's
    if isinstance(value, list):
        return AnyValue(array_value=ArrayValue(values=[any_value(item) for item in value]))
    return AnyValue() if value is None else AnyValue(kvlist_value=KeyValueList(values=pairs(value)))


def pairs(values: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=any_value(value)) for key, value in values.items()]


def otlp(number: int = 1, parent: int = 0, attributes: dict[str, Any] | None = None, **fields: Any) -> Span:
    defaults: dict[str, Any] = {
        "name": "the name",
        "kind": INTERNAL,
        "start_time_unix_nano": 1000,
        "end_time_unix_nano": 3000,
    }
    return Span(
        trace_id=TRACE,
        span_id=number.to_bytes(8, "big"),
        parent_span_id=parent.to_bytes(8, "big") if parent else b"",
        attributes=pairs(attributes or {}),
        **(defaults | fields),
    )


def data(*spans: Span, resource: dict[str, Any] | None = None, scope: InstrumentationScope | None = None) -> bytes:
    return TracesData(
        resource_spans=[
            ResourceSpans(
                resource=Resource(attributes=pairs({"service.name": "shop"} if resource is None else resource)),
                scope_spans=[ScopeSpans(scope=scope, spans=spans)],
            )
        ]
    ).SerializeToString()


def convert(
    attributes: dict[str, Any] | None = None, resource: dict[str, Any] | None = None, **fields: Any
) -> dict[str, Any]:
    [span] = to_spans(data(otlp(attributes=attributes, **fields), resource=resource))
    return span


def test_a_whole_span():
    """All of it at once, as the agent would take it."""
    span = convert({"user.name": "ann", "cart.items": 3}, kind=SERVER)
    assert span == {
        "service": "shop",
        "name": "server.request",
        "resource": "the name",
        "type": "web",
        "trace_id": 0x090A0B0C0D0E0F10,
        "span_id": 1,
        "parent_id": 0,
        "start": 1000,
        "duration": 2000,
        "error": 0,
        "meta": {
            "span.kind": "server",
            "otel.trace_id": "0102030405060708090a0b0c0d0e0f10",
            "otel.status_code": "Unset",
            "user.name": "ann",
        },
        "metrics": {"cart.items": 3.0, "_top_level": 1.0},
    }


# Operation name


@pytest.mark.parametrize(
    ("kind", "attributes", "name"),
    [
        (SERVER, {"operation.name": "My.Op", "http.request.method": "GET"}, "my.op"),
        (SERVER, {"http.request.method": "GET", "db.system": "redis"}, "http.server.request"),
        (CLIENT, {"http.method": "GET", "db.system": "redis"}, "http.client.request"),
        (INTERNAL, {"http.method": "GET"}, "Internal"),
        (CLIENT, {"db.system": "PostgreSQL"}, "postgresql.query"),
        (CLIENT, {"db.system.name": "mysql", "db.system": "redis"}, "mysql.query"),
        (SERVER, {"db.system": "redis"}, "server.request"),
        (CONSUMER, {"messaging.system": "kafka", "messaging.operation": "process"}, "kafka.process"),
        (PRODUCER, {"messaging.system": "kafka", "messaging.operation": "publish"}, "kafka.publish"),
        (CLIENT, {"messaging.system": "kafka", "messaging.operation": "publish"}, "kafka.publish"),
        (INTERNAL, {"messaging.system": "kafka", "messaging.operation": "publish"}, "Internal"),
        (PRODUCER, {"messaging.system": "kafka"}, "Producer"),
        (CLIENT, {"rpc.system": "aws-api", "rpc.service": "S3"}, "aws.s3.request"),
        (CLIENT, {"rpc.system": "aws-api"}, "aws.client.request"),
        (CLIENT, {"rpc.system": "grpc", "rpc.service": "Cart"}, "grpc.client.request"),
        (SERVER, {"rpc.system": "grpc"}, "grpc.server.request"),
        (SERVER, {"rpc.system": "aws-api"}, "aws_api.server.request"),
        (CLIENT, {"faas.invoked_provider": "aws", "faas.invoked_name": "resize"}, "aws.resize.invoke"),
        (SERVER, {"faas.trigger": "timer"}, "timer.invoke"),
        (INTERNAL, {"graphql.operation.type": "query"}, "graphql.server.request"),
        (SERVER, {"network.protocol.name": "amqp"}, "amqp.server.request"),
        (CLIENT, {"network.protocol.name": "amqp"}, "amqp.client.request"),
        (SERVER, {}, "server.request"),
        (CLIENT, {}, "client.request"),
        (PRODUCER, {}, "Producer"),
        (CONSUMER, {}, "Consumer"),
        (INTERNAL, {}, "Internal"),
        (0, {}, "Internal"),
        (77, {}, "unnamed_operation"),
        (77, {"graphql.operation.type": "query"}, "graphql.server.request"),
        (SERVER, {"operation.name": "9 lives"}, "lives"),
        (SERVER, {"operation.name": "123"}, "unnamed_operation"),
        (SERVER, {"http.method": "!!!"}, "http.server.request"),
        (SERVER, {"http.method": 5, "rpc.system": "!!!"}, "server.request"),  # no text, nothing left of it
    ],
)
def test_operation_name(kind, attributes, name):
    assert convert(attributes, kind=kind)["name"] == name


# Resource


@pytest.mark.parametrize(
    ("kind", "attributes", "resource"),
    [
        (SERVER, {"resource.name": "mine", "http.method": "GET"}, "mine"),
        (SERVER, {"http.request.method": "GET", "http.route": "/cart/{id}"}, "GET /cart/{id}"),
        (SERVER, {"http.request.method": "GET", "url.template": "/x"}, "GET"),
        (CLIENT, {"http.method": "POST", "url.template": "/cart/{id}", "http.route": "/no"}, "POST /cart/{id}"),
        (SERVER, {"http.request.method": "_OTHER", "http.route": "/r"}, "HTTP /r"),
        (CONSUMER, {"messaging.operation": "process", "messaging.destination.name": "orders"}, "process orders"),
        (CONSUMER, {"messaging.operation": "process", "messaging.destination": "old"}, "process old"),
        (CONSUMER, {"messaging.operation": "process"}, "process"),
        (CLIENT, {"rpc.method": "Get", "rpc.service": "Cart"}, "Get Cart"),
        (CLIENT, {"rpc.method": "Get"}, "Get"),
        (SERVER, {"graphql.operation.type": "query", "graphql.operation.name": "cart"}, "query cart"),
        (CLIENT, {"db.system": "mysql", "db.statement": "SELECT 1", "db.query.text": "SELECT 2"}, "SELECT 1"),
        (CLIENT, {"db.system": "mysql", "db.query.text": "SELECT 2"}, "SELECT 2"),
        (CLIENT, {"db.statement": "SELECT 1"}, "the name"),
        (CLIENT, {}, "the name"),
        (CLIENT, {"resource.name": 5, "http.method": ""}, "the name"),
        (77, {"rpc.method": "Get", "rpc.service": "Cart"}, "Get Cart"),
    ],
)
def test_resource(kind, attributes, resource):
    assert convert(attributes, kind=kind)["resource"] == resource


def test_nameless_span_has_its_operation_for_resource():
    assert convert(name="", kind=SERVER)["resource"] == "server.request"


# Type


@pytest.mark.parametrize(
    ("kind", "attributes", "type_"),
    [
        (SERVER, {"span.type": "worker"}, "worker"),
        (CLIENT, {"gen_ai.request.model": "m", "http.method": "POST"}, "llm"),
        (SERVER, {"db.system": "mysql"}, "web"),
        (CLIENT, {}, "http"),
        (CLIENT, {"db.system": "postgresql"}, "sql"),
        (CLIENT, {"db.system": "clickhouse"}, "sql"),
        (CLIENT, {"db.system.name": "microsoft.sql_server"}, "sql"),
        (CLIENT, {"db.system": "actian.ingres"}, "sql"),
        (CLIENT, {"db.system": "redis"}, "redis"),
        (CLIENT, {"db.system": "memcached"}, "memcached"),
        (CLIENT, {"db.system": "mongodb"}, "mongodb"),
        (CLIENT, {"db.system": "elasticsearch"}, "elasticsearch"),
        (CLIENT, {"db.system": "opensearch"}, "opensearch"),
        (CLIENT, {"db.system": "cassandra"}, "cassandra"),
        (CLIENT, {"db.system": "dynamodb"}, "db"),
        (CLIENT, {"db.system": "something new"}, "db"),
        (CONSUMER, {}, "custom"),
        (INTERNAL, {"db.system": "redis"}, "custom"),
    ],
)
def test_type(kind, attributes, type_):
    assert convert(attributes, kind=kind)["type"] == type_


# Service, environment, version


@pytest.mark.parametrize(
    ("own", "resource", "service"),
    [
        ({}, {"service.name": "Shop Front!"}, "shop_front"),
        ({"service.name": "own"}, {"service.name": "shop"}, "own"),
        ({"peer.service": "other"}, {"service.name": "shop"}, "shop"),
        ({}, {}, "otlpresourcenoservicename"),
        ({}, {"service.name": "!!!"}, "unnamed-service"),
        ({"service.name": ""}, {"service.name": "shop"}, "shop"),
        ({"service.name": 5}, {}, "otlpresourcenoservicename"),
        ({}, {"service.name": "x" * 300}, "x" * 100),
    ],
)
def test_service(own, resource, service):
    assert convert(own, resource)["service"] == service


@pytest.mark.parametrize(
    ("own", "resource", "env", "version"),
    [
        (
            {},
            {"deployment.environment.name": "Prod", "deployment.environment": "x", "service.version": "1.2"},
            "prod",
            "1.2",
        ),
        ({}, {"deployment.environment": "stage"}, "stage", None),
        (
            {"deployment.environment": "own"},
            {"deployment.environment.name": "prod"},
            "prod",
            None,
        ),  # the key counts first
        ({"deployment.environment": "own"}, {"deployment.environment": "prod"}, "own", None),
        ({"env": "Mine", "version": "V 7"}, {"deployment.environment": "prod", "service.version": "1"}, "mine", "V 7"),
        ({}, {"env": "plain"}, "plain", None),
        ({}, {}, None, None),
    ],
)
def test_env_and_version(own, resource, env, version):
    meta = convert(own, resource)["meta"]
    assert (meta.get("env"), meta.get("version")) == (env, version)


# Attributes


@pytest.mark.parametrize(
    ("value", "place", "stored"),
    [
        ("text", "meta", "text"),
        ("", "meta", ""),
        (7, "metrics", 7.0),
        (-7, "metrics", -7.0),
        (0, "metrics", 0.0),
        (2.5, "metrics", 2.5),
        (2**53 + 1, "metrics", 2.0**53),
        (-(2**63), "metrics", -(2.0**63)),
        (True, "meta", "true"),
        (False, "meta", "false"),
        (b"\x00\xff", "meta", "AP8="),
        (["a", 1, True, 0.5, b"\x00"], "meta", '["a",1,true,0.5,"AA=="]'),
        ({"a": {"b": [1]}, "ü": None}, "meta", '{"a":{"b":[1]},"ü":null}'),
        ({"z": 1, "a": 'say "x"'}, "meta", '{"a":"say \\"x\\"","z":1}'),
        ([2.0, 1e16, 1e21, 1e-7, 1.5e-10, 1e-6, -0.0], "meta", "[2,10000000000000000,1e+21,1e-7,1.5e-10,0.000001,-0]"),
        ([math.inf, {"n": -math.inf}, math.nan], "meta", '["Infinity",{"n":"-Infinity"},"NaN"]'),
        (None, "meta", ""),
    ],
)
def test_attribute_values(value, place, stored):
    span = convert({"key": value})
    assert span[place]["key"] == stored and type(span[place]["key"]) is type(stored)
    assert "key" not in span["metrics" if place == "meta" else "meta"]


def test_metrics_that_are_no_number():
    metrics = convert({"nan": math.nan, "inf": math.inf})["metrics"]
    assert math.isnan(metrics["nan"]) and metrics["inf"] == math.inf


@pytest.mark.parametrize(
    ("key", "renamed"),
    [
        ("client.address", "http.client_ip"),
        ("http.response.body.size", "http.response.content_length"),
        ("http.response.status_code", "http.status_code"),
        ("http.request.body.size", "http.request.content_length"),
        ("http.request.method", "http.method"),
        ("network.protocol.version", "http.version"),
        ("server.address", "http.server_name"),
        ("url.full", "http.url"),
        ("user_agent.original", "http.useragent"),
        ("http.request.header.accept", "http.request.headers.accept"),
        ("http.request.header.referrer", "http.referrer"),
    ],
)
def test_renamed(key, renamed):
    for attributes, place, value in (({key: "200"}, "meta", "200"), ({key: 3}, "metrics", 3.0)):
        span = convert(attributes)
        assert span[place][renamed] == value
        assert key not in span["meta"] and key not in span["metrics"]


def test_what_has_become_a_field_is_no_tag():
    attributes = {"service.name": "s", "operation.name": "o", "resource.name": "r", "span.type": "t"}
    span = convert(attributes, attributes)
    assert not attributes.keys() & (span["meta"].keys() | span["metrics"].keys())


@pytest.mark.parametrize("key", ["http.status_code", "http.response.status_code"])
@pytest.mark.parametrize(
    ("code", "number", "tag"),
    [
        (404, 404.0, None),
        ("404", 404.0, "404"),
        ("404.0", 404.0, None),  # a number, and no status in a tag
        ("799", 799.0, None),
        (0, 0.0, None),
        (-1, -1.0, None),
        ("-1", None, None),
        ("word", None, None),
        ("", None, None),
    ],
)
def test_status_code(key, code, number, tag):
    span = convert({key: code})
    assert (span["metrics"].get("http.status_code"), span["meta"].get("http.status_code")) == (number, tag)


def test_a_status_code_that_is_none_leaves_room_for_another():
    assert convert({"http.status_code": "word", "http.response.status_code": 500})["metrics"] == {
        "http.status_code": 500.0,
        "_top_level": 1.0,
    }


def test_old_status_code_wins():
    assert convert({"http.response.status_code": 500, "http.status_code": 404})["metrics"]["http.status_code"] == 404.0
    assert convert({"http.status_code": 404, "http.response.status_code": 500})["metrics"]["http.status_code"] == 404.0


@pytest.mark.parametrize(
    "attributes",
    [
        {"rpc.grpc.status_code": 5},
        {"grpc.code": "5"},
        {"rpc.grpc.status_code": 5.0, "grpc.status.code": 5},
        {"rpc.response.status_code": 5, "rpc.system": "grpc"},
        {"rpc.response.status_code": "5", "rpc.system.name": "grpc", "rpc.system": "x"},
    ],
)
def test_grpc_status_code_is_a_tag(attributes):
    assert convert(attributes)["meta"]["rpc.grpc.status_code"] == "5"


@pytest.mark.parametrize("system", [{}, {"rpc.system": "x"}, {"rpc.system.name": "x", "rpc.system": "grpc"}])
def test_the_status_of_another_system_is_not_grpc_s(system):
    assert "rpc.grpc.status_code" not in convert({"rpc.response.status_code": 5} | system)["meta"]


@pytest.mark.parametrize(("value", "stored"), [(True, 1.0), ("false", 0.0), ("T", 1.0)])
def test_analytics_event(value, stored):
    assert convert({"analytics.event": value})["metrics"]["_dd1.sr.eausr"] == stored


@pytest.mark.parametrize("value", ["maybe", ""])
def test_analytics_event_that_is_no_truth(value):
    span = convert({"analytics.event": value})
    assert not {"analytics.event", "_dd1.sr.eausr"} & (span["meta"].keys() | span["metrics"].keys())


def test_measured():
    assert convert({"_dd.measured": 1})["metrics"]["_dd.measured"] == 1.0
    assert convert({}, {"service.name": "shop", "_dd.measured": 1})["metrics"]["_dd.measured"] == 1.0
    assert "_dd.measured" not in convert({"_dd.measured": "1"})["metrics"]


def test_names_in_tags_are_names():
    meta = convert({"peer.service": "Cart Service", "_dd.base_service": "x" * 300})["meta"]
    assert (meta["peer.service"], meta["_dd.base_service"]) == ("cart_service", "x" * 100)


def test_a_resource_fills_in_what_the_span_has_not():
    span = convert(
        {"a": "span", "b": 1, "e": ""},
        {"a": "resource", "b": "resource", "c": 3, "d": True, "e": "resource", "server.address": "host"},
    )
    expected = {"a": "span", "b": "resource", "c": "3", "d": "true", "e": "resource", "http.server_name": "host"}
    assert span["meta"] | expected == span["meta"]
    assert span["metrics"]["b"] == 1.0  # a number of the span's and a text of the resource's stand side by side


def test_a_scope_says_the_last_word():
    own = {"a": "span", "otel.scope.name": "theirs", "otel.library.name": "theirs"}
    scope = InstrumentationScope(
        name="lib", version="2", attributes=pairs({"a": "scope", "b": 1, "server.address": "x", "_dd.p.tid": "ff"})
    )
    [span] = to_spans(data(otlp(attributes=own), resource={"a": "resource"}, scope=scope))
    assert span["meta"] | {"a": "scope", "b": "1", "server.address": "x"} == span["meta"]
    assert "_dd.p.tid" not in span["meta"]
    for key, value in (("name", "lib"), ("version", "2")):
        assert span["meta"][f"otel.scope.{key}"] == span["meta"][f"otel.library.{key}"] == value


def test_a_scope_without_a_name_replaces_none():
    assert convert({"otel.scope.name": "theirs"})["meta"]["otel.scope.name"] == "theirs"


def test_what_is_known_of_the_span_replaces_an_attribute():
    keys = ("otel.trace_id", "otel.status_code", "span.kind", "w3c.tracestate")
    meta = convert(dict.fromkeys(keys, "theirs"), trace_state="a=b", kind=SERVER)["meta"]
    assert [meta[key] for key in keys] == [TRACE.hex(), "Unset", "server", "a=b"]


def test_db_name():
    assert convert({"db.namespace": "orders"})["meta"]["db.name"] == "orders"
    assert convert({"db.namespace": "orders", "db.name": "old"})["meta"]["db.name"] == "old"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (0, "unspecified"),
        (1, "internal"),
        (2, "server"),
        (3, "client"),
        (4, "producer"),
        (5, "consumer"),
        (9, "unspecified"),
    ],
)
def test_span_kind(kind, name):
    assert convert(kind=kind)["meta"]["span.kind"] == name


def test_status_and_trace_state():
    assert convert(status=Status(code=Status.STATUS_CODE_OK))["meta"]["otel.status_code"] == "Ok"
    span = convert(status=Status(code=Status.STATUS_CODE_ERROR, message="broke"), trace_state="dd=s:1")
    assert span["error"] == 1
    assert span["meta"]["otel.status_code"] == "Error"
    assert span["meta"]["otel.status_description"] == "broke"
    assert span["meta"]["w3c.tracestate"] == "dd=s:1"


# Events and links


def test_events():
    events = [
        Span.Event(time_unix_nano=5, name="a", attributes=pairs({"n": 1, "t": "x"}), dropped_attributes_count=2),
        Span.Event(name="b"),
    ]
    assert json.loads(convert(events=events)["meta"]["events"]) == [
        {"time_unix_nano": 5, "name": "a", "attributes": {"n": 1, "t": "x"}, "dropped_attributes_count": 2},
        {"name": "b"},
    ]
    assert "_dd.span_events.has_exception" not in convert(events=events)["meta"]


def test_one_event_that_is_too_long_is_told_in_short():
    """A stack of a hundred pages must not take with it what else is known of the exception."""
    stack = "at x\n" * 20_000
    written = convert(events=[exception(type="T", message="m", stacktrace=stack), Span.Event(name="b")])["meta"][
        "events"
    ]
    first, *others = json.loads(written)
    assert (first["name"], first["attributes"]["exception.type"]) == ("exception", "T")
    shown = first["attributes"]["exception.stacktrace"]
    assert len(shown) > 10_000 and shown.endswith("...") and stack.startswith(shown.removesuffix("..."))
    assert len(written) <= 25_000 and others == [{"name": "b"}]


def test_links():
    link = Span.Link(trace_id=TRACE, span_id=b"12345678", trace_state="a=b", attributes=pairs({"n": 1}), flags=1)
    assert json.loads(convert(links=[link])["meta"]["_dd.span_links"]) == [
        {
            "trace_id": TRACE.hex(),
            "span_id": b"12345678".hex(),
            "tracestate": "a=b",
            "attributes": {"n": "1"},
            "flags": 1,
        }
    ]


def test_too_many_events_are_cut_between_two():
    events = [Span.Event(name=f"{number} " + "x" * 995) for number in range(100)]
    written = convert(events=events)["meta"]["events"]
    kept = json.loads(written)
    assert len(written) <= 25_000 and 20 < len(kept) < 25
    assert kept == [{"name": event.name} for event in events[: len(kept)]]


# Errors


def exception(**attributes: str) -> Span.Event:
    return Span.Event(
        name="exception", attributes=pairs({f"exception.{key}": value for key, value in attributes.items()})
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"events": [exception(message="first"), exception(message="m", type="T", stacktrace="s")]},
            {"error.msg": "m", "error.message": "m", "error.type": "T", "error.stack": "s"},
        ),
        (
            {"status": Status(code=Status.STATUS_CODE_ERROR, message="broke")},
            {"error.msg": "broke", "error.message": "broke"},
        ),
        (
            {"attributes": {"http.response.status_code": 404}},
            {"error.msg": "404 Not Found", "error.message": "404 Not Found"},
        ),
        ({"attributes": {"http.status_code": 799}}, {"error.msg": "799", "error.message": "799"}),
        (
            {"attributes": {"error.msg": "own", "error.type": "Own"}, "events": [exception(message="m", type="T")]},
            {"error.msg": "own", "error.message": "own", "error.type": "Own"},
        ),
        (
            {"attributes": {"error.message": "own"}, "events": [Span.Event(name="x")]},
            {"error.msg": "own", "error.message": "own"},
        ),
        ({}, {}),
    ],
)
def test_error_tags(fields, expected):
    span = convert(**({"status": ERROR} | fields))
    assert span["error"] == 1
    assert {key: value for key, value in span["meta"].items() if key.startswith("error.")} == expected


def test_an_exception_without_an_error_is_none():
    span = convert(events=[exception(message="m")])
    assert span["error"] == 0
    assert span["meta"]["_dd.span_events.has_exception"] == "true"
    assert not any(key.startswith("error.") for key in span["meta"])


# The trace as a whole


def services(*spans: tuple[int, int, str]) -> dict[int, dict[str, Any]]:
    """Spans by number, given as (number, parent, service)."""
    payload = b"".join(data(otlp(number, parent), resource={"service.name": name}) for number, parent, name in spans)
    return {span["span_id"]: span for span in to_spans(payload)}


def test_top_level():
    spans = services((1, 0, "a"), (2, 1, "a"), (3, 2, "b"), (4, 3, "b"), (5, 99, "b"), (6, 4, "A"))
    assert [number for number, span in spans.items() if "_top_level" in span["metrics"]] == [1, 3, 5, 6]


def test_lead():
    spans = [*services((1, 0, "a"), (2, 1, "a")).values()]
    lead(spans)
    assert spans[0]["metrics"]["_sampling_priority_v1"] == 2.0
    assert spans[0]["meta"]["_dd.p.dm"] == "-4"
    assert spans[0]["meta"]["_dd.p.tid"] == TRACE.hex()[:16]
    assert "_sampling_priority_v1" not in spans[1]["metrics"]
    assert not {"_dd.p.dm", "_dd.p.tid"} & spans[1]["meta"].keys()


def test_what_others_decided_is_replaced():
    """A user's sampling.priority of 0 must not make the agent drop what this daemon keeps."""
    theirs = {"_sampling_priority_v1": 0, "sampling.priority": -1, "_dd.p.dm": "-1", "_dd.p.tid": "ff", "_top_level": 1}
    first, second = to_spans(data(otlp(1), otlp(2, 1, attributes=theirs)))
    lead([first, second])
    assert second["metrics"] == {}
    assert not {"_dd.p.dm", "_dd.p.tid"} & second["meta"].keys()


@pytest.mark.parametrize(
    ("rate", "trace_state", "attributes", "expected"),
    [
        (1.0, "", {}, None),
        (0.1, "", {}, 0.1),
        (1.0, "ot=th:8", {}, 0.5),
        (0.1, "ot=th:8", {}, 0.1),  # both compare the trace id with a threshold: the lower rate is that of both
        (0.5, "other=1, ot=x:y;th:c", {}, 0.25),
        (0.5, "ot=th:8;rv:12345678901234", {}, 0.5),  # both compare the same randomness: the lower rate applies
        (0.5, "", {"_sample_rate": 0.5}, 0.25),
        (0.5, "ot=th:zz", {}, 0.5),
        (0.5, "ot=", {}, 0.5),
        (1.0, "ot=th:0", {}, None),
        (0.5, "", {"_sample_rate": 7}, 0.5),
        (1.0, "ot=th:8", {"_sample_rate": "0.1"}, 0.5),  # a text is no rate
        (0.5, "ot=th:123456789abcdef", {}, 0.5),  # no threshold has fifteen digits
        (0.5, "ot=p:2;r:5", {}, 0.125),
        (1.0, "ot=p:2;th:8", {}, 0.5),
        (1.0, "ot=p:63", {}, None),
        (1.0, "ot=p:x", {}, None),
    ],
)
def test_weight(rate, trace_state, attributes, expected):
    root, child = to_spans(data(otlp(1, attributes=attributes, trace_state=trace_state), otlp(2, 1)), rate)
    assert root["metrics"].get("_sample_rate") == expected
    assert "_sample_rate" not in child["metrics"]


# Limits


def test_lengths():
    attributes = {"k" * 300: "v" * 30_000, "m" * 300: 1, "long": "ü" * 20_000, "_dd.appsec.json": "j" * 30_000}
    span = convert(attributes | {"operation.name": "o" * 300, "span.type": "t" * 300, "resource.name": "r" * 6000})
    assert [len(span[key]) for key in ("name", "type", "resource")] == [100, 100, 5000]
    assert span["meta"]["k" * 200 + "..."] == "v" * 25_000 + "..."
    assert span["metrics"]["m" * 200 + "..."] == 1.0
    assert span["meta"]["long"] == "ü" * 12_500 + "..."
    assert span["meta"]["_dd.appsec.json"] == "j" * 30_000  # of no use when cut


def test_times():
    assert convert(end_time_unix_nano=500)["duration"] == 0
    assert convert(end_time_unix_nano=0)["duration"] == 0
    span = convert(start_time_unix_nano=2**64 - 1, end_time_unix_nano=2**64 - 1)
    assert (span["start"], span["duration"]) == (2**63 - 1, 0)


NOW, ENDED = 1_790_000_000_000_000_000, 1_700_000_001_000_000_000  # ns


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, ENDED, (ENDED, 0)),  # 11-start-zero: a duration of 54 years cannot be right
        (1_700_000_000_000_000, 1_700_000_001_000_000, (NOW - 1_000_000, 1_000_000)),  # 11-start-in-us
        (1_700_000_000, 1_700_000_003, (NOW - 3, 3)),  # in seconds
        (0, 0, (NOW, 0)),
        (1_700_000_000_000_000, ENDED, (ENDED, 0)),
        (2**63, ENDED, (ENDED, 0)),
        (2**64 - 1, 2**64 - 1, (NOW, 0)),
        (ENDED, 2**64 - 1, (ENDED, 0)),
        (ENDED, ENDED - 1, (ENDED, 0)),
        (ENDED, 0, (ENDED, 0)),
        (ENDED - 5, ENDED, (ENDED - 5, 5)),
    ],
)
def test_a_start_that_cannot_be_is_set_right(start, end, expected):
    """Datadog puts a span with such a start into 1970, where nobody looks for it."""
    [span] = to_spans(data(otlp(start_time_unix_nano=start, end_time_unix_nano=end)), now_ns=NOW)
    assert (span["start"], span["duration"]) == expected


def test_a_parent_id_of_an_odd_length():
    [span] = to_spans(data(Span(trace_id=TRACE, span_id=b"12345678", parent_span_id=b"nine-byte")))
    assert 0 < span["parent_id"] < 2**64


@given(st.text(max_size=300), st.integers(1, 250))
@settings(max_examples=60, deadline=None)
def test_cut(value, limit):
    short = cut(value, limit)
    assert value.startswith(short) and len(short.encode()) <= limit
    assert len(value.encode()) > limit or short == value


@given(st.text(max_size=300))
@settings(max_examples=60, deadline=None)
def test_tag(value):
    made = tag(value)
    assert tag(made) == made
    assert len(made.encode()) <= 200 and "__" not in made and not made.endswith("_")
    assert not any(letter in made for letter in " !,=\n")


@pytest.mark.parametrize(
    ("value", "made"),
    [
        ("Shop Front!", "shop_front"),
        ("_a__b_", "_a_b"),
        ("!!!", ""),
        ("ÀÉ٣", "àé٣"),
        ("x²½", "x"),  # digits and fractions that no number is written with
        ("İẞ\u212aǅ", "İẞ\u212aǅ"),  # their lower case is longer or shorter, or they are neither
        ("a" * 199 + "!b", "a" * 199),
        ("!" * 199 + "ab", "_a"),
        ("ü" * 300, "ü" * 200),
        ("😀" * 150, ""),
    ],
)
def test_tags_are_made_as_the_agent_does(value, made):
    assert tag(value) == made


@pytest.mark.parametrize(
    ("value", "made"),
    [
        ("web.request", "web.request"),
        ("a._b", "a._b"),  # goes through as it is, and becomes a.b beside something that does not
        ("a._b c", "a.b_c"),
        ("a_.b", "a.b"),
        ("a-.-b", "a.b"),
        ("9 lives_", "lives"),
        ("käse", "k_se"),
        ("123", "unnamed_operation"),
        ("", "unnamed_operation"),
        ("n" * 300, "n" * 100),
    ],
)
def test_operations_are_named_as_metrics(value, made):
    assert metric_name(value) == made


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
_KEYS = [
    "http.method",
    "db.system",
    "service.name",
    "http.status_code",
    "analytics.event",
    "_sample_rate",
    "env",
    "x",
    "",
]


@given(
    st.dictionaries(st.sampled_from(_KEYS), _values),
    st.dictionaries(st.sampled_from(_KEYS), _values),
    st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_any_attributes_make_a_span_that_the_agent_takes(own, resource, kind):
    span = convert(own, resource, kind=kind)
    assert all(isinstance(value, str) and value.encode() is not None for value in span["meta"].values())
    assert all(type(value) is float for value in span["metrics"].values())
    assert span["service"] and span["name"] and span["resource"] and span["type"]
