"""The connections of one port: how many there are at a time, and how long a request may take. Clients are strangers."""

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

# For a scraper, the kubelet's probes, and people. Each may hold a head and a body in memory, and a send buffer in the
# kernel: below 20 MiB for all together.
MAX_CONNECTIONS = 64
REQUEST_SECS = 30  # from the end of its head to the end of its answer; Prometheus waits 10 s by default
LOOK_SECS = 1
# accept(2) has nothing to give but these while the process, or the machine, has no room for another connection.
_NO_ROOM = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_NO_ROOM_SECS = 0.1

FULL, SLOW, FAILED = "full", "slow", "failed"


class Connection:
    """One of them. Whoever serves it says when a request begins and when its answer is complete."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.peer = _address(stream.socket)
        self.busy = False
        self.since = trio.current_time()  # it is busy, or idle
        self.scope = trio.CancelScope()

    def __repr__(self) -> str:
        return f"<Connection {self.peer} {'busy' if self.busy else 'idle'}>"

    def told(self, *, busy: bool) -> None:
        """A request begins, or no answer is under way any more."""
        if busy != self.busy:
            self.busy, self.since = busy, trio.current_time()

    def close(self) -> None:
        """At once: whoever reads or sends is woken, however shielded."""
        self.stream.socket.close()
        self.scope.cancel()


Serve = Callable[[Connection], Awaitable[None]]


class Connections:
    """Those of one port."""

    def __init__(self, port: str, serve: Serve, meter: Meter) -> None:
        self._port, self._serve, self._meter = port, serve, meter
        self._open: set[Connection] = set()
        self._throttles: defaultdict[str, LogThrottle] = defaultdict(LogThrottle)  # by reason
        meter.watch(measures.HTTP_CONNECTIONS, lambda: len(self._open), port)
        for reason in (FULL, SLOW, FAILED):
            meter.count(measures.HTTP_CONNECTIONS_CLOSED, 0, port, reason)

    def __repr__(self) -> str:
        return f"<Connections {self._port} {len(self._open)} open>"

    async def run(self, listener: socket.socket) -> NoReturn:
        """Accept and serve until cancelled; then all are closed at once."""
        listening = trio.socket.from_stdlib_socket(listener)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_slow)
            try:
                while True:
                    accepted = await self._accept(listening)
                    if accepted is not None:
                        nursery.start_soon(self._run, self._enter(accepted))
            finally:  # before the nursery waits for them: Hypercorn shields its sends from cancellation
                for connection in self._open:
                    connection.close()

    async def _accept(self, listening: trio.socket.SocketType) -> trio.SocketStream | None:
        """The next one; None if there was none to be had."""
        try:
            accepted, _ = await listening.accept()
        except OSError as error:
            if error.errno in _NO_ROOM:
                self._make_room()
                await trio.sleep(_NO_ROOM_SECS)
            return None  # else a client that was gone before it was accepted
        return trio.SocketStream(accepted)

    def _enter(self, stream: trio.SocketStream) -> Connection:
        if len(self._open) >= MAX_CONNECTIONS:
            self._make_room()
        connection = Connection(stream)
        self._open.add(connection)
        return connection

    def _make_room(self) -> None:
        """Close one: of the address that has the most, one without a request, the oldest. So whoever opens many closes its
        own, and neither a probe nor a scrape from elsewhere."""
        if self._open:
            of = Counter(each.peer for each in self._open)
            self._end(min(self._open, key=lambda each: (-of[each.peer], each.busy, each.since)), FULL)

    async def _end_slow(self) -> NoReturn:
        while True:
            await trio.sleep(LOOK_SECS)
            before = trio.current_time() - REQUEST_SECS
            for connection in [each for each in self._open if each.since <= before]:
                self._end(connection, SLOW)

    def _end(self, connection: Connection, reason: str) -> None:
        self._open.discard(connection)
        connection.close()
        self._tell(reason, connection.peer)

    async def _run(self, connection: Connection) -> None:
        """Serve one. Some malformed requests are too much for Hypercorn (0.18: a bad chunk header while an answer is being
        sent), which must not end the daemon."""
        try:
            with connection.scope:
                await self._serve(connection)
        except* Exception as error:  # noqa: BLE001  # and not what may come with it: Cancelled
            self._tell(FAILED, connection.peer, error)
        finally:
            self._open.discard(connection)
            connection.stream.socket.close()

    def _tell(self, reason: str, peer: str, error: BaseException | None = None) -> None:
        """Count it, and log it, but no client may fill the log."""
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
    FULL: f"the port has {MAX_CONNECTIONS} at most, and its address had the most",
    SLOW: f"the request was not sent, or its answer not read, within {REQUEST_SECS} s",
    FAILED: "the request could not be handled",
}


def _address(sock: trio.socket.SocketType) -> str:
    with suppress(OSError, IndexError):  # gone already, or not of the Internet
        return str(sock.getpeername()[0])
    return ""
