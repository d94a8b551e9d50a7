"""What a span is called in Datadog: operation name, resource, type and service.

Each is a table of rules, tried from the top; the first whose attributes are there gives the name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tss.core.datadog.values import MAX_NAME, MAX_RESOURCE, MAX_SERVICE, MAX_TYPE, Value, cut, tag, text

UNSPECIFIED, INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = range(6)  # Span.SpanKind
_ANY = frozenset(range(6))
_OVER_THE_WIRE = frozenset((CLIENT, SERVER, CONSUMER, PRODUCER))

KIND_NAMES: Mapping[int, str] = {
    UNSPECIFIED: "unspecified",
    INTERNAL: "internal",
    SERVER: "server",
    CLIENT: "client",
    PRODUCER: "producer",
    CONSUMER: "consumer",
}
# An operation that no rule names goes by its kind.
_KIND_OPERATIONS = {PRODUCER: "Producer", CONSUMER: "Consumer"}

NO_SERVICE = "otlpresourcenoservicename"

# Names of one thing in several versions of OpenTelemetry's conventions; the first that is there counts.
KEYS: Mapping[str, tuple[str, ...]] = {
    "method": ("http.request.method", "http.method"),
    "status": ("http.status_code", "http.response.status_code"),
    "grpc_status": ("rpc.grpc.status_code", "grpc.code", "rpc.grpc.status.code", "grpc.status.code"),
    "env": ("deployment.environment.name", "deployment.environment"),
    "db": ("db.system.name", "db.system"),
    "statement": ("db.statement", "db.query.text"),
    "destination": ("messaging.destination", "messaging.destination.name"),
    "messaging": ("messaging.system",),
    "messaging_operation": ("messaging.operation",),
    "rpc": ("rpc.system",),
    "rpc_service": ("rpc.service",),
    "rpc_method": ("rpc.method",),
    "faas_provider": ("faas.invoked_provider",),
    "faas_name": ("faas.invoked_name",),
    "faas_trigger": ("faas.trigger",),
    "graphql_type": ("graphql.operation.type",),
    "graphql_name": ("graphql.operation.name",),
    "protocol": ("network.protocol.name",),
    "route": ("http.route",),
    "template": ("url.template",),
    "version": ("service.version",),
    "service": ("service.name",),
    "operation_name": ("operation.name",),
    "resource_name": ("resource.name",),
    "span_type": ("span.type",),
    "db_namespace": ("db.namespace",),
    "measured": ("_dd.measured",),
}


@attrs.frozen
class Subject:
    """A span to be named: its kind and name, its own attributes and its resource's."""

    kind: int
    name: str
    own: Mapping[str, Value]
    resource: Mapping[str, Value]

    @classmethod
    def of(cls, span: Span, own: Mapping[str, Value], resource: Mapping[str, Value]) -> Subject:
        return cls(span.kind, span.name, own, resource)

    def find(self, what: str) -> str:
        """The text of an attribute by its word in KEYS, the span's before the resource's; empty when there is none."""
        for place in (self.own, self.resource):
            for key in KEYS[what]:
                value = place.get(key)
                if value is not None and (found := text(value)):
                    return found
        return ""


@attrs.frozen
class Rule:
    """For these kinds, if the attributes `needs` are all there: a name made of them, as tags."""

    kinds: frozenset[int]
    needs: tuple[str, ...]
    name: str
    only_if: Callable[[Sequence[str]], bool] = lambda _values: True


_SERVER, _CLIENT = frozenset((SERVER,)), frozenset((CLIENT,))


def _is_aws(values: Sequence[str]) -> bool:
    return values[0] == "aws-api"


# Operation name, version 2.
_OPERATIONS: Sequence[Rule] = (
    Rule(_ANY, ("operation_name",), "{0}"),
    Rule(_SERVER, ("method",), "http.server.request"),
    Rule(_CLIENT, ("method",), "http.client.request"),
    Rule(_CLIENT, ("db",), "{0}.query"),
    Rule(_OVER_THE_WIRE, ("messaging", "messaging_operation"), "{0}.{1}"),
    Rule(_CLIENT, ("rpc", "rpc_service"), "aws.{1}.request", _is_aws),
    Rule(_CLIENT, ("rpc",), "aws.client.request", _is_aws),
    Rule(_CLIENT, ("rpc",), "{0}.client.request"),
    Rule(_SERVER, ("rpc",), "{0}.server.request"),
    Rule(_CLIENT, ("faas_provider", "faas_name"), "{0}.{1}.invoke"),
    Rule(_SERVER, ("faas_trigger",), "{0}.invoke"),
    Rule(_ANY, ("graphql_type",), "graphql.server.request"),
    Rule(_SERVER, ("protocol",), "{0}.server.request"),
    Rule(_SERVER, (), "server.request"),
    Rule(_CLIENT, ("protocol",), "{0}.client.request"),
    Rule(_CLIENT, (), "client.request"),
)


def operation(subject: Subject) -> str:
    for rule in _OPERATIONS:
        if subject.kind not in rule.kinds:
            continue
        values = [tag(subject.find(need)) for need in rule.needs]
        if all(values) and rule.only_if(values):
            return cut(rule.name.format(*values), MAX_NAME)
    return _KIND_OPERATIONS.get(subject.kind, "Internal")


# Resource, version 2: what must be there, and what comes after it if it is there too.
_RESOURCES: Sequence[tuple[str, Mapping[int, str]]] = (
    ("resource_name", {}),
    ("method", {SERVER: "route", CLIENT: "template"}),
    ("messaging_operation", dict.fromkeys(_ANY, "destination")),
    ("rpc_method", dict.fromkeys(_ANY, "rpc_service")),
    ("graphql_type", dict.fromkeys(_ANY, "graphql_name")),
)


def resource(subject: Subject) -> str:
    return cut(_resource(subject) or operation(subject), MAX_RESOURCE)


def _resource(subject: Subject) -> str:
    for what, then in _RESOURCES:
        first = subject.find(what)
        if not first:
            continue
        if what == "method" and first == "_OTHER":
            first = "HTTP"
        second = subject.find(then[subject.kind]) if subject.kind in then else ""
        return f"{first} {second}" if second else first
    if subject.find("db") and (statement := subject.find("statement")):
        return statement  # the agent obfuscates it
    return subject.name


def _types(name: str, systems: str) -> dict[str, str]:
    return dict.fromkeys(systems.split(), name)


_DATABASE_TYPES: Mapping[str, str] = {
    **_types(
        "sql",
        "other_sql mssql mysql oracle db2 postgresql redshift cloudscape hsqldb maxdb ingres firstsql edb cache firebird"
        " derby informix mariadb sqlite sybase teradata vertica h2 coldfusion cockroachdb progress hanadb adabas"
        " filemaker instantdb interbase netezza pervasive pointbase clickhouse"
        " microsoft.sql_server oracle.db ibm.db2 aws.redshift sap.hana sap.maxdb",
    ),
    **_types("cassandra", "cassandra"),
    **_types("redis", "redis"),
    **_types("memcached", "memcached"),
    **_types("mongodb", "mongodb"),
    **_types("elasticsearch", "elasticsearch"),
    **_types("opensearch", "opensearch"),
}


def span_type(subject: Subject) -> str:
    if named := subject.find("span_type"):
        return cut(named, MAX_TYPE)
    if any(key.startswith("gen_ai.") for key in subject.own):
        return "llm"
    if subject.kind == SERVER:
        return "web"
    if subject.kind != CLIENT:
        return "custom"
    database = tag(subject.find("db"))
    return _DATABASE_TYPES.get(database, "db") if database else "http"


def service(subject: Subject) -> str:
    return cut(tag(subject.find("service")), MAX_SERVICE) or NO_SERVICE
