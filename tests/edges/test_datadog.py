"""The Datadog agent exporter against a real server on loopback that is as strict as the agent's documentation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgpack
import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, TracesData

from tests.contracts.destination import World, check_destination
from tests.core.spans import span, trace_id
from tests.edges.traces import span_ids, trace, trace_of
from tests.real.brokers import free_ports
from tests.sinks import DatadogSink, Reply
from tss.core.delivery import Accepted, Again, Misconfigured, Outcome, Refused
from tss.edges.datadog import BATCH_BYTES, MAX_BODY_BYTES, THREAD_BYTES, DatadogAgent, TooLarge, encode, open_datadog
from tss.settings import Datadog, DatadogExporter


@pytest.fixture
def sink():
    with DatadogSink() as sink:
        yield sink


@asynccontextmanager
async def agent(url: str, **shared) -> AsyncIterator[DatadogAgent]:
    datadog = Datadog(**{"request_timeout_secs": 5} | shared)
    async with open_datadog(DatadogExporter(name="agent", agent_url=url), datadog) as destination:
        yield destination


async def outcome_of(sink: DatadogSink, reply: Reply, **shared) -> Outcome:
    sink.script(reply)
    async with agent(sink.url, **shared) as destination:
        return await destination.send([trace(1)])


def tagged(number: int, spans: int = 1, **resource: str):
    """Trace `number` whose spans' resource has these attributes (dots written as two underscores)."""
    attributes = [
        KeyValue(key=key.replace("__", "."), value=AnyValue(string_value=value)) for key, value in resource.items()
    ]
    members = [span(number, at, None if at == 0 else 0) for at in range(spans)]
    data = ResourceSpans(resource=Resource(attributes=attributes), scope_spans=[ScopeSpans(spans=members)])
    return trace_of([TracesData(resource_spans=[data]).SerializeToString()], trace_id(number))


async def test_contract(sink):
    sinks = [sink]

    def go_away() -> None:
        sinks[-1].close()

    def come_back() -> None:
        if sinks[-1].closing.is_set():
            sinks.append(DatadogSink(sink.port).__enter__())
        sinks[-1].usual = Reply()

    def hang() -> None:
        sinks[-1].usual = Reply(hang_secs=3)

    async with agent(sink.url) as destination:
        taken = lambda: {span for each in sinks for span in each.spans}  # noqa: E731
        await check_destination(World(destination, taken, go_away, come_back, hang))
    sinks[-1].close()


async def test_request_is_as_the_agent_wants_it(sink):
    async with agent(sink.url) as destination:
        await destination.send([trace(1), trace(2), trace(3)])
    [request] = sink.requests
    assert (request.method, request.path) == ("POST", "/v0.4/traces")
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


async def test_spans_arrive_with_all_ids(sink):
    sent = [trace(number, rate=0.25) for number in range(5)]
    async with agent(sink.url) as destination:
        assert await destination.send(sent) == Accepted()
    assert sink.spans == span_ids(sent)
    for chunk in sink.traces:
        assert [each["metrics"].get("_sampling_priority_v1") for each in chunk] == [2.0] + [None] * 5
        assert chunk[0]["metrics"]["_sample_rate"] == 0.25


async def test_one_request_has_one_environment_and_version(sink):
    """The agent takes both from the first trace of a request that has any."""
    sent = [
        tagged(1, deployment__environment="prod", service__version="1"),
        tagged(2, deployment__environment="test", service__version="1"),
        tagged(3, deployment__environment="prod", service__version="1"),
        tagged(4, deployment__environment="prod", service__version="2"),
    ]
    async with agent(sink.url) as destination:
        assert await destination.send(sent) == Accepted()
    found = [
        {
            (chunk[0]["meta"]["env"], chunk[0]["meta"]["version"], chunk[0]["trace_id"])
            for chunk in msgpack.unpackb(request.body)
        }
        for request in sink.requests
    ]
    low = [int.from_bytes(trace_id(number)[8:], "big") for number in range(5)]
    assert found == [
        {("prod", "1", low[1]), ("prod", "1", low[3])},
        {("test", "1", low[2])},
        {("prod", "2", low[4])},
    ]


def test_a_trace_too_long_for_a_request_goes_in_several_chunks():
    big = tagged(1, spans=100, notes="x" * 1000)
    requests = encode([big], max_body_bytes=20_000)
    assert len(requests) > 5 and all(len(request.body) <= 20_000 for request in requests)
    chunks = [chunk for request in requests for chunk in msgpack.unpackb(request.body)]
    assert sum(request.chunks for request in requests) == len(chunks)
    assert [each["span_id"] for chunk in chunks for each in chunk] == list(range(1, 101))
    for chunk in chunks:
        assert chunk[0]["metrics"]["_sampling_priority_v1"] == 2.0
        assert chunk[0]["meta"]["_dd.p.tid"] == trace_id(1)[:8].hex()
        # Only where a service is really entered, however the trace was cut.
        assert all(("_top_level" in each["metrics"]) is (each["span_id"] == 1) for each in chunk)


def test_many_traces_too_long_for_one_request():
    traces = [tagged(number, notes="x" * 1000) for number in range(50)]
    requests = encode(traces, max_body_bytes=20_000)
    assert [request.chunks for request in requests][:-1] == [requests[0].chunks] * (len(requests) - 1)
    assert sum(request.chunks for request in requests) == 50
    assert all(15_000 < len(request.body) <= 20_000 for request in requests[:-1])


def test_a_request_may_be_exactly_as_long_as_allowed():
    traces = [tagged(number) for number in range(3)]
    [request] = encode(traces)
    room = 5 - 1  # the array's header is counted at its longest
    assert len(encode(traces, max_body_bytes=len(request.body) + room)) == 1
    assert len(encode(traces, max_body_bytes=len(request.body) + room - 1)) == 2


async def test_a_span_too_large_is_refused(sink):
    with pytest.raises(TooLarge):
        encode([tagged(1, notes="x" * 5000)], max_body_bytes=4000)
    notes = {f"note{number}": "x" * 25_000 for number in range(MAX_BODY_BYTES // 25_000 + 1)}
    giant = tagged(1, 1, **notes)
    async with agent(sink.url) as destination:
        outcome = await destination.send([giant])
    assert isinstance(outcome, Refused) and outcome.reason == "too_large"
    assert not sink.requests


async def test_a_large_batch_is_encoded_in_a_thread(sink):
    large = [tagged(number, spans=200, notes="x" * 200) for number in range(3)]
    assert sum(len(each.payload) for each in large) > THREAD_BYTES
    async with agent(sink.url) as destination:
        assert await destination.send(large) == Accepted()
        assert destination.batching.max_bytes == BATCH_BYTES
    assert sink.spans == span_ids(large)


async def test_the_first_request_that_fails_decides(sink):
    sent = [
        tagged(1, deployment__environment="a"),
        tagged(2, deployment__environment="b"),
        tagged(3, deployment__environment="c"),
    ]
    sink.script(Reply(), Reply(503))
    async with agent(sink.url) as destination:
        outcome = await destination.send(sent)
        assert isinstance(outcome, Again) and outcome.reason == "http_503"
        assert len(sink.requests) == 2
        assert await destination.send(sent) == Accepted()
    assert sink.spans == span_ids(sent)


@pytest.mark.parametrize("status", [200, 202])
async def test_any_2xx_is_a_success(sink, status):
    assert await outcome_of(sink, Reply(status)) == Accepted()


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 599])
async def test_what_is_tried_again(sink, status):
    outcome = await outcome_of(sink, Reply(status, {"Retry-After": "3"}))
    assert isinstance(outcome, Again)
    assert (outcome.reason, outcome.after_secs) == (f"http_{status}", 3)


@pytest.mark.parametrize("status", [301, 308, 401, 403, 404])
async def test_what_a_setting_must_mend(sink, status):
    outcome = await outcome_of(sink, Reply(status))
    assert isinstance(outcome, Misconfigured) and outcome.reason == f"http_{status}"


@pytest.mark.parametrize("status", [400, 413, 415])
async def test_what_is_refused(sink, status):
    outcome = await outcome_of(sink, Reply(status, body=b"cannot decode"))
    assert isinstance(outcome, Refused) and outcome.reason == f"http_{status}"
    assert outcome.detail.endswith(": cannot decode")


async def test_nobody_listens():
    async with agent(f"http://127.0.0.1:{free_ports(1)[0]}") as destination:
        outcome = await destination.send([trace(1)])
    assert isinstance(outcome, Again) and outcome.reason == "connect"


async def test_no_answer_in_time(sink):
    assert await outcome_of(sink, Reply(hang_secs=5), request_timeout_secs=0.2) == Again(
        "timeout", "no answer within 0.2 s"
    )


async def test_proxies_are_not_for_the_agent(sink, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_ports(1)[0]}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert await outcome_of(sink, Reply()) == Accepted()
