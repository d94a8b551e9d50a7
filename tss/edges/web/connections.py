"""The client connections of one port: limits for their number, and for the time of a request, since anybody may connect."""

from __future__ import annotations

import errno
import socket
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NoReturn

import structlog
import trio

from tss.core import measures
from tss.core.measures import Meter
from tss.core.throttle import LogThrottle

log = structlog.get_logger()

# Enough for a scraper, the kubelet's probes, and people. Each connection may hold a head and a body in memory, and a send
# buffer in the kernel: below 20 MiB for all together.
MAX_CONNECTIONS = 64
REQUEST_SECS = 30  # from the end of its head to the end of its answer; Prometheus waits 10 s by default
LOOK_SECS = 1
# The errors of accept(2) while the process or the machine has no room for another connection.
_NO_ROOM = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_NO_ROOM_SECS = 0.1

FULL, SLOW, FAILED = "full", "slow", "failed"


class ClientConnection:
    """One connection. Its server marks when a request begins, and when its response is complete."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.peer = _address(stream.socket)
        self.busy = False
        self.since = trio.current_time()  # it became busy or idle
        self.scope = trio.CancelScope()

    def __repr__(self) -> str:
        return f"<ClientConnection {self.peer} {'busy' if self.busy else 'idle'}>"

    def mark(self, *, busy: bool) -> None:
        """A request begins (``busy``), or no response is under way any more."""
        if busy != self.busy:
            self.busy, self.since = busy, trio.current_time()

    def close(self) -> None:
        """Close at once. A task that reads or sends is woken, even if it is shielded from cancellation."""
        self.stream.socket.close()
        self.scope.cancel()


Serve = Callable[[ClientConnection], Awaitable[None]]


class Connections:
    """The connections of one port."""

    def __init__(self, port: str, serve: Serve, meter: Meter) -> None:
        self._port, self._serve, self._meter = port, serve, meter
        self._open: set[ClientConnection] = set()
        self._throttles: defaultdict[str, LogThrottle] = defaultdict(LogThrottle)  # by reason
        meter.watch(measures.HTTP_CONNECTIONS, lambda: len(self._open), port)
        for reason in (FULL, SLOW, FAILED):
            meter.count(measures.HTTP_CONNECTIONS_CLOSED, 0, port, reason)

    def __repr__(self) -> str:
        return f"<Connections {self._port} {len(self._open)} open>"

    async def run(self, listener: socket.socket) -> NoReturn:
        """Accept and serve until cancelled; then close all connections at once."""
        listening = trio.socket.from_stdlib_socket(listener)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_slow)
            try:
                while True:
                    accepted = await self._accept(listening)
                    if accepted is not None:
                        nursery.start_soon(self._run, self._enter(accepted))
            finally:  # before the nursery waits for its tasks: Hypercorn shields its sends from cancellation
                for connection in self._open:
                    connection.close()

    async def _accept(self, listening: trio.socket.SocketType) -> trio.SocketStream | None:
        """The next connection; None if accepting failed."""
        try:
            accepted, _ = await listening.accept()
        except OSError as error:
            if error.errno in _NO_ROOM:
                self._make_room()
                await trio.sleep(_NO_ROOM_SECS)
            return None  # any other error: the client was gone before it was accepted
        return trio.SocketStream(accepted)

    def _enter(self, stream: trio.SocketStream) -> ClientConnection:
        if len(self._open) >= MAX_CONNECTIONS:
            self._make_room()
        connection = ClientConnection(stream)
        self._open.add(connection)
        return connection

    def _make_room(self) -> None:
        """Close one connection of the address that has the most: an idle one if possible, the oldest first. So a client that
        opens many closes its own connections, and not those of a probe or a scraper elsewhere."""
        if self._open:
            of = Counter(each.peer for each in self._open)
            self._end(min(self._open, key=lambda each: (-of[each.peer], each.busy, each.since)), FULL)

    async def _end_slow(self) -> NoReturn:
        while True:
            await trio.sleep(LOOK_SECS)
            before = trio.current_time() - REQUEST_SECS
            for connection in [each for each in self._open if each.since <= before]:
                self._end(connection, SLOW)

    def _end(self, connection: ClientConnection, reason: str) -> None:
        self._open.discard(connection)
        connection.close()
        self._tell(reason, connection.peer)

    async def _run(self, connection: ClientConnection) -> None:
        """Serve one connection. Some malformed requests raise in Hypercorn (0.18: a bad chunk header while a response is being
        sent). That must not end the daemon."""
        try:
            with connection.scope:
                await self._serve(connection)
        except* Exception as error:  # noqa: BLE001  # but not Cancelled, which may be in the same group
            self._tell(FAILED, connection.peer, error)
        finally:
            self._open.discard(connection)
            connection.stream.socket.close()

    def _tell(self, reason: str, peer: str, error: BaseException | None = None) -> None:
        """Count it, and log it at most every 30 s, so that no client can fill the log."""
        self._meter.count(measures.HTTP_CONNECTIONS_CLOSED, 1, self._port, reason)
        if times := self._throttles[reason].add(1, trio.current_time()):
            log.warning(
                f"an HTTP connection was closed: {_REASONS[reason]}",
                port=self._port,
                remote=peer,
                times=times,
                exc_info=error,
            )


_REASONS = {
    FULL: f"the port takes {MAX_CONNECTIONS} at most, and this address had the most",
    SLOW: f"the client did not send its request, or did not read the response, within {REQUEST_SECS} s",
    FAILED: "its request could not be handled, because of an error in the server",
}


def _address(sock: trio.socket.SocketType) -> str:
    with suppress(OSError, IndexError):  # closed already, or no internet address
        return str(sock.getpeername()[0])
    return ""
