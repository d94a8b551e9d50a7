"""The sinks that the benchmark and the kill tests build on, run as they run them: as a child."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.edges.traces import span_ids, trace
from tests.real.brokers import free_ports

opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def call(method: str, url: str, body: bytes = b"", content_type: str = "application/x-protobuf") -> bytes:
    request = urllib.request.Request(url, body or None, {"Content-Type": content_type}, method=method)
    with opener.open(request, timeout=5) as response:
        return response.read()


def cpu_secs(pid: int) -> float:
    """The process's own time, of which a busy machine takes nothing away."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def child(tmp_path):
    port = free_ports(1)[0]
    command = [sys.executable, "-m", "tests.sinks", "--port", str(port), "--out", str(tmp_path / "spans.txt")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().decode().strip()
        process.kill()


def test_writes_what_it_takes_and_answers_as_told(child, tmp_path):
    process, url = child
    payload = trace(1).payload
    call("POST", url + "/v1/traces", payload)
    call("PUT", url + "/replies", json.dumps([{"status": 503}]).encode(), "application/json")
    with pytest.raises(urllib.error.HTTPError) as caught:
        call("POST", url + "/v1/traces", trace(2).payload)
    caught.value.close()
    assert caught.value.code == 503
    assert json.loads(call("GET", url + "/count"))["spans"] == 6
    lines = (tmp_path / "spans.txt").read_text().splitlines()
    assert set(lines) == {f"{one.hex()} {two.hex()}" for one, two in span_ids([trace(1)])}
    os.kill(process.pid, signal.SIGTERM)
    assert json.loads(process.stdout.read())["spans"] == 6
    assert process.wait(5) == 0


def test_is_quick_enough(child):
    """Thousands of traces in a second of its own time, or the sink would be what a benchmark measures."""
    process, url = child
    body = b"".join(trace(number, pieces=1, spans=8).payload for number in range(100))
    before = cpu_secs(process.pid)
    for _ in range(20):
        call("POST", url + "/v1/traces", body)
    assert 2000 / (cpu_secs(process.pid) - before) > 2000
