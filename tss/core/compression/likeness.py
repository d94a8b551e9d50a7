"""Which spans are similar: they do the same thing to the same peer, and have the same name once values are removed.

Attributes are compared as serialized bytes. Each distinct attribute is parsed once per trace.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import attrs
from google.protobuf.message import DecodeError

from tss.core.compression.outline import Seen
from tss.core.compression.rules import Rules
from tss.core.compression.sql import Statements
from tss.core.otlp.schema import KeyValue

PREFIX = b"tss.composite"
STATEMENTS = _TEXT, _OLD_TEXT = b"db.query.text", b"db.statement"
_SYSTEMS = (b"db.system.name", b"db.system")
_OPERATIONS = (b"db.operation.name", b"db.operation")
_SUMMARY = b"db.query.summary"
_OF_DATABASES = frozenset((*STATEMENTS, *_SYSTEMS, _SUMMARY))
# Spans that differ in one of these attributes do different work, or do it on different peers.
_APART = frozenset((
    *_SYSTEMS, *_OPERATIONS, _SUMMARY, b"rpc.system", b"rpc.system.name", b"rpc.service", b"rpc.method", b"messaging.system",
    b"messaging.operation.type", b"http.request.method", b"http.method", b"server.address", b"server.port", b"net.peer.name",
    b"peer.service", b"db.namespace", b"db.name", b"messaging.destination.name", b"messaging.destination",
))  # fmt: skip
_HTTP_STATUS = (b"http.response.status_code", b"http.status_code")
_GRPC_STATUS = (b"rpc.grpc.status_code", b"rpc.response.status_code")
# A span with one of these is an error, is a composite already, or asks to be kept unchanged. It is never compressed.
_SINGULAR = frozenset((b"error.type", b"sampling.priority", b"manual.keep", PREFIX))
_READ = frozenset((*_APART, *_OF_DATABASES, *_HTTP_STATUS, *_GRPC_STATUS, *_SINGULAR, b"error"))
# The statements of these systems are not SQL, so sqlPatterns do not apply to them.
_NOT_SQL = frozenset((
    "redis", "memcached", "mongodb", "elasticsearch", "opensearch", "couchbase", "couchdb", "dynamodb", "aws.dynamodb",
    "azure.cosmosdb", "cosmosdb", "neo4j", "hbase", "geode", "influxdb",
))  # fmt: skip

Fact = tuple[bytes, object]
"""An attribute's key and its value."""

_UNREAD: Fact = (b"", None)


Key = tuple[bytes, int, int, int, bytes, int, str]
"""Equal for similar spans: parent id, kind, status code, resource and scope, trace state (which has the sampling weight),
number of the `Doing`, normalised name."""


class Candidate(NamedTuple):
    """A span that can be compressed with other spans of the same key."""

    seen: Seen
    raw: str  # the statement as it arrived; "" if there is none
    statement: str  # the statement without values


@attrs.frozen
class Doing:
    """What a span does, by its attributes other than the statement."""

    number: int  # equal for spans that agree in all attributes of `_APART`
    database: bool
    system: str
    operation: str
    summary: str


class Likeness:
    """Finds the similar spans of one trace."""

    def __init__(self, rules: Rules, *, complete: bool) -> None:
        self._rules = rules
        self._complete = complete
        self._facts: dict[bytes, Fact | None] = {}
        self._doings: dict[tuple[bytes, ...], Doing | None] = {}
        self._apart: dict[frozenset[bytes], int] = {}
        self._statements = Statements()
        self._wanted: dict[str, bool] = {}
        self._groups: dict[str, str | None] = {}

    def of(self, seen: Seen) -> tuple[Key, Candidate] | None:
        """The span's key, and the span as a candidate; None if the span must not be compressed."""
        if seen.excepted:
            return None
        telling, raw = self._sorted(seen.attributes)
        try:
            doing = self._doings[telling]
        except KeyError:
            doing = self._doings[telling] = self._doing(telling)
        if doing is None:
            return None
        database = doing.database or raw is not None
        # A span that is missing may be the child of an outgoing call, but never the child of a database query.
        if not (database or self._complete):
            return None
        statement = self._statements.normalised(raw, doing.system) if raw else ""
        name = self._name(seen, doing, statement)
        operation = (doing.operation or statement.split(" ", 1)[0].upper()) if database else ""
        if name is None or not self._wants(operation or _text(seen.name)):
            return None
        key = (seen.parent, seen.kind, seen.code, seen.place, seen.trace_state, doing.number, name)
        return key, Candidate(seen, raw or "", statement)

    def _sorted(self, attributes: Sequence[bytes]) -> tuple[tuple[bytes, ...], str | None]:
        """The attributes that say what a span does, and its statement (None if it has none)."""
        facts, telling = self._facts, []
        old = text = None
        for raw in attributes:
            fact = facts.get(raw, _UNREAD)
            if fact is _UNREAD:
                fact = facts[raw] = fact_of(raw)
            if fact is None:
                continue
            if fact[0] == _TEXT:
                text = _text(fact[1]) if text is None else text
            elif fact[0] == _OLD_TEXT:
                old = _text(fact[1]) if old is None else old
            else:
                telling.append(raw)
        return tuple(telling), old if text is None else text

    def _doing(self, telling: Sequence[bytes]) -> Doing | None:
        """None if an attribute forbids compression (see `_SINGULAR`)."""
        facts = [(raw, *fact) for raw in telling if (fact := self._facts[raw])]
        found: dict[bytes, object] = {}
        for _, key, value in facts:
            found.setdefault(key, value)  # if a key occurs twice, the first value counts
        if any(_is_singular(key, value) for key, value in found.items()):
            return None
        apart = frozenset(raw for raw, key, _ in facts if key in _APART)
        return Doing(
            self._apart.setdefault(apart, len(self._apart)),
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


def fact_of(raw: bytes) -> Fact | None:
    """Key and value of a serialized attribute; None if compression does not use this key, or the bytes cannot be parsed."""
    if len(raw) > 1 and raw[0] == 0xA and raw[2 : 2 + raw[1]] not in _READ and not raw.startswith(PREFIX, 2):
        return None  # nearly all attributes: the key is the first field, is shorter than 128 bytes, and is not in _READ
    try:
        pair = KeyValue.FromString(raw)
    except DecodeError:
        return None
    member = pair.value.WhichOneof("value")
    if member is None or pair.key not in _READ:
        return None
    return pair.key, getattr(pair.value, member)


def _is_singular(key: bytes, value: object) -> bool:
    if key in _HTTP_STATUS:
        return _number(value) >= 500
    if key in _GRPC_STATUS:
        return value not in (0, b"0", b"OK", b"ok")
    return key in _SINGULAR or (key == b"error" and value not in (False, b"false"))


def _number(value: object) -> float:
    if isinstance(value, bytes):
        return int(value) if value.isdigit() and len(value) < 10 else 0
    return value if isinstance(value, int | float) else 0


def _first(found: dict[bytes, object], keys: Sequence[bytes]) -> str:
    for key in keys:
        if key in found:
            return _text(found[key])
    return ""


def _text(value: object) -> str:
    """For a name that groups spans. It is no `as_text`: strings arrive as bytes here, and other types are a client's error."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


_IDS = re.compile(
    r"(?P<guid>\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b)"
    r"|(?P<hex>\b(?=[0-9a-fA-F]*[a-fA-F])[0-9a-fA-F]{16,}\b)"
    r"|(?P<num>\d{6,}|(?<=/)\d+(?=/|\Z|\s|\?))"
)


def named(name: str) -> str:
    """A span's name with its ids replaced: by `{guid}`, `{hex}` (16 hex digits or more) or `{num}` (6 digits or more, or a
    numeric segment of a path)."""
    return _named(name[:4096])  # cut before it is cached, so that the cache has a limit in bytes (law 5)


@lru_cache(1024)
def _named(name: str) -> str:
    return _IDS.sub(lambda found: f"{{{found.lastgroup}}}", name)
