"""Who may read what was decided about traces, and what the answers say."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import httpx
import pytest
import trio

from tests.core.spans import fragment, record, trace_id
from tests.edges.web.test_web import HERE, settings
from tests.fakes.meter import FakeMeter
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.combining import Sampler
from tss.core.evaluation import evaluate
from tss.core.health import Health
from tss.core.memory import Memory
from tss.core.partition import Partition
from tss.core.policies.errors import Errors
from tss.core.policies.latency import Latency
from tss.core.policies.rest import Rest
from tss.edges.web import pages, server
from tss.edges.web.messages import AdminRequest
from tss.edges.web.reading import ReadApi, ReadGuard, is_local
from tss.edges.web.traces_api import TRACES, TracesApi
from tss.settings import Observability, SettingsError, load
from tss.state.traces import TraceLookup

TOKEN = "0123456789abcdef"
NOW_SECS = 1_700_000_000
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def lookup() -> TraceLookup:
    """One replica: trace 1 was kept because of an error, 2 dropped by chance, 3 is open."""
    sampler = Sampler([Errors(1.0), Latency(5, 0.5), Rest(0.1)])
    buffer = Buffer(
        Limits(1 << 24, 9000, 9000, 9000), Waits(30_000, 600_000, 9_000_000), Memory(), program=sampler.program
    )
    home = Partition(7, 0, 1 << 60)
    buffer.add(home, record(0, NOW_SECS, fragment(1, (0, 1), root=True, errors=1, ms=6)), 0)
    buffer.add(home, record(1, NOW_SECS, fragment(2, root=True)), 0)
    buffer.add(home, record(2, NOW_SECS + 30, fragment(3, root=True)), 0)
    buffer.log.now_secs = NOW_SECS + 41
    evaluate(buffer.take(), sampler, buffer)
    found = TraceLookup("pod-1", lambda: NOW_SECS + 100.0)
    found.begin(buffer, [home])
    return found


@asynccontextmanager
async def serving(observability: Observability) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
    api = ReadApi(ReadGuard(observability), {TRACES: TracesApi(lookup().look).answer})
    facts = pages.Facts(Health(), "reference", lambda _: (iter(()), ""), FakeMeter(), reads=api.answer)
    async with trio.open_nursery() as nursery, httpx.AsyncClient(trust_env=False, timeout=5) as client:
        ports = await nursery.start(server.run, observability, facts)
        yield client, f"http://{HERE}:{ports.health}/api/traces"
        nursery.cancel_scope.cancel()


def reading(read: str, token: str = "") -> Observability:
    return attrs.evolve(settings(), read=read, read_token=token)


async def test_the_answer_says_what_was_decided_and_why() -> None:
    async with serving(reading("local")) as (client, url):
        kept = await client.get(f"{url}/{trace_id(1).hex().upper()}")
        dropped, waits = await client.get(f"{url}/{trace_id(2).hex()}"), await client.get(f"{url}/{trace_id(3).hex()}")
        unknown = await client.get(f"{url}/{trace_id(4).hex()}")
    assert kept.status_code == 200 and kept.json()["state"] == "decided"
    [found] = kept.json()["decisions"]
    assert found["votes"] == [
        {"policy": "errors", "vote": "keep", "rate": 1.0, "because": "1 of 2 spans have status ERROR"},
        {"policy": "latency", "vote": "keep", "rate": 0.5, "because": "6 ms >= 5 ms"},
        {"policy": "default", "vote": "keep", "rate": 0.1, "because": "it applies to every trace"},
    ]
    assert (found["verdict"], found["policy"], found["reason"]) == ("keep", "errors", "root_quiet")
    assert found["because"] == "1 of 2 spans have status ERROR"
    assert (found["spans"], found["errors"], found["durationMs"], found["partition"]) == (2, 1, 6.0, 7)
    assert (found["closedAt"], found["decidedAt"]) == ("2023-11-14T22:13:50Z", "2023-11-14T22:14:01Z")
    [found] = dropped.json()["decisions"]
    assert (found["verdict"], found["policy"], found["rate"]) == ("drop", "default", 0.1)
    assert found["because"].startswith("it applies to every trace; 10 % of such traces are kept: its randomness ")
    assert found["randomness"] < found["threshold"]
    assert waits.status_code == 200 and waits.json()["state"] == "open"
    assert waits.json()["open"]["spans"] == 1 and waits.json()["decisions"] == []
    assert unknown.status_code == 404
    assert unknown.json()["log"] == {"since": "2023-11-14T22:14:01Z", "reachSecs": 59, "decisions": 2}
    assert "reaches back to 2023-11-14T22:14:01Z" in unknown.json()["error"]


async def test_who_may_read() -> None:
    known = trace_id(1).hex()
    async with serving(reading("token", TOKEN)) as (client, url):
        answers = {
            given: (await client.get(f"{url}/{known}", headers={"Authorization": given} if given else {})).status_code
            for given in ("", "Bearer", "Basic 0123456789abcdef", "Bearer 0123456789abcdeF", f"bearer {TOKEN}")
        }
        assert [*answers.values()] == [401, 401, 401, 403, 200]
        refused = await client.get(f"{url}/{known}")
        assert "observability.readToken" in refused.text and refused.headers["www-authenticate"] == "Bearer"
        assert known not in refused.text
    for read, status in (("off", 404), ("local", 200), ("open", 200)):
        async with serving(reading(read)) as (client, url):
            answer = await client.get(f"{url}/{known}")
            assert answer.status_code == status, read


@pytest.mark.parametrize(
    ("remote", "local"),
    [
        ("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False), ("fe80::1", False), ("", False), ("localhost", False), ("127.0.0.1, 10.0.0.1", False),
    ],
)  # fmt: skip
async def test_only_the_loopback_interface_is_local(remote: str, local: bool) -> None:
    assert is_local(remote) is local
    refusal = ReadGuard(reading("local")).refusal(AdminRequest("GET", "/api/traces/x", remote=remote))
    assert (refusal is None) is local
    if refusal is not None:
        assert refusal.status == 403 and b"observability.readToken" in refusal.body


async def test_a_hundred_malformed_requests_are_answered() -> None:
    chance = random.Random(1)
    given = [
        "",
        "/",
        "/0",
        "/" + "0" * 32,
        "/" + "g" * 32,
        "/" + "a" * 33,
        "/" + "a" * 31,
        "/" + "a" * 32 + "/x",
        "/%00",
        "/..%2f",
    ]
    given += ["/" + "".join(f"%{byte:02x}" for byte in chance.randbytes(chance.randrange(1, 200))) for _ in range(80)]
    given += ["/" + "a" * chance.randrange(40, 3000) for _ in range(10)]
    async with serving(reading("local")) as (client, url):
        for path in given:
            answer = await client.get(url + path)
            assert answer.status_code in (400, 404) and "error" in answer.json(), path
            assert len(answer.content) < 4000
        for method in ("POST", "PUT", "DELETE"):
            answer = await client.request(method, f"{url}/{trace_id(1).hex()}", content=b"{")
            assert answer.status_code == 405 and answer.headers["allow"] == "GET, HEAD"
        assert (await client.get(url.removesuffix("traces") + "other")).status_code == 404
        assert (await client.get(f"{url}/{trace_id(1).hex()}")).status_code == 200


async def test_a_replica_that_starts_says_so() -> None:
    found = TraceLookup("pod-1").look(trace_id(1))
    assert (found["state"], found["unknownBecause"]) == ("unknown", "the replica is starting")


def test_a_token_decides_what_the_default_is() -> None:
    assert Observability().read == "local"
    assert Observability(read_token=TOKEN).read == "token"
    assert Observability(read_token=TOKEN, read="open").read == "open"
    with pytest.raises(SettingsError, match=r"observability\.readToken"):
        load(None, {"TSS_OBSERVABILITY_READ": "token"}, offline=True)
