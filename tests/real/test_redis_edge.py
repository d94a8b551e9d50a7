"""Decisions and parked traces in a real Redis, alone and as a Cluster: the contract, and that no key lives for ever."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.redis import MAX_BYTES, A, B, World, check_redis
from tests.fakes.meter import FakeMeter
from tests.real import redis_server
from tests.real.redis_server import RedisServer
from tss.core.health import Health
from tss.core.parked import Parcel
from tss.edges.redis.decisions import RedisDecisions
from tss.edges.redis.link import open_link
from tss.edges.redis.parking import RedisParking
from tss.settings import Redis

TTL_SECS = 400


@pytest.fixture(params=["alone", "cluster"])
def servers(request: pytest.FixtureRequest) -> Iterator[list[RedisServer]]:
    if request.param == "cluster":
        with redis_server.cluster() as servers:
            yield servers
    else:
        with redis_server.running() as server:
            yield [server]


async def test_the_contract(servers: list[RedisServer]):
    settings = Redis(url=f"redis://{servers[0].address}", cluster=len(servers) > 1, connection_timeout_secs=2)

    def flush() -> None:
        check_ttls(servers)
        for server in servers:
            server.flush()

    def fill() -> None:
        for server in servers:
            server.limit_memory(1)

    def go_away() -> None:
        for server in servers:
            server.kill()

    async with open_link(settings, "a {group}", FakeMeter(), Health()) as link:
        decisions = RedisDecisions(link, TTL_SECS, remember_dropped=True)
        silent = RedisDecisions(link, TTL_SECS, remember_dropped=False)
        await check_redis(World(decisions, silent, RedisParking(link, TTL_SECS, MAX_BYTES), flush, fill, go_away))


def check_ttls(servers: list[RedisServer]) -> None:
    for server in servers:
        with server.client() as client:
            for key in client.scan_iter():
                assert key.startswith(b"tss:1:{a%20%7Bgroup%7D"), key
                assert 0 < client.ttl(key) <= TTL_SECS + 60, key


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "cluster"])
async def test_the_rights_that_the_docs_name_are_enough(alone: bool):
    page = (Path(__file__).parents[2] / "docs" / "redis.md").read_text()
    [rule] = re.findall(r"^ACL SETUSER tss on >PASSWORD (.*)$", page, re.MULTILINE)
    with redis_server.running() if alone else redis_server.cluster() as found:
        servers = [found] if isinstance(found, RedisServer) else found
        for server in servers:
            server.ask("ACL", "SETUSER", "tss", "on", ">pw", *rule.split())
        settings = Redis(url=f"redis://tss:pw@{servers[0].address}", cluster=not alone)
        async with open_link(settings, "g", FakeMeter(), Health()) as link:
            decisions = RedisDecisions(link, TTL_SECS, remember_dropped=True)
            await decisions.write({A: b"a"}, [B], {})
            assert await decisions.read([A, B]) == ({A: b"a"}, {B})
            parking = RedisParking(link, TTL_SECS, MAX_BYTES)
            parking.take_over(0, None, "t")
            await parking.park(0, "t", 0, [Parcel(A, b"s", b"f")])
            assert parking.take_over(0, ("t", 1), "u") is not None
            assert await parking.fetch(0, "u", [A]) == {A: [b"f"]}
            await parking.remove(0, "u", [A])
            await link.call(lambda client: client.publish(link.key("force"), b"x"))


@pytest.mark.parametrize("written", [1_000_000_300.0, 1_000_000_399.0])  # as a bucket begins, and as it ends
async def test_decisions_are_there_for_their_time_and_not_for_long_after(redis: RedisServer, written: float):
    now = written
    async with open_link(Redis(url=redis.url), "g", FakeMeter(), Health()) as link:
        decisions = RedisDecisions(link, TTL_SECS, remember_dropped=True, clock=lambda: now)
        await decisions.write({A: b"a"}, [B], {})
        for now in (written - 60, written + 1, written + TTL_SECS):  # read by a clock that is behind, too
            assert await decisions.read([A, B]) == ({A: b"a"}, {B}), now
        now += 60 + TTL_SECS / 4 + 1
        assert await decisions.read([A, B]) == ({}, set())


async def test_what_was_written_last_counts(redis: RedisServer):
    """A trace of which more was delivered in another bucket's time."""
    now = 1_000_000_000.0
    async with open_link(Redis(url=redis.url), "g", FakeMeter(), Health()) as link:
        decisions = RedisDecisions(link, TTL_SECS, remember_dropped=False, clock=lambda: now)
        await decisions.write({A: b"first"}, [], {0: 1})
        now += TTL_SECS / 2
        await decisions.write({A: b"then"}, [], {0: 2})
        assert await decisions.read([A]) == ({A: b"then"}, set())


async def test_the_reach_is_forgotten_with_the_decisions(redis: RedisServer):
    now = 1_000_000_000.0
    async with open_link(Redis(url=redis.url), "g", FakeMeter(), Health()) as link:
        ours, others = (
            RedisDecisions(link, TTL_SECS, remember_dropped=False, clock=lambda: now) for _ in range(2)
        )  # fmt: skip
        await others.write({A: b"a"}, [], {0: 10})
        now += TTL_SECS / 2
        await others.write({A: b"b"}, [], {0: 4, 1: 1})
        assert await ours.reach([0, 1]) == {0: 10, 1: 1}
        assert await ours.read([A], {0: 4}) == ({A: b"a"}, set()), "of what does not reach so far no notice is taken"
        now += TTL_SECS / 2 + 60 + TTL_SECS / 4 + 1
        assert await ours.reach([0, 1]) == {0: 4, 1: 1}


async def test_a_batch_is_few_commands(redis: RedisServer):
    async with open_link(Redis(url=redis.url), "g", FakeMeter(), Health()) as link:
        decisions = RedisDecisions(link, TTL_SECS, remember_dropped=False)
        batch = {os.urandom(16): bytes(80) for _ in range(1000)}
        before = commands(redis, "eval")
        await decisions.write(batch, [], {})
        assert commands(redis, "eval") - before <= 4
        before = commands(redis, "hmget")
        assert (await decisions.read([*batch]))[0] == batch
        assert commands(redis, "hmget") - before <= 4 * 7


def commands(server: RedisServer, name: str) -> int:
    with server.client() as client:
        return int(client.info("commandstats").get(f"cmdstat_{name}", {"calls": 0})["calls"])


async def test_scripts_that_redis_forgot_are_sent_again(redis: RedisServer):
    async with open_link(Redis(url=redis.url), "g", FakeMeter(), Health()) as link:
        parking = RedisParking(link, TTL_SECS, MAX_BYTES)
        parking.take_over(0, None, "t")
        redis.ask("SCRIPT", "FLUSH")
        assert await parking.park(0, "t", 0, [Parcel(A, b"s", b"f")]) == 1


async def test_more_traces_than_a_script_may_unpack_at_once(redis: RedisServer):
    async with open_link(Redis(url=redis.url), "g", FakeMeter(), Health()) as link:
        parking = RedisParking(link, TTL_SECS, 1 << 30)
        parking.take_over(0, None, "t")
        ids = [os.urandom(16) for _ in range(12_000)]
        seq = await parking.park(0, "t", 0, [Parcel(each, each[:2], b"f") for each in ids])
        found = parking.take_over(0, ("t", seq), "u")
        assert found is not None and found.summaries == {each: each[:2] for each in ids}
        assert len(await parking.fetch(0, "u", ids)) == len(ids)
        await parking.remove(0, "u", ids)
        assert redis.ask("HGET", link.key("parked", 0, tag="p0"), "bytes") == b"0"


# Of the version before: how it reads how many frames a trace has, and their bytes; it writes them so.
OLD_COUNT = """\
local count, size = string.match(redis.call('HGET', KEYS[1], 'n' .. ARGV[1]) or '0 0', '(%d+) (%d+)')
return {tonumber(count), tonumber(size), tonumber(string.match(redis.call('HGET', KEYS[1], 'n' .. ARGV[1]), '%d+'))}"""


async def test_the_version_before_reads_what_is_parked_and_what_it_writes_is_of_no_known_lookup(redis: RedisServer):
    async with open_link(Redis(url=redis.url), "g", FakeMeter(), Health()) as link:
        parking = RedisParking(link, TTL_SECS, MAX_BYTES)
        parking.take_over(0, None, "t")
        await parking.park(0, "t", 0, [Parcel(A, b"s", b"f", "12ab34"), Parcel(B, b"s", b"f", "12ab34")])
        key = link.key("parked", 0, tag="p0")
        with redis.client() as client:
            count, size, frames = client.eval(OLD_COUNT, 1, key, A)
            assert (count, frames) == (1, 1) and size > 100
            client.hset(key, b"n" + A, f"{count} {size}")
        found = parking.take_over(0, ("t", 1), "u")
        assert found is not None and found.programs == {B: "12ab34"}
        assert await parking.fetch(0, "u", [A, B]) == {A: [b"f"], B: [b"f"]}
