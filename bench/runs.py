"""What a run of a consumer over a topic has used."""

from __future__ import annotations

import math
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from attrs import frozen

from bench.processes import PYTHON, Child
from bench.topic import Topic

# The bare consumer reads the topic so many times over that it has used this: one reading takes a second or so.
BARE_CPU_SECS = 10.0
BARE_RECORD_SECS = 0.6e-6  # at least, for records of one span; 1.2 for those of eight, 16 for those of fifty
BARE_BYTE_SECS = 0.3e-9


@frozen
class Run:
    """What a consumer needed for a topic. CPU and wall are without its start, which ends when it has its partitions."""

    records: int
    spans: int
    cpu_secs: float
    wall_secs: float  # until the last record was read, of `tss` until it was committed
    peak_bytes: int
    start_cpu_secs: float
    start_wall_secs: float
    stall_ms: float | None = None  # of the event loop, the 99th percentile
    amiss: str = ""  # how what it kept differs from what it should have kept

    @property
    def spans_per_cpu_sec(self) -> float:
        return self.spans / self.cpu_secs

    @property
    def micros_per_record(self) -> float:
        return 1e6 * self.cpu_secs / self.records

    def to_json(self) -> dict[str, Any]:
        derived = {"spans_per_cpu_sec": self.spans_per_cpu_sec, "micros_per_record": self.micros_per_record}
        return attrs.asdict(self) | derived


@frozen
class Start:
    """When a child had its partitions, and what it had used by then."""

    child: Child
    at: float
    wall_secs: float
    cpu_secs: float

    @classmethod
    def of(cls, child: Child, ready: Callable[[], bool]) -> Start:
        """Wait for it. What was used is taken before each look, for a child that is busy at once answers late, and all it did
        meanwhile would be taken for a part of the start."""
        began = at = time.monotonic()
        used = child.cpu_secs()

        def look() -> bool:
            nonlocal at, used
            at, used = time.monotonic(), child.cpu_secs()
            return ready()

        child.wait_until(look, "ready", 0.005)
        return cls(child, at, at - began, used)

    def run(self, topic: Topic, ended: float, times: int = 1) -> Run:
        """What was used since, by the time."""
        return Run(
            records=topic.records,
            spans=topic.spans,
            cpu_secs=(self.child.cpu_secs() - self.cpu_secs) / times,
            wall_secs=(ended - self.at) / times,
            peak_bytes=self.child.peak_bytes(),
            start_cpu_secs=self.cpu_secs,
            start_wall_secs=self.wall_secs,
        )


def run_bare(topic: Topic, directory: Path) -> Run:
    """Reads and throws away."""
    once = max(topic.records * BARE_RECORD_SECS, topic.size_bytes * BARE_BYTE_SECS)
    times = math.ceil(BARE_CPU_SECS / once)
    arguments = ["--brokers", topic.broker.bootstrap, "--topic", topic.name, "--group"]
    arguments += [f"bare {time.monotonic_ns()}", "--records", str(topic.records), "--times", str(times)]
    with Child.running("bare", [*PYTHON, "bench.bare", *arguments], directory) as child:
        start = Start.of(child, lambda: child.has_said("ready"))
        child.wait_until(lambda: child.has_said("read "), "done", 0.02)
        return start.run(topic, time.monotonic(), times)


def get(url: str) -> str:
    """What a child of ours answers."""
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  # our own child
        text: str = answer.read().decode()
        return text
