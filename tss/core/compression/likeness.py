"""What makes two spans alike: what their attributes say they do and to whom, and a name without values.

Attributes are compared as the bytes they came as, and each distinct one is read once for a trace.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import attrs
from google.protobuf.message import DecodeError

from tss.core.compression.outline import Seen
from tss.core.compression.rules import Rules
from tss.core.compression.sql import normalised
from tss.core.otlp.schema import KeyValue

PREFIX = b"tss.composite"
STATEMENTS = (b"db.query.text", b"db.statement")
_SYSTEMS = (b"db.system.name", b"db.system")
_OPERATIONS = (b"db.operation.name", b"db.operation")
_SUMMARY = b"db.query.summary"
_OF_DATABASES = frozenset((*STATEMENTS, *_SYSTEMS, _SUMMARY))
# Spans that differ in one of these do something else, or to another.
_APART = frozenset((
    *_SYSTEMS, *_OPERATIONS, _SUMMARY, b"rpc.system", b"rpc.system.name", b"rpc.service", b"rpc.method", b"messaging.system",
    b"messaging.operation.type", b"http.request.method", b"http.method", b"server.address", b"server.port", b"net.peer.name",
    b"peer.service", b"db.namespace", b"db.name", b"messaging.destination.name", b"messaging.destination",
))  # fmt: skip
_HTTP_STATUS = (b"http.response.status_code", b"http.status_code")
_GRPC_STATUS = (b"rpc.grpc.status_code", b"rpc.response.status_code")
# With one of these a span is an error, a composite, or asks to be kept as it is.
_SINGULAR = frozenset((b"error.type", b"sampling.priority", b"manual.keep", PREFIX))
_READ = frozenset((*_APART, *_OF_DATABASES, *_HTTP_STATUS, *_GRPC_STATUS, *_SINGULAR, b"error"))
# Their statements are not SQL, so sqlPatterns are not for them.
_NOT_SQL = frozenset((
    "redis", "memcached", "mongodb", "elasticsearch", "opensearch", "couchbase", "couchdb", "dynamodb", "aws.dynamodb",
    "azure.cosmosdb", "cosmosdb", "neo4j", "hbase", "geode", "influxdb",
))  # fmt: skip

Fact = tuple[bytes, object]
"""An attribute's key and its value."""


@attrs.frozen
class Like:
    """What a span is like. Equal for spans that may become one, but for its statements."""

    parent: bytes
    kind: int
    code: int
    place: int
    trace_state: bytes  # has the weight of the span: those of one composite are alike
    apart: frozenset[bytes]
    name: str
    raw: str = attrs.field(eq=False)  # statement
    statement: str = attrs.field(eq=False)  # normalised


@attrs.frozen
class Doing:
    """What attributes other than the statement say of a span."""

    apart: frozenset[bytes]  # those that tell it from others
    database: bool
    system: str
    operation: str
    summary: str


class Likeness:
    """Tells what the spans of one trace are like."""

    def __init__(self, rules: Rules, *, complete: bool) -> None:
        self._rules = rules
        self._complete = complete
        self._facts: dict[bytes, Fact | None] = {}
        self._doings: dict[tuple[bytes, ...], Doing | None] = {}
        self._wanted: dict[str, bool] = {}
        self._groups: dict[str, str | None] = {}

    def of(self, seen: Seen) -> Like | None:
        """None for a span that is to stay as it is."""
        if seen.excepted:
            return None
        telling, statements = self._sorted(seen.attributes)
        try:
            doing = self._doings[telling]
        except KeyError:
            doing = self._doings[telling] = self._doing(telling)
        if doing is None:
            return None
        database = doing.database or bool(statements)
        # What came too late, or still will, may hang below a call that went out, but not below a query.
        if not (database or self._complete):
            return None
        return self._like(seen, doing, _first(statements, STATEMENTS), database=database)

    def _like(self, seen: Seen, doing: Doing, raw: str, *, database: bool) -> Like | None:
        statement = normalised(raw, doing.system) if raw else ""
        name = self._name(seen, doing, statement)
        operation = (doing.operation or statement.split(" ", 1)[0].upper()) if database else ""
        if name is None or not self._wants(operation or _text(seen.name)):
            return None
        return Like(seen.parent, seen.kind, seen.code, seen.place, seen.trace_state, doing.apart, name, raw, statement)

    def _sorted(self, attributes: Sequence[bytes]) -> tuple[tuple[bytes, ...], dict[bytes, object]]:
        """Those that tell what a span does, and its statements."""
        facts, telling, statements = self._facts, [], {}
        for raw in attributes:
            try:
                fact = facts[raw]
            except KeyError:
                fact = facts[raw] = _fact(raw)
            if fact is None:
                continue
            if fact[0] in STATEMENTS:
                statements[fact[0]] = fact[1]
            else:
                telling.append(raw)
        return tuple(telling), statements

    def _doing(self, telling: Sequence[bytes]) -> Doing | None:
        """None for what makes a span singular."""
        facts = [(raw, *fact) for raw in telling if (fact := self._facts[raw])]
        found = {key: value for _, key, value in facts}
        if any(_is_singular(key, value) for key, value in found.items()):
            return None
        return Doing(
            frozenset(raw for raw, key, _ in facts if key in _APART),
            not _OF_DATABASES.isdisjoint(found),
            _first(found, _SYSTEMS),
            _first(found, _OPERATIONS),
            _first(found, (_SUMMARY,)),
        )

    def _name(self, seen: Seen, doing: Doing, statement: str) -> str | None:
        if not statement:
            return doing.summary or named(_text(seen.name))
        if doing.system in _NOT_SQL:
            return doing.summary or statement
        if statement not in self._groups:
            self._groups[statement] = self._rules.group_of(statement)
        group = self._groups[statement]
        return doing.summary or group if group == statement else group

    def _wants(self, operation: str) -> bool:
        if operation not in self._wanted:
            self._wanted[operation] = self._rules.wants(operation)
        return self._wanted[operation]


def _fact(raw: bytes) -> Fact | None:
    """What is known of an attribute; None for one that says nothing here."""
    if raw[:1] == b"\n" and raw[2 : 2 + raw[1]] not in _READ and not raw.startswith(PREFIX, 2):
        return None  # nearly all: the key is first and of less than 128 bytes, or not ours
    try:
        pair = KeyValue.FromString(raw)
    except DecodeError:
        return None
    if pair.key not in _READ:
        return None
    member = pair.value.WhichOneof("value")
    return pair.key, getattr(pair.value, member) if member else None


def _is_singular(key: bytes, value: object) -> bool:
    if key in _HTTP_STATUS:
        return _number(value) >= 500
    if key in _GRPC_STATUS:
        return value not in (0, b"0", b"OK", b"ok")
    return key in _SINGULAR or (key == b"error" and value not in (False, b"false"))


def _number(value: object) -> int:
    if isinstance(value, bytes):
        return int(value) if value.isdigit() else 0
    return int(value) if isinstance(value, int | float) else 0


def _first(found: dict[bytes, object], keys: Sequence[bytes]) -> str:
    for key in keys:
        if key in found:
            return _text(found[key])
    return ""


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


_IDS = re.compile(
    r"(?P<guid>\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b)"
    r"|(?P<hex>\b(?=[0-9a-fA-F]*[a-fA-F])[0-9a-fA-F]{16,}\b)"
    r"|(?P<num>\d{6,}|(?<=/)\d+(?=/|\Z|\s|\?))"
)


@lru_cache(1024)
def named(name: str) -> str:
    """A span's name without ids: `{guid}`, `{hex}` from 16 digits on, `{num}` for 6 digits or a path's segment of them."""
    return _IDS.sub(lambda found: f"{{{found.lastgroup}}}", name[:4096])
