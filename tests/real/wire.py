"""A wire to a server on loopback that can be made slow, or dumb: a proxy for any protocol over TCP."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

PIECE_BYTES = 65536


class Wire:
    """Before the server at this port. ``late_secs`` is waited before each piece of an answer goes on."""

    def __init__(self, server_port: int) -> None:
        self.late_secs = 0.0
        self._server_port = server_port
        self._closing = threading.Event()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __repr__(self) -> str:
        return f"<Wire {self.port} to {self._server_port}, {self.late_secs:g} s late, {len(self._open)} sockets>"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        _end(self._listener)
        for each in [*self._open]:
            _end(each)
        self._thread.join(5)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._join, args=(client,), daemon=True).start()

    def _join(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._server_port), timeout=60)
        except OSError:
            _end(client)
            return
        server.settimeout(None)
        for each in (client, server):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.add(each)
        threading.Thread(target=self._carry, args=(server, client, True), daemon=True).start()
        self._carry(client, server, False)

    def _carry(self, source: socket.socket, goal: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(PIECE_BYTES):
                if answers:
                    self._closing.wait(self.late_secs)
                goal.sendall(piece)
        for each in (source, goal):
            _end(each)
            self._open.discard(each)


def _end(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()
