"""Law 6, bytes in, bytes out: a scan moves spans, it never rewrites them.

Records are written here byte by byte, as no library would write them: unknown fields of every wire type at every level,
varints longer than need be, fields in any order, known numbers with the wrong wire type. Each record is also kept as a
tree, from which the expected parts are cut in the plainest way.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise

import attrs
import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from tests.core import spans as small
from tss.core.otlp import Encoding, FaultReason, Fragment, Scan, join, scan

quick = settings(max_examples=100, deadline=None)

TRACES = (b"trace-a-16-bytes", b"trace-b-16-bytes", bytes(15) + b"\x01")
BAD_TRACES = (b"", bytes(16), b"short", b"seventeen-bytes!!")
SPANS = (b"span-001", b"span-002", b"span-003", b"span-004", b"span-005", bytes(7) + b"\x01")
BAD_SPANS = (b"", bytes(8), b"7-bytes", b"9-bytes!!")
PARENTS = (None, b"", bytes(8), *SPANS, b"odd", b"elsewhere-at-all")

VARINT, FIXED64, LENGTH, GROUP, END_GROUP, FIXED32 = range(6)


# Writing the wire ---------------------------------------------------------------------------------------------------


def varint(value: int, size: int = 1) -> bytes:
    """At least `size` bytes long, padded as protobuf allows."""
    out = bytearray()
    while value > 0x7F or len(out) + 1 < size:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def tag(number: int, kind: int, size: int = 1) -> bytes:
    return varint(number << 3 | kind, size)


def blob(number: int, body: bytes) -> bytes:
    return tag(number, LENGTH) + varint(len(body)) + body


def one_span(trace_id: bytes = TRACES[0], span_id: bytes = SPANS[0], rest: bytes = b"") -> bytes:
    return blob(1, blob(2, blob(2, blob(1, trace_id) + blob(2, span_id) + rest)))


@attrs.frozen
class Node:
    """A field of a record: shared by all parts, a span (`label`), or a container of both (`children`)."""

    raw: bytes
    label: object = None
    tag: bytes = b""
    children: tuple["Node", ...] | None = None

    def labels(self) -> set[object]:
        if self.children is None:
            return {self.label} - {None}
        return {label for child in self.children for label in child.labels()}

    def cut(self, label: object) -> bytes:
        """This field in the part of `label`."""
        if self.children is None:
            return self.raw if self.label in (None, label) else b""
        if self.labels() == {label}:
            return self.raw
        if label not in self.labels():
            return b""
        body = b"".join(child.cut(label) for child in self.children)
        return self.tag + varint(len(body)) + body


@attrs.frozen
class Record:
    raw: bytes
    nodes: tuple[Node, ...]
    bodies: tuple[bytes, ...]
    """Each span's bytes, in order."""

    def part(self, label: object) -> bytes:
        if {found for node in self.nodes for found in node.labels()} == {label}:
            return self.raw
        return b"".join(node.cut(label) for node in self.nodes)


def label_of(body: bytes) -> object:
    span = Span.FromString(body)
    if len(span.trace_id) != 16 or not any(span.trace_id):
        return FaultReason.INVALID_TRACE_ID
    if len(span.span_id) != 8 or not any(span.span_id):
        return FaultReason.INVALID_SPAN_ID
    return span.trace_id


# Drawing records ----------------------------------------------------------------------------------------------------

sizes = st.sampled_from((1, 1, 1, 2, 5))
small_bytes = st.binary(max_size=6)


def plain_field(number: int, kind: int) -> st.SearchStrategy[bytes]:
    content = {
        VARINT: st.builds(varint, st.integers(0, 2**64 - 1), st.sampled_from((1, 1, 10))),
        FIXED64: st.binary(min_size=8, max_size=8),
        LENGTH: st.builds(lambda body, size: varint(len(body), size) + body, small_bytes, sizes),
        FIXED32: st.binary(min_size=4, max_size=4),
    }[kind]
    return st.builds(lambda size, body: tag(number, kind, size) + body, sizes, content)


any_number = st.sampled_from((1, 7, 15, 1000, 2**29 - 1))
plain_fields = st.builds(plain_field, any_number, st.sampled_from((VARINT, FIXED64, LENGTH, FIXED32))).flatmap(
    lambda strategy: strategy
)


def in_group(number: int, contents: Iterable[bytes]) -> bytes:
    return tag(number, GROUP) + b"".join(contents) + tag(number, END_GROUP, 2 if number < 16 else 1)


group_contents = st.recursive(
    plain_fields, lambda inner: st.builds(in_group, any_number, st.lists(inner, max_size=2)), max_leaves=3
)


def groups(number: int) -> st.SearchStrategy[bytes]:
    return st.builds(in_group, st.just(number), st.lists(group_contents, max_size=2))


def unknown_fields(known: dict[int, int]) -> st.SearchStrategy[bytes]:
    """Fields that no schema with `known` (number to wire type) has, among them its numbers with another wire type."""
    numbers = (20, 1000, 2**29 - 1, *known)
    kinds = (VARINT, FIXED64, LENGTH, GROUP, FIXED32)
    choices = [(number, kind) for number in numbers for kind in kinds if known.get(number) != kind]
    return st.sampled_from(choices).flatmap(lambda at: groups(at[0]) if at[1] == GROUP else plain_field(*at))


SPAN_FIELDS = {1: LENGTH, 2: LENGTH, 4: LENGTH, 5: LENGTH, 7: FIXED64, 8: FIXED64, 15: LENGTH, 16: FIXED32}
span_unknown = unknown_fields(SPAN_FIELDS)
scope_unknown = unknown_fields({1: LENGTH, 2: LENGTH, 3: LENGTH})
resource_unknown = scope_unknown
top_unknown = unknown_fields({1: LENGTH})
resources = st.sampled_from((blob(1, b""), blob(1, blob(1, blob(1, b"service.name"))), tag(1, LENGTH) + varint(0, 5)))
schema_urls = st.sampled_from((blob(3, b""), blob(3, b"https://opentelemetry.io/schemas/1.26.0")))


@st.composite
def span_bodies(draw: st.DrawFn) -> bytes:
    rarely = st.integers(0, 9).map(lambda drawn: drawn == 0)
    span_id = draw(st.sampled_from(BAD_SPANS if draw(rarely) else SPANS))
    found = [
        blob(1, draw(st.sampled_from(BAD_TRACES if draw(rarely) else TRACES))),
        blob(2, span_id),
        blob(5, b"name"),
    ]
    parent = draw(st.sampled_from((*PARENTS, span_id)))
    if parent is not None:
        found.append(blob(4, parent))
    for number in (7, 8):
        nanos = draw(st.sampled_from((None, 0, 5, 2**63, 2**64 - 1)))
        if nanos is not None:
            found.append(tag(number, FIXED64) + nanos.to_bytes(8, "little"))
    code = draw(st.sampled_from((None, None, 0, 1, 2, 9)))
    if code is not None:
        found.append(blob(15, blob(2, b"because") + tag(3, VARINT) + varint(code, 3)))
    if draw(rarely):
        found.append(blob(1, draw(st.sampled_from(TRACES))))  # of an id given twice the later one counts
    found += draw(st.lists(span_unknown, max_size=2))
    return b"".join(draw(st.permutations(found)))


def container(number: int, tag_size: int, length_size: int, children: Iterable[Node]) -> Node:
    start, body = tag(number, LENGTH, tag_size), b"".join(child.raw for child in children)
    return Node(start + varint(len(body), length_size) + body, tag=start, children=tuple(children))


def span_node(tag_size: int, length_size: int, body: bytes) -> Node:
    return Node(tag(2, LENGTH, tag_size) + varint(len(body), length_size) + body, label=label_of(body))


span_nodes = st.builds(span_node, sizes, sizes, span_bodies())


def containers(
    number: int, inner: st.SearchStrategy[Node], shared: st.SearchStrategy[bytes]
) -> st.SearchStrategy[Node]:
    children = st.lists(st.one_of(inner, inner, st.builds(Node, shared)), min_size=1, max_size=5)
    return st.builds(container, st.just(number), sizes, sizes, children)


scopes = containers(2, span_nodes, st.one_of(resources, schema_urls, scope_unknown))
resource_spans = containers(1, scopes, st.one_of(resources, schema_urls, resource_unknown))


@st.composite
def records(draw: st.DrawFn) -> Record:
    nodes = tuple(
        draw(st.lists(st.one_of(resource_spans, resource_spans, st.builds(Node, top_unknown)), min_size=1, max_size=4))
    )
    raw = b"".join(node.raw for node in nodes)
    return Record(raw, nodes, tuple(span_bodies_in(raw)))


def inside(message: bytes, number: int) -> list[bytes]:
    """The bytes of each length-delimited field of that number, told by protobuf without any schema."""
    found = UnknownFieldSet(Empty.FromString(message))
    each = (found[index] for index in range(len(found)))
    return [field.data for field in each if field.field_number == number and field.wire_type == LENGTH]


def span_bodies_in(message: bytes) -> Iterator[bytes]:
    for resource in inside(message, 1):
        for scope in inside(resource, 2):
            yield from inside(scope, 2)


def spans_in(message: bytes) -> list[Span]:
    data = TracesData.FromString(message)
    return [span for resource in data.resource_spans for scope in resource.scope_spans for span in scope.spans]


def payloads(found: Scan) -> list[bytes]:
    return [fragment.payload for fragment in found.fragments] + [fault.payload for fault in found.faults]


# Law 6 --------------------------------------------------------------------------------------------------------------


@quick
@given(records())
def test_law_6_each_span_comes_out_once_and_byte_for_byte(record: Record) -> None:
    found = scan(record.raw, Encoding.OTLP_PROTO)
    if not record.bodies:
        assert [(fault.reason, fault.payload) for fault in found.faults] == [(FaultReason.EMPTY, record.raw)]
        return
    out = [list(span_bodies_in(payload)) for payload in payloads(found)]
    assert Counter(body for bodies in out for body in bodies) == Counter(record.bodies)
    for bodies in out:
        assert len({label_of(body) for body in bodies}) == 1
        assert bodies == [body for body in record.bodies if label_of(body) == label_of(bodies[0])]
    joined = spans_in(join(payloads(found)))
    assert Counter(map(Span.SerializeToString, joined)) == Counter(map(Span.SerializeToString, spans_in(record.raw)))


@quick
@given(records())
def test_law_6_only_the_lengths_of_what_was_split_change(record: Record) -> None:
    found = scan(record.raw, Encoding.AUTO)
    for fragment in found.fragments:
        assert fragment.payload == record.part(fragment.trace_id)
    for fault in found.faults:
        assert fault.payload == record.part(fault.reason) or fault.reason is FaultReason.EMPTY


def test_law_6_one_trace_keeps_the_very_bytes_that_arrived() -> None:
    body = blob(2, SPANS[0]) + in_group(1000, [blob(3, b"?")]) + blob(1, TRACES[0]) + tag(7, VARINT, 5) + varint(3, 10)
    bare = tag(1, LENGTH, 5) + varint(0, 5)
    scope = tag(2, LENGTH, 2) + varint(len(body), 3) + body + blob(1, b"") + blob(1, b"")
    record = bare + blob(1, blob(2, scope) + blob(1000, b"old")) + in_group(1, [blob(2, b"")]) + one_span()
    (fragment,) = scan(record, Encoding.AUTO).fragments
    assert fragment.payload is record
    assert fragment.spans == 2


def test_law_6_what_surrounds_a_span_goes_with_it_in_order() -> None:
    first, second = (blob(2, blob(1, trace) + blob(2, SPANS[0])) for trace in TRACES[:2])
    resource, again, url, old = blob(1, blob(1, b"")), blob(1, blob(2, b"")), blob(3, b"url"), blob(1000, b"old")
    scope, unknown = blob(1, b""), tag(99, FIXED32) + b"four"
    record = blob(1, resource + blob(2, unknown + first + scope + second + url) + old + again) + unknown
    found = scan(record, Encoding.OTLP_PROTO)
    assert [fragment.payload for fragment in found.fragments] == [
        blob(1, resource + blob(2, unknown + content + url) + old + again) + unknown
        for content in (first + scope, scope + second)
    ]


# Summaries ----------------------------------------------------------------------------------------------------------


def naive(trace_id: bytes, spans: list[Span]) -> dict[str, object]:
    ids = {span.span_id for span in spans}
    roots = [span for span in spans if span.parent_span_id in (b"", bytes(8))]
    return {
        "trace_id": trace_id,
        "spans": len(spans),
        "errors": sum(span.status.code == 2 for span in spans),
        "start_ns": min([span.start_time_unix_nano for span in spans if span.start_time_unix_nano], default=0),
        "end_ns": max([span.end_time_unix_nano for span in spans if span.end_time_unix_nano], default=0),
        "has_root": bool(roots),
        "span_ids": ids,
        "parent_ids": {span.parent_span_id for span in spans} - ids - {b"", bytes(8)},
    }


@quick
@given(records())
def test_a_summary_says_what_protobuf_says(record: Record) -> None:
    found = scan(record.raw, Encoding.AUTO)
    everything = list(zip(map(label_of, record.bodies), spans_in(record.raw), strict=True))
    assert {fragment.trace_id for fragment in found.fragments} == {
        label for label, _ in everything if isinstance(label, bytes)
    }
    for fragment in found.fragments:
        summary = attrs.asdict(fragment)
        del summary["payload"]
        members = [span for label, span in everything if label == fragment.trace_id]
        assert summary == naive(fragment.trace_id, members)
        assert naive(fragment.trace_id, spans_in(fragment.payload)) == summary


def the_fragment(rest: bytes = b"", span_id: bytes = SPANS[0]) -> Fragment:
    (fragment,) = scan(one_span(span_id=span_id, rest=rest), Encoding.AUTO).fragments
    return fragment


def test_a_span_without_times_has_neither_start_nor_end() -> None:
    assert (the_fragment().start_ns, the_fragment().end_ns) == (0, 0)


def test_a_span_may_end_before_it_starts() -> None:
    times = tag(7, FIXED64) + (9).to_bytes(8, "little") + tag(8, FIXED64) + (3).to_bytes(8, "little")
    fragment = the_fragment(times)
    assert (fragment.start_ns, fragment.end_ns) == (9, 3)


@pytest.mark.parametrize("parent", [b"", bytes(8)])
def test_an_empty_or_zero_parent_makes_a_root(parent: bytes) -> None:
    assert the_fragment(blob(4, parent)).has_root
    assert the_fragment(blob(4, parent)).parent_ids == frozenset()


def test_its_own_parent_is_neither_root_nor_missing() -> None:
    fragment = the_fragment(blob(4, SPANS[0]))
    assert (fragment.has_root, fragment.parent_ids) == (False, frozenset())


def test_a_parent_elsewhere_is_missing() -> None:
    assert the_fragment(blob(4, SPANS[1])).parent_ids == {SPANS[1]}


def test_repr_shows_the_state_and_not_the_bytes() -> None:
    assert repr(the_fragment()) == (
        "Fragment(trace_id=74726163652d612d31362d6279746573, payload=<34 bytes>, spans=1, errors=0, start_ns=0,"
        " end_ns=0, has_root=True)"
    )


# Faults -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, b"", blob(1, b""), blob(1, blob(2, b"")), blob(1, blob(1000, b"")), b"{}"])
def test_a_record_without_spans_is_empty(value: bytes | None) -> None:
    found = scan(value, Encoding.AUTO)
    assert found.fragments == ()
    assert [(fault.reason, fault.payload) for fault in found.faults] == [(FaultReason.EMPTY, value or b"")]


def test_bad_spans_are_taken_out_one_fault_each_reason() -> None:
    good, bad_trace, zero_trace = one_span(), one_span(trace_id=b"short"), one_span(trace_id=bytes(16))
    bad_span, both_bad = one_span(span_id=bytes(8)), one_span(b"", b"")
    found = scan(bad_trace + good + bad_span + zero_trace + both_bad, Encoding.AUTO)
    assert [fragment.payload for fragment in found.fragments] == [good]
    assert [(fault.reason, fault.payload) for fault in found.faults] == [
        (FaultReason.INVALID_TRACE_ID, bad_trace + zero_trace + both_bad),
        (FaultReason.INVALID_SPAN_ID, bad_span),
    ]
    assert found.faults[0].detail == (
        "3 of 5 spans: trace id is not 16 bytes or is all zero; the first has b'short' (5 bytes)"
    )


def test_an_id_of_any_size_makes_a_short_detail() -> None:
    (fault,) = scan(one_span(trace_id=b"x" * 100_000), Encoding.AUTO).faults
    assert len(fault.detail) < 200


def nested(depth: int) -> bytes:
    value = blob(1, b"x")
    for _ in range(depth):
        value = blob(5, blob(1, value))
    return one_span(rest=blob(9, blob(2, value)))


@pytest.mark.parametrize(
    "value",
    [
        b"\xff",
        b"\x00\x00",
        one_span()[:-1],
        one_span() + b"\x0c",
        one_span() + b"\x0b",
        one_span(rest=blob(5, b"\xff not UTF-8")),
        nested(1000),
        one_span() + b"\x0b" * 200_000,
        b'{"resourceSpans":',
        b"{" + one_span(),
    ],
    ids=lambda value: repr(value[:8]),
)
def test_an_unreadable_value_is_put_aside_whole(value: bytes) -> None:
    found = scan(value, Encoding.AUTO)
    assert found.fragments == ()
    assert [(fault.reason, fault.payload) for fault in found.faults] == [(FaultReason.UNREADABLE, value)]
    assert 0 < len(found.faults[0].detail) <= 500


def test_nesting_that_protobuf_allows_is_read() -> None:
    assert scan(nested(45), Encoding.AUTO).fragments


# Whatever the bytes -------------------------------------------------------------------------------------------------


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    raw = bytearray(draw(records()).raw)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(raw)))
        raw[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(raw[: draw(st.integers(0, len(raw)))] if draw(st.booleans()) else raw)


encodings = st.sampled_from(Encoding)


@quick
@given(st.binary(max_size=80), encodings)
@example(b"{\x7c", Encoding.AUTO)  # an empty group 15: the one protobuf message that looks like JSON
def test_arbitrary_bytes_never_raise(value: bytes, encoding: Encoding) -> None:
    found = scan(value, encoding)
    assert found.fragments or found.faults


@settings(max_examples=200, deadline=None)
@given(damaged(), encodings)
def test_damaged_records_never_raise_and_lose_nothing(value: bytes, encoding: Encoding) -> None:
    found = scan(value, encoding)
    assert found.fragments or found.faults
    if any(fault.reason is FaultReason.UNREADABLE for fault in found.faults):
        assert payloads(found) == [value]
        if encoding is Encoding.OTLP_PROTO:  # what protobuf reads the splitter reads too
            with pytest.raises(DecodeError):
                TracesData.FromString(value)
    elif encoding is Encoding.OTLP_PROTO:
        assert sum(len(spans_in(payload)) for payload in payloads(found)) == len(spans_in(value))


def test_a_batch_of_many_traces_splits_in_linear_time() -> None:
    # Eight thousand traces in one scope take a tenth of a second; a walk for each of them would take many.
    ids = [number.to_bytes(16, "big") for number in range(1, 8001)]
    scope = b"".join(blob(2, blob(1, trace_id) + blob(2, SPANS[0])) for trace_id in ids)
    found = scan(blob(1, blob(1, b"") + blob(2, scope)), Encoding.AUTO)
    assert [fragment.trace_id for fragment in found.fragments] == ids
    assert all(len(one.payload) == len(two.payload) for one, two in pairwise(found.fragments))


@pytest.mark.parametrize("shape", ["a large resource", "many small fields"])
def test_law_5_a_record_that_would_split_into_far_more_than_itself_is_put_aside(shape: str) -> None:
    """Else one record of 300 kB takes 800 MB, and the process that is killed for it reads it again."""
    value = small.message([small.span(number, 0) for number in range(3000)])
    if shape == "a large resource":
        data = TracesData.FromString(value)
        data.resource_spans[0].resource.attributes.add(key="k").value.string_value = "v" * 50_000
        value = data.SerializeToString()
    else:
        inner = TracesData.FromString(value).resource_spans[0].SerializeToString() + b"\xa0\x3e\x01" * 20_000
        value = TracesData().SerializeToString() + b"\x0a" + varint(len(inner)) + inner
    began = time.process_time()
    found = scan(value, Encoding.AUTO)
    assert time.process_time() - began < 2
    assert [fault.reason for fault in found.faults] == [FaultReason.SPLIT_TOO_LARGE]
    assert found.faults[0].payload == value
    assert found.fragments == ()
