"""Spans per CPU-second of the daemon, end to end, beside a consumer that reads the same topic and does nothing.

    python -m bench [--sizes 1,8,50] [--spans 400000 | --records N] [--broker apache|tansu] [--json FILE] [--profile]

For each size of record there is a topic; of the traces on it 5 % have an error and must reach an OTLP sink, which is a
process of its own. A run fails unless the sink has exactly these, each once, and everything is committed. CPU is user
and system time of the whole process, less what it had used when it was ready, that is, had its partitions.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from bench import profiled
from bench.processes import BenchFailed
from bench.runs import Run, run_bare, run_tss, to_json
from bench.topic import PARTITIONS, Topic
from tests.real.brokers import JARS, ApacheKafka, Broker, Tansu, running
from tss.core.otlp import SCANNER

BARE_SPANS = 8_000_000  # the bare consumer reads at least as many, or its CPU time would be lost in the clock's ticks

_HEAD = (
    f"{'spans':>6} {'records':>8} {'consumer':>9} {'CPU s':>7} {'us a record':>12} {'spans a CPU-second':>19} "
    f"{'ratio':>7} {'wall s':>7} {'peak MiB':>9}"
)


@frozen
class Row:
    """One size of record."""

    topic: Topic
    bare: Run
    tss: Run

    @property
    def ratio(self) -> float:
        """The daemon's spans per CPU-second over the bare consumer's."""
        return self.tss.spans_per_cpu_sec / self.bare.spans_per_cpu_sec

    def __str__(self) -> str:
        return f"{self._line('bare', self.bare, 1)}\n{self._line('tss', self.tss, self.ratio)}"

    def _line(self, name: str, run: Run, ratio: float) -> str:
        return (
            f"{self.topic.record_spans:>6} {self.topic.records:>8} {name:>9} {run.cpu_secs:>7.2f} "
            f"{run.micros_per_record:>12.1f} {run.spans_per_cpu_sec:>19,.0f} {ratio:>7.1%} {run.wall_secs:>7.1f} "
            f"{run.peak_bytes / (1 << 20):>9.0f}"
        )

    def to_json(self) -> dict[str, object]:
        return {
            "spans_per_record": self.topic.record_spans,
            "records": self.topic.records,
            "bytes": self.topic.size_bytes,
            "traces": self.topic.traces,
            "kept_traces": self.topic.kept_traces,
            "bare": to_json(self.bare),
            "tss": to_json(self.tss),
            "ratio": self.ratio,
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 1 when a check failed."""
    options = _parse(arguments)
    kind: type[ApacheKafka | Tansu] = ApacheKafka if options.broker == ApacheKafka.name else Tansu
    with tempfile.TemporaryDirectory(prefix="tss-bench-") as scratch, running(kind) as broker:
        try:
            rows = _profile(options, broker, Path(scratch)) if options.profile else _all(options, broker, Path(scratch))
        except BenchFailed as failure:
            print(f"the benchmark failed: {failure}", file=sys.stderr)
            return 1
    if options.json and rows:
        document = {"machine": _machine(), "broker": options.broker, "rows": [row.to_json() for row in rows]}
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench", description="Spans per CPU-second, beside a bare consumer.")
    parser.add_argument("--sizes", default="1,8,50", help="spans a record, with commas between (default: %(default)s)")
    parser.add_argument("--spans", type=int, default=400_000, help="for each size (default: %(default)s)")
    parser.add_argument("--records", type=int, help="for each size, instead of --spans")
    parser.add_argument(
        "--broker", choices=("apache", "tansu"), default="apache" if JARS.is_dir() and shutil.which("java") else "tansu"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--profile", action="store_true", help="show where the daemon's CPU time goes instead")
    options = parser.parse_args(arguments)
    try:
        options.sizes = [int(size) for size in options.sizes.split(",")]
    except ValueError:
        parser.error(f"--sizes {options.sizes}: numbers with commas between")
    return options


def _fill(options: argparse.Namespace, broker: Broker, size: int) -> Topic:
    count = options.records or max(1, options.spans // size)
    began = time.monotonic()
    topic = Topic.filled(broker, f"spans-{size}", size, count)
    mean = topic.size_bytes / topic.spans
    print(
        f"{count} records of {size} spans, {mean:.0f} B a span, {topic.traces} traces, {topic.kept_traces} to be kept, "
        f"on {PARTITIONS} partitions of {broker.name} in {time.monotonic() - began:.0f} s",
        file=sys.stderr,
    )
    return topic


def _all(options: argparse.Namespace, broker: Broker, directory: Path) -> list[Row]:
    rows = []
    for size in options.sizes:
        topic = _fill(options, broker, size)
        bare = run_bare(topic, directory, -(-BARE_SPANS // topic.spans))
        rows.append(Row(topic, bare, run_tss(topic, directory)))
        broker.admin().delete_topics([topic.name])
    print(_machine())
    print(_HEAD, *rows, sep="\n")
    starts = ", ".join(f"{row.tss.start_wall_secs:.2f} s ({row.tss.start_cpu_secs:.2f} of CPU)" for row in rows)
    print(f"tss had its partitions after {starts}")
    return rows


def _profile(options: argparse.Namespace, broker: Broker, directory: Path) -> list[Row]:
    for size in options.sizes:
        topic = _fill(options, broker, size)
        run = run_tss(topic, directory, profiled.__name__)
        print(f"\n{size} spans a record: {run.micros_per_record:.1f} us a record under the profiler")
        print(profiled.report(directory / profiled.RESULT, topic.records))
    return []


def _machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, scanner {SCANNER}"


if __name__ == "__main__":
    sys.exit(main())
