"""The daemon as a child process, with the settings of a test, and what it tells about itself."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from http.client import HTTPConnection, HTTPException
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import attrs
import yaml
from confluent_kafka import Consumer, KafkaException, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from tests.real.brokers import ROOT, Broker

READY_SECS = 30.0
LOOK_SECS = 0.01
Section = Mapping[str, object]
_numbers = count(1)


def until(holds: Callable[[], object], secs: float, what: Callable[[], object] | str = "") -> float:
    """Wait until it holds; returns how long that took. Raises AssertionError, with what there is to tell, after that."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > secs:
            raise AssertionError(f"not within {secs:g} s: {what() if callable(what) else what}")
        time.sleep(LOOK_SECS)
    return time.monotonic() - began


def settings(broker: str, topic: str, **sections: Section | list[Section]) -> dict[str, Any]:
    """A configuration with short waits and any free port; sections are joined key by key with what is given."""
    base: dict[str, Any] = {
        "app": {
            "instanceId": f"tss-{next(_numbers)}",
            "rootQuietSecs": 1.5,
            "inactivityTimeoutSecs": 6,
            "shutdownTimeoutSecs": 10,
            "replaySecs": 30,
        },
        "kafka": {
            "brokers": broker,
            "inputTopic": topic,
            "consumerGroup": f"{topic}-group",
            "autoOffsetReset": "earliest",
            "commitIntervalSecs": 0.5,
            "sessionTimeoutMs": 6000,
        },
        "sampling": {"latencyThresholdMs": 1000, "latencySampleRate": 0.5},
        "observability": {"healthAddr": "127.0.0.1", "healthPort": 0, "enablePrometheus": True, "metricsPort": 0,
                          "metricsAddr": "127.0.0.1"},
        "deadLetter": {"path": "dead-letters.jsonl"},
    }  # fmt: skip
    for name, section in sections.items():
        base[name] = base.get(name, {}) | section if isinstance(section, Mapping) else section
    return base


class Daemon:
    """One daemon. It can be started again after its end; each run has an output of its own."""

    def __init__(
        self,
        directory: Path,
        config: Mapping[str, Any],
        environment: Mapping[str, str] | None = None,
        *,
        terminal: int | None = None,
    ) -> None:
        """``terminal``: the descriptor of one that the process is in."""
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.config = config
        self.runs = 0
        self._environment = environment or {}
        self._terminal = terminal
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._began = 0.0

    def __repr__(self) -> str:
        return f"<daemon {self.directory.name}, run {self.runs}, pid {self.process.pid if self._process else None}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print(f"\n{self!r} said:\n{self.tail()}")
        if self.running:
            self.signal(signal.SIGCONT)
            self.kill()

    # -- its life

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not started"
        return self._process

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, and wait for nothing."""
        assert not self.running
        self.runs += 1
        self._port = 0
        path = self.directory / "tss.yaml"
        path.write_text(yaml.safe_dump(dict(self.config)))
        ours = {name: value for name, value in os.environ.items() if not name.startswith("TSS_")}
        with self.output.open("wb") as output:
            self._began = time.monotonic()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tss", "--config", str(path)],
                stdin=subprocess.DEVNULL,
                pass_fds=() if self._terminal is None else (self._terminal,),
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=ours | {"PYTHONPATH": str(ROOT)} | dict(self._environment),
                start_new_session=True,
                preexec_fn=None if self._terminal is None else partial(_enter, self._terminal),  # noqa: PLW1509  # no threads here
            )

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal by its pid."""
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """End it at once: kill -9."""
        self.signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, secs: float = 20.0) -> float:
        """SIGTERM, and an end with 0; returns how long that took."""
        began = time.monotonic()
        self.signal(signal.SIGTERM)
        code = self.end(secs)
        assert code == 0, f"{self!r} ended with {code}:\n{self.tail()}"
        return time.monotonic() - began

    def end(self, secs: float) -> int:
        """Wait for its end; returns the exit code."""
        try:
            return self.process.wait(secs)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self!r} did not end within {secs:g} s:\n{self.tail()}") from None

    def ready(self, secs: float = READY_SECS) -> float:
        """Wait until it is ready; returns the seconds since it was started."""

        def answered() -> bool:
            assert self.running, f"{self!r} ended with {self.process.returncode}:\n{self.tail()}"
            return self.is_ready

        until(answered, secs, self.tail)
        return time.monotonic() - self._began

    # -- what it says

    @property
    def output(self) -> Path:
        """Of this run."""
        return self.directory / f"run-{self.runs}.log"

    @property
    def lines(self) -> list[str]:
        return self.output.read_text(errors="replace").splitlines()

    def tail(self, lines: int = 25) -> str:
        return "\n".join(self.lines[-lines:])

    @property
    def log(self) -> list[dict[str, Any]]:
        """The log lines of this run, as objects. A line that is being written counts from when it is whole."""
        return _objects(self.lines)

    @property
    def all_logs(self) -> list[dict[str, Any]]:
        """Those of all runs."""
        paths = [self.directory / f"run-{run}.log" for run in range(1, self.runs + 1)]
        return [line for path in paths for line in _objects(path.read_text(errors="replace").splitlines())]

    @property
    def last_event(self) -> str:
        """What its last log line says."""
        return str(self.log[-1]["event"])

    def said(self, event: str) -> list[dict[str, Any]]:
        """The log lines whose event has this in it."""
        return [line for line in self.log if event in line.get("event", "")]

    @property
    def port(self) -> int:
        """Of /health and /metrics; 0 as long as it does not listen."""
        if not self._port:
            listening = self.said("listening")
            self._port = listening[0]["health"] if listening else 0
        return self._port

    def get(self, path: str) -> tuple[int, str]:
        """Status and body; status 0 when there is no answer."""
        if not self.port:
            return 0, ""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, HTTPException):
            return 0, ""
        finally:
            connection.close()

    @property
    def is_ready(self) -> bool:
        return self.get("/health/ready")[0] == 200

    def health(self) -> dict[str, Any]:
        status, body = self.get("/health")
        assert status == 200, f"{status} {body}"
        return dict(json.loads(body))

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name that have these labels; 0 without any."""
        status, body = self.get("/metrics")
        assert status == 200, f"{self!r} {status} {body}\n{self.tail()}"
        return sum(
            sample.value
            for family in text_string_to_metric_families(body)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


def _enter(terminal: int) -> None:
    """In the child: the first terminal that a new session opens or asks for is its own."""
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


def _objects(lines: list[str]) -> list[dict[str, Any]]:
    found = []
    for line in lines:
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


# What a broker that was started a moment ago says while it loads the groups.
LOADING = frozenset({"NOT_COORDINATOR", "COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE"})
LOADING_SECS = 30.0


@contextmanager
def daemons(*all_of_them: Daemon) -> Iterator[tuple[Daemon, ...]]:
    """None of them outlives the block; none is started by it."""
    try:
        yield all_of_them
    except BaseException:
        for each in all_of_them:
            if each.runs:
                print(f"\n{each!r} said:\n{each.tail()}")
        raise
    finally:
        for each in all_of_them:
            if each.running:
                each.signal(signal.SIGCONT)
                each.kill()


@attrs.define
class Group:
    """A consumer group on a topic, seen from outside."""

    consumer: Consumer
    topic: str
    partitions: int

    @classmethod
    @contextmanager
    def watch(cls, broker: Broker, config: Mapping[str, Any], partitions: int) -> Iterator[Self]:
        """Without joining it."""
        kafka = config["kafka"]
        consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": kafka["consumerGroup"], "log_level": 0})
        try:
            yield cls(consumer, kafka["inputTopic"], partitions)
        finally:
            consumer.close()

    def committed(self) -> dict[int, int]:
        """By partition, 0 where nothing is committed."""
        places = [TopicPartition(self.topic, id) for id in range(self.partitions)]
        deadline = time.monotonic() + LOADING_SECS
        while True:
            try:
                found = self.consumer.committed(places, timeout=10)
            except KafkaException as error:
                if error.args[0].name() not in LOADING or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return {place.partition: max(0, place.offset) for place in found}

    def ends(self) -> dict[int, int]:
        """By partition, the offset after the last record."""
        ends = {}
        for id in range(self.partitions):
            found = self.consumer.get_watermark_offsets(TopicPartition(self.topic, id), timeout=10)
            assert found is not None
            ends[id] = found[1]
        return ends

    def wait_until_done(self, secs: float, what: Callable[[], object], ends: Mapping[int, int] | None = None) -> float:
        """Until everything in the topic is committed: decided, and delivered where it was kept.

        ``ends`` are asked of the broker where they are not given; Tansu names them too low.
        """
        goal = self.ends() if ends is None else ends
        told: dict[int, int] = {}

        def done() -> bool:
            nonlocal told
            try:
                told = self.committed()
            except KafkaException as error:
                if not error.args[0].retriable():  # as is the coordinator that a started broker is still loading
                    raise
            return told == goal

        return until(done, secs, lambda: f"{told} of {goal}; {what()}")


def file_spans(path: Path, *, written: bool = True) -> list[tuple[bytes, bytes]]:
    """(trace id, span id) of every span in a file of OTLP JSON lines, as often as it is there. Every line is whole, but
    the last one of a file that is being written."""
    data = path.read_bytes() if path.exists() else b""
    if not written:
        data = data[: data.rfind(b"\n") + 1]
    assert not data or data.endswith(b"\n"), "torn tail"
    spans = []
    for line in data.splitlines():
        found = [
            (bytes.fromhex(span["traceId"]), bytes.fromhex(span["spanId"]))
            for resource in json.loads(line)["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]
        assert found, line
        spans += found
    return spans
