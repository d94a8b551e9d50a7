"""Statistics on their way: the address, the headers, the sizes; what an answer means."""

from __future__ import annotations

import gzip
from typing import Any

import msgpack
import pytest

from tests.core.test_apm_stats import NOW_NS, chunk, span
from tests.edges.http.test_datadog import ANSWERS, STRANGERS
from tests.sinks import HttpSink, Received, Reply, SpanId
from tss.core.delivery import Accepted, Again, Misconfigured, Rejected
from tss.core.formats.apm_stats import Concentrator, GroupedStats
from tss.daemon.counting import ways_of_stats
from tss.edges.http.datadog_stats import endpoint_of, open_datadog_stats
from tss.edges.http.datadog_stats_forms import MAX_GROUPS, Sender, for_agent, for_intake
from tss.settings import Datadog, DatadogExporter, Settings


class StatsSink(HttpSink):
    """Takes statistics as the intake does, or as an agent does."""

    def __init__(self) -> None:
        super().__init__()
        self.payloads: list[dict[str, Any]] = []

    def spans_of(self, received: Received) -> list[SpanId]:
        if received.headers.get("content-type") != "application/msgpack":
            raise ValueError("content type")
        if received.path == "/api/v0.2/stats" and received.headers.get("dd-api-key") != "key":
            raise ValueError("the API key")
        if received.path not in ("/api/v0.2/stats", "/v0.6/stats"):
            raise ValueError(received.path)
        self.payloads.append(msgpack.unpackb(received.body))
        return []

    def success(self, reply: Reply) -> bytes:
        return b""


def groups(count: int = 3) -> list[GroupedStats]:
    made = Concentrator(NOW_NS)
    for number in range(count):
        host = {"host.name": f"h{number % 2}"}
        made.add(b"", [chunk("shop", span(1, name=f"series {number}", error=not number), **host)], False)
    return made.take(NOW_NS)


def hits(payload: dict[str, Any]) -> dict[str, int]:
    return {group["Resource"]: group["Hits"] for bucket in payload["Stats"] for group in bucket["Stats"]}


SHARED = Datadog(request_timeout_secs=5)
SENDER = Sender("tss-0", "1.0")


@pytest.mark.parametrize(("kind", "body"), STRANGERS)
async def test_what_is_no_answer_to_statistics_is_none(kind: str, body: bytes) -> None:
    with StatsSink() as sink:
        sink.script(Reply(headers={"Content-Type": kind}, body=body))
        settings = DatadogExporter(name="d", via="agent", agent_url=sink.url)
        async with open_datadog_stats(settings, SHARED, "tss-0") as stats:
            outcome = await stats.send((await stats.encode(groups()))[0])
    assert isinstance(outcome, Misconfigured) and outcome.reason == "stranger"


@pytest.mark.parametrize(("kind", "body"), ANSWERS)
async def test_what_agents_and_intakes_answer_to_statistics_is_taken(kind: str, body: bytes) -> None:
    with StatsSink() as sink:
        sink.script(Reply(headers={"Content-Type": kind}, body=body))
        settings = DatadogExporter(name="d", via="agent", agent_url=sink.url)
        async with open_datadog_stats(settings, SHARED, "tss-0") as stats:
            assert await stats.send((await stats.encode(groups()))[0]) == Accepted()


@pytest.mark.parametrize("via", ["intake", "agent"])
async def test_everything_arrives_by_its_way(via: str) -> None:
    with StatsSink() as sink:
        settings = {
            "intake": DatadogExporter(name="d", via="intake", api_key="key", intake_url=sink.url),
            "agent": DatadogExporter(name="d", via="agent", api_key="key", agent_url=sink.url),
        }[via]
        async with open_datadog_stats(settings, SHARED, "tss-0") as stats:
            for part in await stats.encode(groups()):
                assert await stats.send(part) == Accepted()
    clients = sink.payloads if via == "agent" else sink.payloads[0]["Stats"]
    assert [client["Hostname"] for client in clients] == ["h0", "h1"]
    assert [hits(client) for client in clients] == [{"series 0": 1, "series 2": 1}, {"series 1": 1}]
    if via == "intake":
        assert len(sink.payloads) == 1
        assert not sink.payloads[0]["ClientComputed"]
    else:
        assert all(request.headers["datadog-send-real-http-status"] for request in sink.requests)


@pytest.mark.parametrize(
    ("status", "outcome"), [(503, Again), (429, Again), (403, Misconfigured), (400, Rejected), (413, Rejected)]
)
async def test_an_answer_means_what_it_means_for_traces(status: int, outcome: type) -> None:
    with StatsSink() as sink:
        sink.usual = Reply(status)
        settings = DatadogExporter(name="d", via="agent", agent_url=sink.url)
        async with open_datadog_stats(settings, SHARED, "tss-0") as stats:
            (part, *_) = await stats.encode(groups())
            assert isinstance(await stats.send(part), outcome)


def test_by_otlp_they_go_to_the_intake() -> None:
    way = endpoint_of(DatadogExporter(name="d", via="otlp", api_key="key", site="datadoghq.eu"))
    assert (way.base_url, way.path) == ("https://trace.agent.datadoghq.eu", "/api/v0.2/stats")
    assert way.headers["DD-Api-Key"] == "key"
    assert "key" not in repr(way).replace("datadog", "")


def test_a_payload_has_no_more_groups_than_may_be() -> None:
    found = groups(MAX_GROUPS + 500)
    parts = [msgpack.unpackb(gzip.decompress(part.body)) for part in for_intake(found, SENDER)]
    sizes = [sum(len(hits(client)) for client in part["Stats"]) for part in parts]
    assert sizes == [MAX_GROUPS, 500]
    assert all(part["SplitPayload"] for part in parts)
    assert sum(part.groups for part in for_agent(found, SENDER)) == len(found)


def test_two_exporters_with_one_way_for_statistics_send_them_once() -> None:
    site = "datadoghq.eu"
    exporters = [
        DatadogExporter(name="a", via="intake", api_key="key", site=site),
        DatadogExporter(name="b", via="otlp", api_key="key", site=site),
        DatadogExporter(name="c", via="otlp", api_key="other", site=site),
        DatadogExporter(name="d", via="agent", agent_url="http://agent:8126", api_key="key"),
        DatadogExporter(name="e", via="agent", agent_url="http://agent:8126"),
    ]
    assert len(ways_of_stats(Settings(exporters=tuple(exporters)))) == 3
