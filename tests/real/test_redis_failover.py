"""Two servers behind one name: after a failover the link goes where the name leads, without a restart."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import attrs
import pytest
import trio

from demo.servers import HOST
from tests.fakes.meter import FakeMeter
from tests.real.redis_server import RedisServer, running
from tss.core import measures
from tss.core.errors import Away
from tss.core.health import Health, State
from tss.edges.redis.documents import force_rules
from tss.edges.redis.link import RedisLink, open_link
from tss.settings import Redis


@attrs.define
class Name:
    """One address for whichever server it names at the time of a connection; those that there are stay where they are,
    as behind a DNS name or a Kubernetes service."""

    target: int
    _listener: socket.socket = attrs.field(factory=socket.socket)
    _open: list[socket.socket] = attrs.field(factory=list)

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self._listener.getsockname()[1]}"

    @classmethod
    @contextmanager
    def of(cls, server: RedisServer) -> Iterator[Name]:
        name = cls(server.port)
        name._listener.bind((HOST, 0))
        name._listener.listen()
        threading.Thread(target=name._serve, daemon=True).start()
        try:
            yield name
        finally:
            for each in (name._listener, *name._open):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection((HOST, self.target))
                self._open += near, far
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


async def write(link: RedisLink) -> bool:
    try:
        return bool(await link.call(lambda client: client.set("tss:1:written", b"x")))
    except Away:
        return False


async def until_written(link: RedisLink, server: RedisServer) -> None:
    with trio.fail_after(30):
        while not (await write(link) and server.ask("GET", "tss:1:written")):
            await trio.sleep(0.05)


def demote(server: RedisServer, master: RedisServer) -> None:
    server.ask("REPLICAOF", HOST, master.port)


def load(server: RedisServer, _: RedisServer) -> None:
    """It answers MASTERDOWN, to reads too, as long as its master is away."""
    server.ask("CONFIG", "SET", "replica-serve-stale-data", "no")
    server.ask("REPLICAOF", HOST, 1)


@pytest.mark.parametrize("failover", [demote, load])
async def test_law_8_a_failover_behind_one_name_is_followed(failover: object) -> None:
    meter, health = FakeMeter(), Health()
    with running() as old, running() as new, Name.of(old) as name:
        async with open_link(Redis(url=name.url, connection_timeout_secs=1), "g", meter, health) as link:
            async with trio.open_nursery() as several:  # more than one connection in the pool
                for _ in range(5):
                    several.start_soon(write, link)
            assert old.ask("GET", "tss:1:written") == b"x"
            failover(old, new)  # type: ignore[operator]
            name.target = new.port
            await until_written(link, new)
            with trio.fail_after(10):
                while health.components["redis"].state is not State.UP:
                    await trio.sleep(0.05)
            reasons = {labels[1] for labels in meter.by_label(measures.REDIS_ERRORS)}
            assert reasons <= {"readonly", "loading", "moved"} and reasons, reasons


async def test_who_listens_for_rules_follows_too() -> None:
    with running() as old, running() as new, Name.of(old) as name:
        async with open_link(Redis(url=name.url, connection_timeout_secs=1), "g", FakeMeter(), Health()) as link:
            heard = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(force_rules(link).listen, heard.set)
                with trio.fail_after(20):
                    await heard.wait()  # that it is subscribed
                assert await write(link)  # on a connection of its own, to the old server
                demote(old, new)
                name.target = new.port
                await until_written(link, new)
                key = link.key("force", "rules")
                with trio.fail_after(20):
                    while not new.ask("PUBSUB", "NUMSUB", key)[1]:  # type: ignore[index]
                        await trio.sleep(0.05)
                nursery.cancel_scope.cancel()
