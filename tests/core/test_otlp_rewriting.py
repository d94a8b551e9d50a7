"""Spans changed on the wire: every byte of the rest stays; and duplicates, which are taken out that way."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, TracesData

from tests.core.otlp_records import (
    LENGTH,
    VARINT,
    Node,
    Record,
    blob,
    damaged,
    inside,
    records,
    span_bodies_in,
    tag,
    varint,
)
from tests.core.spans import message, span
from tss.core.compression.outline import Outline
from tss.core.duplicates import without_duplicates
from tss.core.otlp.rewriting import rewritten
from tss.core.otlp.wire import WireError, fields


def nodes_of_spans(node: Node) -> list[Node]:
    if node.children is None:
        return [node] if node.label is not None else []
    return [found for child in node.children for found in nodes_of_spans(child)]


def expected(node: Node, changes: dict[int, bytes]) -> bytes:
    """By the tree, whose nodes are known by identity."""
    if node.children is None:
        return changes.get(id(node), node.raw)
    below = nodes_of_spans(node)
    if not any(id(each) in changes for each in below):
        return node.raw
    if below and all(changes.get(id(each)) == b"" for each in below):
        return b""
    body = b"".join(expected(child, changes) for child in node.children)
    return node.tag + varint(len(body)) + body


@settings(max_examples=50, deadline=None)
@given(records(), st.data())
def test_only_the_changed_spans_and_the_lengths_around_them_change(record: Record, data: st.DataObject) -> None:
    nodes = [found for node in record.nodes for found in nodes_of_spans(node)]
    seen = Outline(record.raw).spans
    assert [record.raw[each.field : each.stop] for each in seen] == [node.raw for node in nodes]
    new = st.sampled_from((b"", blob(2, b"new"), None))
    drawn = [data.draw(new) for _ in nodes]
    by_field = {each.field: change for each, change in zip(seen, drawn, strict=True) if change is not None}
    by_node = {id(node): change for node, change in zip(nodes, drawn, strict=True) if change is not None}
    assert rewritten(record.raw, by_field) == b"".join(expected(node, by_node) for node in record.nodes)


@settings(max_examples=50, deadline=None)
@given(records())
def test_an_outline_has_what_protobuf_has(record: Record) -> None:
    outline = Outline(record.raw)
    for seen, body in zip(outline.spans, span_bodies_in(record.raw), strict=True):
        outline.look_at(seen)
        span = Span.FromString(body)
        assert (seen.span_id, seen.parent, seen.kind) == (span.span_id, span.parent_span_id, span.kind)
        assert (seen.start_ns, seen.end_ns) == (span.start_time_unix_nano, span.end_time_unix_nano)
        assert (seen.name, seen.code, seen.events) == (span.name.encode(), span.status.code, len(span.events))
        assert seen.attributes == inside(body, 9)
        assert outline.without(seen, frozenset()) == body
        assert inside(outline.without(seen, frozenset((5,))), 5) == []


@settings(max_examples=80, deadline=None)
@given(st.one_of(damaged(), st.binary(max_size=40)))
def test_the_compiled_walk_finds_damage_where_the_plain_one_does(value: bytes) -> None:
    """Down to the spans; a group that is closed by another's end is all that the compiled one lets pass."""

    def walk(start: int, stop: int, level: int) -> None:
        for found, _, body, end in fields(value, start, stop):
            if level < 3 and found == (0x12 if level else 0xA):
                walk(body, end, level + 1)

    try:
        walk(0, len(value), 0)
    except WireError:
        return
    try:
        without_duplicates(value)
    except WireError as error:
        pytest.fail(f"{value.hex()}: {error}")


def test_nothing_to_change_is_the_very_same_object() -> None:
    payload = message([span(1, 0), span(1, 1, 0)]) * 1
    assert rewritten(payload, {}) is payload
    assert without_duplicates(payload) == (payload, 0)
    assert without_duplicates(payload)[0] is payload
    assert without_duplicates(b"") == (b"", 0)


def test_the_first_of_repeated_spans_stays_and_empty_shells_go() -> None:
    first, again = message([span(1, 0), span(1, 1, 0, ms=1)]), message([span(1, 1, 0, ms=9)])
    payload, removed = without_duplicates(first + again + message([span(1, 2, 0), span(1, 0)]))
    assert removed == 2
    assert payload == first + message([span(1, 2, 0)])


def test_the_two_halves_of_a_call_in_zipkin_are_two_spans() -> None:
    client, server = span(1, 1, 0), span(1, 1, 0)
    client.kind, server.kind = Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_SERVER
    payload = message([client, server])
    assert without_duplicates(payload)[0] is payload
    assert without_duplicates(payload * 3) == (payload, 4)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from((0, 1, 2, 3))), max_size=30), st.integers(1, 7))
def test_each_id_and_kind_goes_out_once_and_nothing_else_is_lost(drawn: list[tuple[int, int]], size: int) -> None:
    spans = []
    for place, (number, kind) in enumerate(drawn):
        one = span(1, number, start_ms=place + 1)
        one.kind = kind  # type: ignore[assignment]  # an int is what the wire has
        spans.append(one)
    payload = b"".join(message(spans[at : at + size]) for at in range(0, len(spans), size))
    once, removed = without_duplicates(payload)
    left = [Span.FromString(body) for body in span_bodies_in(once)]
    first = {(one.span_id, one.kind): one for one in reversed(spans)}
    assert {(one.span_id, one.kind): one for one in left} == first
    assert len(left) == len(first) == len(spans) - removed
    assert [one.start_time_unix_nano for one in left] == sorted(one.start_time_unix_nano for one in left)
    assert all(
        resource.scope_spans and resource.scope_spans[0].spans
        for resource in TracesData.FromString(once).resource_spans
    )


def test_a_container_that_never_had_a_span_stays() -> None:
    empty = TracesData(resource_spans=[ResourceSpans(schema_url="a"), ResourceSpans(scope_spans=[ScopeSpans()])])
    payload, removed = without_duplicates(empty.SerializeToString() + message([span(1, 0)]) * 2)
    assert (payload, removed) == (empty.SerializeToString() + message([span(1, 0)]), 1)


def test_groups_and_odd_kinds_are_passed_over() -> None:
    group = tag(3, 3) + tag(2, VARINT) + varint(7) + tag(4, 3) + blob(1, b"x") + tag(4, 4) + tag(3, 4)
    one = blob(
        1,
        group + blob(2, group + blob(2, blob(1, b"t" * 16) + group + blob(2, b"spanspan")) + tag(2, VARINT) + b"\x05"),
    )
    assert LENGTH == 2
    assert without_duplicates(one + one)[1] == 1
