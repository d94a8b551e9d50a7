"""The ways to Datadog against real servers on loopback that are as strict as the agent's documentation."""

from __future__ import annotations

import ssl
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import msgpack
import pytest
import trustme
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, TracesData

from tests.contracts.destination import World, check_destination
from tests.core.spans import message, span, trace_id
from tests.edges.traces import repeating, span_ids, trace, trace_of
from tests.faulty import drive
from tests.real.brokers import free_ports
from tests.sinks import DatadogIntakeSink, DatadogSink, Reply
from tss.core import measures
from tss.core.delivery import Accepted, Again, Misconfigured, Outcome, Rejected, Undeliverable
from tss.core.formats.datadog.parts import PLAN_BYTES, ROOM_BYTES, Form, OtlpForm, Part, SpanForm
from tss.core.formats.datadog.schema import Span as PbSpan
from tss.core.formats.datadog.schema import TraceChunk
from tss.core.otlp.wire import join
from tss.core.repeating import TooLarge
from tss.core.trace import Trace
from tss.edges.http import datadog_traces as edge
from tss.edges.http.datadog_trace_forms import AGENT_BYTES, INTAKE_BYTES, V04, V07, Intake
from tss.edges.http.datadog_traces import BATCH_BYTES, THREAD_BYTES, DatadogTraces, endpoint_of, open_datadog
from tss.settings import Datadog, DatadogExporter

AGENT, AGENT_V07, INTAKE, OTLP = WAYS = ("agent v0.4", "agent v0.7", "intake", "otlp")
Sink = DatadogSink | DatadogIntakeSink


def sink_of(way: str, port: int = 0) -> Sink:
    return DatadogIntakeSink(port) if way in (INTAKE, OTLP) else DatadogSink(port)


@pytest.fixture(params=WAYS)
def way(request) -> str:
    return request.param


@pytest.fixture
def sink(way):
    with sink_of(way) as sink:
        yield sink


@pytest.fixture
def agent_sink():
    with DatadogSink() as sink:
        yield sink


@pytest.fixture
def intake_sink():
    with DatadogIntakeSink() as sink:
        yield sink


def settings_of(way: str, url: str, **more) -> DatadogExporter:
    if way in (INTAKE, OTLP):
        return DatadogExporter(name="datadog", via=way, intake_url=url, api_key="key", **more)
    return DatadogExporter(name="datadog", via="agent", agent_url=url, trace_api=way.removeprefix("agent "), **more)


@asynccontextmanager
async def exporter(way: str, url: str, *, computes_stats: bool = False, **shared) -> AsyncIterator[DatadogTraces]:
    """`shared` are keys of the section; those that an exporter has of its own hold for it."""
    section = Datadog(**{"request_timeout_secs": 5} | shared)
    own = {name: shared[name] for name in ("batch_size", "batch_timeout_secs", "compression") if name in shared}
    async with open_datadog(settings_of(way, url, **own), section, computes_stats=computes_stats) as destination:
        yield destination


async def outcome_of(way: str, sink: Sink, reply: Reply, **shared) -> Outcome:
    sink.script(reply)
    async with exporter(way, sink.url, **shared) as destination:
        return await destination.send([trace(1)])


def tagged(number: int, spans: int = 1, **resource: Any) -> Trace:
    """Trace `number` whose spans' resource has these attributes (dots written as two underscores)."""
    attributes = [
        KeyValue(key=key.replace("__", "."), value=AnyValue(string_value=value)) for key, value in resource.items()
    ]
    members = [span(number, at, None if at == 0 else 0) for at in range(spans)]
    data = ResourceSpans(resource=Resource(attributes=attributes), scope_spans=[ScopeSpans(spans=members)])
    return trace_of([TracesData(resource_spans=[data]).SerializeToString()], trace_id(number))


def requests(form: Form, traces: Sequence[Trace]) -> list[list[Part]]:
    return [*form.requests([part for each in traces for part in form.parts(each)])]


async def test_contract(way, sink):
    sinks = [sink]

    def go_away() -> None:
        sinks[-1].close()

    def come_back() -> None:
        if sinks[-1].closing.is_set():
            sinks.append(sink_of(way, sink.port).__enter__())
        sinks[-1].usual = Reply()

    def hang() -> None:
        sinks[-1].usual = Reply(hang_secs=3)

    def taken() -> set:
        return {span for each in sinks for span in each.spans}

    async with exporter(way, sink.url) as destination:
        await check_destination(World(destination, taken, go_away, come_back, hang))
        # The send that was cancelled is never repeated: in the daemon that is its end.
        assert "1 traces begun" in repr(destination)
    sinks[-1].close()


# ---- what is sent


@pytest.mark.parametrize("way", [AGENT, AGENT_V07])
async def test_request_is_as_the_agent_wants_it(way, sink):
    async with exporter(way, sink.url) as destination:
        await destination.send([trace(1), trace(2), trace(3)])
    [request] = sink.requests
    assert (request.method, request.path) == ("POST", f"/{way.removeprefix('agent ')}/traces")
    headers = request.headers
    assert headers["content-type"] == "application/msgpack"
    assert headers["x-datadog-trace-count"] == "3"
    assert headers["datadog-meta-lang"] == "python"
    assert headers["datadog-meta-lang-version"] and headers["datadog-meta-lang-interpreter"]
    assert headers["datadog-meta-tracer-version"]
    assert headers["datadog-client-computed-top-level"]
    assert headers["datadog-send-real-http-status"]
    assert "datadog-client-computed-stats" not in headers
    assert "datadog-container-id" not in headers
    assert "dd-api-key" not in headers


async def test_request_is_as_the_agents_own_to_the_intake(intake_sink):
    sent = [tagged(1, telemetry__sdk__language="java"), tagged(2, telemetry__sdk__language="go"), tagged(3)]
    async with exporter(INTAKE, intake_sink.url) as destination:
        assert await destination.send(sent) == Accepted()
    [request] = intake_sink.requests
    assert (request.method, request.path) == ("POST", "/api/v0.2/traces")
    headers = request.headers
    assert headers["content-type"] == "application/x-protobuf"
    assert headers["dd-api-key"] == "key"
    assert headers["x-datadog-reported-languages"] == "go|java"
    assert headers["user-agent"].startswith("tss/")


async def test_request_is_as_the_otlp_intake_wants_it(intake_sink):
    """Law 6: the bytes are those of the records, unknown fields and all."""
    unknown = b"\xfa\x7f\x03abc"  # field 2047, length-delimited
    sent = [trace_of([each.payload + unknown]) for each in (trace(1), trace(2))]
    async with exporter(OTLP, intake_sink.url) as destination:
        assert await destination.send(sent) == Accepted()
    [request] = intake_sink.requests
    assert request.path == "/v1/traces"
    assert request.body == join(each.payload for each in sent)
    assert request.headers["dd-api-key"] == "key"


@pytest.mark.parametrize(
    ("way", "header", "alone", "with_stats"),
    [
        (AGENT, "datadog-client-computed-stats", None, "yes"),
        (AGENT_V07, "datadog-client-computed-stats", None, "yes"),
        (OTLP, "compute_stats", "true", None),
        (INTAKE, "compute_stats", None, None),
    ],
)
@pytest.mark.parametrize("computes_stats", [False, True])
async def test_it_is_told_who_computes_statistics(way, sink, header, alone, with_stats, computes_stats):
    async with exporter(way, sink.url, computes_stats=computes_stats) as destination:
        assert await destination.send([trace(1)]) == Accepted()
    assert sink.requests[0].headers.get(header) == (with_stats if computes_stats else alone)


def test_addresses_follow_from_the_site():
    def address(**keys) -> str:
        found = endpoint_of(DatadogExporter(**keys), computes_stats=False)
        return found.base_url + found.path

    assert address(via="intake", site="datadoghq.eu") == "https://trace.agent.datadoghq.eu/api/v0.2/traces"
    assert address(via="otlp", site="us5.datadoghq.com") == "https://otlp.us5.datadoghq.com/v1/traces"
    assert address(via="otlp", site="x.com", intake_url="http://proxy/dd") == "http://proxy/dd/v1/traces"
    assert address(via="agent", agent_url="http://a:8126", trace_api="v0.7") == "http://a:8126/v0.7/traces"


async def test_the_key_is_not_shown(intake_sink):
    way = endpoint_of(settings_of(INTAKE, intake_sink.url), computes_stats=False)
    async with exporter(INTAKE, intake_sink.url) as destination:
        assert "key" not in repr(destination) + repr(way)


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
@pytest.mark.parametrize("way", [INTAKE, OTLP])
async def test_compression(intake_sink, way, compression):
    sent = [trace(number, spans=200) for number in range(4)]
    settings = settings_of(way, intake_sink.url, compression=compression)
    async with open_datadog(settings, Datadog()) as destination:
        assert await destination.send(sent) == Accepted()
    [request] = intake_sink.requests
    assert request.headers.get("content-encoding", "none") == compression
    assert (len(request.raw) < len(request.body) / 3) is (compression != "none")
    assert intake_sink.spans == span_ids(sent)


async def test_spans_arrive_with_all_ids(way, sink):
    sent = [trace(number, rate=0.25) for number in range(5)]
    async with exporter(way, sink.url) as destination:
        assert await destination.send(sent) == Accepted()
    assert sink.spans == span_ids(sent)
    for chunk in sink.traces:
        assert [each["metrics"].get("_sampling_priority_v1") for each in chunk] == [2.0] + [None] * 5
        assert chunk[0]["metrics"]["_sample_rate"] == 0.25


def timed(number: int, start: int, end: int, last_ms: int) -> Trace:
    """Trace `number` with one span of these times, whose record came at `last_ms`."""
    one = span(number, 0)
    one.start_time_unix_nano, one.end_time_unix_nano = start, end
    made = trace_of([message([one])], trace_id(number))
    made.first_ms = made.last_ms = last_ms
    return made


async def test_a_span_in_microseconds_ends_when_its_record_came(way, sink):
    """By the topic's time, so that what is sent again is the same; by OTLP it stays as it came (law 6)."""
    late_us = timed(1, 1_700_000_000_000_000, 1_700_000_000_500_000, last_ms=1_790_000_000_000)
    for _ in range(2):
        async with exporter(way, sink.url) as destination:
            assert await destination.send([late_us]) == Accepted()
    bodies = {request.body for request in sink.requests}
    assert len(sink.requests) == 2 and len(bodies) == 1
    found = {(each["start"], each["duration"]) for chunk in sink.traces for each in chunk}
    if way == OTLP:
        assert (1_700_000_000_000_000).to_bytes(8, "little") in bodies.pop()
    else:
        assert found == {(1_790_000_000_000_000_000 - 500_000, 500_000)}


def nameless(number: int) -> Trace:
    """A trace whose id ends with 64 bits that are zero."""
    id = (number + 1).to_bytes(8, "big") + bytes(8)
    one = span(number, 0)
    one.trace_id = id
    return trace_of([message([one])], id)


@pytest.mark.parametrize("way", [AGENT, AGENT_V07, INTAKE])
async def test_a_trace_id_that_is_none_for_datadog_is_refused_alone(way, sink):
    """An agent and the intake say 200 to it, and throw it away: it must not count as delivered."""
    sent = [trace(1), nameless(2), trace(3)]
    async with exporter(way, sink.url) as destination:
        driven = await drive([destination], [sent])
        assert "0 traces begun" in repr(destination)
    assert sink.spans == span_ids([sent[0], sent[2]])
    [letter] = driven.letters.letters
    assert (letter.trace_id, letter.reason) == (sent[1].trace_id.hex(), "trace_id_zero")
    assert letter.payload == sent[1].payload
    assert "all zero" in letter.detail
    assert driven.meter.counted(measures.SPANS_EXPORTED, "datadog") == sum(
        each.held_spans for each in (sent[0], sent[2])
    )


async def test_one_v04_request_has_one_environment_and_version(agent_sink):
    """The agent takes both from the first trace of a request that has any."""
    sent = [
        tagged(1, deployment__environment="prod", service__version="1"),
        tagged(2, deployment__environment="test", service__version="1"),
        tagged(3, deployment__environment="prod", service__version="1", host__name="elsewhere"),
        tagged(4, deployment__environment="prod", service__version="2"),
    ]
    async with exporter(AGENT, agent_sink.url) as destination:
        assert await destination.send(sent) == Accepted()
    found = [
        {
            (chunk[0]["meta"]["env"], chunk[0]["meta"]["version"], chunk[0]["trace_id"])
            for chunk in msgpack.unpackb(request.body)
        }
        for request in agent_sink.requests
    ]
    low = [int.from_bytes(trace_id(number)[8:], "big") for number in range(5)]
    assert found == [
        {("prod", "1", low[1]), ("prod", "1", low[3])},
        {("test", "1", low[2])},
        {("prod", "2", low[4])},
    ]


ORIGIN: dict[str, Any] = {
    "deployment__environment__name": "Prod",
    "service__version": "1.2",
    "telemetry__sdk__language": "java",
    "telemetry__sdk__version": "1.40.0",
    "container__id": "c1",
    "host__name": "web-1",
}
SAID = {
    "env": "prod",
    "app_version": "1.2",
    "language_name": "java",
    "tracer_version": "otlp-1.40.0",
    "container_id": "c1",
    "hostname": "web-1",
}


@pytest.mark.parametrize("way", [AGENT_V07, INTAKE])
async def test_a_payload_says_where_its_spans_come_from(way, sink):
    async with exporter(way, sink.url) as destination:
        assert await destination.send([tagged(1, **ORIGIN), tagged(2), tagged(3, **ORIGIN)]) == Accepted()
    known, unknown = sink.payloads
    assert {name: known.get(name) for name in SAID} == SAID
    assert {name: unknown.get(name) or "" for name in SAID} == dict.fromkeys(SAID, "")
    assert [len(each["chunks"]) for each in sink.payloads] == [2, 1]
    assert len(sink.requests) == (1 if way == INTAKE else 2)


async def test_services_of_one_trace_are_told_apart_in_the_intake(intake_sink):
    """As the agent does, which makes a payload of each resource; only where a service is entered is a top level."""
    parts = [tagged(1, service__name=name, host__name=f"{name}-1") for name in ("shop", "bank")]
    sent = trace_of(
        [each.payload.replace(b"\x00" * 7 + b"\x01", bytes(7) + bytes((at + 1,))) for at, each in enumerate(parts)]
    )
    async with exporter(INTAKE, intake_sink.url) as destination:
        assert await destination.send([sent]) == Accepted()
    assert [each["hostname"] for each in intake_sink.payloads] == ["shop-1", "bank-1"]
    assert [[each["service"] for each in chunk] for chunk in intake_sink.traces] == [["shop"], ["bank"]]


# ---- sizes

FORMS: Sequence[Callable[[int], Form]] = (V04, V07, Intake, OtlpForm)


def long(number: int, spans: int = 1, **tags: str) -> Trace:
    """A trace whose spans are long by themselves, not by their resource."""
    members = [span(number, at, None if at == 0 else 0) for at in range(spans)]
    for each in members:
        each.name = "x" * 1000
        each.attributes.extend(KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in tags.items())
    data = ResourceSpans(scope_spans=[ScopeSpans(spans=members)])
    return trace_of([TracesData(resource_spans=[data]).SerializeToString()], trace_id(number))


def ids_in(form: Form, parts: Sequence[Part]) -> list[int]:
    """Span ids in the order of a request."""
    if isinstance(form, OtlpForm):
        data = TracesData.FromString(form.body(parts))
        return [
            int.from_bytes(each.span_id, "big")
            for resource in data.resource_spans
            for scope in resource.scope_spans
            for each in scope.spans
        ]
    return [member + 1 for part in parts for member in part.members]


@pytest.mark.parametrize("make", FORMS)
def test_a_trace_too_long_for_a_request_goes_in_several(make):
    form = make(20_000)
    found = requests(form, [long(1, spans=100)])
    bodies = [form.body(parts) for parts in found]
    assert 5 < len(found) < 20 and all(len(body) <= 20_000 for body in bodies)
    assert [each for parts in found for each in ids_in(form, parts)] == list(range(1, 101))


@pytest.mark.parametrize("make", FORMS)
def test_many_traces_too_long_for_one_request(make):
    form = make(20_000)
    found = requests(form, [long(number) for number in range(50)])
    sizes = [len(form.body(parts)) for parts in found]
    assert all(14_000 < size <= 20_000 for size in sizes[:-1])
    assert sum(map(len, found)) == 50


@pytest.mark.parametrize("make", [V07, Intake])
def test_what_is_said_of_many_origins_counts_too(make):
    form = make(20_000)
    sent = [
        tagged(number, host__name=f"{number:03}" + "ü" * 98, container__id=f"{number:0200}") for number in range(99)
    ]
    sent += [tagged(number, spans=99, k8s__pod__name=f"p{number:0199}") for number in range(100, 103)]
    bodies = [form.body(parts) for parts in requests(form, sent)]
    assert all(len(body) <= 20_000 for body in bodies)


@pytest.mark.parametrize("make", FORMS)
def test_a_span_too_large(make):
    with pytest.raises(TooLarge):
        make(1_000).parts(long(1))
    with pytest.raises(TooLarge):
        make(100_000).halves(make(100_000).parts(long(1))[0])


def test_chunks_of_one_trace_are_each_led_and_no_top_level_is_made_up():
    parts = V04(20_000).parts(tagged(1, spans=100, notes="x" * 1000))
    chunks = [msgpack.unpackb(part.body) for part in parts]
    assert len(chunks) > 5
    assert [each["span_id"] for chunk in chunks for each in chunk] == list(range(1, 101))
    for chunk in chunks:
        assert chunk[0]["metrics"]["_sampling_priority_v1"] == 2.0
        assert chunk[0]["meta"]["_dd.p.tid"] == trace_id(1)[:8].hex()
        # Only where a service is really entered, however the trace was cut.
        assert all(("_top_level" in each["metrics"]) is (each["span_id"] == 1) for each in chunk)


def test_the_limits():
    assert (
        (V04().limit, V07().limit, Intake().limit)
        == (AGENT_BYTES, AGENT_BYTES, INTAKE_BYTES)
        == (
            25 * 1024 * 1024,
            25 * 1024 * 1024,
            3_200_000,
        )
    )
    assert endpoint_of(settings_of(OTLP, "http://a"), computes_stats=False).form.limit == INTAKE_BYTES


async def test_a_giant_trace_and_small_ones_arrive_whole(way, sink):
    giant = tagged(1, spans=300, **{f"note{number}": "x" * 20_000 for number in range(4)})
    fat = trace_of(
        [
            tagged(2, spans=1, notes="x" * 20_000).payload.replace(bytes(7) + b"\x01", at.to_bytes(8, "big"))
            for at in range(1, 200)
        ],
        trace_id(2),
    )
    sent = [giant, fat, trace(3)]
    async with exporter(way, sink.url) as destination:
        assert await destination.send(sent) == Accepted()
    assert sink.spans == span_ids(sent)
    assert set(sink.counts.values()) == {1}
    assert len(sink.requests) > (1 if way == OTLP else 5) or way in (AGENT, AGENT_V07)
    assert all(len(request.body) <= sink.max_bytes for request in sink.requests)


@pytest.mark.parametrize("way", [AGENT, INTAKE])
async def test_a_span_too_large_is_refused(way, sink):
    notes = {f"note{number}": "x" * 25_000 for number in range(AGENT_BYTES // 25_000 + 1)}
    async with exporter(way, sink.url) as destination:
        outcome = await destination.send([tagged(1, 1, **notes)])
        assert isinstance(outcome, Undeliverable) and outcome.reason == "too_large"
        assert "0 traces begun" in repr(destination)
    assert not sink.requests


async def test_a_large_batch_is_encoded_in_a_thread(way, sink):
    large = [tagged(number, spans=200, notes="x" * 200) for number in range(3)]
    assert sum(len(each.payload) for each in large) > THREAD_BYTES
    async with exporter(way, sink.url) as destination:
        assert await destination.send(large) == Accepted()
        assert destination.batching.max_bytes == (INTAKE_BYTES if way == OTLP else BATCH_BYTES)
    assert sink.spans == span_ids(large)


# ---- spans that repeat a long resource

SPAN_FORMS: Sequence[Callable[[], SpanForm]] = (V04, V07, Intake)
LONGEST = PLAN_BYTES + PLAN_BYTES // 8


@pytest.mark.parametrize("make", SPAN_FORMS)
def test_a_trace_that_becomes_a_thousand_times_as_long_is_refused_unencoded(make):
    """530 kB of OTLP, 814 MB of Datadog spans: it took 2.4 GB and 42 s, at each start again."""
    sent = repeating(1, 400, 2000)
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match=r"its 52\d,\d+ bytes of OTLP become 81\d,\d+,\d+ or more"):
            make().parts(sent)
        assert tracemalloc.get_traced_memory()[1] < 16 * 1024 * 1024
    finally:
        tracemalloc.stop()


def spans_in(form: SpanForm, parts: Sequence[Part]) -> list[Any]:
    """The spans of these chunks, less what only the first of a chunk has."""
    if isinstance(form, Intake):
        found = [
            {**MessageToDict(PbSpan.FromString(each))}
            for part in parts
            for each in TraceChunk.FromString(part.body).spans
        ]
    else:
        chunks = [msgpack.unpackb(part.body) for part in parts]
        found = [each for chunk in chunks for each in (chunk["spans"] if isinstance(chunk, dict) else chunk)]
    for each in found:
        for name in ("_sampling_priority_v1", "_dd.p.dm", "_dd.p.tid"):
            each["meta"].pop(name, None)
            each.get("metrics", {}).pop(name, None)
    return [{name: value for name, value in each.items() if value} for each in found]


@pytest.mark.parametrize("make", SPAN_FORMS)
def test_what_is_longer_than_the_room_is_encoded_piece_by_piece(make):
    form = make()
    sent = repeating(1, 25, 1000)
    plans = form.parts(sent)
    assert len(plans) > 5 and all(plan.is_planned and not plan.body for plan in plans)
    pieces = [form.encoded(plan) for plan in plans]
    assert all(sum(len(part.body) for part in piece) < LONGEST for piece in pieces)
    parts = [part for piece in pieces for part in piece]
    assert [member for part in parts for member in part.members] == list(range(1000))
    assert {part.origin for part in parts} == {part.origin for part in form.parts(sent, room=1 << 40)}
    assert spans_in(form, parts) == spans_in(form, form.parts(sent, room=1 << 40))


@pytest.mark.parametrize("make", SPAN_FORMS)
def test_the_room_is_that_of_a_batch(make):
    form = make()
    found, refused = edge.encode(form, [repeating(number, 25, 30) for number in range(40)])
    parts = [part for each in found.values() for part in each]
    assert refused is None and len(found) == 40
    assert ROOM_BYTES / 2 < sum(len(part.body) for part in parts) <= ROOM_BYTES
    together = list(form.requests(parts))
    planned = [each for each in together if each[0].is_planned]
    assert all(len({part.is_planned for part in each}) == 1 for each in together)
    assert sum(map(len, planned)) > len(planned) > 1, "several at once, not all"
    assert all(sum(part.size for part in each) <= PLAN_BYTES for each in planned)


@pytest.mark.parametrize("way", [AGENT, AGENT_V07, INTAKE])
async def test_a_long_trace_arrives_whole_and_once(way, sink):
    sent = [repeating(1, 25, 1000, "key.{:04}"), trace(2)]
    sink.script(Reply(), Reply(503), Reply(), Reply(), Reply(503))
    outcomes: list[Outcome] = []
    async with exporter(way, sink.url) as destination:
        while Accepted() not in outcomes:
            outcomes.append(await destination.send(sent))
        assert "0 traces begun" in repr(destination)
    assert len(outcomes) == 3
    assert sink.spans == span_ids(sent)
    assert set(sink.counts.values()) == {1}
    assert all(len(request.body) < LONGEST for request in sink.requests)


async def test_a_server_that_takes_less_gets_a_long_trace_too(intake_sink):
    intake_sink.max_bytes = 300_000
    sent = [repeating(1, 25, 800)]
    async with exporter(INTAKE, intake_sink.url) as destination:
        assert await destination.send(sent) == Accepted()
    assert intake_sink.spans == span_ids(sent)
    assert set(intake_sink.counts.values()) == {1}


@pytest.mark.parametrize("way", [AGENT, AGENT_V07, INTAKE])
async def test_what_became_too_long_is_dead_lettered_alone(way, sink):
    sent = [trace(1), repeating(2, 400, 2000), trace(3)]
    async with exporter(way, sink.url) as destination:
        driven = await drive([destination], [sent])
        assert "0 traces begun" in repr(destination)
    [letter] = driven.letters.letters
    assert (letter.trace_id, letter.reason) == (sent[1].trace_id.hex(), "too_large")
    assert letter.payload == sent[1].payload
    assert sink.spans == span_ids([sent[0], sent[2]])


def test_otlp_whose_resource_hardly_fits_a_request_is_refused():
    """Each request would have a span or two beside it."""
    sent = repeating(1, 15, 1000)
    with pytest.raises(TooLarge):
        OtlpForm(17_000).parts(sent)
    assert sum(len(part.body) for part in OtlpForm(100_000).parts(sent)) < 2 * sent.payload_bytes


async def test_a_short_record_that_becomes_long_is_encoded_in_a_thread(agent_sink, monkeypatch):
    where: list[threading.Thread] = []

    def noting(form: Form, traces: Sequence[Trace]):
        where.append(threading.current_thread())
        return encode(form, traces)

    encode = edge.encode
    monkeypatch.setattr(edge, "encode", noting)
    long_one = repeating(1, 10, 300)
    assert long_one.payload_bytes < THREAD_BYTES
    async with exporter(AGENT, agent_sink.url) as destination:
        await destination.send([trace(2)])
        await destination.send([long_one])
    assert [each is threading.main_thread() for each in where] == [True, False]


# ---- 413


async def test_a_server_that_takes_less_gets_less(way, sink):
    """Requests are halved, then chunks, down to spans; none is sent twice."""
    sink.max_bytes = 5_000
    sent = [trace(1, pieces=1, spans=100), *(trace(number) for number in range(2, 40))]
    async with exporter(way, sink.url) as destination:
        assert await destination.send(sent) == Accepted()
        assert "0 traces begun" in repr(destination)
    assert sink.spans == span_ids(sent)
    assert set(sink.counts.values()) == {1}


async def test_a_span_that_no_server_takes_is_refused_alone(way, sink):
    sink.max_bytes = 20_000
    sent = [trace(1), tagged(2, 1, **{f"note{number}": "x" * 9_000 for number in range(3)}), trace(3)]
    async with exporter(way, sink.url) as destination:
        outcome = await destination.send(sent)
        assert isinstance(outcome, Rejected) and outcome.reason == "http_413"
        assert await destination.send(sent[:1]) == Accepted()
        assert isinstance(await destination.send(sent[1:2]), Rejected)
        assert await destination.send(sent[2:]) == Accepted()
        assert "1 traces begun" in repr(destination)  # it may be sent again
        destination.forget(sent[1:2])
        assert "0 traces begun" in repr(destination)
    assert sink.spans == span_ids([sent[0], sent[2]])
    assert set(sink.counts.values()) == {1}


# ---- what is left


APART: list[dict[str, Any]] = [{"deployment__environment": name} for name in "abcd"]


STRANGERS = [
    ("text/html", b"<!doctype html><title>Grafana</title>"),
    ("text/plain", b"\xef\xbb\xbf<html>"),
    ("application/grpc", b""),
    ("application/json", b'{"error": "no such index"}'),
    ("application/vnd.elasticsearch+json", b'{"errors": [{"code": 1}]}'),
    ("application/json", b'{"status": "error"}'),
    ("application/json", b"[]"),
    ("application/json", b"{"),
    ("text/plain", b'{"error": "no"}'),
]
ANSWERS = [
    ("application/json", b'{"rate_by_service": {"service:,env:": 1}}'),
    ("application/json", b"{}"),
    ("application/json", b'{"status": "ok"}'),
    ("application/json", b'{"errors": []}'),
    ("application/json", b"OK\n"),
    ("text/plain", b"OK\n"),
    ("", b""),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("kind", "body"), STRANGERS)
async def test_a_stranger_s_answer_is_no_success(way, sink, kind, body):
    """A wrong port would else eat every kept trace, with all lights green."""
    sent = [tagged(1)]
    sink.script(Reply(200, {"Content-Type": kind}, body))
    async with exporter(way, sink.url) as destination:
        outcome = await destination.send(sent)
        assert isinstance(outcome, Misconfigured)
        assert outcome.reason == "stranger"
        assert await destination.send(sent) == Accepted()  # it was held


@pytest.mark.parametrize("way", [AGENT, AGENT_V07, INTAKE])
@pytest.mark.parametrize(("kind", "body"), ANSWERS)
async def test_what_agents_and_intakes_answer_is_a_success(way, sink, kind, body):
    assert await outcome_of(way, sink, Reply(200, {"Content-Type": kind}, body)) == Accepted()


async def test_a_batch_sent_again_sends_only_the_rest(agent_sink):
    sent = [tagged(number, **APART[number]) for number in range(4)]
    agent_sink.script(Reply(), Reply(503), Reply(), Reply(401))
    async with exporter(AGENT, agent_sink.url) as destination:
        assert isinstance(await destination.send(sent), Again)
        assert isinstance(await destination.send(sent), Misconfigured)
        assert await destination.send(sent) == Accepted()
        assert "0 traces begun" in repr(destination)
        assert await destination.send(sent) == Accepted()  # as it would be after a restart
    assert set(agent_sink.counts.values()) == {2}


async def test_halves_of_a_refused_batch_send_only_the_rest(agent_sink):
    sent = [tagged(number, **APART[number]) for number in range(4)]
    agent_sink.script(Reply(), Reply(400))
    async with exporter(AGENT, agent_sink.url) as destination:
        assert isinstance(await destination.send(sent), Rejected)
        assert await destination.send(sent[:2]) == Accepted()
        assert await destination.send(sent[2:]) == Accepted()
    assert agent_sink.spans == span_ids(sent)
    assert set(agent_sink.counts.values()) == {1}


async def test_of_a_giant_trace_only_the_rest_is_sent_again(intake_sink):
    intake_sink.max_bytes = 10_000
    intake_sink.script(*[Reply(), Reply(503)] * 8)
    sent = [trace(1, pieces=1, spans=100)]
    outcomes: list[Outcome] = []
    async with exporter(INTAKE, intake_sink.url) as destination:
        while Accepted() not in outcomes:
            outcomes.append(await destination.send(sent))
    assert len(outcomes) == 9 and all(isinstance(each, Again) for each in outcomes[:-1])
    assert intake_sink.spans == span_ids(sent)
    assert set(intake_sink.counts.values()) == {1}


async def test_nothing_is_encoded_twice(way, sink, monkeypatch):
    encoded: list[int] = []

    def counting(form: Form, traces: Sequence[Trace]):
        encoded.append(len(traces))
        return encode(form, traces)

    encode = edge.encode
    monkeypatch.setattr(edge, "encode", counting)
    sent = [trace(number) for number in range(4)]
    sink.script(Reply(503), Reply(400))
    async with exporter(way, sink.url) as destination:
        for batch in (sent, sent, sent[:2], sent[2:]):
            await destination.send(batch)
    assert encoded == [4, 0, 0, 0]
    assert sink.spans == span_ids(sent)


async def test_partial_success_of_the_otlp_intake(intake_sink):
    """What was rejected before a try failed is told when the batch is through."""
    sent = [long(number, 40) for number in range(4)]
    intake_sink.max_bytes = 100_000
    intake_sink.script(Reply(413), Reply(rejected_spans=2, message="too old"), Reply(503))
    async with exporter(OTLP, intake_sink.url) as destination:
        assert isinstance(await destination.send(sent), Again)
        assert await destination.send(sent) == Accepted(2, "too old")


# ---- outcomes


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_any_2xx_is_a_success(way, sink, status):
    assert await outcome_of(way, sink, Reply(status)) == Accepted()


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 599])
async def test_what_is_tried_again(way, sink, status):
    outcome = await outcome_of(way, sink, Reply(status, {"Retry-After": "3"}))
    assert isinstance(outcome, Rejected if status in (500, 599) else Again)
    assert (outcome.reason, outcome.after_secs) == (f"http_{status}", 3)


@pytest.mark.parametrize("status", [301, 308, 401, 402, 403, 404, 415])
async def test_what_a_setting_must_mend(way, sink, status):
    outcome = await outcome_of(way, sink, Reply(status))
    assert isinstance(outcome, Misconfigured) and outcome.reason == f"http_{status}"


async def test_a_wrong_key_is_named(way, sink):
    outcome = await outcome_of(way, sink, Reply(401, {"Content-Type": "text/plain"}, b"API key is invalid"))
    whose = "the agent's own API key" if way in (AGENT, AGENT_V07) else "the exporter's apiKey"
    assert outcome == Misconfigured("http_401", f"401 Unauthorized: API key is invalid; check {whose} and site")


@pytest.mark.parametrize("status", [400, 422])
async def test_what_is_refused(way, sink, status):
    outcome = await outcome_of(way, sink, Reply(status, {"Content-Type": "text/plain"}, b"cannot decode"))
    assert isinstance(outcome, Rejected) and outcome.reason == f"http_{status}"
    assert outcome.detail.endswith(": cannot decode")


async def test_nobody_listens(way):
    async with exporter(way, f"http://127.0.0.1:{free_ports(1)[0]}") as destination:
        outcome = await destination.send([trace(1)])
    assert isinstance(outcome, Again) and outcome.reason == "connect"


async def test_no_answer_in_time(way, sink):
    assert await outcome_of(way, sink, Reply(hang_secs=5), request_timeout_secs=0.2) == Again(
        "timeout", "no answer within 0.2 s"
    )


async def test_proxies_are_for_the_intakes_and_not_for_the_agent(way, sink, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", sink.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with exporter(way, "http://elsewhere.invalid") as destination:  # no name server knows it
        outcome = await destination.send([trace(1)])
    if way in (AGENT, AGENT_V07):
        assert isinstance(outcome, Again) and not sink.requests
    else:
        assert [request.path.partition(".invalid/")[0] for request in sink.requests] == ["http://elsewhere"]


async def test_an_intake_is_known_by_its_certificate():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with DatadogIntakeSink(tls=context) as sink:
        async with exporter(INTAKE, sink.url) as destination:
            outcome = await destination.send([trace(1)])
    assert isinstance(outcome, Misconfigured) and outcome.reason == "tls"
    assert not sink.requests


async def test_the_keys_of_the_guide(sink, way):
    shared = Datadog(
        api_key="key",
        agent_url=sink.url,
        batch_size=7,
        batch_timeout_secs=0.5,
        max_retries=9,
        retry_initial_delay_ms=70,
    )
    async with open_datadog(DatadogExporter.of(shared), shared) as destination:
        batching, retrying = destination.batching, destination.retrying
    assert (batching.max_traces, batching.linger_secs) == (7, 0.5)
    assert (retrying.quick_tries, retrying.initial_secs) == (9, 0.07)
    assert DatadogExporter.of(attrs.evolve(shared, batch_enabled=False)).batch_size == 1


async def test_a_knock_is_a_request_without_spans(way, sink):
    """And one that a server can read: the sinks refuse what is no payload of its kind."""
    async with exporter(way, sink.url) as destination:
        assert await destination.knock() is True
        sink.script(Reply(400), Reply(500), Reply(200, {"Content-Type": "text/html"}, b"<html>"))
        assert [await destination.knock() for _ in range(3)] == [False] * 3
    assert not sink.spans
