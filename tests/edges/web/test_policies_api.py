"""The pages under /admin/policies over real sockets, and `python -m tss policies`, which asks for them."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from structlog.testing import capture_logs

from tests.edges.web.test_force_api import BEARER, TOKEN
from tests.edges.web.test_web import HERE, settings
from tests.fakes.documents import FakeDocuments
from tests.fakes.meter import FakeMeter
from tests.fakes.policies import FakeFile, FakeRulesets, FakeTexts, made, ruleset
from tss.__main__ import main
from tss.commands import DONE, FAILED
from tss.core.health import Health
from tss.edges.web import pages, server
from tss.edges.web.admin import AdminApi, Guard
from tss.edges.web.messages import MAX_BODY_BYTES, POLICIES_PATH
from tss.edges.web.policies_api import PoliciesApi
from tss.settings import ForceSampling
from tss.tasks.reloading import Reloading

MALFORMED = 100


class Site:
    def __init__(self, url: str, client: httpx.AsyncClient, reloading: Reloading, store: FakeDocuments) -> None:
        self.base, self.client, self.reloading, self.store = url, client, reloading, store

    async def ask(self, method: str, path: str = "", content: Any = None, **headers: str) -> httpx.Response:
        body = content if isinstance(content, bytes | None) else json.dumps(content).encode()
        url = f"{self.base}{POLICIES_PATH}{path}"
        return await self.client.request(method, url, headers=BEARER | headers, content=body)

    async def tss(self, *words: str, token: str = TOKEN) -> int:
        """The command, from another thread."""
        call = partial(main, ["policies", *words, "--url", self.base], {"TSS_FORCE_SAMPLING_ADMIN_TOKEN": token})
        return await trio.to_thread.run_sync(call)


@asynccontextmanager
async def serving(
    *, token: str = TOKEN, shared: bool = True, begun: bool = True, quiet: bool = False
) -> AsyncIterator[Site]:
    """A replica whose settings file has the rate 0.1. ``quiet``: it prints no log."""
    store, meter = FakeDocuments(), FakeMeter()
    file = FakeFile('{"rate": 0.1}')
    reloading = Reloading(
        rulesets=FakeRulesets(ruleset(rate=0.1)), store=store, texts=FakeTexts(), shared=shared, file=file, make=made,
        name="replica", meter=meter, health=Health(), clock=lambda: 1_800_000_000.0,
    )  # fmt: skip
    await reloading.begin()
    api = PoliciesApi(Guard(ForceSampling(admin_token=token)))
    api.policies = reloading if begun else None
    admin = AdminApi({POLICIES_PATH: api.answer}).answer
    facts = pages.Facts(Health(), "reference", lambda _: (iter(()), ""), FakeMeter(), admin=admin)
    client = httpx.AsyncClient(trust_env=False, timeout=10)
    with capture_logs() if quiet else nullcontext():
        async with trio.open_nursery() as nursery, client:
            ports = await nursery.start(server.run, settings(), facts)
            yield Site(f"http://{HERE}:{ports.health}", client, reloading, store)
            nursery.cancel_scope.cancel()


async def test_policies_from_one_revision_to_the_next_and_back() -> None:
    async with serving() as site:
        first = await site.ask("GET")
        assert (first.status_code, first.headers["ETag"]) == (200, '"1"')
        assert first.json() == {
            "revision": 1, "fingerprint": ruleset(rate=0.1).fingerprint, "at": "2027-01-15T08:00:00.000Z", "source": "start",
            "who": "replica", "file": {"fingerprint": ruleset(rate=0.1).fingerprint, "inForce": True},
            "policies": {"rate": 0.1},
        }  # fmt: skip
        draft = await site.ask("POST", "/diff", {"rate": 0.5})
        assert draft.json()["changes"] == ["rate: 0.1 -> 0.5"] and draft.headers["ETag"] == '"1"'
        assert site.reloading.current.text == '{"rate": 0.1}'
        with capture_logs() as logs:
            changed = await site.ask("PUT", "", {"rate": 0.5}, **{"If-Match": '"1"', "From": "anna@laptop"})
        assert (changed.status_code, changed.headers["ETag"]) == (200, '"2"')
        assert changed.json()["who"] == f"anna@laptop ({HERE})" and changed.json()["source"] == "api"
        (line,) = [each for each in logs if each["event"] == "policies changed"]
        assert (line["who"], line["revision"], line["changes"]) == (f"anna@laptop ({HERE})", 2, ["rate: 0.1 -> 0.5"])
        assert (await site.ask("GET", "?diff")).json()["changes"] == ["rate: 0.1 -> 0.5"]
        assert (await site.ask("GET")).json()["file"]["inForce"] is False
        stale = await site.ask("PUT", "", {"rate": 0.7}, **{"If-Match": '"1"'})
        assert stale.status_code == 412 and "at revision 2, not 1" in stale.json()["error"]
        history = (await site.ask("GET", "/history")).json()
        assert [each["revision"] for each in history["changes"]] == [2, 1]
        assert (await site.ask("GET", "/history/1")).json()["policies"] == {"rate": 0.1}
        back = await site.ask("POST", "/rollback", {"revision": 1}, **{"If-Match": '"2"'})
        assert (back.status_code, back.json()["revision"], back.json()["source"]) == (200, 3, "rollback")
        assert (await site.ask("POST", "/rollback")).json()["policies"] == {"rate": 0.5}


@pytest.mark.parametrize(
    ("given", "status"),
    [({}, 401), ({"Authorization": "Bearer"}, 401), ({"Authorization": f"Bearer {TOKEN}x"}, 403)],
)
async def test_nobody_without_the_token(given: dict[str, str], status: int) -> None:
    async with serving() as site:
        for method, path in (("GET", ""), ("PUT", ""), ("GET", "/history"), ("POST", "/rollback"), ("POST", "/diff")):
            answer = await site.client.request(
                method, f"{site.base}{POLICIES_PATH}{path}", headers=given, content=b"{}"
            )
            assert answer.status_code == status and "rate" not in answer.text
        assert site.reloading.history.revision == 1
    async with serving(token="") as site:
        off = await site.ask("PUT", "", {"rate": 0.5})
        assert off.status_code == 404 and "forceSampling.adminToken" in off.json()["error"]


async def test_what_is_missing_is_said() -> None:
    async with serving(shared=False) as site:
        alone = await site.ask("PUT", "", {"rate": 0.5})
        assert alone.status_code == 409 and "set redis.url" in alone.json()["error"]
        assert (await site.ask("GET")).status_code == 200
    async with serving(begun=False) as site:
        early = await site.ask("GET")
        assert early.status_code == 503 and "starting" in early.json()["error"]
    async with serving() as site:
        site.store.away = True
        away = await site.ask("PUT", "", {"rate": 0.5})
        assert away.status_code == 503 and "Redis connection timeout" in away.json()["error"]
        assert (await site.ask("GET", "/history/99")).status_code == 404
        nothing = await site.ask("DELETE")
        assert nothing.status_code == 404 and "GET, PUT /admin/policies" in nothing.json()["error"]


def malformed(chance: random.Random) -> list[bytes]:
    """Bodies that are no policies: bytes, cut texts, deep nesting, wrong types, aliases that grow, other encodings."""
    bombs = b"a: &a [1,1,1,1,1,1,1,1,1]\n" + b"".join(
        b"%c: &%c [%s]\n" % (one, one, b",".join([b"*%c" % (one - 1)] * 9)) for one in range(ord("b"), ord("k"))
    )
    fixed = [
        b"", b" ", b"null", b"[]", b"3", b'"text"', b"\xff\xfe", b"\x00", b"{", b"}", b"[" * 50_000, b'{"a":' * 20_000, bombs,
        b"!!python/object:os.system {}", b"- - - -", b"? ", b"%YAML 9.9\n---\n", b"a: 1\na: 1\n", b'{"wrong": 1}', b"x" * MAX_BODY_BYTES,
        b"sampling:\n  rate: 1\n", '{"ü": \ud800}'.encode("utf-8", "surrogatepass"), b'{"a": NaN}', b"\xef\xbb\xbf{}x", b"{}{}",
    ]  # fmt: skip
    good = b'{"rate": 0.5, "more": {"a": [1, 2, {"b": "text"}]}}'
    while len(fixed) < MALFORMED:
        cut = bytearray(good[: chance.randrange(1, len(good) - 1)])
        cut[chance.randrange(len(cut))] = chance.randrange(128, 256)
        fixed.append(bytes(cut))
    return fixed


async def test_a_hundred_malformed_bodies_change_nothing_and_none_is_an_error_of_ours() -> None:
    async with serving() as site:
        for body in malformed(random.Random(18)):
            for method, path in (("PUT", ""), ("POST", "/diff"), ("POST", "/rollback")):
                answer = await site.ask(method, path, body)
                empty = path == "/rollback" and not body.strip()
                null = path == "/rollback" and body == b"null"
                assert answer.status_code in ((404,) if empty else (404, 422) if null else (413, 422)), (
                    method,
                    path,
                    body[:80],
                )
                assert answer.json()["error"]
        for wanted in ("", "*", '"1"'):
            assert (await site.ask("PUT", "", b"{", **{"If-Match": wanted})).status_code == 422
        for wanted in ("x", '"-1"', "9" * 5000, '"1.5"'):
            answer = await site.ask("PUT", "", {"rate": 0.5}, **{"If-Match": wanted})
            assert answer.status_code == 422 and "If-Match" in answer.text
        large = await site.ask("PUT", "", b" " * (MAX_BODY_BYTES + 1))
        assert large.status_code == 413
        assert site.reloading.history.revision == 1 and site.reloading.current.text == '{"rate": 0.1}'


# -- the command


async def test_the_command_changes_and_rolls_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, part = tmp_path / "tss.yaml", tmp_path / "policies.yaml"
    whole.write_text("kafka:\n  brokers: b\nsampling:\n  rate: 0.5\n")
    part.write_text("rate: 0.7\n")

    async with serving(quiet=True) as site:

        async def said(*words: str) -> str:
            assert await site.tss(*words) == DONE, capsys.readouterr().err
            return capsys.readouterr().out

        assert (await said("show")).endswith("\nrate: 0.1\n")
        assert await said("diff") == "no difference between the settings file and the policies in force\n"
        assert "  rate: 0.1 -> 0.5\n" in await said("diff", str(whole))
        assert site.reloading.history.revision == 1
        applied = await said("apply", str(whole), "--as", "anna")
        assert applied.startswith("in force: revision 2  ") and f"api by anna ({HERE})" in applied
        assert "  rate: 0.1 -> 0.5\n" in applied
        assert "in force already: revision 2" in await said("apply", str(whole))
        assert "  rate: 0.1 -> 0.5\n" in await said("diff")
        await said("apply", str(part))
        assert [line.split()[1] for line in (await said("history")).splitlines()] == ["3", "2", "1"]
        assert (await said("show", "2")).endswith("\nrate: 0.5\n")
        assert (await said("rollback")).startswith(
            "in force: revision 4  "
        ) and site.reloading.current.text == '{"rate": 0.5}'
        assert json.loads(await said("rollback", "1", "--json"))["policies"] == {"rate": 0.1}


async def test_the_command_says_why_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, wrong, double = tmp_path / "good.yaml", tmp_path / "wrong.yaml", tmp_path / "double.yaml"
    good.write_text("rate: 0.5\n")
    wrong.write_text("wrong: 1\n")
    double.write_text("rate: 1\nrate: 2\n")
    broken = tmp_path / "broken.yaml"
    broken.write_text("{")
    async with serving(quiet=True) as site:
        cases = [
            (("apply", str(wrong)), TOKEN, "sampling.wrong: an unknown key"),
            (("apply", str(double)), TOKEN, "the same key"),
            (("apply", str(broken)), TOKEN, "a YAML error"),
            (("apply", str(tmp_path / "none.yaml")), TOKEN, "cannot be read"),
            (("apply", str(good), "--revision", "7"), TOKEN, "at revision 1, not 7"),
            (("apply", str(good)), "x" * 16, "token"),
            (("rollback",), TOKEN, "no earlier policies"),
            (("show", "9"), TOKEN, "no revision"),
        ]
        for words, token, why in cases:
            assert await site.tss(*words, token=token) == FAILED
            said = capsys.readouterr()
            assert said.err.startswith("tss policies: ") and why in said.err and not said.out
        assert site.reloading.history.revision == 1
