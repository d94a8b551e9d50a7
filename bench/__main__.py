"""Spans per CPU-second of the daemon, end to end, beside a consumer that reads the same topic and does nothing, and
beside the OpenTelemetry Collector with `tail_sampling`, where it is built (`python -m bench.collector`).

    python -m bench [--sizes 1,8,50] [--shape keyed,mixed,scattered] [--keep 0.1,5,100] [--json FILE] [--svg FILE]
    python -m bench --against DIRECTORY                   another checkout on the same topics, in pairs, instead
    python -m bench --open 1000000 [--buffer-mib 320]     memory of so many open spans instead
    python -m bench --check                               a short run against bench/floors.py instead
    python -m bench --features [--repeat 3]               what statistics and span metrics cost instead
    python -m bench --policies                            twenty policies beside three, in `tss` and in the Collector, instead
    python -m bench --redis [--repeat 3]                  what Redis costs instead
    python -m bench --profile                             where the daemon's CPU time goes instead

For each corpus there is a topic, of whose traces a share has an error; those must reach an OTLP sink, which is a process
of its own. A run of the daemon fails unless the sink has exactly these, each once, and everything is committed. CPU is
user and system time of the whole process tree, less what it had used when it was ready, that is, had its partitions. A
topic is as large as ten seconds of that need; consumers take turns, and each figure is the median with its least and
most. Nobody asks the daemon anything while it is measured.
Read as fast as it goes, peak memory is not of the same spans: `tss` holds a trace for two seconds of the log, the
Collector for two seconds of the clock. --open compares it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from attrs import frozen

from bench import against, collector, costs, floors, held, plot, profiled, table
from bench.corpus import SCATTERED, SHAPES, USUAL, Corpus
from bench.daemon import FEATURES, TWENTY, run_tss
from bench.processes import BenchFailed
from bench.runs import Run, run_bare
from bench.table import Row
from bench.topic import Topic
from tests.real import redis_server
from tests.real.brokers import JARS, ApacheKafka, Broker, Tansu, running
from tss.core.otlp import SCANNER

CONSUMERS = ("bare", "tss", "collector")
CPU_SECS = 10.0  # of each run, at least: in a shorter one a neighbour's burst is a tenth of it
PROBE_RECORDS = 50_000  # tell how many that takes
MOST_BYTES = 8 << 30  # of a topic, which is read from the page cache
COLLECTOR_SPANS = 1_500_000  # it needs ten times as long for each


INSTEAD = ("check", "profile", "features", "policies", "redis", "against")  # options, and methods of Bench
RUN: dict[str, Callable[[Topic, Path], Run]] = {
    "bare": run_bare, "tss": run_tss, "collector": collector.run_collector,
}  # fmt: skip


@frozen
class Bench:
    """What was asked for, and where it runs."""

    options: argparse.Namespace
    broker: Broker
    directory: Path

    @contextmanager
    def topic(self, corpus: Corpus, count: int) -> Iterator[Topic]:
        """With so many records; gone when the block is left."""
        topic = Topic.filled(self.broker, f"spans-{time.monotonic_ns()}", corpus, count)
        print(topic, file=sys.stderr)
        yield topic
        admin = self.broker.admin()  # held: what it is asked dies with it
        admin.delete_topics([topic.name])[topic.name].result(30)

    def rows(self) -> list[Row]:
        rows = []
        print(machine(), table.HEAD, sep="\n", flush=True)
        for corpus in self.options.corpora:
            row = self.row(corpus)
            print(row, flush=True)
            rows.append(row)
        for row in rows:
            for consumer, runs in row.runs.items():
                for amiss in {run.amiss for run in runs if run.amiss}:
                    print(f"{row.topic.corpus}, {consumer}: {amiss}")
        return rows

    def row(self, corpus: Corpus) -> Row:
        """The consumers by turns, so that what the neighbours do comes to all of them."""
        with ExitStack() as topics:
            topic = topics.enter_context(self.topic(corpus, self.records(corpus)))
            fewer = topic
            if "collector" in self.options.consumers:
                few = min(topic.records, -(-COLLECTOR_SPANS // corpus.record_spans))
                fewer = topics.enter_context(self.topic(corpus, few))
            row = Row(topic)
            for _ in range(self.options.repeat):
                for name in self.options.consumers:
                    row.add(name, RUN[name](fewer if name == "collector" else topic, self.directory))
        return row

    def records(self, corpus: Corpus) -> int:
        """As many as the daemon needs CPU_SECS for, which a short run tells, if that is not too much for the disk."""
        if self.options.records:
            asked: int = self.options.records
            return asked
        with self.topic(corpus, PROBE_RECORDS) as probe:
            run = run_tss(probe, self.directory)
        wanted = 1.2 * CPU_SECS * 1e6 / run.micros_per_record  # a longer run needs less for each
        return math.ceil(min(wanted, MOST_BYTES * probe.records / probe.size_bytes))

    def against(self) -> None:
        print(machine(), against.HEAD, sep="\n", flush=True)
        for corpus in self.options.corpora:
            with self.topic(corpus, self.records(corpus)) as topic:
                print(against.compare(topic, self.directory, self.options.against, self.options.pairs), flush=True)

    def held(self) -> list[held.Held]:
        found = []
        (corpus,) = self.options.corpora
        with self.topic(corpus, -(-self.options.open // corpus.record_spans)) as topic:
            if "tss" in self.options.consumers:
                found.append(held.hold_tss(topic, self.directory, self.options.buffer_mib << 20))
            if "collector" in self.options.consumers:
                found.append(held.hold_collector(topic, self.directory))
        print(machine(), held.HEAD, *found, sep="\n")
        return found

    def check(self) -> None:
        """Raises BenchFailed when the daemon is slower than it may be."""
        for corpus, floor in floors.FLOORS.items():
            with self.topic(corpus, floors.RECORDS) as topic:
                best = 0.0
                for _ in range(floors.TRIES):
                    row = Row(topic)
                    for name in ("bare", "tss"):
                        row.add(name, RUN[name](topic, self.directory))
                    print(row)
                    best = max(best, row.ratio("tss") or 0)
                    if best >= floor:
                        break
            said = f"{corpus}: {best:.2%} of a bare consumer's spans per CPU-second; the floor is {floor:.2%}"
            if best < floor:
                raise BenchFailed(said)
            print(said)

    def redis(self) -> None:
        print(machine(), costs.HEAD, sep="\n", flush=True)
        with redis_server.running() as server:
            for corpus in self.options.corpora:
                for cost in costs.measure(
                    self.broker, server, self.directory, corpus, self.records(corpus), self.options.repeat
                ):
                    print(cost, flush=True)

    def features(self) -> None:
        print(machine(), table.HEAD, sep="\n", flush=True)
        kinds: dict[str, tuple[str, ...]] = {"tss": ()} | {f"+{name}"[:10]: (name,) for name in FEATURES}
        for corpus in self.options.corpora:
            with self.topic(corpus, self.records(corpus)) as topic:
                row = Row(topic)
                for _ in range(self.options.repeat):
                    for name, features in kinds.items():
                        row.add(name, run_tss(topic, self.directory, features=features))
                print(row)
            for name in kinds:
                print(f"{corpus}, {name}: {row.share(name, 'tss')} of tss without")

    def policies(self) -> None:
        """Three policies and twenty by turns, in both programs."""
        runs: dict[str, Callable[[Topic, Path], Run]] = {
            "tss 3": run_tss,
            "tss 20": partial(run_tss, features=(TWENTY,)),
        }
        if "collector" in self.options.consumers:
            runs |= {
                "otel 3": collector.run_collector,
                "otel 20": partial(collector.run_collector, twenty=True),
            }
        print(machine(), table.HEAD, sep="\n", flush=True)
        for corpus in self.options.corpora:
            with ExitStack() as topics:
                topic = topics.enter_context(self.topic(corpus, self.records(corpus)))
                fewer = topic
                if "collector" in self.options.consumers:
                    few = min(topic.records, -(-COLLECTOR_SPANS // corpus.record_spans))
                    fewer = topics.enter_context(self.topic(corpus, few))
                row = Row(topic)
                for _ in range(self.options.repeat):
                    for name, run in runs.items():
                        row.add(name, run(fewer if name.startswith("otel") else topic, self.directory))
                print(row)
                pairs = zip(row.runs["tss 20"], row.runs["tss 3"], strict=True)
                each = topic.spans / topic.records
                more = sorted((many.micros_per_record - few.micros_per_record) / each for many, few in pairs)
                print(
                    f"{corpus}: seventeen policies more cost {more[len(more) // 2]:.2f} us a span in the median, {more}"
                )

    def profile(self) -> None:
        for corpus in self.options.corpora:
            with self.topic(corpus, self.records(corpus)) as topic:
                run = run_tss(topic, self.directory, python=profiled.PYTHON, watching=profiled.watching)
                print(f"\n{corpus}: {profiled.report(self.directory / profiled.FOUND, run.micros_per_record)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 1 when a check failed."""
    options = _parse(arguments)
    kind: type[ApacheKafka | Tansu] = ApacheKafka if options.broker == ApacheKafka.name else Tansu
    document: dict[str, Any] = {"machine": machine(), "broker": options.broker}
    with tempfile.TemporaryDirectory(prefix="tss-bench-") as scratch, running(kind) as broker:
        bench = Bench(options, broker, Path(scratch))
        try:
            if instead := next((name for name in INSTEAD if getattr(options, name)), None):
                getattr(bench, instead)()
            elif options.open:
                document["held"] = [each.to_json() for each in bench.held()]
            else:
                document["rows"] = [row.to_json() for row in bench.rows()]
        except BenchFailed as failure:
            print(f"the benchmark failed: {failure}", file=sys.stderr)
            return 1
    if options.json:
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    if options.svg:
        options.svg.write_text(plot.drawn(document))
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    usual = f"Corpora, unless --sizes, --shape or --keep choose others: {', '.join(map(str, USUAL))} kept."
    about = "Spans per CPU-second of the daemon, beside a bare consumer and the OpenTelemetry Collector."
    parser = argparse.ArgumentParser("python -m bench", description=about, epilog=usual)
    of_each = "with commas between; each with each"
    parser.add_argument("--sizes", type=_list(int), metavar="N,N", help=f"spans a record, {of_each}")
    parser.add_argument("--shape", type=_list(str), metavar="S,S", help=f"{' or '.join(SHAPES)}, {of_each}")
    parser.add_argument("--keep", type=_list(float), metavar="P,P", help=f"per cent of traces kept, {of_each}")
    parser.add_argument("--consumers", type=_list(str), default=list(CONSUMERS), help=f"of {', '.join(CONSUMERS)}")
    parser.add_argument("--records", type=int, help=f"in each topic (default: as many as take {CPU_SECS:g} s of CPU)")
    parser.add_argument("--broker", choices=("apache", "tansu"), default="apache" if JARS.is_dir() else "tansu")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--against", type=Path, metavar="DIRECTORY", help="another checkout, with its .venv, instead")
    instead.add_argument("--open", type=int, metavar="SPANS", help="memory of so many open spans instead")
    instead.add_argument("--check", action="store_true", help="a short run against bench/floors.py instead")
    instead.add_argument("--profile", action="store_true", help="where the daemon's CPU time goes instead")
    instead.add_argument("--features", action="store_true", help="what counting all spans costs instead")
    instead.add_argument("--policies", action="store_true", help="what twenty policies cost beside three, instead")
    instead.add_argument("--redis", action="store_true", help="what Redis costs instead")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each, by turns (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=against.PAIRS, help="with --against (default: %(default)s)")
    parser.add_argument("--buffer-mib", type=int, default=320, help="maxBufferBytes with --open (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw them here")
    options = parser.parse_args(arguments)
    for name, values, known in (("--shape", options.shape, SHAPES), ("--consumers", options.consumers, CONSUMERS)):
        if unknown := set(values or ()).difference(known):
            parser.error(f"{name} {', '.join(sorted(unknown))}: one or more of {', '.join(known)}")
    options.corpora = _corpora(options)
    if options.check:
        options.consumers = ["bare", "tss"]
    if options.profile and len(options.corpora) > 1 and (options.sizes, options.shape, options.keep) == (None,) * 3:
        options.corpora = [SCATTERED, Corpus(8)]
    if options.open and len(options.corpora) > 1:
        parser.error("--open is of one corpus")
    if "collector" in options.consumers and not collector.BINARY.exists():
        options.consumers.remove("collector")
        print(collector.HOW_TO_GET, file=sys.stderr)
    return options


def _list(kind: type) -> Any:
    return lambda text: [kind(each) for each in text.split(",")]


def _corpora(options: argparse.Namespace) -> list[Corpus]:
    chosen = (options.sizes, options.shape, options.keep)
    if chosen == (None, None, None) and not options.open:
        return USUAL
    sizes, shapes, keeps = options.sizes or [8], options.shape or ["keyed"], options.keep or [5]
    chosen_ones = [
        Corpus(SCATTERED.record_spans if shape == SCATTERED.shape else size, shape, keep / 100)
        for size, shape, keep in product(sizes, shapes, keeps)
    ]
    return [*dict.fromkeys(chosen_ones)]  # scattered ones have one size


def machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, scanner {SCANNER}"


if __name__ == "__main__":
    sys.exit(main())
