"""The pages under /admin/force-rules, over real sockets and a store in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import trio
from structlog.testing import capture_logs

from tests.edges.web.test_web import HERE, settings
from tests.fakes.documents import FakeDocuments
from tests.fakes.meter import FakeMeter
from tss.core.force import Rulebook
from tss.core.health import Health
from tss.edges.web import messages, pages, server
from tss.edges.web.force_api import ForceApi
from tss.settings import ForceSampling
from tss.tasks.forcing import Forcing

TOKEN = "0123456789abcdef"
GOOD: dict[str, Any] = {
    "name": "one",
    "action": "keep",
    "matchers": [{"on": "resource", "key": "service.name", "op": "eq", "value": "x"}],
}
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Site:
    def __init__(self, url: str, client: httpx.AsyncClient, store: FakeDocuments, clock: Clock) -> None:
        self.url, self.client, self.store, self.clock = url, client, store, clock

    async def ask(self, method: str, path: str = "", document: Any = None, **more: Any) -> httpx.Response:
        given: dict[str, Any] = {} if document is None else {"content": json.dumps(document)}
        headers = BEARER | more.pop("headers", {})
        return await self.client.request(method, self.url + path, headers=headers, **given, **more)

    async def added(self, **values: Any) -> dict[str, Any]:
        answer = await self.ask("POST", "", GOOD | values)
        assert answer.status_code == 201, answer.text
        return answer.json()


@asynccontextmanager
async def serving(
    sampling: ForceSampling | None = None, *, has_redis: bool = True, joined: bool = True
) -> AsyncIterator[Site]:
    book, store, clock = Rulebook(), FakeDocuments(), Clock()
    forcing = Forcing(book, store, FakeMeter(), clock)
    api = ForceApi(sampling or ForceSampling(admin_token=TOKEN, max_rules=3), book, has_redis=has_redis, clock=clock)
    facts = pages.Facts(Health(), "reference", lambda _: (iter(()), ""), FakeMeter(), admin=api.answer)
    client = httpx.AsyncClient(trust_env=False, timeout=5)
    async with trio.open_nursery() as nursery, client:
        ports = await nursery.start(server.run, settings(), facts)
        if joined:
            api.change = forcing.change
            nursery.start_soon(forcing.run, 60)
            while book.as_of is None:
                await trio.lowlevel.checkpoint()
        yield Site(f"http://{HERE}:{ports.health}/admin/force-rules", client, store, clock)
        nursery.cancel_scope.cancel()


async def test_rules_that_were_not_read_for_long_are_said_to_be_stale() -> None:
    """Or `force list` would answer "no rules" while Redis is away."""
    async with serving() as site:
        site.store.away = True
        site.clock.now += 10
        found = (await site.ask("GET")).json()
        assert found["rules"] == [] and "stale" not in found
        site.clock.now += 30
        found = (await site.ask("GET")).json()
        assert found["rules"] == [] and "Redis has not answered since then" in found["stale"]


async def test_a_rule_from_its_making_to_its_end() -> None:
    async with serving() as site:
        with capture_logs() as logs:
            made = await site.ask("POST", "", GOOD | {"durationSecs": 60, "priority": 5, "description": "why"})
        assert made.status_code == 201 and made.headers["ETag"] == '"1"'
        rule = made.json()
        assert made.headers["Location"] == f"/admin/force-rules/{rule['id']}"
        assert rule == GOOD | {
            "id": rule["id"], "description": "why", "enabled": True, "priority": 5, "revision": 1,
            "created": "2027-01-15T08:00:00.000Z", "expires": "2027-01-15T08:01:00.000Z",
        }  # fmt: skip
        added = next(each for each in logs if each["event"] == "force rule added")
        assert added["remote"] == HERE and added["id"] == rule["id"] and '"service.name"' in added["rule"]
        assert (await site.ask("GET")).json() == {"asOf": "2027-01-15T08:00:00.000Z", "rules": [rule]}
        assert (await site.ask("GET", f"/{rule['id']}")).json() == rule
        # What was shown can be given back, changed.
        changed = await site.ask("PUT", f"/{rule['id']}", rule | {"action": "drop"})
        assert (changed.status_code, changed.json()) == (200, rule | {"action": "drop", "revision": 2})
        extended = await site.ask("POST", f"/{rule['id']}/extend", {"durationSecs": 30})
        assert extended.json()["expires"] == "2027-01-15T08:01:30.000Z"
        assert (await site.ask("POST", f"/{rule['id']}/extend")).json()["expires"] == "2027-01-15T09:01:30.000Z"
        assert (await site.ask("POST", f"/{rule['id']}/disable")).json()["enabled"] is False
        assert (await site.ask("POST", f"/{rule['id']}/enable")).json()["enabled"] is True
        assert (await site.ask("DELETE", f"/{rule['id']}")).status_code == 204
        assert (await site.ask("GET")).json()["rules"] == []
        assert (await site.ask("DELETE", f"/{rule['id']}")).status_code == 404


async def test_what_is_over_is_not_there() -> None:
    async with serving() as site:
        rule = await site.added(durationSecs=60)
        site.clock.now += 60
        assert (await site.ask("GET", f"/{rule['id']}")).status_code == 404
        assert (await site.ask("POST", f"/{rule['id']}/extend")).status_code == 404
        await site.added()  # the name is free again


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({}, 401),
        ({"Authorization": TOKEN}, 401),
        ({"Authorization": f"Basic {TOKEN}"}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"Authorization": f"Bearer {TOKEN}x"}, 403),
        ({"Authorization": f"Bearer {TOKEN[:-1]}"}, 403),
        ({"Authorization": f"bearer {TOKEN}"}, 200),
    ],
)
async def test_nobody_without_the_token(given: dict[str, str], status: int) -> None:
    async with serving() as site:
        for path in ("", "/some", "/some/extend"):
            answer = await site.client.get(site.url + path, headers=given)
            assert answer.status_code == status or (status == 200 and path)
            assert TOKEN not in answer.text


async def test_without_a_token_in_the_settings_there_is_nothing() -> None:
    async with serving(ForceSampling()) as site:
        for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": "Bearer x"}):
            answer = await site.client.get(site.url, headers=headers)
            assert answer.status_code == 404 and "forceSampling.adminToken" in answer.json()["error"]


async def test_without_redis_it_says_so() -> None:
    async with serving(has_redis=False, joined=False) as site:
        answer = await site.ask("GET")
        assert answer.status_code == 503 and "redis.url" in answer.json()["error"]
    async with serving(joined=False) as site:
        assert (await site.ask("GET")).status_code == 503


async def test_while_redis_is_away_rules_can_be_read_and_not_changed() -> None:
    async with serving() as site:
        rule = await site.added()
        site.store.away = True
        for method, path, document in (
            ("POST", "", GOOD),
            ("PUT", f"/{rule['id']}", GOOD),
            ("DELETE", f"/{rule['id']}", None),
        ):
            answer = await site.ask(method, path, document)
            assert answer.status_code == 503 and "Redis connection timeout" in answer.json()["error"]
        assert len((await site.ask("GET")).json()["rules"]) == 1


MATCHER: dict[str, Any] = GOOD["matchers"][0]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "\ud800"}, "name"),
        ({"name": " a"}, "name"),
        ({"name": "a" * 65}, "name"),
        ({"action": "hold"}, "action"),
        ({"enabled": 1}, "enabled"),
        ({"priority": 1.5}, "priority"),
        ({"priority": 1001}, "priority"),
        ({"durationSecs": 0}, "durationSecs"),
        ({"durationSecs": "60"}, "durationSecs"),
        ({"durationSecs": 604_801}, "durationSecs"),
        ({"durationSecs": 1e300}, "durationSecs"),
        ({"expires": "tomorrow"}, "expires"),
        ({"expires": "2027-01-15T09:00:00"}, "expires"),
        ({"expires": "2027-01-15T07:00:00Z"}, "expires"),
        ({"expires": "2028-01-15T07:00:00Z"}, "expires"),
        ({"expires": "2027-01-15T09:00:00Z", "durationSecs": 60}, "durationSecs"),
        ({"prioritty": 1}, "prioritty"),
        ({"matchers": []}, "matchers"),
        ({"matchers": [MATCHER] * 21}, "matchers"),
        ({"matchers": ["a"]}, "matchers[0]"),
        ({"matchers": [MATCHER, MATCHER | {"on": "somewhere"}]}, "matchers[1].on"),
        ({"matchers": [MATCHER | {"key": ""}]}, "matchers[0].key"),
        ({"matchers": [MATCHER | {"op": "like"}]}, "matchers[0].op"),
        ({"matchers": [MATCHER | {"value": None}]}, "matchers[0].value"),
        ({"matchers": [MATCHER | {"value": {}}]}, "matchers[0].value"),
        ({"matchers": [MATCHER | {"value": float("nan")}]}, "matchers[0].value"),
        ({"matchers": [MATCHER | {"op": "gt", "value": "many"}]}, "matchers[0].value"),
        ({"matchers": [MATCHER | {"op": "in", "value": "x"}]}, "matchers[0].value"),
        ({"matchers": [MATCHER | {"op": "exists", "value": "yes"}]}, "matchers[0].value"),
        ({"matchers": [{"on": "kind", "op": "eq", "value": "sever"}]}, "matchers[0].value"),
        ({"matchers": [{"on": "name", "key": "a", "op": "eq", "value": "b"}]}, "matchers[0].key"),
    ],
)  # fmt: skip
async def test_a_fault_names_its_field(values: dict[str, Any], field: str) -> None:
    async with serving() as site:
        answer = await site.ask("POST", "", GOOD | values)
        assert answer.status_code == 422 and field in answer.json()["fields"]
        assert site.store.stored.documents == {}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "must be JSON"),
        (b"{", "must be JSON"),
        (b"\xff", "must be JSON"),
        (b"[]", "object"),
        (b"5", "object"),
        (b"[" * 60_000, "must be JSON"),
        (b"1" * 60_000, "must be JSON"),
    ],
    ids=lambda value: repr(value)[:12],
)
async def test_what_is_no_object_is_refused_and_why(body: bytes, says: str) -> None:
    async with serving() as site:
        answer = await site.client.post(site.url, headers=BEARER, content=body)
        assert answer.status_code == 422 and says in answer.json()["fields"]["body"]


async def test_a_body_has_a_limit() -> None:
    async with serving() as site:
        answer = await site.client.post(site.url, headers=BEARER, content=b" " * (messages.MAX_BODY_BYTES + 1))
        assert answer.status_code == 413


async def test_names_are_told_apart_and_rules_are_counted() -> None:
    async with serving() as site:
        one = await site.added()
        taken = await site.ask("POST", "", GOOD)
        assert taken.status_code == 409 and one["id"] in taken.json()["fields"]["name"]
        other = await site.added(name="two")
        assert (await site.ask("PUT", f"/{other['id']}", GOOD)).status_code == 409
        assert (await site.ask("PUT", f"/{one['id']}", GOOD)).status_code == 200
        await site.added(name="three")
        full = await site.ask("POST", "", GOOD | {"name": "four"})
        assert full.status_code == 409 and "forceSampling.maxRules" in full.json()["error"]


async def test_a_change_of_what_has_changed_is_refused() -> None:
    async with serving() as site:
        rule = await site.added()
        path = f"/{rule['id']}"
        seen = {"headers": {"If-Match": '"1"'}}
        assert (await site.ask("POST", f"{path}/disable", **seen)).status_code == 200
        for method, more, document in (
            ("POST", "/enable", None),
            ("PUT", "", GOOD),
            ("DELETE", "", None),
            ("POST", "/extend", None),
        ):
            assert (await site.ask(method, path + more, document, **seen)).status_code == 412
        wrong = await site.ask("DELETE", path, headers={"If-Match": "a"})
        assert wrong.status_code == 422 and "If-Match" in wrong.json()["fields"]
        assert (await site.ask("DELETE", path, headers={"If-Match": '"2"'})).status_code == 204


async def test_the_end_has_a_bound_however_often_it_is_moved() -> None:
    async with serving(ForceSampling(admin_token=TOKEN, default_duration_secs=60, max_duration_secs=150)) as site:
        rule = await site.added()
        assert (await site.ask("POST", f"/{rule['id']}/extend")).status_code == 200
        beyond = await site.ask("POST", f"/{rule['id']}/extend")
        assert beyond.status_code == 422 and "forceSampling.maxDurationSecs" in beyond.json()["fields"]["durationSecs"]


async def test_other_paths_and_methods() -> None:
    async with serving() as site:
        assert "POST /admin/force-rules/ID/extend" in (await site.ask("POST", "/a/b")).json()["error"]
        assert (await site.ask("GET", "/a/b/c")).status_code == 404
        assert (await site.ask("PATCH")).status_code == 405


async def test_wrong_tokens_do_not_fill_the_log() -> None:
    wrong = {"Authorization": "Bearer wrong"}
    with capture_logs() as lines:
        async with serving() as site:
            for _ in range(20):
                assert (await site.client.get(site.url, headers=wrong)).status_code == 403
            site.clock.now += 31
            await site.client.get(site.url, headers=wrong)
    assert [line["times"] for line in lines if "wrong token" in line["event"]] == [1, 20]


async def test_with_a_port_of_their_own_the_pages_are_there_alone() -> None:
    api = ForceApi(ForceSampling(admin_token=TOKEN), Rulebook(), has_redis=False)
    facts = pages.Facts(
        Health(), "reference", lambda _: (iter(()), ""), FakeMeter(), admin=api.answer, admin_at=(HERE, 0)
    )
    async with trio.open_nursery() as nursery, httpx.AsyncClient(trust_env=False, timeout=5) as client:
        ports = await nursery.start(server.run, settings(), facts)
        assert len({ports.health, ports.metrics, ports.admin}) == 3
        own = await client.get(f"http://{HERE}:{ports.admin}/admin/force-rules", headers=BEARER)
        assert (own.status_code, "set redis.url" in own.text) == (503, True)
        for port in (ports.health, ports.metrics):
            assert (await client.get(f"http://{HERE}:{port}/admin/force-rules", headers=BEARER)).status_code == 404
        for path in ("/health", "/health/live", "/metrics"):
            assert (await client.get(f"http://{HERE}:{ports.admin}{path}")).status_code == 404
        nursery.cancel_scope.cancel()
