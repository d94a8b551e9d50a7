"""A walk sees what protobuf sees, in whatever bytes; and hashes what names a series and nothing else."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status, TracesData

from tests.core.otlp_records import records
from tss.core.formats.apm_stats.walk import Walker
from tss.core.otlp import schema

NOBODY = 0xFFFFFFFF
SERVER, CLIENT = Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT


def pair(key: str, value: str | int) -> KeyValue:
    return KeyValue(
        key=key, value=AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value)
    )


def message(*spans: Span, resource: dict[str, str] | None = None) -> bytes:
    group = ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])
    group.resource.attributes.extend(pair(key, value) for key, value in (resource or {}).items())
    return TracesData(resource_spans=[group]).SerializeToString()


def number(span_id: bytes) -> int:
    return int.from_bytes(span_id, "little") if len(span_id) == 8 else 0


@given(st.lists(records(), max_size=3))
def test_facts_are_what_protobuf_reads(made):
    chunks = [record.raw for record in made]
    spans = [
        span
        for chunk in chunks
        for group in schema.TracesData.FromString(chunk).resource_spans
        for within in group.scope_spans
        for span in within.spans
    ]
    walker = Walker(["a", "b"], ["a"])
    found = walker.facts_of(chunks)
    assert walker.broken == 0
    assert [
        (fact["span_id"], fact["parent_id"], fact["start_ns"], fact["end_ns"], fact["kind"], fact["status"], fact["name"])
        for fact in found
    ] == [
        (
            number(span.span_id), number(span.parent_span_id), span.start_time_unix_nano, span.end_time_unix_nano,
            span.kind, span.status.code, span.name,
        )
        for span in spans
    ]  # fmt: skip
    assert [schema.Span.FromString(fact["span"]) for fact in found] == spans


@given(st.binary(max_size=200), st.data())
def test_broken_bytes_end_a_walk_and_nothing_else(junk: bytes, data: st.DataObject) -> None:
    whole = message(Span(span_id=b"12345678", name="a", attributes=[pair("a", "b")]), resource={"service.name": "x"})
    cut = data.draw(st.integers(0, len(whole)))
    walker = Walker(["a"], ["service.name"], service_keys=["service.name"])
    walker.walk([whole[:cut] + junk])
    walker.walk([junk])
    assert len(walker.facts_of([whole])) == 1


@pytest.mark.parametrize("count", [12, 200])
def test_parents_are_found_wherever_they_are(count: int) -> None:
    rng = random.Random(count)
    spans = [
        Span(
            span_id=(n + 1).to_bytes(8, "big"), parent_span_id=b"" if not n else rng.randrange(n + 9).to_bytes(8, "big")
        )
        for n in range(count)
    ]
    rng.shuffle(spans)
    cut = count // 2
    found = Walker().facts_of([message(*spans[:cut]), message(*spans[cut:])])
    places = {number(span.span_id): place for place, span in enumerate(spans)}
    assert [fact["parent"] for fact in found] == [places.get(number(span.parent_span_id), NOBODY) for span in spans]
    assert len({fact["parent"] for fact in found}) > 1


def series(span: Span, resource: dict[str, str] | None = None, walker: Walker | None = None) -> int:
    walker = walker or Walker(["http.route", "db.system"], ["service.name"], prefixes=["gen_ai."], by_status=True)
    (fact,) = walker.facts_of([message(span, resource=resource)])
    found: int = fact["series"]
    return found


def test_only_what_names_it_tells_a_series_from_another() -> None:
    plain = Span(name="a", kind=SERVER, attributes=[pair("http.route", "/x")])
    same = Span(
        name="a",
        kind=SERVER,
        span_id=b"12345678",
        attributes=[pair("url", "u"), pair("http.route", "/x"), pair("n", 1)],
    )
    assert series(plain) == series(same) == series(plain, {"host": "x"})
    others = [
        Span(name="b", kind=SERVER, attributes=[pair("http.route", "/x")]),
        Span(name="a", kind=CLIENT, attributes=[pair("http.route", "/x")]),
        Span(name="a", kind=SERVER, attributes=[pair("http.route", "/y")]),
        Span(name="a", kind=SERVER, attributes=[pair("db.system", "/x")]),
        Span(name="a", kind=SERVER, attributes=[pair("http.route", "/x"), pair("gen_ai.x", 1)]),
        Span(
            name="a", kind=SERVER, attributes=[pair("http.route", "/x")], status=Status(code=Status.STATUS_CODE_ERROR)
        ),
        Span(name="a", kind=SERVER),
    ]
    found = [series(plain), series(plain, {"service.name": "s"}), series(plain, {"service.name": "t"})]
    found += [series(other) for other in others]
    assert len(set(found)) == len(found)
    once, twice = (
        Span(name="a", attributes=[pair(key, "long text") for key in keys])
        for keys in (["gen_ai.x"], ["gen_ai.y", "gen_ai.z"])
    )
    assert series(once) == series(twice)


def test_notes_are_the_spans_own_or_else_the_resources() -> None:
    walker = Walker(notes=["w", "m"])
    resource = {"w": "from the resource", "m": "too"}
    (fact,) = walker.facts_of([message(Span(attributes=[pair("w", 7)]), resource=resource)])
    notes = [KeyValue.FromString(note).value for note in fact["notes"][:2]]
    assert notes == [AnyValue(int_value=7), AnyValue(string_value="too")]


def test_services_have_a_hash_of_their_own() -> None:
    walker = Walker(["service.name"], ["service.name"], service_keys=["service.name"])
    spans = [Span(name="a"), Span(name="b"), Span(name="a", attributes=[pair("service.name", "own")])]
    one, two, own = (fact["service"] for fact in walker.facts_of([message(*spans, resource={"service.name": "s"})]))
    assert one == two != own
    other = walker.facts_of([message(spans[0], resource={"service.name": "t"})])[0]["service"]
    assert len({one, own, other}) == 3
