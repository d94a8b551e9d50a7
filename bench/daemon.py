"""The daemon over a topic: measured, and what it says and what it sent held against what was put into the topic."""

from __future__ import annotations

import re
import time
import urllib.error
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import attrs
import yaml
from attrs import frozen

from bench import policies
from bench.policies import LATENCY_MS
from bench.processes import PYTHON, ROOT, BenchFailed, Child
from bench.runs import Run, Start, get
from bench.sink import sinking
from bench.topic import Topic
from tests.real.brokers import HOST, free_ports

DAEMON = "tss"
TWENTY = "policies"  # the feature: twenty policies
ROOT_QUIET_SECS = 2
BATCH_TRACES = 1_000
LOOK_SECS = 0.25
_SAMPLE = re.compile(r"^([a-z_]+)(?:\{(.*)\})? (\S+)$")
_LE = re.compile(r'\ble="([^"]+)"')

Histogram = Mapping[float, float]
"""Observations at or below each bound."""


def _count_stats(settings: dict[str, Any], sink: str) -> None:
    """An exporter that is to have the statistics, and no trace: no policy ``default`` keeps any."""
    exporter = {"name": "datadog", "type": "datadog", "apiKey": "none", "intakeUrl": sink}
    settings["exporters"].append(exporter | {"match": {"policies": ["default"]}})


def _take_twenty_policies(settings: dict[str, Any], _sink: str) -> None:
    settings["sampling"] = {"otelTailSampling": policies.section(policies.TWENTY, ROOT_QUIET_SECS, 1_000_000)}


def _count_span_metrics(settings: dict[str, Any], _sink: str) -> None:
    settings["spanMetrics"] = {"enabled": True}


# What costs something for each span, and is off where the daemon is compared with others.
FEATURES: Mapping[str, Callable[[dict[str, Any], str], None]] = {
    "stats": _count_stats, "spanMetrics": _count_span_metrics, TWENTY: _take_twenty_policies,
}  # fmt: skip


@frozen
class Daemon:
    """One that is running, and what it says of itself."""

    child: Child
    group: str
    health_port: int
    metrics_port: int

    @classmethod
    @contextmanager
    def running(
        cls,
        topic: Topic,
        sink: str,
        directory: Path,
        *,
        python: Sequence[str] = PYTHON,
        place: Path = ROOT,
        app: dict[str, Any] | None = None,
        features: Iterable[str] = (),
        redis: str = "",
        group: str = "",
        patience_ms: int = 6000,
    ) -> Iterator[Daemon]:
        """From the topic to the sink, in a group of its own unless one is named. ``app``: settings of that section;
        ``features`` of FEATURES; ``redis``: its URL; ``patience_ms``: how long the group waits for it; ``python`` and
        ``place``: of another checkout."""
        health_port, metrics_port = free_ports(2)
        group = group or f"tss {time.monotonic_ns()}"
        settings = {
            "app": {"rootQuietSecs": ROOT_QUIET_SECS} | (app or {}),
            "kafka": {
                "brokers": topic.broker.bootstrap,
                "inputTopic": topic.name,
                "consumerGroup": group,
                "autoOffsetReset": "earliest",
                "sessionTimeoutMs": patience_ms,
                "commitIntervalSecs": 1,
            },
            "sampling": {"errorSampleRate": 1.0, "latencyThresholdMs": LATENCY_MS, "latencySampleRate": 1.0},
            "observability": {
                "healthAddr": HOST,
                "healthPort": health_port,
                "metricsAddr": HOST,
                "metricsPort": metrics_port,
            },
            "exporters": [{"name": "sink", "type": "otlp", "endpoint": sink, "batchSize": BATCH_TRACES}],
            "deadLetter": {"type": "file", "path": str(directory / "dead-letters.jsonl")},
        }
        if redis:
            settings["redis"] = {"url": redis}
        for feature in features:
            FEATURES[feature](settings, sink)
        config = directory / "tss.yaml"
        config.write_text(yaml.safe_dump(settings))
        with Child.running(DAEMON, [*python, DAEMON, "--config", str(config)], directory, place) as child:
            yield cls(child, group, health_port, metrics_port)

    def is_ready(self) -> bool:
        try:
            get(f"http://{HOST}:{self.health_port}/health/ready")
        except (urllib.error.URLError, OSError):
            return False
        return True

    def metric(self, name: str) -> float:
        """The sum over all labels."""
        return sum(value for _, value in self._samples(name))

    def stalls(self) -> Histogram:
        """Of the event loop, in seconds."""
        found = ((_LE.search(labels), value) for labels, value in self._samples("event_loop_stall_seconds_bucket"))
        return {float(bound[1]): value for bound, value in found if bound}

    def stall_ms(self, before: Histogram | None = None) -> float:
        """The 99th percentile, since then."""
        since = before or {}
        return 1000 * quantile(0.99, {bound: count - since.get(bound, 0) for bound, count in self.stalls().items()})

    def _samples(self, name: str) -> Iterator[tuple[str, float]]:
        for line in get(f"http://{HOST}:{self.metrics_port}/metrics").splitlines():
            match = _SAMPLE.match(line)
            if match and match[1] == name:
                yield match[2] or "", float(match[3])

    def check(self, topic: Topic) -> None:
        """What it says about the run must be the truth."""
        told = {
            "spans_ingested_total": topic.spans,
            "traces_ingested_total": topic.traces,
            "decisions_total": topic.traces,
            "traces_sampled_total": topic.kept_traces,
            "spans_exported_total": len(topic.kept),
            "kafka_consumer_lag": 0,
            "kafka_uncommitted_records": 0,
            "late_spans_total": 0,
            "export_errors_total": 0,
            "records_unreadable_total": 0,
            "backpressure_paused": 0,
        }
        found = {name: self.metric(name) for name in told}
        if found != told:
            wrong = {name: found[name] for name in told if found[name] != told[name]}
            raise BenchFailed(f"the daemon says {wrong}, but it should be { ({name: told[name] for name in wrong}) }")


Watching = Callable[[Child], AbstractContextManager[object]]
"""What looks at the daemon from outside while it is measured."""


def run_tss(
    topic: Topic,
    directory: Path,
    *,
    features: Iterable[str] = (),
    redis: str = "",
    python: Sequence[str] = PYTHON,
    place: Path = ROOT,
    watching: Watching = nullcontext,
) -> Run:
    """The daemon over the whole topic; raises BenchFailed if the sink has not exactly what must be kept.

    It is asked nothing while it is measured: a scrape costs it some 30 ms, four of them a second a fifth of its main
    thread's time. Kafka says when it is done. The stalls are of its whole life.
    """
    with (
        sinking(directory) as (sink, taken),
        Daemon.running(topic, sink, directory, features=features, redis=redis, python=python, place=place) as daemon,
    ):
        child = daemon.child
        start = Start.of(child, daemon.is_ready)
        with watching(child):
            child.wait_until(lambda: not topic.uncommitted(daemon.group), "committed", LOOK_SECS)
            run = start.run(topic, time.monotonic())
        run = attrs.evolve(run, stall_ms=daemon.stall_ms())
        daemon.check(topic)
        if amiss := taken.amiss(topic.kept):
            raise BenchFailed(amiss)
    return run


def quantile(share: float, buckets: Histogram) -> float:
    """Interpolated within the bucket; the lower bound of the last one, which has no upper."""
    wanted, below, seen = share * max(buckets.values()), 0.0, 0.0
    for bound, count in sorted(buckets.items()):
        if count >= wanted and count > seen:
            return below if bound == float("inf") else below + (bound - below) * (wanted - seen) / (count - seen)
        below, seen = bound, count
    return below
