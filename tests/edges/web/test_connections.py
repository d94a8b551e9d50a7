"""How many connections a port has, and how long each may take: over real sockets, with clients that mean no good."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress

import h2.config
import h2.connection
import h2.settings
import httpx
import pytest
import trio
from structlog.testing import capture_logs

from tests.edges.web.test_force_api import TOKEN
from tests.edges.web.test_web import HERE, port_of, settings
from tests.fakes.meter import FakeMeter
from tss.core.force import Rulebook
from tss.core.health import Health
from tss.edges.web import connections, pages, server
from tss.edges.web.connections import FAILED, FULL, SLOW, Connections
from tss.edges.web.force_api import ForceApi
from tss.settings import ForceSampling

PIECE = b"".join(b'spans{number="%d",%d} 1.0\n' % (number, number * 7919) for number in range(5000))
ANSWER_BYTES = 60 * len(PIECE)


def pieces(_accept: str) -> tuple[Iterator[bytes], str]:
    return iter([PIECE] * 60), "text/plain"


class Site:
    def __init__(self, ports: server.Ports, meter: FakeMeter) -> None:
        self.ports, self.meter = ports, meter
        self.health = port_of(ports, "health")

    def closed(self, reason: str, port: str = "health") -> float:
        return self.meter.counters["http_connections_closed_total", (port, reason)]

    def open(self, port: str = "health") -> float:
        return self.meter.watched["http_connections", (port,)]()

    async def probe(self) -> float:
        """How long a probe takes that gets its answer; it fails without one."""
        began = trio.current_time()
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            assert (await client.get(f"http://{HERE}:{self.health}/health/live")).status_code == 200
        return trio.current_time() - began


@asynccontextmanager
async def serving() -> AsyncIterator[Site]:
    meter = FakeMeter()
    api = ForceApi(ForceSampling(admin_token=TOKEN), Rulebook(), has_redis=False)
    facts = pages.Facts(Health(), "reference", pieces, meter, admin=api.answer)
    async with trio.open_nursery() as nursery:
        site = Site(await nursery.start(server.run, settings(), facts), meter)
        await site.probe()  # what it needs is loaded
        yield site
        nursery.cancel_scope.cancel()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a test can wait for."""
    monkeypatch.setattr(connections, "REQUEST_SECS", 0.5)
    monkeypatch.setattr(connections, "LOOK_SECS", 0.05)


async def client_of(site: Site, streams: ExitStack, address: str = HERE) -> trio.SocketStream:
    made = await trio.open_tcp_stream(HERE, site.health, local_address=address)
    streams.callback(made.socket.close)
    return made


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not condition():
            await trio.sleep(0.01)


async def trickled(site: Site, start: bytes, more: bytes = b"a", secs: float = 20) -> float:
    """How long the server bears a client that sends so many bytes at once, and then one after the other."""
    began = trio.current_time()
    async with await trio.open_tcp_stream(HERE, site.health) as stream:
        with trio.move_on_after(secs), suppress(trio.BrokenResourceError):
            await stream.send_all(start)
            while True:
                await stream.send_all(more)
                with trio.move_on_after(0.05):
                    if not await stream.receive_some():
                        break
    return trio.current_time() - began


# -- how many


async def test_five_hundred_idle_connections_keep_no_probe_from_its_answer() -> None:
    async with serving() as site:
        with ExitStack() as streams, capture_logs() as lines:
            for _ in range(500):
                await client_of(site, streams)
            assert site.open() == connections.MAX_CONNECTIONS
            assert await site.probe() < 1
            await until(lambda: site.closed(FULL) == 501 - connections.MAX_CONNECTIONS)
        told = [line for line in lines if line["log_level"] == "warning"]
        assert [(line["port"], line["remote"], line["times"]) for line in told] == [("health", HERE, 1)]


async def test_readers_that_take_nothing_keep_no_probe_from_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 8)
    async with serving() as site:
        with ExitStack() as streams:
            for _ in range(2 * connections.MAX_CONNECTIONS):
                stream = await client_of(site, streams)
                await stream.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 300)
            await until(lambda: site.open() == connections.MAX_CONNECTIONS)
            assert await site.probe() < 1


async def test_whoever_opens_many_closes_its_own_and_nobody_elses() -> None:
    """Another address' connection is the oldest, and idle: it stays, and is answered."""
    async with serving() as site:
        with ExitStack() as streams:
            other = await client_of(site, streams, "127.0.0.2")
            for _ in range(100):
                await client_of(site, streams)
            await until(lambda: site.closed(FULL) == 101 - connections.MAX_CONNECTIONS)
            await other.send_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            with trio.fail_after(2):
                assert (await other.receive_some()).startswith(b"HTTP/1.1 200")


async def test_of_one_address_those_without_a_request_go_first_and_the_oldest_of_them() -> None:
    async def nothing(_connection: connections.ClientConnection) -> None:
        await trio.sleep_forever()

    meter, made = FakeMeter(), list[connections.ClientConnection]()
    bounded = Connections("health", nothing, meter)
    with ExitStack() as sockets:
        for number in range(connections.MAX_CONNECTIONS):
            one, other = map(sockets.enter_context, socket.socketpair())
            made.append(bounded._enter(trio.SocketStream(trio.socket.from_stdlib_socket(one))))
            made[-1].since = 100 + number
            sockets.enter_context(other)
        made[0].busy = True
        one, other = map(sockets.enter_context, socket.socketpair())
        bounded._enter(trio.SocketStream(trio.socket.from_stdlib_socket(one)))
        gone = [number for number, each in enumerate(made) if each.scope.cancel_called]
    assert gone == [1]


async def test_without_file_descriptors_one_is_made_free_and_accepting_goes_on() -> None:
    class NoRoom:
        async def accept(self) -> None:
            raise OSError(errno.EMFILE, "Too many open files")

    async def nothing(_connection: connections.ClientConnection) -> None:
        await trio.sleep_forever()

    meter = FakeMeter()
    bounded = Connections("health", nothing, meter)
    one, other = socket.socketpair()
    with one, other:
        connection = bounded._enter(trio.SocketStream(trio.socket.from_stdlib_socket(one)))
        assert await bounded._accept(NoRoom()) is None  # type: ignore[arg-type]
        assert connection.scope.cancel_called and other.recv(1) == b""
    assert meter.counters["http_connections_closed_total", ("health", FULL)] == 1


# -- how long


@pytest.mark.parametrize("before", [b"", b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["first", "second"])
@pytest.mark.parametrize("start", [b"", b"GET /health HTTP/1.1\r\nHost: x\r\nX: ", b"PRI * HTTP/2.0\r\n"], ids=str)
async def test_a_head_that_never_ends_is_closed(before: bytes, start: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "IDLE_SECS", 0.5)
    async with serving() as site:
        more = b"a" if start.startswith(b"GET") else b""
        assert 0.3 < await trickled(site, before + start, more) < 10
        await until(lambda: site.open() == 0)


@pytest.mark.usefixtures("short")
async def test_a_body_that_never_ends_is_closed() -> None:
    async with serving() as site:
        head = b"POST /admin/force-rules HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n"
        assert 0.3 < await trickled(site, head) < 10
        await until(lambda: site.open() == 0)
        assert site.closed(SLOW) == 1


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("secs_a_read", [0.02, 100])
async def test_an_answer_that_is_not_read_is_given_up(secs_a_read: float) -> None:
    """Whether its reader takes a little from time to time, or nothing: the kernel alone would bear the first for hours."""
    async with serving() as site:
        with ExitStack() as sockets:
            client = sockets.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            client.connect((HERE, site.health))
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            client.setblocking(False)
            await until(lambda: site.open() == 1)
            read = 0
            with trio.fail_after(20):
                while site.open():
                    with trio.move_on_after(secs_a_read):
                        await until(lambda: site.open() == 0)
                    if site.open():
                        with suppress(BlockingIOError):
                            read += len(client.recv(1024))
            assert read < ANSWER_BYTES
        assert site.closed(SLOW) == 1


def test_what_waits_in_the_kernel_for_a_reader_is_bounded() -> None:
    """Connections inherit it. Without it, the kernel lets what a fast reader leaves unread grow to megabytes."""
    with server._listen("observability.health", HERE, 0) as listening:
        given = listening.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    assert given in (server.SEND_BUFFER_BYTES, 2 * server.SEND_BUFFER_BYTES)  # Linux doubles it


@pytest.mark.usefixtures("short")
async def test_a_stream_of_http_2_that_is_not_read_is_given_up() -> None:
    async with serving() as site, await trio.open_tcp_stream(HERE, site.health) as stream:
        client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        client.initiate_connection()
        client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
        wanted = {":method": "GET", ":path": "/metrics", ":scheme": "http", ":authority": "x"}
        client.send_headers(1, [*wanted.items()], end_stream=True)
        await stream.send_all(client.data_to_send())
        with trio.fail_after(20), suppress(trio.BrokenResourceError):
            while received := await stream.receive_some():
                client.receive_data(received)
        told = client.remote_settings
        assert (told.max_concurrent_streams, told.max_header_list_size) == (server.MAX_STREAMS, server.MAX_HEAD_BYTES)
        await until(lambda: site.closed(SLOW) == 1)


async def test_no_page_speaks_websocket(caplog: pytest.LogCaptureFixture) -> None:
    upgrade = b"Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    async with serving() as site, await trio.open_tcp_stream(HERE, site.health) as stream:
        await stream.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n" + upgrade + b"\r\n")
        with trio.fail_after(3):
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 403")
        await until(lambda: site.open() == 0)
    assert not caplog.records, "a stranger fills the log"


async def test_a_request_takes_from_its_beginning_to_the_end_of_all_that_are_under_way(autojump_clock: object) -> None:
    """On a connection of HTTP/2 several requests may be under way: another one gives the first no more time."""
    one, other = socket.socketpair()
    with one, other:
        connection = connections.ClientConnection(trio.SocketStream(trio.socket.from_stdlib_socket(one)))
        came = trio.current_time()
        states = []
        for busy in (True, True, False, False):
            await trio.sleep(10)
            connection.mark(busy=busy)
            states.append((connection.busy, connection.since - came))
    assert states == [(True, 10), (True, 10), (False, 30), (False, 30)]


async def test_who_asks_again_and_again_on_one_connection_is_not_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECS", 2)
    monkeypatch.setattr(connections, "LOOK_SECS", 0.05)
    async with serving() as site, httpx.AsyncClient(trust_env=False, timeout=5) as client:
        began = trio.current_time()
        while trio.current_time() - began < 2.5:
            assert (await client.get(f"http://{HERE}:{site.health}/health/live")).status_code == 200
        assert site.closed(SLOW) == 0


# -- what may not end it


async def test_a_request_that_is_too_much_for_hypercorn_ends_its_connection_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from hypercorn.trio.tcp_server import TCPServer

    real, left = TCPServer.run, [3]

    async def run(self: TCPServer) -> None:
        if left[0]:
            left[0] -= 1
            raise trio.BusyResourceError("as Hypercorn 0.18 does for some malformed requests")
        await real(self)

    async with serving() as site:
        monkeypatch.setattr(TCPServer, "run", run)
        with capture_logs() as lines:
            for _ in range(3):
                async with await trio.open_tcp_stream(HERE, site.health) as stream:
                    with suppress(trio.BrokenResourceError):
                        assert await stream.receive_some() == b""
            await site.probe()
        assert site.closed(FAILED) == 3
        assert [line["times"] for line in lines if "could not be handled" in line["event"]] == [1]
