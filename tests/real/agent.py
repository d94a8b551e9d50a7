"""Datadog's own test agent (`ddapm-test-agent`), in a virtual environment of its own, for it pins opentelemetry-proto.

`python -m tests.real.agent fetch` installs it into `.cache/ddapm`, once, from `ddapm.lock`.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.real.brokers import HOST, ROOT, free_ports
from toolchain import pip

HOME = ROOT / ".cache" / "ddapm"
LOCK = Path(__file__).with_name("ddapm.lock")
_INSTALLED = HOME / "installed.lock"  # written last: what a torn installation lacks
READY_SECS = 30.0
# None is on by default, and the command line's option for them is broken (1.69.1).
CHECKS = "trace_count_header,meta_tracer_version_header,trace_content_length,trace_stall"


def fetch() -> None:
    """Install it, unless what is there was installed from the same lock."""
    if installed():
        return
    shutil.rmtree(HOME, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(HOME)], check=True)
    pip.run("install", "--require-hashes", "-r", LOCK, python=HOME / "bin" / "python")
    shutil.copyfile(LOCK, _INSTALLED)


def installed() -> bool:
    return _INSTALLED.is_file() and _INSTALLED.read_bytes() == LOCK.read_bytes()


class TestAgent:
    """A running one; what it says of the requests it took."""

    __test__ = False  # for pytest

    def __init__(self, port: int, otlp_port: int = 0, grpc_port: int = 0) -> None:
        self.url = f"http://{HOST}:{port}"
        self.otlp_url = f"http://{HOST}:{otlp_port}"
        self.grpc_port = grpc_port  # of OTLP over gRPC

    def __repr__(self) -> str:
        return f"<TestAgent {self.url}>"

    def get(self, path: str, url: str = "") -> bytes:
        """Raises AssertionError with what it says when a check has failed."""
        request = urllib.request.Request((url or self.url) + path)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=10) as response:
                content: bytes = response.read()
                return content
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{path}: {error.code} {error.read().decode()}") from None

    def traces(self) -> list[list[dict[str, Any]]]:
        """All traces since the last ``clear``."""
        found: list[list[dict[str, Any]]] = json.loads(self.get("/test/traces"))
        return found

    def otlp_traces(self) -> list[dict[str, Any]]:
        """All requests to its OTLP port since the last ``clear``, in OTLP's JSON."""
        found: list[dict[str, Any]] = json.loads(self.get("/test/session/traces", self.otlp_url))
        return found

    def clear(self) -> None:
        self.get("/test/session/clear")


@contextmanager
def running() -> Iterator[TestAgent]:
    """One with its checks on; ended by its own pid."""
    if not installed():
        raise RuntimeError("no ddapm-test-agent: run `make setup` (python -m tests.real.agent fetch)")
    port, otlp_http, otlp_grpc = free_ports(3)
    command = [
        str(HOME / "bin" / "ddapm-test-agent"), "--port", str(port),
        "--otlp-http-port", str(otlp_http), "--otlp-grpc-port", str(otlp_grpc),
    ]  # fmt: skip
    process = subprocess.Popen(
        command, env=os.environ | {"ENABLED_CHECKS": CHECKS}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_until_ready(process, port)
        yield TestAgent(port, otlp_http, otlp_grpc)
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + READY_SECS
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"ddapm-test-agent ended with {process.returncode}")
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


if __name__ == "__main__":
    if sys.argv[1:] != ["fetch"]:
        sys.exit("usage: python -m tests.real.agent fetch")
    try:
        fetch()
    except pip.Failed as failure:
        sys.exit(str(failure))
