"""Alike spans become one, and everything else stays what it was."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from time import process_time
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status, TracesData

from tests.core.otlp_records import blob, span_bodies_in
from tests.core.spans import span_id, trace_id
from tss.core.compression import Compressed, Compression
from tss.core.compression.likeness import named
from tss.core.compression.rules import Rules
from tss.core.formats import datadog
from tss.core.otlp import to_json_line
from tss.core.preparing import Preparation, Prepared
from tss.settings import SpanCompression
from tss.settings.kinds.patterns import SqlPattern

MS = 1_000_000
CLIENT, INTERNAL, SERVER, PRODUCER = (
    Span.SPAN_KIND_CLIENT,
    Span.SPAN_KIND_INTERNAL,
    Span.SPAN_KIND_SERVER,
    Span.SPAN_KIND_PRODUCER,
)
ON = SpanCompression(enabled=True)


def pair(key: str, value: str | int | bool) -> KeyValue:
    if isinstance(value, bool):
        return KeyValue(key=key, value=AnyValue(bool_value=value))
    if isinstance(value, int):
        return KeyValue(key=key, value=AnyValue(int_value=value))
    return KeyValue(key=key, value=AnyValue(string_value=value))


def span(
    number: int,
    parent: int | None = 0,
    *,
    name: str = "SELECT shop",
    kind: Any = CLIENT,
    at: int = 0,
    ms: int = 1,
    **more: Any,
) -> Span:
    tags = more.pop("tags", {"db.system": "postgresql", "db.statement": "SELECT 1"})
    return Span(
        trace_id=trace_id(1), span_id=span_id(number), parent_span_id=b"" if parent is None else span_id(parent), name=name,
        kind=kind, start_time_unix_nano=(1000 + at) * MS, end_time_unix_nano=(1000 + at + ms) * MS,
        attributes=[pair(key, value) for key, value in tags.items()], **more,
    )  # fmt: skip


ROOT = span(0, None, name="GET /orders", kind=SERVER, ms=5000, tags={})


def payload_of(*spans: Span, service: str = "shop", scope: str = "django") -> bytes:
    resource = Resource(attributes=[pair("service.name", service)])
    scopes = [ScopeSpans(scope=InstrumentationScope(name=scope), spans=spans)]
    return TracesData(resource_spans=[ResourceSpans(resource=resource, scope_spans=scopes)]).SerializeToString()


def compress(payload: bytes, configured: SpanCompression = ON, *, complete: bool = True) -> Compressed:
    return Compression(configured).compress(payload, complete=complete)


def spans_of(payload: bytes) -> list[Span]:
    return [Span.FromString(body) for body in span_bodies_in(payload)]


def tags_of(one: Span) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value") or "") for each in one.attributes}


def composites(payload: bytes) -> list[Span]:
    return [one for one in spans_of(payload) if "tss.composite" in tags_of(one)]


def queries(*statements: str, system: str = "postgresql", **more: Any) -> list[Span]:
    return [
        span(place + 1, at=place * 2, tags={"db.system": system, "db.statement": statement}, **more)
        for place, statement in enumerate(statements)
    ]


def groups_of(spans: Sequence[Span], configured: SpanCompression = ON, *, complete: bool = True) -> list[int]:
    """How many spans each composite stands for."""
    found = compress(payload_of(ROOT, *spans), configured, complete=complete)
    counts = sorted(tags_of(one)["tss.composite.count"] for one in composites(found.payload))
    assert (found.groups, found.spans) == (len(counts), sum(counts))
    return counts


# N+1 of the real kind -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "statement", "normal"),
    [
        (  # Django
            "postgresql",
            'SELECT "shop_line"."id" FROM "shop_line" WHERE "shop_line"."order_id" = {} AND "shop_line"."sku" IN (\'a\', \'b{}\') LIMIT 21',
            'SELECT "shop_line"."id" FROM "shop_line" WHERE "shop_line"."order_id" = ? AND "shop_line"."sku" IN (?) LIMIT ?',
        ),
        (  # Rails
            "mysql",
            "SELECT `lines`.* FROM `lines` WHERE `lines`.`order_id` = {} LIMIT 1 /*action='show',traceparent='00-{}-01'*/",
            "SELECT `lines`.* FROM `lines` WHERE `lines`.`order_id` = ? LIMIT ?",
        ),
        (  # Hibernate over JDBC: with parameters all are the same
            "h2",
            "select l1_0.id,l1_0.sku from order_lines l1_0 where l1_0.order_id=?",
            "select l1_0.id,l1_0.sku from order_lines l1_0 where l1_0.order_id=?",
        ),
    ],
)
def test_a_query_in_a_loop_is_one_span(system: str, statement: str, normal: str) -> None:
    spans = [ROOT, *queries(*(statement.format(place, place) for place in range(400)), system=system)]
    found = compress(payload_of(*spans))
    root, one = spans_of(found.payload)
    assert (found.spans, found.groups) == (400, 1)
    assert root == ROOT
    assert (one.span_id, one.parent_span_id, one.name, one.kind) == (span_id(1), span_id(0), "SELECT shop", CLIENT)
    assert tags_of(one) == {
        "db.system": system,
        "db.statement": normal,
        "tss.composite": True,
        "tss.composite.count": 400,
        "tss.composite.sum_ns": 400 * MS,
        "tss.composite.min_ns": MS,
        "tss.composite.max_ns": MS,
        "tss.composite.mean_ns": MS,
        "tss.composite.window_ns": 799 * MS,
        "tss.composite.name": normal,
        "tss.composite.strategy": "exact_match" if "{" not in statement else "same_kind",
    }
    assert one.end_time_unix_nano - one.start_time_unix_nano == 799 * MS


def test_what_all_have_stays_and_the_rest_is_counted_as_dropped() -> None:
    def one(number: int, name: str, ms: int, **tags: str) -> Span:
        tags = {"db.system": "x", "db.statement": f"SELECT {number}", "db.user": "me"} | tags
        events = [Span.Event(name="sent")] * number
        return span(
            number,
            name=name,
            at=number,
            ms=ms,
            tags=tags,
            events=events,
            status=Status(code=Status.STATUS_CODE_OK),
            trace_state="ot=th:8",
            flags=0x101,
        )

    found = compress(payload_of(ROOT, one(3, "c", 9), one(1, "a", 2, thread="1"), one(2, "b", 1, thread="2")))
    made = composites(found.payload)[0]
    assert made.span_id == span_id(1)
    assert made.name == "SELECT ?"
    assert made.status == Status(code=Status.STATUS_CODE_OK)
    assert (made.trace_state, made.flags) == ("ot=th:8", 0x101)
    assert (made.dropped_events_count, made.dropped_attributes_count, len(made.events)) == (6, 5, 0)
    tags = tags_of(made)
    assert [tags[f"tss.composite.{key}"] for key in ("count", "sum_ns", "min_ns", "max_ns", "mean_ns", "window_ns")] == [
        3, 12 * MS, MS, 9 * MS, 4 * MS, 11 * MS,
    ]  # fmt: skip
    assert tags["db.user"] == "me"
    assert tags["tss.composite.strategy"] == "same_kind"
    assert "thread" not in tags


def test_datadog_and_jaeger_can_read_it() -> None:
    payload = compress(payload_of(ROOT, *queries("SELECT 1", "SELECT 2", "SELECT 3"))).payload
    seen = next(one for one in datadog.to_spans(payload, 1.0) if one["span_id"] == int.from_bytes(span_id(1), "big"))
    assert seen["metrics"]["tss.composite.count"] == 3
    assert seen["metrics"]["tss.composite.sum_ns"] == 3 * MS
    assert seen["meta"]["tss.composite"] == "true"
    assert seen["meta"]["tss.composite.name"] == "SELECT ?"
    assert seen["duration"] == 5 * MS
    line = json.loads(to_json_line(payload))
    tags = line["resourceSpans"][0]["scopeSpans"][0]["spans"][1]["attributes"]
    assert {"key": "tss.composite.count", "value": {"intValue": "3"}} in tags


# What stays as it is --------------------------------------------------------------------------------------------------

ALIKE = queries("SELECT 1", "SELECT 2", "SELECT 3")


def changed(one: Span, **changes: Any) -> Span:
    copy = Span.FromString(one.SerializeToString())
    for name, value in changes.items():
        if name == "tags":
            copy.attributes.extend(pair(key, each) for key, each in value.items())
        elif isinstance(value, list):
            getattr(copy, name).extend(value)
        elif name == "status":
            copy.status.CopyFrom(value)
        else:
            setattr(copy, name, value)
    return copy


@pytest.mark.parametrize(
    "changes",
    [
        {"status": Status(code=Status.STATUS_CODE_ERROR)},
        {"status": Status(code=Status.STATUS_CODE_OK)},
        {"events": [Span.Event(name="exception")]},
        {"links": [Span.Link(trace_id=trace_id(5), span_id=span_id(9))]},
        {"kind": SERVER},
        {"kind": Span.SPAN_KIND_CONSUMER},
        {"kind": Span.SPAN_KIND_UNSPECIFIED},
        {"kind": INTERNAL},
        {"parent_span_id": b""},
        {"parent_span_id": bytes(8)},
        {"parent_span_id": span_id(77)},
        {"end_time_unix_nano": 1},
        {"end_time_unix_nano": (1000 + 60_000 + 10) * MS},
        {"trace_state": "ot=th:8"},
        {"span_id": span_id(2)},
        *(
            {"tags": {key: value}}
            for key, value in {
                "http.response.status_code": 500, "http.status_code": "503", "rpc.grpc.status_code": 2, "error.type": "x",
                "error": True, "sampling.priority": 1, "manual.keep": "true", "tss.composite": True, "db.name": "other",
                "server.address": "other", "peer.service": "other", "db.query.summary": "SELECT x",
            }.items()
        ),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_not_alike_stays(changes: dict[str, Any]) -> None:
    odd = changed(ALIKE[0], **changes)
    payload = payload_of(ROOT, odd, *ALIKE[1:])
    assert compress(payload).payload is payload
    more = payload_of(ROOT, odd, *ALIKE[1:], *(changed(ALIKE[2], span_id=span_id(number)) for number in (10, 11)))
    assert odd.SerializeToString() in list(span_bodies_in(compress(more).payload))
    assert compress(more).groups == 1


@pytest.mark.parametrize(
    "tags", [{"http.response.status_code": 404}, {"rpc.grpc.status_code": 0}, {"error": False}, {"other": "x"}], ids=str
)
def test_what_is_no_failure_may_be_compressed(tags: dict[str, Any]) -> None:
    assert groups_of([changed(one, tags=tags) for one in ALIKE]) == [3]


@pytest.mark.parametrize(
    "changes",
    [
        {"status": Status(code=Status.STATUS_CODE_ERROR)},
        {"events": [Span.Event(name="exception")]},
        {"links": [Span.Link(trace_id=trace_id(5), span_id=span_id(9))]},
        {"kind": SERVER},
        {"parent_span_id": b""},
        {"parent_span_id": bytes(8)},
        {"tags": {"http.response.status_code": 500}},
        {"tags": {"error.type": "x"}},
    ],
    ids=str,
)
def test_what_is_singular_stays_however_many_there_are(changes: dict[str, Any]) -> None:
    assert groups_of([changed(one, **changes) for one in ALIKE]) == []


def test_that_a_trace_is_unfinished_is_passed_on() -> None:
    calls = payload_of(ROOT, *(span(number, name="GET", tags={"http.request.method": "GET"}) for number in range(1, 5)))
    assert Preparation(ON).prepare(calls, complete=True).groups == 1
    assert Preparation(ON).prepare(calls, complete=False).payload is calls


def test_parents_and_linked_spans_stay() -> None:
    child = span(9, 2, kind=INTERNAL, tags={})
    linking = span(9, 0, kind=INTERNAL, tags={}, links=[Span.Link(trace_id=trace_id(1), span_id=span_id(2))])
    for other in (child, linking):
        assert groups_of([*ALIKE, other]) == []
        assert groups_of([*ALIKE, changed(ALIKE[2], span_id=span_id(4)), other]) == [3]


def test_of_an_unfinished_trace_only_database_calls_are_compressed() -> None:
    calls = [span(number, name="GET", tags={"http.request.method": "GET"}) for number in range(1, 5)]
    inner = [span(number, name="render", kind=INTERNAL, tags={}) for number in range(5, 9)]
    assert groups_of([*calls, *inner]) == [4, 4]
    assert groups_of([*calls, *inner], complete=False) == []
    assert groups_of(ALIKE, complete=False) == [3]


def test_other_resources_and_scopes_are_others() -> None:
    chunks = [payload_of(ROOT), *(payload_of(one) for one in ALIKE)]
    assert compress(b"".join(chunks)).spans == 3
    for other in (payload_of(ALIKE[2], service="other"), payload_of(ALIKE[2], scope="other")):
        payload = b"".join([*chunks[:-1], other])
        assert compress(payload).payload is payload


# Settings -------------------------------------------------------------------------------------------------------------


def test_too_few_too_long_and_outside_the_window() -> None:
    assert groups_of(ALIKE[:2]) == []
    assert groups_of(ALIKE, attrs.evolve(ON, min_compression_count=4)) == []
    assert groups_of(ALIKE[:2], attrs.evolve(ON, min_compression_count=2)) == [2]
    assert groups_of(ALIKE, attrs.evolve(ON, max_span_duration_secs=0.0009)) == []
    assert groups_of(ALIKE, attrs.evolve(ON, max_span_duration_secs=0.001)) == [3]
    spread = [
        changed(
            ALIKE[0], span_id=span_id(n + 1), start_time_unix_nano=n * 1000 * MS, end_time_unix_nano=n * 1000 * MS + 1
        )
        for n in range(9)
    ]
    assert groups_of(spread, attrs.evolve(ON, compression_window_secs=3)) == [4, 4]
    assert groups_of(spread, attrs.evolve(ON, compression_window_secs=2.999)) == [3, 3, 3]


@pytest.mark.parametrize(
    ("only", "never", "left"),
    [
        ((), (), [3, 3, 4]),
        (("select",), (), [3]),
        (("S*", "render ?"), (), [3, 4]),
        (("re:^(insert|render)",), (), [3, 4]),
        ((), ("INSERT", "render*"), [3]),
        (("*",), ("*",), []),
        (("ELECT",), (), []),
        (("render 1",), (), []),
    ],
)
def test_operations(only: tuple[str, ...], never: tuple[str, ...], left: list[int]) -> None:
    """By statement, by attribute, and by name."""
    inserts = [span(10 + n, tags={"db.system": "x", "db.operation": "INSERT"}) for n in range(3)]
    renders = [span(20 + n, name="render x", kind=INTERNAL, tags={}) for n in range(4)]
    spans = [*ALIKE, *inserts, *renders]
    assert groups_of(spans, attrs.evolve(ON, compress_operations=only, exclude_operations=never)) == left


def test_sql_patterns_select_statements() -> None:
    spans = queries(*("SELECT a FROM x WHERE b = 1",) * 3, *("SELECT a FROM y WHERE b = 1",) * 4)
    others = [span(20 + n, name="render", kind=INTERNAL, tags={}) for n in range(5)]
    redis = [span(30 + n, tags={"db.system": "redis", "db.statement": f"GET a:{n}"}) for n in range(6)]
    for pattern, left in (
        (SqlPattern(pattern="from X"), [3]), (SqlPattern(pattern="b = ?"), [3, 4]), (SqlPattern(pattern="b = 1"), []),
        (SqlPattern(pattern="*from y*"), [4]), (SqlPattern(pattern="from*"), []), (SqlPattern(pattern="from [xy]"), []),
        (SqlPattern(pattern="from [xy]", is_regex=True), [3, 4]),
    ):  # fmt: skip
        assert groups_of([*spans, *others, *redis], attrs.evolve(ON, sql_patterns=(pattern,))) == [*left, 5, 6]


def test_a_group_name_makes_statements_alike() -> None:
    spans = queries("SELECT a FROM shard_1", "SELECT a FROM shard_2", "SELECT b FROM shard_3", "SELECT c FROM users")
    patterns = (SqlPattern(pattern=r"from shard_\d+", is_regex=True, group_name="shards"), SqlPattern(pattern="SELECT"))
    found = compress(payload_of(ROOT, *spans), attrs.evolve(ON, sql_patterns=patterns))
    made = tags_of(composites(found.payload)[0])
    assert (made["tss.composite.count"], made["tss.composite.name"]) == (3, "shards")
    assert "db.statement" not in made
    assert made["tss.composite.strategy"] == "same_kind"


def test_a_summary_goes_before_the_statement() -> None:
    spans = [
        changed(one, tags={"db.query.summary": "SELECT things"}) for one in queries("SELECT a", "SELECT b", "SELECT c")
    ]
    found = compress(payload_of(ROOT, *spans))
    assert tags_of(composites(found.payload)[0])["tss.composite.name"] == "SELECT things"


@pytest.mark.parametrize(
    ("name", "normal"),
    [
        ("GET /users/42/orders", "GET /users/{num}/orders"),
        ("GET /v2/users?id=1234567", "GET /v2/users?id={num}"),
        ("job 0b0ac1d6-6a1b-4f0c-9a39-6d0f4c8b7f10", "job {guid}"),
        ("key 00f067aa0ba902b7", "key {hex}"),
        ("step 12345 of s3", "step 12345 of s3"),
    ],
)
def test_names_without_ids(name: str, normal: str) -> None:
    assert named(name) == normal


# Laws -----------------------------------------------------------------------------------------------------------------

TAGS: tuple[dict[str, str | int], ...] = (
    {}, {"db.system": "x", "db.statement": "SELECT 1"}, {"db.system": "x", "db.statement": "SELECT 2"}, {"db.system": "redis"},
    {"http.request.method": "GET", "server.address": "a"}, {"http.request.method": "GET", "http.response.status_code": 500},
)  # fmt: skip
CODES = (*[Status.STATUS_CODE_UNSET] * 3, Status.STATUS_CODE_OK, Status.STATUS_CODE_ERROR)


@st.composite
def traces(draw: st.DrawFn) -> list[tuple[int, Span]]:
    """Spans with the place of their resource. Few of everything, so that much is alike."""
    drawn = []
    for number in range(1, draw(st.sampled_from((2, 6, 25))) + 1):
        if draw(st.integers(0, 2)):
            drawn.append(
                (0, span(number, at=draw(st.integers(0, 70_000)), ms=draw(st.sampled_from((0, 1, 7))), tags=TAGS[1]))
            )
            continue
        link = Span.Link(trace_id=trace_id(1), span_id=span_id(draw(st.integers(0, 30))))
        one = span(
            number, draw(st.sampled_from((0, 0, 0, 1, 2, None))), name=draw(st.sampled_from(("a", "b /1"))),
            kind=draw(st.sampled_from((CLIENT, CLIENT, INTERNAL, SERVER, PRODUCER))), at=draw(st.integers(0, 100_000)),
            ms=draw(st.sampled_from((0, 1, 1, 7, 70_000))), tags=draw(st.sampled_from(TAGS)),
            links=[] if draw(st.integers(0, 9)) else [link], status=Status(code=draw(st.sampled_from(CODES))),
        )  # fmt: skip
        drawn.append((draw(st.sampled_from((0, 0, 0, 1))), one))
    return [(0, ROOT), *drawn]


UNKNOWN = blob(200, b"of another schema")


def in_chunks(spans: Sequence[tuple[int, Span]], size: int) -> bytes:
    """Resource by resource as they come, at most so many spans together, unknown fields around and in them."""
    chunks: list[tuple[int, list[Span]]] = []
    for place, one in spans:
        if not chunks or chunks[-1][0] != place or len(chunks[-1][1]) >= size:
            chunks.append((place, []))
        chunks[-1][1].append(one)
    return UNKNOWN + b"".join(_chunk(place, members) for place, members in chunks)


def _chunk(place: int, spans: Sequence[Span]) -> bytes:
    bodies = b"".join(blob(2, one.SerializeToString() + UNKNOWN) for one in spans)
    resource = Resource(attributes=[pair("service.name", f"s{place}")]).SerializeToString()
    return blob(1, blob(1, resource) + blob(2, bodies + UNKNOWN) + UNKNOWN + blob(3, b"https://schema"))


def weight(one: Span) -> int:
    return int(tags_of(one).get("tss.composite.count", 1))


@settings(max_examples=80, deadline=None)
@given(traces(), st.integers(1, 30), st.booleans(), st.sampled_from((1, 60)))
def test_laws(spans: list[tuple[int, Span]], size: int, complete: bool, window: float) -> None:
    payload = in_chunks(spans, size)
    before = {one.span_id: body for body in span_bodies_in(payload) for one in [Span.FromString(body)]}
    found = compress(payload, attrs.evolve(ON, compression_window_secs=window), complete=complete)
    after = {one.span_id: body for body in span_bodies_in(found.payload) for one in [Span.FromString(body)]}
    made = [one for body in after.values() for one in [Span.FromString(body)] if weight(one) > 1]

    # the sum of counts is what came in, and what is not a composite is byte for byte what it was
    assert sum(weight(Span.FromString(body)) for body in after.values()) == len(before)
    assert found.spans == sum(map(weight, made))
    assert found.groups == len(made)
    assert {key: body for key, body in after.items() if weight(Span.FromString(body)) == 1}.items() <= before.items()
    if not made:
        assert found.payload is payload
    # no child is orphaned that was none, and no link is cut
    for body in after.values():
        one = Span.FromString(body)
        for named_id in (one.parent_span_id, *(link.span_id for link in one.links)):
            assert named_id not in before or named_id in after
    # errors, parents and roots stay
    originals = [Span.FromString(body) for body in before.values()]
    parents = {one.parent_span_id for one in originals}
    for one in originals:
        if one.status.code == Status.STATUS_CODE_ERROR or one.span_id in parents or not one.parent_span_id or one.links:
            assert after[one.span_id] == before[one.span_id]
    # a composite covers what it stands for
    gone = [one for one in originals if one.span_id not in after]
    for one in gone:
        assert any(
            each.parent_span_id == one.parent_span_id and each.kind == one.kind
            and each.start_time_unix_nano <= one.start_time_unix_nano
            and one.end_time_unix_nano <= each.end_time_unix_nano
            and one.start_time_unix_nano - each.start_time_unix_nano <= window * 1e9
            for each in made
        )  # fmt: skip
    # unknown fields at every level are still there, as far as there is something to hold them
    containers = [blob(3, b"https://schema"), UNKNOWN]
    assert found.payload.startswith(UNKNOWN)
    assert all(each in found.payload for each in containers)
    # once is enough
    again = compress(found.payload, attrs.evolve(ON, compression_window_secs=window), complete=complete)
    assert again.payload is found.payload


@settings(max_examples=50, deadline=None)
@given(traces(), st.randoms(use_true_random=False), st.integers(1, 30), st.integers(1, 30))
def test_the_order_and_the_records_do_not_matter(
    spans: list[tuple[int, Span]], chance: Any, size: int, other: int
) -> None:
    one = compress(in_chunks(spans, size))
    chance.shuffle(spans)
    another = compress(in_chunks(spans, other))
    assert Counter(span_bodies_in(one.payload)) == Counter(span_bodies_in(another.payload))
    assert (one.spans, one.groups) == (another.spans, another.groups)


@settings(max_examples=50, deadline=None)
@given(traces())
def test_off_is_the_very_same_object(spans: list[tuple[int, Span]]) -> None:
    payload = in_chunks(spans, 5)
    off = Preparation(SpanCompression()).prepare(payload, complete=True)
    assert off == Prepared(payload)
    assert off.payload is payload


def test_prepared_is_without_duplicates_and_then_compressed() -> None:
    payload = payload_of(ROOT, *ALIKE)
    found = Preparation(ON).prepare(payload + payload_of(*ALIKE[:2]), complete=True)
    assert (found.duplicates, found.compressed_spans, found.groups) == (2, 3, 1)
    assert found.payload == compress(payload).payload
    off = Preparation(SpanCompression()).prepare(payload * 2, complete=True)
    assert off == Prepared(payload, duplicates=4)


def test_what_is_no_utf_8_and_no_key_value_is_passed_on() -> None:
    odd = [one.SerializeToString().replace(b"SELECT shop", b"SELECT \xff\xfe!!") + blob(9, b"\xff") for one in ALIKE]
    payload = blob(1, blob(2, b"".join(blob(2, body) for body in odd)))
    body = next(span_bodies_in(compress(payload).payload))
    assert blob(5, b"SELECT \xff\xfe!!") in body
    assert blob(9, b"\xff") in body


@pytest.mark.parametrize(
    "odd",
    [b"\xff", b"\n", b"\n\xff", b"", b"\n\x0cdb.statement", pair("http.status_code", "9" * 5000).SerializeToString()],
)
def test_an_attribute_that_is_none_does_no_harm(odd: bytes) -> None:
    bodies = [one.SerializeToString() + blob(9, odd + b"\xff" * place) for place, one in enumerate(ALIKE)]
    assert compress(blob(1, blob(2, b"".join(blob(2, body) for body in bodies)))).groups == 1


@pytest.mark.parametrize(("value", "left"), [(float("inf"), []), (float("nan"), [3]), (404.0, [3])])
def test_a_status_may_be_any_number(value: float, left: list[int]) -> None:
    odd = KeyValue(key="http.status_code", value=AnyValue(double_value=value))
    assert groups_of([changed(one, attributes=[odd]) for one in ALIKE]) == left


@settings(max_examples=100, deadline=None)
@given(traces(), st.data())
def test_damage_stops_nothing(spans: list[tuple[int, Span]], data: st.DataObject) -> None:
    payload = bytearray(in_chunks(spans, 4))
    for _ in range(data.draw(st.integers(1, 6))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    Preparation(ON).prepare(bytes(payload), complete=True)


def test_what_is_damaged_within_a_span_goes_out_as_it_came() -> None:
    """The scanner does not look into links, nor into what is no OTLP at all."""
    payload = blob(1, blob(2, b"".join(blob(2, one.SerializeToString() + blob(13, b"\xff")) for one in ALIKE)))
    assert Preparation(ON).prepare(payload, complete=True).payload is payload
    assert Preparation(ON).prepare(b"\xff", complete=True) == Prepared(b"\xff")
    assert Preparation(ON).prepare(payload * 2, complete=True) == Prepared(payload, duplicates=3)


def test_ten_thousand_spans_are_quick() -> None:
    """The bound is generous: what is guarded against is anything that grows faster than the trace."""
    spans = [
        span(n + 1, at=n, tags={"db.system": "x", "db.statement": f"SELECT a FROM t WHERE b = {n}"})
        for n in range(10_000)
    ]
    payload = payload_of(ROOT, *spans)
    compression = Compression(ON)
    start = process_time()
    found = compression.compress(payload, complete=True)
    assert process_time() - start < 1
    assert found.spans == 10_000


def test_every_key_of_a_composite_is_told_to_operators(request: pytest.FixtureRequest) -> None:
    page = (request.config.rootpath / "docs/operations.md").read_text()
    made = composites(compress(payload_of(ROOT, *ALIKE)).payload)[0]
    ours = {key for key in tags_of(made) if key.startswith("tss.")}
    assert ours == set(re.findall(r"`(tss\.composite[a-z_.]*)`", page))


HARD = r"^(\w+\s?)+$"


@pytest.mark.parametrize(
    "configured",
    [
        SpanCompression(enabled=True, compress_operations=(f"re:{HARD}",)),
        SpanCompression(enabled=True, exclude_operations=(f"re:{HARD}",)),
        SpanCompression(enabled=True, exclude_operations=("*a*a*a*a*a*a*b",)),
        SpanCompression(enabled=True, sql_patterns=(SqlPattern(pattern=HARD, is_regex=True),)),
    ],
    ids=["only", "never", "glob", "statement"],
)
def test_whatever_the_pattern_and_the_text_ten_times_the_text_is_ten_times_the_work(
    configured: SpanCompression,
) -> None:
    """Python's `re` doubles its time with each letter: 27 letters were 10 s."""

    rules = Rules.of(configured)

    def secs(size: int) -> float:
        text, rounds = "a" * size + "!", []
        for _ in range(5):
            began = process_time()
            for _ in range(50):
                rules.wants(text)
                rules.group_of(text)
            rounds.append(process_time() - began)
        return min(rounds)

    assert secs(4000) < 40 * secs(400) + 0.01
