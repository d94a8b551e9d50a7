"""Random programs, and random traces for them."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import attrs
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status, TracesData

from tss.core.conditions.formula import (
    ERROR,
    FALSE,
    TRUE,
    All,
    Any,
    Ask,
    Field,
    Fold,
    Formula,
    Found,
    Leaf,
    Matches,
    Not,
    OfRoot,
    OfSpans,
    Place,
    SpanView,
    Truth,
    Window,
)
from tss.core.conditions.program import Program

KEYS = ("http.status", "k", "tenant", "")
TEXTS = ("", "a", "GET /", "mysql", "é", "checkout")
TRACE = b"trace-a-16-bytes"
STATES = (
    "", "", "", "ot=th:8", "ot=rv:0123456789abcd", "ot=th:c;rv:fedcba98765432,v=1", "v=1", "ot=p:1", "ot=th:zz", "v=1,ot=th:0",
)  # fmt: skip
TIMES = (0, 1, 5_000_000, 9_000_000, 20_000_000, 2**63, 2**64 - 1)


@attrs.frozen
class Is:
    """Whether a value is this one; it fails for numbers that are not, so that programs see errors."""

    wanted: Found

    @property
    def told(self) -> str:
        return f"is {self.wanted!r}"

    def answer(self, value: Found) -> Truth:
        if type(value) is type(self.wanted) and value == self.wanted:
            return TRUE
        return ERROR if isinstance(value, float) or value == 7 else FALSE


@attrs.frozen
class Twins:
    """Whether a span and its resource have the same value under a key: it needs two fields at once."""

    key: str

    @property
    def told(self) -> str:
        return f"twins {self.key!r}"

    @property
    def places(self) -> frozenset[Place]:
        return frozenset((Place.SPAN, Place.RESOURCE))

    def answer_of(self, view: SpanView) -> Truth:
        own, shared = view.value(Place.SPAN, "attributes"), view.value(Place.RESOURCE, "attributes")
        if not isinstance(own, dict) or not isinstance(shared, dict):
            return ERROR
        return TRUE if self.key in own and own[self.key] == shared.get(self.key) else FALSE


def a_program(rng: Random, most: int = 9) -> Program:
    """Of up to `most` asks of all kinds."""
    return Program([_ask(rng) for _ in range(rng.randrange(most + 1))])


def _ask(rng: Random) -> Ask:
    kind = rng.randrange(8)
    if kind == 0:
        return OfRoot(_formula(rng, events=False))
    if kind == 1:
        return Window(rng.choice((-1, 0, 3, 8)), rng.choice((0, 0, 9, 15)))
    fold = rng.choice((Fold.ANY, Fold.FIRST))
    if kind == 2:
        return OfSpans(_formula(rng, events=True), Place.EVENT, fold)
    events = _formula(rng, events=True) if kind == 3 else None
    return OfSpans(_formula(rng, events=False), Place.SPAN, fold, events)


def _formula(rng: Random, *, events: bool, depth: int = 2) -> Formula:
    kind = rng.randrange(9 if depth else 5)
    if kind < 4:
        return _leaf(rng, events=events)
    if kind == 4:
        return Twins(rng.choice(KEYS))
    if kind == 5:
        return Not(_formula(rng, events=events, depth=depth - 1))
    members = tuple(_formula(rng, events=events, depth=depth - 1) for _ in range(rng.randrange(4)))
    return All(members) if kind < 7 else Any(members)


def _leaf(rng: Random, *, events: bool) -> Leaf:
    test = Matches("a|G") if rng.random() < 0.3 else Is(rng.choice((None, True, 0, 7, 2, 1.0, *TEXTS)))
    if rng.random() < 0.5:
        places = (Place.SPAN, Place.RESOURCE, Place.SCOPE, *((Place.EVENT,) * 3 if events else ()))
        return Leaf(Field(rng.choice(places), "attributes", rng.choice(KEYS)), test)
    fields = [
        Field(Place.SPAN, "name"), Field(Place.SPAN, "kind"), Field(Place.SPAN, "status.code"),
        Field(Place.SPAN, "status.message"), Field(Place.SPAN, "duration"), Field(Place.SPAN, "trace_state"),
        Field(Place.SPAN, "flags"), Field(Place.SPAN, "dropped_attributes_count"), Field(Place.SCOPE, "name"),
        Field(Place.SCOPE, "version"), Field(Place.RESOURCE, "schema_url"), Field(Place.RESOURCE, "dropped_attributes_count"),
    ]  # fmt: skip
    if events:
        fields += [Field(Place.EVENT, "name"), Field(Place.EVENT, "event_index"), Field(Place.EVENT, "time_unix_nano")]
    return Leaf(rng.choice(fields), test)


@attrs.frozen
class Seen:
    """A span with its surroundings."""

    span: Span
    resource: tuple[KeyValue, ...]
    scope: tuple[KeyValue, ...]


def a_trace(rng: Random, most: int = 12) -> list[Seen]:
    """The spans of one trace, in the order in which they arrive."""
    resources = [_attributes(rng) for _ in range(2)]
    return [Seen(_span(rng), rng.choice(resources), _attributes(rng)) for _ in range(rng.randrange(1, most + 1))]


def _span(rng: Random) -> Span:
    return Span(
        trace_id=TRACE,
        span_id=b"span-%03d" % rng.randrange(4),
        parent_span_id=rng.choice((b"", bytes(8), b"span-001", b"span-002")),
        name=rng.choice(TEXTS),
        kind=rng.choice((0, 1, 2, 7)),  # type: ignore[arg-type]
        trace_state=rng.choice(STATES),
        start_time_unix_nano=rng.choice(TIMES),
        end_time_unix_nano=rng.choice(TIMES),
        attributes=_attributes(rng),
        flags=rng.choice((0, 7, 2**32 - 1)),
        dropped_attributes_count=rng.choice((0, 2)),
        status=Status(message=rng.choice(TEXTS), code=rng.choice((0, 1, 2))),  # type: ignore[arg-type]
        events=[
            Span.Event(name=rng.choice(TEXTS), time_unix_nano=rng.choice(TIMES), attributes=_attributes(rng))
            for _ in range(rng.choice((0, 0, 1, 3)))
        ],
    )


def _attributes(rng: Random) -> tuple[KeyValue, ...]:
    return tuple(KeyValue(key=rng.choice(KEYS), value=_value(rng)) for _ in range(rng.randrange(4)))


def _value(rng: Random) -> AnyValue:
    text = rng.choice(TEXTS)
    return rng.choice((
        AnyValue(string_value=text), AnyValue(string_value=text), AnyValue(int_value=rng.choice((0, 2, 7, -1))), AnyValue(),
        AnyValue(double_value=1.0), AnyValue(bool_value=True), AnyValue(bytes_value=b"\xff"),
        AnyValue(array_value=ArrayValue(values=[AnyValue(string_value=text)])),
    ))  # fmt: skip


def record_of(spans: Sequence[Seen], *, resource_last: bool = False) -> bytes:
    """One record with these spans, in order. With `resource_last`, each resource and scope follows its spans on the wire."""
    groups = []
    for seen in spans:
        scope = ScopeSpans(spans=[seen.span])
        scope.scope.name = "scope"
        scope.scope.attributes.extend(seen.scope)
        group = ResourceSpans(scope_spans=[scope], schema_url="a")
        group.resource.attributes.extend(seen.resource)
        groups.append(group)
    if not resource_last:
        return TracesData(resource_spans=groups).SerializeToString()
    return b"".join(map(_turned, groups))


def _turned(group: ResourceSpans) -> bytes:
    scope = group.scope_spans[0]
    inner = ScopeSpans(spans=scope.spans).SerializeToString() + ScopeSpans(scope=scope.scope).SerializeToString()
    outer = _blob(0x12, inner) + ResourceSpans(resource=group.resource, schema_url=group.schema_url).SerializeToString()
    return _blob(0x0A, outer)


def _blob(tag: int, body: bytes) -> bytes:
    size, out = len(body), bytearray((tag,))
    while size > 0x7F:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes(out) + bytes((size,)) + body


def cut(rng: Random, spans: Sequence[Seen]) -> list[Sequence[Seen]]:
    """The same spans in records of 1 to 3."""
    found, at = [], 0
    while at < len(spans):
        size = rng.randrange(1, 4)
        found.append(spans[at : at + size])
        at += size
    return found
