"""`POST /admin/exporters/NAME/release` over real sockets, and `python -m tss release`, which asks for it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import attrs
import httpx
import pytest
import trio
from structlog.testing import capture_logs

from tests.edges.web.test_force_api import BEARER, TOKEN
from tests.edges.web.test_web import HERE, settings
from tests.fakes.meter import FakeMeter
from tss.__main__ import main
from tss.commands import DONE, FAILED
from tss.core.force import Rulebook
from tss.core.health import Health
from tss.edges.web import pages, server
from tss.edges.web.admin import AdminApi
from tss.edges.web.force_api import ForceApi
from tss.edges.web.messages import ADMIN_PATH, EXPORTERS_PATH
from tss.edges.web.release_api import ReleaseApi
from tss.settings import ForceSampling


@attrs.define
class Holding:
    """Something that holds as many traces."""

    held: int

    def release(self) -> int:
        released, self.held = self.held, 0
        return released


@asynccontextmanager
async def serving(token: str = TOKEN) -> AsyncIterator[tuple[str, ReleaseApi]]:
    """Without a Redis: releases need none."""
    force = ForceApi(ForceSampling(admin_token=token), Rulebook(), has_redis=False)
    api = ReleaseApi(force.guard)
    api.exporters = {"backend": Holding(7), "a b/ü": Holding(3)}
    admin = AdminApi({ADMIN_PATH: force.answer, EXPORTERS_PATH: api.answer})
    facts = pages.Facts(Health(), "reference", lambda _: (iter(()), ""), FakeMeter(), admin=admin.answer)
    async with trio.open_nursery() as nursery:
        ports = await nursery.start(server.run, settings(), facts)
        yield f"http://{HERE}:{ports.health}", api
        nursery.cancel_scope.cancel()


async def test_what_is_held_is_released_once_and_told_in_one_line() -> None:
    async with serving() as (url, _), httpx.AsyncClient(trust_env=False) as client:
        with capture_logs() as lines:
            first = await client.post(f"{url}/admin/exporters/backend/release", headers=BEARER)
        again = await client.post(f"{url}/admin/exporters/backend/release", headers=BEARER)
    assert (first.status_code, first.json()) == (200, {"exporter": "backend", "released": 7})
    assert (again.status_code, again.json()) == (200, {"exporter": "backend", "released": 0})
    told = [line for line in lines if line["event"] == "exporter released"]
    assert [(line["exporter"], line["traces"], line["remote"]) for line in told] == [("backend", 7, HERE)]


async def test_whoever_has_no_token_releases_nothing() -> None:
    async with serving() as (url, api), httpx.AsyncClient(trust_env=False) as client:
        bare = await client.post(f"{url}/admin/exporters/backend/release")
        wrong = await client.post(f"{url}/admin/exporters/backend/release", headers={"Authorization": "Bearer x"})
        assert (bare.status_code, wrong.status_code) == (401, 403)
        assert {exporter.release() for exporter in api.exporters.values()} == {7, 3}
    async with serving("") as (url, _), httpx.AsyncClient(trust_env=False) as client:
        off = await client.post(f"{url}/admin/exporters/backend/release", headers=BEARER)
        assert off.status_code == 404 and "forceSampling.adminToken" in off.json()["error"]


async def test_a_wrong_name_is_answered_with_the_right_ones() -> None:
    async with serving() as (url, api), httpx.AsyncClient(trust_env=False) as client:
        unknown = await client.post(f"{url}/admin/exporters/nobody/release", headers=BEARER)
        assert unknown.status_code == 404
        assert unknown.json()["error"] == "there is no exporter 'nobody'; there are: a b/ü, backend"
        for method, path in (("GET", "/backend/release"), ("POST", ""), ("POST", "/backend"), ("DELETE", "/backend")):
            answer = await client.request(method, f"{url}/admin/exporters{path}", headers=BEARER)
            assert answer.status_code == 404
            assert "POST /admin/exporters/NAME/release" in answer.json()["error"]
        api.exporters = {}
        early = await client.post(f"{url}/admin/exporters/backend/release", headers=BEARER)
        assert early.status_code == 404 and "the daemon is starting" in early.json()["error"]


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("backend", [], "backend: 7 traces go to the dead letters\n"),
        ("a b/ü", [], "a b/ü: 3 traces go to the dead letters\n"),
        ("backend", ["--json"], json.dumps({"exporter": "backend", "released": 7}, indent=2) + "\n"),
    ],
)
async def test_the_command_releases(name: str, more: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving() as (url, _):
        words = ["release", name, "--url", url, *more]
        ask = partial(main, words, {"TSS_FORCE_SAMPLING_ADMIN_TOKEN": TOKEN})
        assert await trio.to_thread.run_sync(ask) == DONE
    assert capsys.readouterr().out.endswith(said)


async def test_the_command_says_in_one_line_why_not(capsys: pytest.CaptureFixture[str]) -> None:
    async with serving() as (url, _):
        for name, token, why in (("nobody", TOKEN, "there are: a b/ü, backend"), ("backend", "x" * 16, "token")):
            ask = partial(main, ["release", name, "--url", url], {"TSS_FORCE_SAMPLING_ADMIN_TOKEN": token})
            assert await trio.to_thread.run_sync(ask) == FAILED
            said = capsys.readouterr().err
            assert said.startswith("tss release: ") and said.count("\n") == 1 and why in said
    assert main(["release", "backend"], {}) == FAILED
    assert "no token" in capsys.readouterr().err
