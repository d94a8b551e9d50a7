"""Statistics before the Datadog agent's own code: its concentrator counts the same, its types read what we send."""

from __future__ import annotations

import gzip
import json
import random
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.core.test_apm_stats import NOW_NS, chunk, span
from tests.real import agent, oracle
from tss.core.delivery import Accepted
from tss.core.formats.apm_stats import Concentrator, GroupedStats, reference
from tss.core.formats.datadog import PEER_TAGS
from tss.edges.http.datadog_stats import open_datadog_stats
from tss.edges.http.datadog_stats_forms import Sender, for_agent, for_intake
from tss.settings import Datadog, DatadogExporter

SENDER = Sender("tss-0", "1.0")
KEY = (
    "Service", "Name", "Resource", "Type", "SpanKind", "HTTPStatusCode", "GRPCStatusCode", "Synthetics", "IsTraceRoot",
)  # fmt: skip
COUNTS = ("Hits", "Errors", "Duration", "TopLevelHits")

KINDS: list[tuple[int, dict[str, Any]]] = [
    (2, {"http.request.method": "GET", "http.route": "/cart/{id}", "http.response.status_code": 200}),
    (2, {"http.request.method": "POST", "http.route": "/pay", "http.response.status_code": "503"}),
    (3, {"http.request.method": "GET", "server.address": "10.1.2.3", "http.status_code": 404}),
    (3, {"db.system": "postgresql", "db.query.text": "select a from b where c = 7 and d = 'x'", "db.name": "shop"}),
    (3, {"db.system.name": "mysql", "db.statement": "UPDATE t SET a = 5", "server.address": "db.shop.svc"}),
    (3, {"db.system": "redis", "db.statement": "GET cart:7"}),
    (3, {"rpc.system": "grpc", "rpc.service": "pay.Pay", "rpc.method": "Do", "rpc.grpc.status_code": 5}),
    (2, {"rpc.system": "grpc", "rpc.service": "pay.Pay", "rpc.method": "Do", "rpc.grpc.status_code": "UNAVAILABLE"}),
    (4, {"messaging.system": "kafka", "messaging.operation": "publish", "messaging.destination.name": "orders"}),
    (5, {"messaging.system": "kafka", "messaging.operation": "receive", "messaging.destination.name": "orders"}),
    (1, {}),
    (1, {"_dd.measured": 1}),
    (0, {"_dd.base_service": "base"}),
    (3, {"peer.service": "Bank", "net.peer.name": "ip-10-0-0-1.ec2.internal"}),
    (1, {"_dd.base_service": "Base"}),
    (4, {"_dd.base_service": "Base", "messaging.system": "sqs"}),
    # None with gen_ai.*: the agent's short cut from OTLP to its concentrator does not see that it is of type llm, while
    # its intake for OTLP does, and so do we.
]
RESOURCES: list[tuple[str, dict[str, Any]]] = [
    ("Shop", {"deployment.environment": "Prod", "host.name": "h1", "service.version": "1.2"}),
    ("cart", {"deployment.environment.name": "prod", "host.name": "h2"}),
]


def traces(seed: int, count: int, **fields: Any) -> list[list[bytes]]:
    """Traces of both services, with errors, in buckets of the last minutes."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        spans: list[list[Span]] = [[], []]
        for number in range(1, rng.randrange(2, 9)):
            kind, attributes = rng.choice(KINDS)
            parent = rng.randrange(number) if rng.random() < 0.9 else 99
            end = NOW_NS - rng.randrange(120) * 10**9
            spans[rng.randrange(2)].append(
                span(
                    number,
                    parent,
                    kind=kind,
                    attributes=attributes,
                    name=f"op {number % 3}",
                    end_ns=end,
                    ms=rng.lognormvariate(3, 2),
                    error=rng.random() < 0.2,
                    **fields,
                )
            )
        made.append([chunk(name, *each, **extra) for (name, extra), each in zip(RESOURCES, spans, strict=True)])
    return made


def ours(made: list[list[bytes]], kind: Any = Concentrator) -> list[GroupedStats]:
    found = kind(NOW_NS)
    for chunks in made:
        found.add(b"", chunks, False)
    groups: list[GroupedStats] = found.take(NOW_NS)
    return groups


def table(payloads: list[dict[str, Any]]) -> dict[Any, dict[str, Any]]:
    """Groups by all that tells them apart; those of one key, from several payloads, must be one."""
    found: dict[Any, dict[str, Any]] = {}
    for payload in payloads:
        for bucket in payload["Stats"]:
            for group in bucket["Stats"]:
                key = (payload["Env"], payload["Hostname"], payload["Version"], bucket["Start"])
                key = (*key, *(group[name] for name in KEY), *(group["PeerTags"] or ()))
                assert key not in found
                found[key] = group
    return found


def added(total: dict[Any, dict[str, int]], more: dict[Any, dict[str, Any]]) -> None:
    for key, group in more.items():
        counts = total.setdefault(key, dict.fromkeys(COUNTS, 0))
        for name in COUNTS:
            counts[name] += group[name]


@pytest.mark.parametrize("kind", [Concentrator, reference.Concentrator], ids=["compiled", "reference"])
def test_the_agents_concentrator_counts_the_same(kind: Any) -> None:
    made = traces(1, 80)
    (payload,) = (oracle.stats(gzip.decompress(part.body)) for part in for_intake(ours(made, kind), SENDER))
    expected: dict[Any, dict[str, int]] = {}
    for chunks in made:  # whose span ids are the same, so that it takes them one by one
        added(expected, table(oracle.concentrate(b"".join(chunks), hostname="", obfuscate=True)["Stats"]))
    found: dict[Any, dict[str, int]] = {}
    added(found, table(payload["Stats"]))
    assert found == expected
    assert len(found) > 100


def test_a_head_samplers_rate_is_taken_as_the_agent_takes_it() -> None:
    made = traces(2, 10, trace_state="ot=th:c")
    (payload,) = (oracle.stats(gzip.decompress(part.body)) for part in for_intake(ours(made), SENDER))
    expected: dict[Any, dict[str, int]] = {}
    for chunks in made:
        added(expected, table(oracle.concentrate(b"".join(chunks), hostname="", obfuscate=True)["Stats"]))
    found: dict[Any, dict[str, int]] = {}
    added(found, table(payload["Stats"]))
    assert found == expected
    assert all(group["Hits"] % 4 == 0 for group in found.values())


def test_its_quantiles_are_within_one_percent() -> None:
    rng = random.Random(3)
    durations = sorted(rng.lognormvariate(3, 2) for _ in range(3000))
    made = [[chunk("shop", span(1, name="a", ms=ms))] for ms in durations]
    (payload,) = (oracle.stats(gzip.decompress(part.body)) for part in for_intake(ours(made), SENDER))
    (group,) = table(payload["Stats"]).values()
    sketch = group["OkSummary"]
    assert sketch["count"] == 3000
    for name, q in (("p50", 0.5), ("p75", 0.75), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("min", 0), ("max", 1)):
        assert sketch[name] == pytest.approx(durations[int(q * 2999)] * 1e6, rel=0.01)
    assert group["ErrorSummary"]["count"] == 0


def test_an_agent_reads_what_is_for_it() -> None:
    made = traces(4, 20)
    client = [oracle.client_stats(part.body) for part in for_agent(ours(made), SENDER)]
    (payload,) = (oracle.stats(gzip.decompress(part.body)) for part in for_intake(ours(made), SENDER))
    assert table(client) == table(payload["Stats"])


def test_the_peer_tags_are_the_agents() -> None:
    assert list(PEER_TAGS) == oracle.peer_tags()


async def test_the_test_agent_takes_them() -> None:
    with agent.running() as running:
        settings = DatadogExporter(name="d", via="agent", agent_url=running.url)
        async with open_datadog_stats(settings, Datadog(), "tss-0") as stats:
            found = ours(traces(5, 20))
            for part in await stats.encode(found):
                assert await stats.send(part) == Accepted()
        taken = json.loads(running.get("/test/session/stats"))
    hits = sum(group["Hits"] for payload in taken for bucket in payload["Stats"] for group in bucket["Stats"])
    assert hits == sum(group.hits for group in found)
