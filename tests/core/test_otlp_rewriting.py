"""Spans changed on the wire: every byte of the rest stays; and duplicates, which are taken out that way."""

from __future__ import annotations

from collections.abc import Callable
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status, TracesData

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
from tests.core.spans import message, span, span_id
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
    first, again = message([span(1, 0), span(1, 1, 0)]), message([span(1, 1, 0)])
    payload, removed = without_duplicates(first + again + message([span(1, 2, 0), span(1, 0)]))
    assert removed == 2
    assert payload == first + message([span(1, 2, 0)])


def test_the_two_halves_of_a_call_in_zipkin_are_two_spans() -> None:
    client, server = span(1, 1, 0), span(1, 1, 0)
    client.kind, server.kind = Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_SERVER
    payload = message([client, server])
    assert without_duplicates(payload)[0] is payload
    assert without_duplicates(payload * 3) == (payload, 4)


@pytest.mark.parametrize(
    "change",
    [
        lambda twin: setattr(twin, "name", "another"),
        lambda twin: setattr(twin, "start_time_unix_nano", 5),
        lambda twin: setattr(twin, "end_time_unix_nano", twin.end_time_unix_nano + 1),
        lambda twin: setattr(twin.status, "code", Status.STATUS_CODE_ERROR),
        lambda twin: setattr(twin, "parent_span_id", span_id(9)),
        lambda twin: twin.attributes.add(key="pid"),
        lambda twin: twin.ClearField("name"),
        lambda twin: twin.MergeFromString(blob(99, b"a field of tomorrow")),
    ],
    ids=["name", "start", "end", "status", "parent", "attribute", "less", "unknown"],
)
@pytest.mark.parametrize("turned", [False, True])
def test_law_1_a_span_that_says_something_else_under_the_same_id_stays(
    change: Callable[[Span], object], *, turned: bool
) -> None:
    """Forked processes and seeded SDKs make such spans. One of them may be the error that kept the trace."""
    one, twin = span(1, 1, 0), span(1, 1, 0)
    change(twin)
    pair = [twin, one] if turned else [one, twin]
    payload = message(pair)
    assert without_duplicates(payload)[0] is payload
    assert without_duplicates(payload + message([*pair, *pair])) == (payload, 4)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=30), st.integers(1, 7))
def test_what_was_not_there_before_stays_and_nothing_else(drawn: list[tuple[int, int]], size: int) -> None:
    spans = []
    for number, kind in drawn:
        one = span(1, number)
        one.kind = kind  # type: ignore[assignment]  # an int is what the wire has
        spans.append(one)
    payload = b"".join(message(spans[at : at + size]) for at in range(0, len(spans), size))
    once, removed = without_duplicates(payload)
    left = [*span_bodies_in(once)]
    assert left == [*dict.fromkeys(span_bodies_in(payload))]
    assert len(left) == len(spans) - removed
    assert all(
        resource.scope_spans and resource.scope_spans[0].spans
        for resource in TracesData.FromString(once).resource_spans
    )


def test_ten_times_the_spans_of_one_id_are_ten_times_the_work() -> None:
    def secs(count: int) -> float:
        payload = message([span(1, 1, 0, ms=ms) for ms in range(count)])
        began = process_time()
        assert without_duplicates(payload) == (payload, 0)
        return process_time() - began

    small = min(secs(2_000) for _ in range(5))
    assert min(secs(20_000) for _ in range(5)) < 40 * small  # were each compared with all: 100


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
