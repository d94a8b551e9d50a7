"""Where the consumers send what they keep: a server that only writes it down, so that it is in nobody's way.

    python -m bench.sink --port 4318 --out FILE

What came is decoded afterwards, by ``Taken``. For each request the file has its length (four bytes) and its body.
"""

from __future__ import annotations

import argparse
import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench.processes import PYTHON, BenchFailed, Child
from tests.real.brokers import HOST, free_ports

_LENGTH = 4
_GZIP = b"\x1f\x8b"


class Taken:
    """What the sink has taken so far, each look going on where the last one ended."""

    def __init__(self, path: Path) -> None:
        self.total = 0  # spans, each as often as it came
        self.spans: set[bytes] = set()  # trace id and span id
        self._path = path
        self._offset = 0

    def look(self) -> int:
        """How many spans have come by now."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            while len(head := file.read(_LENGTH)) == _LENGTH:
                body = file.read(length := int.from_bytes(head, "big"))
                if len(body) < length:
                    break
                self._take(body)
                self._offset += _LENGTH + length
        return self.total

    def _take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(gzip.decompress(body) if body.startswith(_GZIP) else body)
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.total += len(scope.spans)
                self.spans.update([span.trace_id + span.span_id for span in scope.spans])

    def amiss(self, wanted: frozenset[bytes]) -> str:
        """How it differs from what it should be; empty: not at all."""
        self.look()
        missing, extra = len(wanted - self.spans), len(self.spans - wanted)
        twice = self.total - len(self.spans)
        if not (missing or extra or twice):
            return ""
        return f"the sink misses {missing} of {len(wanted)} spans, has {extra} others, and {twice} more than once"


@contextmanager
def sinking(directory: Path) -> Iterator[tuple[str, Taken]]:
    """A sink of its own process: its address, and what it takes."""
    out = directory / "taken"
    out.write_bytes(b"")
    (port,) = free_ports(1)
    with Child.running("sink", [*PYTHON, "bench.sink", "--port", str(port), "--out", str(out)], directory) as child:
        child.wait_until(lambda: child.has_said("ready"), "ready", 0.01)
        yield f"http://{HOST}:{port}", Taken(out)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body in one packet
    server: _Server

    def do_POST(self) -> None:  # the base class calls it so
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/traces":  # beside them come statistics, where the daemon is to send any
            self.server.write(len(body).to_bytes(_LENGTH, "big") + body)
        self.send_response(200)  # an empty answer is a message, too, and says that all is well
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # the base class calls it so
        """Thousands of them a second."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, path: Path) -> None:
        self._lock = threading.Lock()
        self._file = path.open("ab", buffering=0)
        super().__init__((HOST, port), _Handler)

    def write(self, frame: bytes) -> None:
        with self._lock:
            if self._file.write(frame) != len(frame):
                raise BenchFailed("the disk is full")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.sink")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    server = _Server(options.port, options.out)
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
