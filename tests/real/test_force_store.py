"""Force rules on a real Redis: the contract, how fast they spread, and what a cut connection does."""

from __future__ import annotations

import itertools
import socket
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any, TypeVar

import pytest
import redis
import trio

from tests.contracts.documents import KEEP_SECS, check_store
from tests.fakes.meter import FakeMeter
from tests.real.redis_server import RedisServer, cluster, running
from tss.core.errors import Away
from tss.core.force import Rulebook
from tss.core.force.changes import Bounds, Change, add, remove
from tss.core.force.document import draft
from tss.core.health import Health
from tss.edges.redis.documents import RedisDocuments, force_rules
from tss.edges.redis.link import RedisLink, open_link
from tss.settings import Redis
from tss.tasks.forcing import Forcing

T = TypeVar("T")
SPREAD_SECS = 0.1
CHANGES = 100
ids = map(str, itertools.count())


class PlainLink(RedisLink):
    """The least that the store asks of a link."""

    def __init__(self, server: RedisServer) -> None:
        self._plain = server.client()

    async def call(self, work: Callable[[Any], T], *, operation: str = "") -> T:
        try:
            return await trio.to_thread.run_sync(work, self._plain)
        except (redis.RedisError, OSError) as error:
            raise Away(str(error)) from error

    def client_now(self) -> redis.Redis:
        return self._plain

    def key(self, *parts: str | int, tag: str = "") -> str:
        return ":".join(map(str, ("tss:1:test", *parts)))


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with running() as one:
        yield one


@pytest.fixture
def empty(server: RedisServer) -> RedisServer:
    server.flush()
    return server


def store_on(server: RedisServer) -> RedisDocuments:
    return force_rules(PlainLink(server))


def adding(name: str) -> Change:
    given = {"name": name, "action": "keep", "matchers": [{"on": "name", "op": "eq", "value": "get"}]}
    return add(draft(given), next(ids), Bounds(60, 600, 500), time.time())


@asynccontextmanager
async def replicas(server: RedisServer, poll_secs: float) -> AsyncIterator[list[tuple[Forcing, Rulebook]]]:
    books = [Rulebook(), Rulebook()]
    found = [(Forcing(book, store_on(server), FakeMeter()), book) for book in books]
    async with trio.open_nursery() as nursery:
        for forcing, _ in found:
            nursery.start_soon(forcing.run, poll_secs)
        with trio.fail_after(10):
            while server.ask("PUBSUB", "NUMSUB", "tss:1:test:force:rules")[1] != 2:  # type: ignore[index]
                await trio.sleep(0.01)
        yield found
        nursery.cancel_scope.cancel()


async def until_known(book: Rulebook, name: str) -> None:
    with trio.fail_after(10):
        while name not in {rule.name for rule in book.rules(time.time())}:
            await trio.sleep(0.001)


async def test_the_contract(empty: RedisServer) -> None:
    await check_store(store_on(empty), store_on(empty))


@pytest.mark.parametrize("kind", ["one server", "cluster"])
async def test_the_contract_over_the_link(kind: str, empty: RedisServer) -> None:
    with cluster() if kind == "cluster" else nullcontext([empty]) as servers:
        settings = Redis(url=f"redis://{','.join(each.address for each in servers)}", cluster=kind == "cluster")
        async with open_link(settings, "group", FakeMeter(), Health()) as link:
            await check_store(force_rules(link), force_rules(link))


async def test_redis_killed_and_back_over_the_link() -> None:
    """What is known goes on; a change is refused at once; then rules can be made again, and are heard of."""
    with running() as server:
        settings = Redis(url=server.url, connection_timeout_secs=0.5)
        async with open_link(settings, "group", FakeMeter(), Health()) as link, trio.open_nursery() as nursery:
            book = Rulebook()
            forcing = Forcing(book, force_rules(link), FakeMeter())
            await nursery.start(forcing.run, 0.2)
            await forcing.change(adding("before"))
            server.kill()
            with pytest.raises(Away):
                await forcing.change(adding("meanwhile"))
            await trio.sleep(0.5)  # some polls, and all of them in vain
            assert [rule.name for rule in book.rules(time.time())] == ["before"]
            server.start()
            with trio.fail_after(20):
                while book.rules(time.time()):  # it came back empty, and what it has is so
                    await trio.sleep(0.01)
            await forcing.change(adding("after"))
            assert [rule.name for rule in book.rules(time.time())] == ["after"]
            nursery.cancel_scope.cancel()


async def test_every_key_has_an_end(empty: RedisServer) -> None:
    await store_on(empty).swap("", {"a": b"1"}, KEEP_SECS)
    assert 0 < int(empty.ask("PTTL", "tss:1:test:force:rules")) <= KEEP_SECS * 1000  # type: ignore[call-overload]


async def test_a_rule_is_known_on_the_other_replica_within_a_tenth_of_a_second(empty: RedisServer) -> None:
    """Polling is off for as long as the test takes."""
    took = []
    async with replicas(empty, 600) as [(one, _), (_, book)]:
        for number in range(CHANGES):
            began = time.perf_counter()
            await one.change(adding(f"rule {number}"))
            await until_known(book, f"rule {number}")
            took.append(time.perf_counter() - began)
            await one.change(remove(book.rules(0)[0].id, None))
    took.sort()
    print(f"median {statistics.median(took) * 1000:.1f} ms, longest {took[-1] * 1000:.1f} ms")
    # Half of them: the others may wait until a busy machine has a turn for them.
    assert took[CHANGES // 2] < SPREAD_SECS


async def test_polling_does_what_nobody_heard(empty: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connections of the channel are cut, and cannot be made again."""
    async with replicas(empty, 0.5) as [(one, _), (_, book)]:
        with monkeypatch.context() as cut:
            cut.setattr(RedisDocuments, "_hear", _refused)
            empty.ask("CLIENT", "KILL", "TYPE", "pubsub")
            with trio.fail_after(10):
                while empty.ask("PUBSUB", "NUMSUB", "tss:1:test:force:rules")[1]:  # type: ignore[index]
                    await trio.sleep(0.01)
            await one.change(adding("polled"))
            await until_known(book, "polled")


def _refused(*_: object) -> None:
    raise redis.ConnectionError("cut")


async def test_a_cut_connection_is_made_again_and_what_was_missed_is_read(empty: RedisServer) -> None:
    async with replicas(empty, 600) as [(one, _), (_, book)]:
        empty.ask("CLIENT", "KILL", "TYPE", "pubsub")
        await one.change(adding("missed"))
        await until_known(book, "missed")


async def test_listening_ends_at_once_even_where_nobody_answers() -> None:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        store = force_rules(_nowhere(redis.Redis("127.0.0.1", port, socket_timeout=3)))
        with trio.fail_after(2), trio.move_on_after(0.2):
            await store.listen(lambda: None)


def _nowhere(client: redis.Redis) -> Any:
    class Nowhere:
        def client_now(self) -> redis.Redis:
            return client

        def key(self, *parts: str) -> str:
            return ":".join(parts)

    return Nowhere()
