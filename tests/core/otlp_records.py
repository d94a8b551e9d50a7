"""OTLP records written byte by byte, as no library would write them, and both scanners to read them.

Unknown fields of every wire type at every level, varints longer than need be, fields in any order, known numbers with
the wrong wire type. Each record is also kept as a tree, from which the expected parts are cut in the plainest way.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from types import ModuleType

import attrs
import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from tests.interpreted import ASKED
from tss.core.conditions.program import ASKS_NOTHING, Program
from tss.core.otlp import Encoding, Scan, ScanError, ScanErrorReason, reference

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
        return ScanErrorReason.INVALID_TRACE_ID
    if len(span.span_id) != 8 or not any(span.span_id):
        return ScanErrorReason.INVALID_SPAN_ID
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
    return [fragment.payload for fragment in found.fragments] + [error.payload for error in found.scan_errors]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    raw = bytearray(draw(records()).raw)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(raw)))
        raw[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(raw[: draw(st.integers(0, len(raw)))] if draw(st.booleans()) else raw)


# Both implementations -----------------------------------------------------------------------------------------------

Scans = Callable[..., Scan]


def scan_of(module: ModuleType) -> Scans:
    """Its `scan`, as in `tss.core.otlp`."""

    def scan(value: bytes | None, encoding: Encoding, program: Program = ASKS_NOTHING) -> Scan:
        scan_errors: list[ScanError] = []
        fragments = module.Scanner(program).fragments(value, encoding, scan_errors)
        return Scan(fragments, tuple(scan_errors))

    return scan


# A compiled scanner that is missing fails here, at import, unless it was asked to be left aside.
COMPILED = reference if os.environ.get(ASKED) else import_module("tss.core.otlp.scanner")
SCANS = [scan_of(COMPILED), scan_of(reference)]
both = pytest.mark.parametrize("scan", SCANS, ids=["compiled", "reference"])
