"""What can go wrong between a destination and its server: a proxy on loopback that spoils exchanges as it is told.

    with OtlpSink() as sink, FaultProxy(sink.port) as proxy:
        proxy.script(Fault(cut_answer=10), answering(503, {"Retry-After": "1"}), Fault(forward=False, cut_answer=0))
        ... send to proxy.url ...   # the first three exchanges are spoilt, those after them go through

It stands before any HTTP/1.1 backend (a sink, the Datadog test agent), which alone says what was taken. `FAULTS` is the
list of all that should be survived; `drive` is the real exporter task around real destinations, which tells what became of
each trace.
"""

from __future__ import annotations

import contextlib
import gzip
import random
import socket
import ssl
import struct
import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from http import HTTPStatus
from types import TracebackType
from typing import BinaryIO, Self

import attrs
import trio

from tests.edges.traces import span_ids
from tests.fakes.deadletters import FakeDeadLetters
from tests.fakes.meter import FakeMeter
from tests.sinks import SpanId
from tss.core.health import Health
from tss.core.trace import Trace
from tss.state.lane import Destination, Lane
from tss.tasks import exporter

PIECE_BYTES = 4096


@attrs.frozen
class Fault:
    """What goes wrong in one exchange; by default nothing does. Times are in seconds."""

    hang: float = 0  # before the request's body is read
    cut_body: int | None = None  # read so many bytes of the request's body and cut: the backend hears nothing of it
    slow_body: float = 0  # between two pieces read of the request's body
    forward: bool = True  # the backend gets the request; without, there must be an `answer` or a cut
    late: float = 0  # before the answer
    before: bytes = b""  # ahead of the answer
    answer: bytes | None = None  # instead of the backend's
    cut_answer: int | None = None  # send so many bytes of the answer and cut
    trickle: float = 0  # between two bytes of the answer
    reset: bool = False  # cut by a reset (RST), not by an orderly end
    close: bool = False  # end the connection after the answer, though nothing has said so

    @property
    def cuts(self) -> bool:
        return self.close or self.cut_answer is not None


def http(status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> bytes:
    """An answer as it is on the wire."""
    phrases = {each.value: each.phrase for each in HTTPStatus}
    lines = {"Content-Type": "text/plain", "Content-Length": str(len(body))} | dict(headers or {})
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} {phrases.get(status, 'Whatever')}\r\n{head}\r\n".encode() + body


def answering(
    status: int, headers: Mapping[str, str] | None = None, body: bytes = b"", *, forward: bool = False
) -> Fault:
    """This answer; unless told to forward, the backend hears nothing of the request."""
    return Fault(forward=forward, answer=http(status, headers, body))


# What no destination may lose a span to, or hang on, whatever it means by it. Requests should time out within 0.5 s and
# have a body of 1 MiB or more, for less goes into the system's buffers before anyone looks.
CUTS: Mapping[str, Fault] = {
    "cut before the body": Fault(cut_body=0),
    "reset before the body": Fault(cut_body=0, reset=True),
    "cut within the body": Fault(cut_body=100_000),
    "reset within the body": Fault(cut_body=100_000, reset=True),
    "no answer": Fault(forward=False, cut_answer=0),
    "taken and no answer": Fault(cut_answer=0),
    "taken and a reset": Fault(cut_answer=0, reset=True),
    "taken and cut within the status": Fault(cut_answer=7),
    "taken and cut within the headers": Fault(cut_answer=30),
}
HANGS: Mapping[str, Fault] = {
    "hangs before it reads": Fault(hang=60, forward=False, cut_answer=0),
    "hangs before it answers": Fault(late=60, forward=False, cut_answer=0),
    "takes and hangs": Fault(late=60),
    "reads in a trickle": Fault(slow_body=0.2),
    "answers in a trickle": Fault(trickle=0.05),
}
GARBAGE: Mapping[str, Fault] = {
    "another protocol": Fault(forward=False, answer=b"SSH-2.0-OpenSSH_9.6\r\n\r\n", close=True),
    "zeros": Fault(forward=False, answer=bytes(5000), close=True),
    "a status that is no number": Fault(forward=False, answer=b"HTTP/1.1 OK fine\r\n\r\n", close=True),
    "a header without an end": Fault(forward=False, answer=b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000, close=True),
    "two lengths": Fault(forward=False, answer=b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx"),
    "HTTP/2": Fault(forward=False, answer=b"\0\0\x12\x04\0\0\0\0\0" + bytes(18), close=True),
}
AHEAD: Mapping[str, Fault] = {  # interim answers, after which the real one comes
    "100": Fault(before=b"HTTP/1.1 100 Continue\r\n\r\n"),
    "102": Fault(before=b"HTTP/1.1 102 Processing\r\n\r\n" * 3),
    "103": Fault(before=b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
}
ODD_SUCCESSES: Mapping[
    str, Fault
] = {  # the status says that the backend has the request, whatever is wrong with the rest
    "closed without a word": Fault(close=True),
    "cut within its body": Fault(answer=http(200, {"Content-Length": "100"}, b"x" * 50), close=True),
    "reset within its body": Fault(answer=http(200, {"Content-Length": "100"}, b"x" * 50), close=True, reset=True),
    "compressed": answering(200, {"Content-Encoding": "gzip"}, gzip.compress(b"all is well"), forward=True),
    "said to be compressed": answering(200, {"Content-Encoding": "gzip"}, b"all is well", forward=True),
    "compressed with what nobody has": answering(200, {"Content-Encoding": "lzma"}, b"?", forward=True),
    "a chunk without an end": Fault(answer=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nx", close=True),
    "a chunk of no size": Fault(answer=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx", close=True),
    "up to the end of the connection": Fault(answer=b"HTTP/1.1 200 OK\r\n\r\nall is well", close=True),
    "HTTP/1.0": Fault(answer=b"HTTP/1.0 200 OK\r\n\r\n", close=True),
    "no words": answering(204, forward=True),
}
FAULTS: Mapping[str, Fault] = {**CUTS, **HANGS, **GARBAGE, **AHEAD, **ODD_SUCCESSES}


class FaultProxy:
    """Before the backend at this port of 127.0.0.1. Each exchange takes the next fault, then the usual one."""

    def __init__(self, backend_port: int, port: int = 0, *, tls: ssl.SSLContext | None = None) -> None:
        self.usual = Fault()
        self.exchanges = 0  # begun, that is with a head that was read
        self.connections = 0
        self._backend_port = backend_port
        self._tls = tls
        self._faults: deque[Fault] = deque()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __repr__(self) -> str:
        return (
            f"<FaultProxy {self.url} to {self._backend_port}, {self.exchanges} exchanges, {len(self._faults)} to come>"
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def script(self, *faults: Fault) -> None:
        """The next exchanges go wrong so; those after them have the usual fault."""
        with self._lock:
            self._faults.extend(faults)

    def close(self) -> None:
        """Stop listening, and cut every connection."""
        self._closing.set()
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            self._open.add(connection)
            with connection, connection.makefile("rb") as reader:
                while self._exchange(connection, reader):
                    pass
        self._open.discard(connection)

    def _exchange(self, connection: socket.socket, reader: BinaryIO) -> bool:
        """One request and its answer; False ends the connection."""
        head = _head(reader)
        if not head:
            return False
        if head.startswith(b"GET / "):  # asked what it speaks, which spoils nobody's exchange
            connection.sendall(http(404))
            return True
        with self._lock:
            self.exchanges += 1
            fault = self._faults.popleft() if self._faults else self.usual
        self._closing.wait(fault.hang)
        if fault.cut_body is not None:
            reader.read(fault.cut_body)
            return _cut(connection, fault)
        request = head + self._body(head, reader, fault.slow_body)
        answer = self._forward(request) if fault.forward else b""
        self._closing.wait(fault.late)
        answer = fault.before + (answer if fault.answer is None else fault.answer)
        self._send(connection, answer[: fault.cut_answer], fault.trickle)
        return _cut(connection, fault) if fault.cuts else True

    def _body(self, head: bytes, reader: BinaryIO, pause: float) -> bytes:
        left, body = _length(head), b""
        while (
            left and not self._closing.wait(pause) and (piece := reader.read(min(left, PIECE_BYTES if pause else left)))
        ):
            body += piece
            left -= len(piece)
        return body

    def _forward(self, request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self._backend_port)) as backend, backend.makefile("rb") as reader:
            backend.sendall(request)
            head = _head(reader)
            return head + reader.read(_length(head))

    def _send(self, connection: socket.socket, answer: bytes, pause: float) -> None:
        pieces = [answer[at : at + 1] for at in range(len(answer))] if pause else [answer]
        for piece in pieces:
            connection.sendall(piece)
            self._closing.wait(pause)


def _head(reader: BinaryIO) -> bytes:
    """Up to the empty line; empty when nothing more comes."""
    head = b""
    while line := reader.readline():
        head += line
        if line == b"\r\n":
            return head
    return b""


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _cut(connection: socket.socket, fault: Fault) -> bool:
    if fault.reset:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


@attrs.frozen
class Driven:
    """What became of the traces, when the exporter has let go of all of them."""

    settled: Sequence[Trace]  # each as often as it was settled: once
    letters: FakeDeadLetters
    health: Health
    meter: FakeMeter

    @property
    def put_aside(self) -> Counter[tuple[str, str]]:
        """How often each trace (hex) was put aside for each destination."""
        return Counter((letter.trace_id, letter.destination) for letter in self.letters.letters)


async def drive(
    destinations: Sequence[Destination],
    batches: Sequence[Sequence[Trace]],
    *,
    within_secs: float = 120,  # for what is stuck: beside busy neighbours 30 s were not enough for a second's work
    seed: int = 0,
) -> Driven:
    """The real exporter task around these, on the real clock. Raises trio.TooSlowError when a trace is stuck."""
    letters, health, meter = FakeDeadLetters(), Health(), FakeMeter()
    lanes = [
        Lane("traces", each, letters, health, meter, random.Random(seed + place))
        for place, each in enumerate(destinations)
    ]
    kept_in, kept_out = trio.open_memory_channel[list[Trace]](len(batches))
    settled_in, settled_out = trio.open_memory_channel[list[Trace]](1000)
    for batch in batches:
        kept_in.send_nowait([*batch])
    kept_in.close()
    with trio.fail_after(within_secs):
        await exporter.run(kept_out, settled_in, lanes, meter)
    settled = [trace for batch in _drain(settled_out) for trace in batch]
    return Driven(settled, letters, health, meter)


def _drain(channel: trio.MemoryReceiveChannel[list[Trace]]) -> list[list[Trace]]:
    out = []
    with contextlib.suppress(trio.EndOfChannel, trio.WouldBlock):
        while True:
            out.append(channel.receive_nowait())
    return out


def lost(driven: Driven, destination: str, taken: AbstractSet[SpanId], sent: Sequence[Trace]) -> set[SpanId]:
    """Spans that this destination neither took nor had put aside: law 1 says that there are none."""
    aside = {trace_id for (trace_id, name) in driven.put_aside if name == destination}
    return span_ids([trace for trace in sent if trace.trace_id.hex() not in aside]) - taken
