"""Servers that are no Redis, or answer as none would: the link says that it is away, and nothing ends."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import trio

from tests.fakes.meter import FakeMeter
from tss.core.errors import Away
from tss.core.health import Health, State
from tss.edges.redis.documents import force_rules
from tss.edges.redis.link import COMPONENT, open_link
from tss.settings import Redis

ANSWERS = [
    b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff\xfe\r\n", b"-\xff\xfe\r\n", b"$abc\r\n", b":notanint\r\n", b"*-5\r\n",
    b"$-2\r\n", b"*1\r\n*1\r\n:5\r\n", b"+\xff\r\n", b"+OK\r\n", b":5\r\n", b"%2\r\n", b"_\r\n", b"(12\r\n", b"\r\n",
    b"*2\r\n$4\r\nname\r\n$1\r\nx\r\n", b"*1000\r\n",
]  # fmt: skip


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A server on loopback that says this, whatever it is asked."""

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                while connection.recv(4096):
                    connection.sendall(answer)
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=[connection], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


MORE: list[dict[str, object]] = [{}, {"sentinel_master": "m"}, {"cluster": True}]
# These are slow to give up: for them only what each of them made of another exception.
CASES = [(answer, MORE[0]) for answer in ANSWERS] + [
    (answer, more) for more in MORE[1:] for answer in (b"+OK\r\n", b"_\r\n", b"(12\r\n", b"*1\r\n*1\r\n:5\r\n")
]


@pytest.mark.parametrize(("answer", "more"), CASES)
async def test_the_link_is_away_and_nothing_ends(answer: bytes, more: dict[str, object]) -> None:
    health = Health(time.time)
    with answering(answer) as port, trio.fail_after(30):
        settings = Redis(url=f"redis://127.0.0.1:{port}", connection_timeout_secs=0.2, **more)  # type: ignore[arg-type]
        async with open_link(settings, "g", FakeMeter(), health) as link:
            with suppress(Away):
                found = await force_rules(link).read()
                assert not found.documents, "an answer of the right form may be taken"
                return
            assert health.components[COMPONENT].state is not State.UP
