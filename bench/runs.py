"""One run of each consumer over a topic, measured and checked."""

from __future__ import annotations

import json
import re
import signal
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import attrs
import yaml
from attrs import frozen

from bench.processes import BenchFailed, Child
from bench.topic import Topic
from tests.real.brokers import HOST, Broker, free_ports

DAEMON = "tss"
ROOT_QUIET_SECS = 2
COMMIT_SECS = 1.0
LOOK_SECS = 0.25
_SAMPLE = re.compile(r"^([a-z_]+)(?:\{.*\})? (\S+)$")


@frozen
class Run:
    """What one consumer needed for a topic. CPU and wall are without its start, which ends when it has its partitions."""

    cpu_secs: float
    wall_secs: float  # until the last record was read
    peak_bytes: int
    start_cpu_secs: float
    start_wall_secs: float
    spans_per_cpu_sec: float
    micros_per_record: float
    stall_ms: float = 0.0  # of the event loop, in the mean of the tenth of a second


def run_bare(topic: Topic, directory: Path, times: int) -> Run:
    """Reads the topic several times over, as once is too short to be measured."""
    arguments = ["--brokers", topic.broker.bootstrap, "--topic", topic.name, "--group", f"bare of {topic.name}"]
    arguments += ["--records", str(topic.records), "--times", str(times)]
    with Child.running("bare", ["bench.bare", *arguments], directory) as child:
        start = _started(child, lambda: child.has_said("ready"))
        child.wait_until(lambda: child.has_said("read "), "done", 0.02)
        return _measured(child, start, topic, time.monotonic(), times)


def run_tss(topic: Topic, directory: Path, module: str = DAEMON) -> Run:
    """The daemon over the whole topic, to a sink; raises BenchFailed if that has not exactly what must be kept."""
    kept = directory / "kept.txt"
    kept.unlink(missing_ok=True)
    (sink_port,) = free_ports(1)
    with Child.running("sink", ["tests.sinks", "--port", str(sink_port), "--out", str(kept)], directory) as sink:
        sink.wait_until(lambda: sink.has_said("http://"), "ready", 0.01)
        group = f"tss at {sink_port} of {topic.name}"  # a new one each time
        daemon = _Daemon.configured(topic.broker, topic.name, group, sink_port, directory)
        with Child.running(module, [module, "--config", str(daemon.config)], directory) as child:
            start = _started(child, daemon.is_ready)
            if module != DAEMON:
                child.process.send_signal(signal.SIGUSR1)  # the profiler begins
            child.wait_until(lambda: daemon.metric("kafka_records_read_total") >= topic.records, "read", LOOK_SECS)
            ended = time.monotonic()
            child.wait_until(lambda: not topic.uncommitted(group), "committed", LOOK_SECS)
            run = _measured(child, start, topic, ended, 1)
            daemon.check(topic)
            stall = daemon.metric("event_loop_stall_seconds_sum") / daemon.metric("event_loop_stall_seconds_count")
            if module != DAEMON:
                child.process.terminate()  # the profiler writes
                child.process.wait(30)
    _check_kept(topic, kept)
    return attrs.evolve(run, stall_ms=1000 * stall)


@frozen
class _Start:
    """When a child had its partitions, and what it had used by then."""

    at: float
    wall_secs: float
    cpu_secs: float


def _started(child: Child, ready: Callable[[], bool]) -> _Start:
    """Wait for it. The look is close, so that next to nothing of the work is taken for a part of the start."""
    began = time.monotonic()
    child.wait_until(ready, "ready", 0.005)
    at = time.monotonic()
    return _Start(at, at - began, child.cpu_secs())


def _measured(child: Child, start: _Start, topic: Topic, ended: float, times: int) -> Run:
    cpu_secs = (child.cpu_secs() - start.cpu_secs) / times
    return Run(
        cpu_secs=cpu_secs,
        wall_secs=(ended - start.at) / times,
        peak_bytes=child.peak_bytes(),
        start_cpu_secs=start.cpu_secs,
        start_wall_secs=start.wall_secs,
        spans_per_cpu_sec=topic.spans / cpu_secs,
        micros_per_record=1e6 * cpu_secs / topic.records,
    )


@frozen
class _Daemon:
    """The daemon's settings in a file, and what it says of itself."""

    config: Path
    health_port: int
    metrics_port: int

    @classmethod
    def configured(cls, broker: Broker, topic: str, group: str, sink_port: int, directory: Path) -> _Daemon:
        health_port, metrics_port = free_ports(2)
        settings = {
            "app": {"rootQuietSecs": ROOT_QUIET_SECS},
            "kafka": {
                "brokers": broker.bootstrap,
                "inputTopic": topic,
                "consumerGroup": group,
                "autoOffsetReset": "earliest",
                "sessionTimeoutMs": 6000,
                "commitIntervalSecs": COMMIT_SECS,
            },
            "sampling": {"errorSampleRate": 1.0, "latencyThresholdMs": 5000, "latencySampleRate": 1.0},
            "observability": {
                "healthAddr": HOST,
                "healthPort": health_port,
                "metricsAddr": HOST,
                "metricsPort": metrics_port,
            },
            "exporters": [{"name": "sink", "type": "otlp", "endpoint": f"http://{HOST}:{sink_port}"}],
            "deadLetter": {"type": "file", "path": str(directory / "dead-letters.jsonl")},
        }
        config = directory / "tss.yaml"
        config.write_text(yaml.safe_dump(settings))
        return cls(config, health_port, metrics_port)

    def is_ready(self) -> bool:
        try:
            _get(f"http://{HOST}:{self.health_port}/health/ready")
        except (urllib.error.URLError, OSError):
            return False
        return True

    def metric(self, name: str) -> float:
        """The sum over all labels."""
        text = _get(f"http://{HOST}:{self.metrics_port}/metrics")
        found = (_SAMPLE.match(line) for line in text.splitlines())
        return sum(float(match[2]) for match in found if match and match[1] == name)

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


def _check_kept(topic: Topic, path: Path) -> None:
    """Exactly the spans of the traces that must be kept, each once."""
    found = Counter(line.split()[0] + b" " + line.split()[1] for line in path.read_bytes().splitlines())
    wanted = Counter(f"{trace_id.hex()} {span_id.hex()}".encode() for trace_id, span_id in topic.kept)
    if found != wanted:
        missing, extra = (wanted - found).total(), (found - wanted).total()
        raise BenchFailed(f"the sink misses {missing} of {len(wanted)} spans, and has {extra} that it should not have")


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  # our own child
        text: str = answer.read().decode()
        return text


def to_json(run: Run) -> dict[str, float]:
    """For the file."""
    document: dict[str, float] = json.loads(json.dumps(attrs.asdict(run)))
    return document
