"""The OpenTelemetry Collector with `tail_sampling` on the same topics: built by `python -m bench.collector`."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import yaml
from confluent_kafka import KafkaException

from bench import policies
from bench.daemon import BATCH_TRACES, LOOK_SECS, ROOT_QUIET_SECS
from bench.processes import ROOT, BenchFailed, Child
from bench.runs import Run, Start
from bench.sink import Taken, sinking
from bench.topic import PARTITIONS, Topic
from toolchain import go, pip

SOURCE = Path(__file__).parent
BINARY = ROOT / ".cache" / "collector" / "otelcol"
HOW_TO_GET = "no OpenTelemetry Collector here: build it with `python -m bench.collector` (takes minutes)"
SETTLED_SECS = ROOT_QUIET_SECS + 6.0  # nothing new for so long: a tick and a request's time limit later nothing comes


def build() -> None:
    """From Go's modules into .cache/; raises BenchFailed, also when Go can neither be found nor fetched."""
    try:
        compiler = go(SOURCE)
    except pip.Failed as failure:
        raise BenchFailed(str(failure)) from failure
    BINARY.parent.mkdir(parents=True, exist_ok=True)
    made = BINARY.with_suffix(".new")  # moved when complete
    command = [str(compiler), "build", "-mod=readonly", "-trimpath", "-ldflags=-s -w", "-o", str(made), "."]
    environment = os.environ | {"CGO_ENABLED": "0"}
    if subprocess.run(command, cwd=SOURCE, env=environment, check=False).returncode:
        raise BenchFailed("the Collector could not be built")
    made.rename(BINARY)


@contextmanager
def running(
    topic: Topic, sink: str, directory: Path, wait_secs: float = ROOT_QUIET_SECS, *, twenty: bool = False
) -> Iterator[tuple[Child, str]]:
    """It and its group."""
    group = f"collector {time.monotonic_ns()}"
    config = directory / "otelcol.yaml"
    config.write_text(
        yaml.safe_dump(_settings(topic, group, sink, wait_secs, policies.TWENTY if twenty else policies.FEW))
    )
    with Child.running("collector", [str(BINARY), "--config", f"file:{config}"], directory) as child:
        yield child, group


def run_collector(topic: Topic, directory: Path, *, twenty: bool = False) -> Run:
    """It over the whole topic. What the sink has amiss is told, and fails nothing."""
    with sinking(directory) as (sink, taken), running(topic, sink, directory, twenty=twenty) as (child, group):
        start = Start.of(child, lambda: has_partitions(topic, group))
        child.wait_until(lambda: not topic.uncommitted(group), "read", LOOK_SECS)
        ended = time.monotonic()
        _wait_for_kept(taken, len(topic.kept))
        return attrs.evolve(start.run(topic, ended), amiss=taken.amiss(topic.kept))


def has_partitions(topic: Topic, group: str) -> bool:
    """Whether all of the topic's partitions are assigned."""
    admin = topic.broker.admin()
    try:
        described = admin.describe_consumer_groups([group])[group].result(10)
    except KafkaException:
        return False  # not known yet
    return sum(len(member.assignment.topic_partitions) for member in described.members) == PARTITIONS


def _wait_for_kept(taken: Taken, wanted: int) -> None:
    """It says nowhere that it is done: until all is there, or nothing has come for a while."""
    quiet_since, before = time.monotonic(), -1
    while (now := taken.look()) < wanted and time.monotonic() < quiet_since + SETTLED_SECS:
        if now != before:
            quiet_since, before = time.monotonic(), now
        time.sleep(LOOK_SECS)


def _settings(topic: Topic, group: str, sink: str, wait_secs: float, chosen: list[dict[str, Any]]) -> dict[str, object]:
    """As a good operator would set it here: nothing is evicted or refused, and it sends as large requests as `tss`."""
    batch_spans = BATCH_TRACES * topic.corpus.trace_spans
    return {
        "receivers": {
            "kafka": {
                "brokers": [topic.broker.bootstrap],
                "group_id": group,
                "initial_offset": "earliest",
                "session_timeout": "6s",
                "heartbeat_interval": "2s",
                "max_fetch_size": 50 << 20,  # librdkafka's default; its own is a fiftieth of that
                "traces": {"topics": [topic.name], "encoding": "otlp_proto"},
            }
        },
        "processors": {
            "tail_sampling": policies.section(chosen, wait_secs, topic.traces),
        },
        "exporters": {
            "otlp_http": {
                "endpoint": sink,
                "compression": "gzip",
                "sending_queue": {
                    "sizer": "items",
                    "queue_size": 20 * batch_spans,
                    "num_consumers": 4,  # requests at a time, as `tss`
                    "block_on_overflow": True,
                    "batch": {"flush_timeout": "1s", "min_size": batch_spans, "max_size": 2 * batch_spans},
                },
            }
        },
        "service": {
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {
                "traces": {"receivers": ["kafka"], "processors": ["tail_sampling"], "exporters": ["otlp_http"]}
            },
        },
    }
