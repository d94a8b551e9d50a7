"""The names of a span in Datadog: operation name, resource, type and service.

For each there is a table of rules; the first rule whose attributes are present gives the name. The rules are the Datadog
agent's (`pkg/trace/transform/otelutil.go`, version 2 of its logic, and `pkg/trace/semantics/mappings.json`).
`tests/real/test_datadog_mapping.py` compares them with the agent's own code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import methodcaller
from typing import NamedTuple

import attrs

from tss.core.formats.datadog.values import MAX_RESOURCE, MAX_SERVICE, MAX_TYPE, Value, cut, metric_name, tag, whole

UNSPECIFIED, INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = range(6)  # Span.SpanKind

KIND_NAMES: Mapping[int, str] = {
    UNSPECIFIED: "unspecified",
    INTERNAL: "internal",
    SERVER: "server",
    CLIENT: "client",
    PRODUCER: "producer",
    CONSUMER: "consumer",
}
# The operation name by kind, if no rule gives one. An unknown kind has no name.
_KIND_OPERATIONS = {UNSPECIFIED: "Internal", INTERNAL: "Internal", PRODUCER: "Producer", CONSUMER: "Consumer"}

NO_SERVICE = "otlpresourcenoservicename"
UNNAMED_SERVICE = "unnamed-service"  # there is a service name, but no character of it is allowed in a tag

# Attribute names for the same thing in several versions of OpenTelemetry's semantic conventions. The first that is present
# counts: the span's own attribute, else its resource's.
KEYS: Mapping[str, tuple[str, ...]] = {
    "method": ("http.request.method", "http.method"),
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
}


def texts(attributes: Mapping[str, Value]) -> dict[str, str]:
    """The attributes that can give a name: strings that are not empty."""
    return {key: value for key, value in attributes.items() if type(value) is str and value}


def wholes(attributes: Mapping[str, Value]) -> dict[str, int]:
    """The attributes that can be a status code: integers."""
    return {key: value for key, value in attributes.items() if type(value) is int}


class Subject(NamedTuple):
    """A span to be named. ``own`` are its attributes; ``texts`` and ``wholes`` include its resource's."""

    kind: int
    name: str
    own: Mapping[str, Value]
    texts: Mapping[str, str]
    wholes: Mapping[str, int]

    def find(self, what: str) -> str:
        """The first attribute under this word of KEYS; empty if there is none."""
        for key in KEYS[what]:
            if found := self.texts.get(key):
                return found
        return ""


@attrs.frozen
class OperationRule:
    """Makes a name of the attributes `needs`, normalised as tags, if all of them are present."""

    needs: tuple[str, ...]
    name: str
    first: str = ""  # the required value of the first attribute; "" allows any

    def apply(self, subject: Subject) -> str:
        """The name; empty if the rule does not apply."""
        values: list[str] = []
        for need in self.needs:
            found = subject.find(need)
            # Of a method only the presence matters; any value is allowed.
            if not found or (need != "method" and not (found := tag(found))):
                return ""
            values.append(found)
        return self.name.format(*values) if not self.first or values[0] == self.first else ""


_EVERY, _SERVER, _CLIENT = tuple(range(6)), (SERVER,), (CLIENT,)
_OVER_THE_WIRE = (CLIENT, SERVER, CONSUMER, PRODUCER)

# Rules for the operation name, version 2, by the kinds of spans to which they apply.
_OPERATIONS: Sequence[tuple[tuple[int, ...], OperationRule]] = (
    (_EVERY, OperationRule(("operation_name",), "{0}")),
    (_SERVER, OperationRule(("method",), "http.server.request")),
    (_CLIENT, OperationRule(("method",), "http.client.request")),
    (_CLIENT, OperationRule(("db",), "{0}.query")),
    (_OVER_THE_WIRE, OperationRule(("messaging", "messaging_operation"), "{0}.{1}")),
    (_CLIENT, OperationRule(("rpc", "rpc_service"), "aws.{1}.request", first="aws-api")),
    (_CLIENT, OperationRule(("rpc",), "aws.client.request", first="aws-api")),
    (_CLIENT, OperationRule(("rpc",), "{0}.client.request")),
    (_SERVER, OperationRule(("rpc",), "{0}.server.request")),
    (_CLIENT, OperationRule(("faas_provider", "faas_name"), "{0}.{1}.invoke")),
    (_SERVER, OperationRule(("faas_trigger",), "{0}.invoke")),
    (_EVERY, OperationRule(("graphql_type",), "graphql.server.request")),
    (_SERVER, OperationRule(("protocol",), "{0}.server.request")),
    (_SERVER, OperationRule((), "server.request")),
    (_CLIENT, OperationRule(("protocol",), "{0}.client.request")),
    (_CLIENT, OperationRule((), "client.request")),
)
_OPERATIONS_OF = {kind: [rule for kinds, rule in _OPERATIONS if kind in kinds] for kind in _EVERY}
_OPERATIONS_OF_OTHERS = [rule for kinds, rule in _OPERATIONS if kinds is _EVERY]


def operation(subject: Subject) -> str:
    for rule in _OPERATIONS_OF.get(subject.kind, _OPERATIONS_OF_OTHERS):
        if name := rule.apply(subject):
            return metric_name(name)
    return metric_name(_KIND_OPERATIONS.get(subject.kind, ""))


# Rules for the resource, version 2: the required attribute, and the attribute appended to it if present (by kind, or for
# all kinds).
_RESOURCES: Sequence[tuple[str, str | Mapping[int, str]]] = (
    ("resource_name", {}),
    ("method", {SERVER: "route", CLIENT: "template"}),
    ("messaging_operation", "destination"),
    ("rpc_method", "rpc_service"),
    ("graphql_type", "graphql_name"),
)


def resource(subject: Subject) -> str:
    return cut(uncut_resource(subject), MAX_RESOURCE)


def uncut_resource(subject: Subject) -> str:
    """The resource, not cut to Datadog's maximum length."""
    return _resource(subject) or operation(subject)


def _resource(subject: Subject) -> str:
    for what, then in _RESOURCES:
        first = subject.find(what)
        if not first:
            continue
        if what == "method" and first == "_OTHER":
            first = "HTTP"
        after = then if isinstance(then, str) else then.get(subject.kind)
        second = subject.find(after) if after else ""
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
        # names from the semantic conventions of 2025
        " actian.ingres aws.redshift firebirdsql h2database ibm.db2 ibm.informix ibm.netezza intersystems.cache"
        " microsoft.sql_server oracle.db sap.hana sap.maxdb softwareag.adabas",
    ),
    **_types("cassandra", "cassandra"),
    **_types("redis", "redis"),
    **_types("memcached", "memcached"),
    **_types("mongodb", "mongodb"),
    **_types("elasticsearch", "elasticsearch"),
    **_types("opensearch", "opensearch"),
}


_is_of_llm = methodcaller("startswith", "gen_ai.")


def span_type(subject: Subject) -> str:
    if named := subject.find("span_type"):
        return cut(named, MAX_TYPE)
    if any(map(_is_of_llm, subject.own)):
        return "llm"
    if subject.kind == SERVER:
        return "web"
    if subject.kind != CLIENT:
        return "custom"
    database = tag(subject.find("db"))
    return _DATABASE_TYPES.get(database, "db") if database else "http"


def service(subject: Subject) -> str:
    return tag(cut(subject.find("service") or NO_SERVICE, MAX_SERVICE)) or UNNAMED_SERVICE


# A status code is a number or text, in one of these attributes.
_HTTP_STATUS = ("http.status_code", "http.response.status_code")
_GRPC_STATUS = ("rpc.grpc.status_code", "grpc.code", "rpc.grpc.status.code", "grpc.status.code")
_RPC_STATUS = "rpc.response.status_code"  # also gRPC's status, if the RPC system is gRPC


def http_status(subject: Subject) -> int | None:
    for key in _HTTP_STATUS:
        found = subject.wholes.get(key)
        if found is None and (word := subject.texts.get(key)):
            found = whole(word)
        if found is not None:
            return found if found >= 0 else None
    return None


def grpc_status(subject: Subject) -> str:
    """The gRPC status, as digits or as a name; empty if there is none."""
    keys: tuple[str, ...] = _GRPC_STATUS
    if (subject.texts.get("rpc.system.name") or subject.texts.get("rpc.system")) == "grpc":
        keys = (*_GRPC_STATUS, _RPC_STATUS)
    for key in keys:
        if word := subject.texts.get(key):
            return word
        if (number := subject.wholes.get(key)) is not None:
            return str(number)
    return ""


def measured(subject: Subject) -> bool:
    return subject.wholes.get("_dd.measured") == 1
