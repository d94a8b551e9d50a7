"""The names of services and root spans: where they are found, and how many are remembered."""

import random

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, TracesData

from tests.core.spans import fragment, record
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.memory import Memory
from tss.core.names import MAX_CHARS, MOST, OTHER, UNKNOWN, Names
from tss.core.parked import Summary
from tss.core.partition import Partition


def resource_spans(service: str | None, *spans: Span, keys: int = 2) -> ResourceSpans:
    attributes = [KeyValue(key=f"service.{n:04}", value=AnyValue(string_value="x")) for n in range(keys)]
    if service is not None:
        attributes.append(KeyValue(key="service.name", value=AnyValue(string_value=service)))
    return ResourceSpans(resource=Resource(attributes=attributes), scope_spans=[ScopeSpans(spans=spans)])


def span(name: str, parent: bytes = b"") -> Span:
    return Span(trace_id=b"t" * 16, span_id=b"s" * 8, parent_span_id=parent, name=name, start_time_unix_nano=5)


def message(*parts: ResourceSpans) -> bytes:
    return TracesData(resource_spans=parts).SerializeToString()


CHILD = b"parent-1"


@pytest.mark.parametrize(
    ("data", "service", "root"),
    [
        (message(resource_spans("shop", span("GET /"))), "shop", "GET /"),
        (message(resource_spans("db", span("q", CHILD)), resource_spans("web", span("GET /"))), "web", "GET /"),
        (message(resource_spans("db", span("q", CHILD), span("root", bytes(8)))), "db", "root"),
        (message(resource_spans("a", span("q", CHILD)), resource_spans("b", span("q", CHILD))), "a", ""),
        (message(resource_spans("a", span("q", b"odd"))), "a", ""),
        (message(resource_spans(None, span("r"))), "unknown_service", "r"),
        (message(resource_spans("ü" * 300, span("ö" * 300))), "ü" * MAX_CHARS, "ö" * MAX_CHARS),
        (message(resource_spans("é", span("r"))).replace("é".encode(), b"\xff\xff"), "��", "r"),
        (b"", "unknown_service", ""),
    ],
)
def test_a_trace_belongs_to_the_service_of_its_root_else_of_its_first_resource(
    data: bytes, service: str, root: str
) -> None:
    names = Names()
    names.look(data, True)
    assert names.services.texts[names.service] == service
    assert names.roots.texts[names.root] == root


def test_broken_bytes_give_no_name_and_no_error() -> None:
    names, chance = Names(), random.Random(1)
    whole = message(resource_spans("db", span("q", CHILD)), resource_spans("web", span("GET /")))
    for _ in range(3000):
        broken = bytearray(whole[: chance.randrange(len(whole))])
        for _ in range(chance.randrange(4)):
            if broken:
                broken[chance.randrange(len(broken))] = chance.randrange(256)
        names.look(bytes(broken), True)


def test_law_5_names_beyond_the_limits_count_as_one() -> None:
    names = Names()
    numbers = {names.roots.number(b"name %d" % number) for number in range(3 * MOST)}
    assert max(numbers) < MOST and OTHER in numbers
    assert names.roots.texts[names.roots.number(b"name 7")] == "name 7"
    small = Names(8_000)
    for number in range(100):
        small.services.number(b"service %d" % number)
    assert small.held_bytes <= 4_000


def buffer() -> Buffer:
    return Buffer(Limits(1 << 30, 10**6, 10**6, 10**6), Waits(1000, 1000, 10**9), Memory())


def test_the_root_gives_a_trace_its_service_whenever_it_comes() -> None:
    first = message(resource_spans("db", span("q", CHILD)))
    root = message(resource_spans("web", span("GET /")))
    own, home = buffer(), Partition(0, 0, 300_000)
    own.add(home, record(0, 10, fragment(1, [1], parents=[0], payload=first)), 0)
    own.add(home, record(1, 10, fragment(1, [0], root=True, payload=root)), 0)
    own.add(home, record(2, 10, fragment(1, [2], parents=[0], payload=first)), 0)
    own.add(home, record(3, 10, fragment(2, [1], parents=[0], payload=first)), 0)
    own.reach(home, 100_000)
    assert [(own.service_of(trace), own.root_of(trace)) for trace in own.take()] == [("web", "GET /"), ("db", "")]


def test_a_parked_summary_has_the_names_and_an_older_one_has_none() -> None:
    summary = Summary(1, 2, 1, 1, 10, 0, 5, 6, True, 7, 8, service="web", root_name="GET /")
    assert Summary.from_bytes(summary.to_bytes()) == summary
    older = Summary(1, 2, 1, 1, 10, 0, 5, 6, True, 7, 8)
    assert b"service" not in older.to_bytes()
    assert Summary.from_bytes(older.to_bytes()).service == ""
    assert UNKNOWN == 0
