"""Whether the daemon's memory grows: under hours of steady load, or when it is filled and drained again and again.

    python -m bench.soak --minutes 60 [--rate 20000] [--json FILE]
    python -m bench.soak --cycles 20 [--spans 300000] [--json FILE]

The daemon reads from Apache Kafka and sends what it keeps, a twentieth, to a sink that counts it and throws it away.
What it remembers of decided traces grows until it is full, which is as it should be: no comparison begins before. At the
end all that was written must be decided, delivered and committed. Exit code 1: memory grew, or the run says nothing.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import attrs
from attrs import define, frozen
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench.corpus import SPAN_BYTES, Corpus, Group
from bench.daemon import LOOK_SECS, ROOT_QUIET_SECS, Daemon
from bench.processes import PYTHON, BenchFailed, Child
from bench.topic import PARTITIONS, Topic, produce, producer_to
from tests.real.brokers import HOST, ApacheKafka, Broker, free_ports, running

ALLOWED_SHARE, ALLOWED_BYTES = 0.03, 8 << 20  # growth, whichever is more: allocators never settle to the page
KEPT_LIMIT, DROPPED_LIMIT = 50_000, 500_000  # traces remembered when the memory is full; it has its final size then
MIXTURE = (Corpus(8), Corpus(1), Corpus(8, shape="mixed"), Corpus(50))  # the same number of spans of each
SMALL = Corpus(2, keep=0.1)  # fills the memory of decisions with little else
RETENTION_BYTES = 256 << 20  # of a partition; at 20,000 spans a second the daemon may be two minutes late
SEGMENT_BYTES = 16 << 20
BUFFER_MIB = 512
SAMPLE_SECS = 10.0
SHOWN_SECS = 60.0
TICK_SECS = 0.05
AHEAD_SECS = 600  # cycles live in the future, where no clock but the records' own can close a trace
UNSETTLED, COMPARED = 2, 5  # cycles: not looked at, and compared at either end of those that are
SAID = (
    "buffer_bytes_current",
    "buffer_spans_current",
    "decision_memory_kept_current",
    "decision_memory_dropped_current",
    "kafka_uncommitted_records",
    "spans_ingested_total",
    "python_gc_collections_total",
    "python_gc_objects_collected_total",
    "python_gc_objects_uncollectable_total",
)
HEAD = (
    f"{'RSS MiB':>8} {'buffer MiB':>11} {'open spans':>11} {'kept known':>11} {'dropped known':>14} {'uncommitted':>12}"
)


@frozen
class Sample:
    """The daemon at one time."""

    at_secs: float
    rss_bytes: int
    cpu_secs: float
    said: dict[str, float]

    @classmethod
    def of(cls, daemon: Daemon, began: float) -> Sample:
        said = {name: daemon.metric(name) for name in SAID}
        return cls(time.monotonic() - began, daemon.child.resident_bytes(), daemon.child.cpu_secs(), said)

    @property
    def remembers_all_it_can(self) -> bool:
        return (
            self.said["decision_memory_kept_current"] >= KEPT_LIMIT
            and self.said["decision_memory_dropped_current"] >= DROPPED_LIMIT
        )

    def __str__(self) -> str:
        said = self.said
        return (
            f"{self.rss_bytes / (1 << 20):>8.1f} {said['buffer_bytes_current'] / (1 << 20):>11.1f} "
            f"{said['buffer_spans_current']:>11,.0f} {said['decision_memory_kept_current']:>11,.0f} "
            f"{said['decision_memory_dropped_current']:>14,.0f} {said['kafka_uncommitted_records']:>12,.0f}"
        )


@frozen
class Cycle:
    """The daemon holding all that was written, and when all of it was decided and committed."""

    full: Sample
    drained: Sample


@frozen
class Growth:
    """The median of what was resident in the earlier part of a run and in the later."""

    what: str
    early_bytes: float
    late_bytes: float

    @classmethod
    def between(cls, what: str, early: Sequence[Sample], late: Sequence[Sample]) -> Growth:
        return cls(what, *(median(sample.rss_bytes for sample in part) for part in (early, late)))

    @property
    def grown_bytes(self) -> float:
        return self.late_bytes - self.early_bytes

    @property
    def allowed_bytes(self) -> float:
        return max(ALLOWED_SHARE * self.early_bytes, ALLOWED_BYTES)

    @property
    def is_too_much(self) -> bool:
        return self.grown_bytes > self.allowed_bytes

    def __str__(self) -> str:
        early, late, grown, allowed = (
            size / (1 << 20) for size in (self.early_bytes, self.late_bytes, self.grown_bytes, self.allowed_bytes)
        )
        verdict = "too much" if self.is_too_much else "ok"
        return (
            f"{self.what}: {early:.1f} MiB, later {late:.1f} MiB: {grown:+.1f} MiB of {allowed:.1f} allowed: {verdict}"
        )

    def to_json(self) -> dict[str, Any]:
        return attrs.asdict(self) | {"allowed_bytes": self.allowed_bytes, "is_too_much": self.is_too_much}


def steady_growth(samples: Sequence[Sample]) -> list[Growth]:
    """From the fifth of the run in which the memory of decisions is full to the last fifth.

    The fifth begins no earlier than the second of the run. Raises BenchFailed when there are not two fifths.
    """
    whole = samples[-1].at_secs
    full = next((sample.at_secs for sample in samples if sample.remembers_all_it_can), whole)
    start = max(full, whole / 5)
    if start > whole * 3 / 5:
        raise BenchFailed("too short: the memory of decisions was full too late, or not at all")
    early = [sample for sample in samples if start <= sample.at_secs <= start + whole / 5]
    late = [sample for sample in samples if sample.at_secs >= whole * 4 / 5]
    return [Growth.between(f"from {start / 60:.0f} min", early, late)]


def cycle_growth(cycles: Sequence[Cycle]) -> list[Growth]:
    """Of the last cycles over the first ones. Raises BenchFailed when there are too few."""
    if len(cycles) < UNSETTLED + 2 * COMPARED:
        raise BenchFailed(f"{len(cycles)} cycles say nothing, it takes {UNSETTLED + 2 * COMPARED}")
    early, late = cycles[UNSETTLED : UNSETTLED + COMPARED], cycles[-COMPARED:]
    return [
        Growth.between("full", [each.full for each in early], [each.full for each in late]),
        Growth.between("drained", [each.drained for each in early], [each.drained for each in late]),
    ]


@define
class Taken:
    """How many spans the sink has taken."""

    spans: int = 0

    def read(self, pipe: Path) -> None:
        """What the sink writes down, until it ends."""
        with pipe.open("rb") as frames:
            while length := frames.read(4):
                body = gzip.decompress(frames.read(int.from_bytes(length, "big")))
                request = ExportTraceServiceRequest.FromString(body)
                self.spans += sum(len(scope.spans) for group in request.resource_spans for scope in group.scope_spans)


@contextmanager
def counting(directory: Path) -> Iterator[tuple[str, Taken]]:
    """A sink that keeps nothing, for it writes into a pipe: its address, and what it takes."""
    pipe, taken = directory / "taken", Taken()
    os.mkfifo(pipe)
    threading.Thread(target=taken.read, args=(pipe,), daemon=True).start()
    (port,) = free_ports(1)
    with Child.running("sink", [*PYTHON, "bench.sink", "--port", str(port), "--out", str(pipe)], directory) as child:
        child.wait_until(lambda: child.has_said("ready"), "ready")
        yield f"http://{HOST}:{port}", taken


class Writer:
    """Puts traces into the topic, never one twice, and knows what it put there."""

    def __init__(self, topic: Topic) -> None:
        self.records = self.spanless = self.traces = self.kept_spans = 0
        self.told_ms = 0
        self.spans = dict.fromkeys((*MIXTURE, SMALL), 0)
        self._topic = topic
        self._producer = producer_to(topic.broker)
        self._groups = {corpus: corpus.groups(sys.maxsize, time.time_ns()) for corpus in self.spans}

    @property
    def all_spans(self) -> int:
        return sum(self.spans.values())

    def write(self, corpus: Corpus, timestamp_ms: int) -> None:
        """The next traces of the corpus."""
        group: Group = next(self._groups[corpus])
        for key, value in group.records:
            produce(self._producer, self._topic.name, key, value, timestamp_ms)
        self.records += len(group.records)
        self.traces += corpus.group_traces
        self.spans[corpus] += corpus.group_spans
        self.kept_spans += len(group.keep)
        self._producer.poll(0)

    def write_some(self, corpora: Sequence[Corpus], spans: int, timestamp_ms: int) -> int:
        """At least so many in whole traces, as many of each corpus; returns how many."""
        before = self.all_spans
        while self.all_spans < before + spans:
            self.write(min(corpora, key=self.spans.__getitem__), timestamp_ms)
        return self.all_spans - before

    def write_steadily(self, rate: int, stop: threading.Event) -> None:
        """So many spans a second. What could not be written for more than a second is not made up for."""
        due, last = 0.0, time.monotonic()
        while not stop.wait(TICK_SECS):
            now = time.monotonic()
            due, last = min(due + rate * (now - last), rate), now
            due -= self.write_some(MIXTURE, int(due), time.time_ns() // 1_000_000)

    def tell_time(self, timestamp_ms: int) -> None:
        """To each partition a record without a span: the daemon puts it aside, but has seen how late it is."""
        for partition in range(PARTITIONS):
            self._producer.produce(self._topic.name, b"", partition=partition, timestamp=timestamp_ms)
        self.told_ms = timestamp_ms
        self.records += PARTITIONS
        self.spanless += PARTITIONS

    def flush(self) -> None:
        self._producer.flush()


@frozen
class Soak:
    """A daemon, what is written for it and what it has sent."""

    daemon: Daemon
    topic: Topic
    writer: Writer
    taken: Taken
    began: float

    @classmethod
    @contextmanager
    def running(cls, broker: Broker, directory: Path, app: dict[str, Any]) -> Iterator[Soak]:
        topic = Topic(broker, "soak", MIXTURE[0], 0, 0, frozenset(), 0, 0.0)
        config = {"retention.bytes": RETENTION_BYTES, "segment.bytes": SEGMENT_BYTES, "file.delete.delay.ms": 1000}
        broker.create_topic(topic.name, PARTITIONS, **{key: str(value) for key, value in config.items()})
        app = {"maxBufferBytes": BUFFER_MIB << 20} | app
        with counting(directory) as (sink, taken), Daemon.running(topic, sink, directory, app=app) as daemon:
            daemon.child.wait_until(daemon.is_ready, "ready")
            try:
                yield cls(daemon, topic, Writer(topic), taken, time.monotonic())
            except OSError as error:  # nobody answered
                code, tail = daemon.child.process.poll(), daemon.child.tail()
                raise BenchFailed(f"{error}; the daemon's exit code: {code}, its last words:\n{tail}") from error

    def sample(self) -> Sample:
        return Sample.of(self.daemon, self.began)

    def steadily(self, secs: float, rate: int) -> Iterator[Sample]:
        """The daemon under that load, from time to time."""
        stop = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(self.writer.write_steadily, rate, stop)
            try:
                at = 0.0
                while at < secs and not writing.done():
                    at = min(at + SAMPLE_SECS, secs)
                    time.sleep(max(0, self.began + at - time.monotonic()))
                    yield self.sample()
            finally:
                stop.set()
            writing.result()

    def remember(self, spans: int) -> int:
        """Until the memory of decisions is full: small traces, in cycles that need less room than the real ones."""
        cycles = 0
        while not self.sample().remembers_all_it_can:
            self.cycle((SMALL,), spans // 2)
            cycles += 1
        return cycles

    def cycle(self, corpora: Sequence[Corpus], spans: int, rest_secs: float = 0) -> Cycle:
        """Fill it with open traces, close all of them, leave it alone for a while."""
        stamp_ms = max(time.time_ns() // 1_000_000 + AHEAD_SECS * 1000, self.writer.told_ms)
        written = self.writer.write_some(corpora, spans, stamp_ms)
        self.writer.flush()
        self._wait_until("buffer_spans_current", written, "full")
        full = self.sample()
        self.writer.tell_time(stamp_ms + (ROOT_QUIET_SECS + 1) * 1000)
        self.settle()
        time.sleep(rest_secs)
        return Cycle(full, self.sample())

    def settle(self) -> None:
        """Until all is decided, delivered and committed. Raises BenchFailed when it is not what was written."""
        self.writer.flush()
        topic = attrs.evolve(self.topic, records=self.writer.records)
        self._wait_until("spans_ingested_total", self.writer.all_spans, "read")
        self._wait_until("buffer_spans_current", 0, "empty")
        self._wait_until("kafka_uncommitted_records", 0, "settled")
        wait_until = self.daemon.child.wait_until
        wait_until(lambda: not topic.uncommitted(self.daemon.group), "committed", LOOK_SECS)
        wait_until(lambda: self.taken.spans >= self.writer.kept_spans, "delivered", LOOK_SECS)
        told = {
            "traces_ingested_total": self.writer.traces,
            "decisions_total": self.writer.traces,
            "spans_exported_total": self.writer.kept_spans,
            "late_spans_total": 0,
            "records_unreadable_total": self.writer.spanless,
        }
        found = {name: self.daemon.metric(name) for name in told} | {"sink": self.taken.spans}
        if found != told | {"sink": self.writer.kept_spans}:
            raise BenchFailed(f"the daemon says {found}, but it should be {told}")

    def _wait_until(self, name: str, value: int, what: str) -> None:
        self.daemon.child.wait_until(lambda: self.daemon.metric(name) == value, what, LOOK_SECS)


def steady(broker: Broker, directory: Path, minutes: float, rate: int) -> tuple[list[Sample], dict[str, Any]]:
    samples: list[Sample] = []
    with Soak.running(broker, directory, {}) as soak:
        print(f"{'min':>6} {'CPU':>6} {HEAD}")
        idle = shown = soak.sample()
        for sample in soak.steadily(60 * minutes, rate):
            samples.append(sample)
            if sample.at_secs - shown.at_secs >= SHOWN_SECS - 1:
                cpu = (sample.cpu_secs - shown.cpu_secs) / (sample.at_secs - shown.at_secs)
                print(f"{sample.at_secs / 60:>6.1f} {cpu:>6.1%} {sample}", flush=True)
                shown = sample
        amiss = ""
        try:
            soak.settle()
        except BenchFailed as failure:  # what was measured is worth telling all the same
            amiss = str(failure)
        drained = soak.sample()
        print(f"{'after':>6} {'':>6} {drained}")
        peak = soak.daemon.child.peak_bytes()
        written = {"spans": soak.writer.all_spans, "records": soak.writer.records, "kept_spans": soak.taken.spans}
    secs = samples[-1].at_secs
    print(
        f"{written['spans']:,} spans in {written['records']:,} records, {written['spans'] / secs:,.0f} spans a second; "
        f"{written['kept_spans']:,} came to the sink; {(samples[-1].cpu_secs - idle.cpu_secs) / secs:.1%} of a core; "
        f"{peak / (1 << 20):.1f} MiB at most"
    )
    document = {
        "amiss": amiss,
        "written": written,
        "peak_bytes": peak,
        "idle": attrs.asdict(idle),
        "samples": [attrs.asdict(sample) for sample in samples],
        "drained": attrs.asdict(drained),
    }
    return samples, document


def cycled(
    broker: Broker, directory: Path, cycles: int, spans: int, rest_secs: float
) -> tuple[list[Cycle], dict[str, Any]]:
    done: list[Cycle] = []
    app = {"maxClockSkewSecs": 2 * AHEAD_SECS, "maxBufferSpans": 2 * spans, "maxBufferTraces": 2 * spans}
    with Soak.running(broker, directory, app) as soak:
        before = soak.remember(spans)
        print(f"{before} cycles of small traces until the memory of decisions was full\n{'cycle':>11} {HEAD}")
        for number in range(1, cycles + 1):
            cycle = soak.cycle(MIXTURE, spans, rest_secs)
            print(f"{number:>3} full    {cycle.full}\n{number:>3} drained {cycle.drained}", flush=True)
            done.append(cycle)
        peak = soak.daemon.child.peak_bytes()
    return done, {"spans": spans, "peak_bytes": peak, "cycles": [attrs.asdict(cycle) for cycle in done]}


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    options = _parse(arguments)
    document: dict[str, Any] = {}
    found: list[Growth] = []
    amiss = ""
    try:
        with tempfile.TemporaryDirectory(prefix="tss-soak-") as scratch, running(ApacheKafka) as broker:
            if options.minutes:
                samples, document = steady(broker, Path(scratch), options.minutes, options.rate)
                found = steady_growth(samples)
                amiss = document["amiss"]
            else:
                cycles, document = cycled(broker, Path(scratch), options.cycles, options.spans, options.rest)
                found = cycle_growth(cycles)
    except BenchFailed as failure:
        amiss = f"no verdict: {failure}"
    if options.json:
        options.json.write_text(json.dumps(document | {"growth": [each.to_json() for each in found]}, indent=2) + "\n")
    print(*found, amiss, sep="\n")
    return int(bool(amiss) or any(each.is_too_much for each in found))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench.soak", description="Whether the daemon's memory grows.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--minutes", type=float, help="of steady load")
    what.add_argument("--cycles", type=int, help="of filling and draining")
    parser.add_argument("--rate", type=int, default=20_000, help="spans a second (default: %(default)s)")
    most = (BUFFER_MIB << 20) // (2 * SPAN_BYTES)
    parser.add_argument("--spans", type=int, default=300_000, help="open in each cycle (default: %(default)s)")
    parser.add_argument("--rest", type=float, default=2, help="s from drained to the look (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    options = parser.parse_args(arguments)
    if options.spans > most:
        parser.error(f"--spans {options.spans}: no more than {most}, which is what the buffer holds")
    return options


if __name__ == "__main__":
    sys.exit(main())
