"""The Datadog exporter against Datadog's own test agent, with its checks on."""

from __future__ import annotations

import base64
import urllib.error
import urllib.request

import msgpack
import pytest

from tests.edges.traces import span_ids, trace, trace_of
from tests.real import agent
from tests.real.traffic import sdk_payloads
from tss.core.delivery import Accepted, Rejected
from tss.core.formats.datadog import lead, to_spans
from tss.core.formats.datadog.trace import Translation
from tss.edges.http.datadog_traces import AGENT_HEADERS, open_datadog
from tss.settings import Datadog, DatadogExporter


@pytest.fixture(scope="module")
def running_agent():
    with agent.running() as running:
        yield running


@pytest.fixture
def test_agent(running_agent):
    running_agent.clear()
    return running_agent


@pytest.fixture(params=["v0.4", "v0.7"])
def trace_api(request):
    return request.param


def exporter(test_agent, trace_api="v0.4", **more):
    settings = DatadogExporter(name="agent", via="agent", agent_url=test_agent.url, trace_api=trace_api)
    return open_datadog(settings, Datadog(), **more)


def expected(traces) -> dict[int, dict]:
    """What was meant, by span id."""
    found: dict[int, dict] = {}
    for each in traces:
        spans = to_spans(each.payload, each.decision.rate)
        lead(spans)
        found |= {span["span_id"]: span for span in spans}
    return found


def kept(test_agent) -> dict[int, dict]:
    return {span["span_id"]: span for chunk in test_agent.traces() for span in chunk}


async def test_spans_read_back_equal_what_was_sent(test_agent, trace_api):
    sent = [trace_of([payload], payload_id, rate=0.5) for payload_id, payload in sdk_payloads()]
    async with exporter(test_agent, trace_api) as destination:
        assert await destination.send(sent) == Accepted()
    assert len(test_agent.traces()) == len(sent)
    assert kept(test_agent) == expected(sent)


async def test_many_batches(test_agent, trace_api):
    """Ids are by the trace's number and the span's, so each trace is looked at by itself."""
    async with exporter(test_agent, trace_api) as destination:
        for number in range(20):
            assert await destination.send([trace(number)]) == Accepted()
    chunks = test_agent.traces()
    assert len(chunks) == 20
    for number, chunk in enumerate(sorted(chunks, key=lambda chunk: chunk[0]["meta"]["_dd.p.tid"])):
        assert {span["span_id"]: span for span in chunk} == expected([trace(number)])


def test_the_checks_are_on(test_agent):
    """Or the other tests would prove less than they say."""
    body = msgpack.packb([to_spans(trace(1).payload)])
    headers = {**AGENT_HEADERS, "X-Datadog-Trace-Count": "7"}
    request = urllib.request.Request(test_agent.url + "/v0.4/traces", body, headers, method="POST")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with pytest.raises(urllib.error.HTTPError) as caught:
        opener.open(request)
    caught.value.close()
    assert caught.value.code == 400


async def test_a_refusal_of_the_real_thing(test_agent, trace_api, monkeypatch):
    """A tag that is no text is what the agent cannot decode."""

    class Broken(Translation):
        def spans(self, members):
            spans = super().spans(members)
            spans[0]["meta"]["number"] = 7
            return spans

    monkeypatch.setattr("tss.core.formats.datadog.parts.Translation", Broken)
    async with exporter(test_agent, trace_api) as destination:
        outcome = await destination.send([trace(1)])
    assert isinstance(outcome, Rejected) and outcome.reason == "http_400"


@pytest.mark.parametrize("compression", ["gzip", "none"])
async def test_otlp(test_agent, compression):
    """What the test agent's own OTLP port reads: the spans with all their ids."""
    sent = [trace_of([payload], payload_id) for payload_id, payload in sdk_payloads()]
    sent.append(trace(1, spans=50))
    settings = DatadogExporter(
        name="otlp", via="otlp", intake_url=test_agent.otlp_url, api_key="k", compression=compression
    )
    async with open_datadog(settings, Datadog()) as destination:
        assert await destination.send(sent) == Accepted()
    found = {
        (base64.b64decode(span["trace_id"]), base64.b64decode(span["span_id"]))
        for request in test_agent.otlp_traces()
        for resource in request["resource_spans"]
        for scope in resource["scope_spans"]
        for span in scope["spans"]
    }
    assert found == span_ids(sent)
