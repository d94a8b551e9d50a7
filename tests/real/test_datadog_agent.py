"""The Datadog exporter against Datadog's own test agent, with its checks on."""

from __future__ import annotations

import urllib.error
import urllib.request

import msgpack
import pytest

from tests.edges.traces import trace, trace_of
from tests.real import agent
from tests.real.traffic import sdk_payloads
from tss.core.datadog import lead, to_spans
from tss.core.delivery import Accepted, Refused
from tss.edges.datadog import HEADERS, open_datadog
from tss.settings import Datadog, DatadogExporter


@pytest.fixture(scope="module")
def running_agent():
    with agent.running() as running:
        yield running


@pytest.fixture
def test_agent(running_agent):
    running_agent.clear()
    return running_agent


def exporter(test_agent, **shared):
    return open_datadog(DatadogExporter(name="agent", agent_url=test_agent.url), Datadog(**shared))


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


async def test_spans_read_back_equal_what_was_sent(test_agent):
    sent = [trace_of([payload], payload_id, rate=0.5) for payload_id, payload in sdk_payloads()]
    async with exporter(test_agent) as destination:
        assert await destination.send(sent) == Accepted()
    assert len(test_agent.traces()) == len(sent)
    assert kept(test_agent) == expected(sent)


async def test_many_batches(test_agent):
    """Ids are by the trace's number and the span's, so each trace is looked at by itself."""
    async with exporter(test_agent) as destination:
        for number in range(20):
            assert await destination.send([trace(number)]) == Accepted()
    chunks = test_agent.traces()
    assert len(chunks) == 20
    for number, chunk in enumerate(sorted(chunks, key=lambda chunk: chunk[0]["meta"]["_dd.p.tid"])):
        assert {span["span_id"]: span for span in chunk} == expected([trace(number)])


def test_the_checks_are_on(test_agent):
    """Or the other tests would prove less than they say."""
    body = msgpack.packb([to_spans(trace(1).payload)])
    headers = {**HEADERS, "X-Datadog-Trace-Count": "7"}
    request = urllib.request.Request(test_agent.url + "/v0.4/traces", body, headers, method="POST")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with pytest.raises(urllib.error.HTTPError) as caught:
        opener.open(request)
    caught.value.close()
    assert caught.value.code == 400


async def test_a_refusal_of_the_real_thing(test_agent, monkeypatch):
    """A tag that is no text is what the agent cannot decode."""

    def broken(payload, rate):
        spans = to_spans(payload, rate)
        spans[0]["meta"]["number"] = 7
        return spans

    monkeypatch.setattr("tss.edges.datadog.to_spans", broken)
    async with exporter(test_agent) as destination:
        outcome = await destination.send([trace(1)])
    assert isinstance(outcome, Refused) and outcome.reason == "http_400"
