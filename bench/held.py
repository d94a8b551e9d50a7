"""How much memory open traces need: a topic of which nothing may end before all of it is held."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from attrs import frozen

from bench import collector
from bench.daemon import LOOK_SECS, Daemon
from bench.processes import BenchFailed, Child
from bench.runs import Start
from bench.sink import sinking
from bench.topic import Topic

FOREVER_SECS = 604_800  # the most that the settings allow
COLLECTOR_WAIT_SECS = 3600.0
SETTLE_SECS = 1.0  # the Collector has marked a record before it has dealt with it

HEAD = (
    f"{'consumer':>10} {'open spans':>11} {'peak MiB':>9} {'growth MiB':>11} {'B a span':>9} {'own count MiB':>14} "
    f"{'stall p99 ms':>13} {'CPU s':>7} {'wall s':>7}"
)


@frozen
class Held:
    """What a consumer needed to hold a topic's spans open."""

    consumer: str
    spans: int
    peak_bytes: int
    grown_bytes: int  # resident, since it was ready
    own_bytes: int | None  # what it says itself it holds
    stall_ms: float | None  # of the event loop while it read, the 99th percentile
    cpu_secs: float
    wall_secs: float

    def __str__(self) -> str:
        own = "-" if self.own_bytes is None else f"{self.own_bytes / (1 << 20):.0f}"
        stall = "-" if self.stall_ms is None else f"{self.stall_ms:.1f}"
        return (
            f"{self.consumer:>10} {self.spans:>11,} {self.peak_bytes / (1 << 20):>9.0f} "
            f"{self.grown_bytes / (1 << 20):>11.0f} {self.grown_bytes / self.spans:>9.0f} {own:>14} {stall:>13} "
            f"{self.cpu_secs:>7.2f} {self.wall_secs:>7.1f}"
        )

    def to_json(self) -> dict[str, Any]:
        return attrs.asdict(self)


def hold_tss(topic: Topic, directory: Path, buffer_bytes: int) -> Held:
    """Raises BenchFailed when it decides a trace, which it does at the latest when its buffer is full."""
    app = {
        "rootQuietSecs": FOREVER_SECS,
        "inactivityTimeoutSecs": FOREVER_SECS,
        "maxTraceDurationSecs": FOREVER_SECS,
        "maxBufferSpans": 2 * topic.spans,
        "maxBufferTraces": 2 * topic.traces,
        "maxBufferBytes": buffer_bytes,
    }
    with sinking(directory) as (sink, _), Daemon.running(topic, sink, directory, app=app) as daemon:

        def is_held() -> bool:
            if decided := daemon.metric("decisions_total"):
                held = daemon.metric("buffer_spans_current")
                raise BenchFailed(
                    f"{decided:.0f} traces were decided with {held:.0f} of {topic.spans} spans held: "
                    f"{buffer_bytes >> 20} MiB do not hold them"
                )
            return daemon.metric("buffer_spans_current") == topic.spans

        start = Start.of(daemon.child, daemon.is_ready)
        stalls = daemon.stalls()
        held = _held("tss", topic, start, is_held)
        own_bytes = int(daemon.metric("buffer_bytes_current"))
        return attrs.evolve(held, own_bytes=own_bytes, stall_ms=daemon.stall_ms(stalls))


def hold_collector(topic: Topic, directory: Path) -> Held:
    """Raises BenchFailed when it sends a span, though it should wait."""
    with (
        sinking(directory) as (sink, taken),
        collector.running(topic, sink, directory, COLLECTOR_WAIT_SECS) as (child, group),
    ):
        start = Start.of(child, lambda: collector.has_partitions(topic, group))
        held = _held("collector", topic, start, lambda: not topic.uncommitted(group), SETTLE_SECS)
        if taken.look():
            raise BenchFailed(f"the Collector sent {taken.total} spans that it should have held")
        return held


def _held(name: str, topic: Topic, start: Start, done: Callable[[], bool], settle_secs: float = 0) -> Held:
    child: Child = start.child
    resident = child.resident_bytes()
    child.wait_until(done, "holding all spans", LOOK_SECS)
    ended = time.monotonic()
    time.sleep(settle_secs)
    return Held(
        name,
        topic.spans,
        child.peak_bytes(),
        child.resident_bytes() - resident,
        None,
        None,
        child.cpu_secs() - start.cpu_secs,
        ended - start.at,
    )
