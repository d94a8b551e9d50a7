"""What each step of a record's way costs, in one process and without a broker: `python -m bench.steps [--sizes 1,8,50]`.

"scan 20" is the scan with the twenty policies of `bench.policies` in place of the guide's three; from the second round on it
has met all values. What is not in it: librdkafka, the client's messages, the hop between threads, HTTP. Times are the best
of some rounds.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from isal import igzip

from bench.asks import twenty
from bench.corpus import STEP_MS, Corpus
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.combining import Sampler
from tss.core.evaluation import evaluate
from tss.core.memory import Memory
from tss.core.otlp import SCANNER, Encoding, ScanError, Scanner, join
from tss.core.packing import Packer, train
from tss.core.partition import Partition
from tss.core.policies import policies
from tss.core.preparing import Preparation, weigh
from tss.core.weights import Weight
from tss.settings import Sampling, SpanCompression

BATCH = 1_000  # records, as a poll brings them
ROUNDS = 5
QUIET_MS = 2_000
FAR = 1 << 40
STEPS = ("scan", "add", "evaluate", "prepare", "weigh", "join", "gzip", "settle", "pack", "scan 20")
ASIDE = {"pack", "scan 20"}  # not on each record's way

TWENTY = Scanner(program=twenty())  # one for all rounds


class Steps:
    """Nanoseconds by step."""

    def __init__(self) -> None:
        self.spent: defaultdict[str, int] = defaultdict(int)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        began = time.perf_counter_ns()
        try:
            yield
        finally:
            self.spent[step] += time.perf_counter_ns() - began


def run(values: Sequence[bytes], keep: float = 0.0) -> Steps:
    """All values once through everything, in batches. ``keep`` is the default sample rate."""
    steps, offset = Steps(), 0
    scan_errors: list[ScanError] = []
    rates = Sampling(
        error_sample_rate=1.0, latency_threshold_ms=5000, latency_sample_rate=1.0, default_sample_rate=keep
    )
    sampler, preparation = Sampler(policies(rates)), Preparation(SpanCompression())
    waits = Waits(QUIET_MS, 600_000, FAR)
    buffer = Buffer(Limits(FAR, FAR, FAR, FAR), waits, Memory(), program=sampler.program)
    home = Partition(0, 0, FAR, replay_secs=60)
    scanner = Scanner(sampler.program)
    for first in range(0, len(values), BATCH):
        batch = [bytes(bytearray(value)) for value in values[first : first + BATCH]]
        records, twenty_records = scanner.records(), TWENTY.records()
        with steps.timed("scan"):
            for at, value in enumerate(batch, offset):
                records.add(0, at, 1000 + at * STEP_MS)
                scanner.read(value, Encoding.AUTO, records, scan_errors)
        with steps.timed("scan 20"):
            for at, value in enumerate(batch, offset):
                twenty_records.add(0, at, 1000 + at * STEP_MS)
                TWENTY.read(value, Encoding.AUTO, twenty_records, scan_errors)
        offset += len(batch)
        del batch, twenty_records
        with steps.timed("add"):
            buffer.add_some(home, records, 0, len(records), FAR)
        del records
        with steps.timed("evaluate"):
            found = evaluate(buffer.take(), sampler, buffer)
        with steps.timed("prepare"):
            prepared = [preparation.prepare(trace.payload, complete=True) for trace in found.kept]
        with steps.timed("weigh"):
            for trace, each in zip(found.kept, prepared, strict=True):
                if trace.decision is not None:  # all kept ones are decided
                    weight = Weight.of(trace.decision, trace.trace_id, buffer.given_randomness(trace))
                    buffer.rewrite(trace, weigh(each, weight).payload, trace.held_spans)
        with steps.timed("join"):
            body = join(chunk for trace in found.kept for chunk in trace.chunks())
        with steps.timed("gzip"):
            igzip.compress(body, 1, mtime=0)
        with steps.timed("settle"):
            buffer.settle_all(found.kept)
            buffer.settle_all(found.ended)
            del found
    packer = Packer()
    packer.use(train(values[:BATCH]))
    with steps.timed("pack"):
        for value in values:
            packer.pack(value)
    return steps


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.steps", description=__doc__)
    parser.add_argument("--sizes", default="1,8,50", help="spans a record, with commas between (default: %(default)s)")
    parser.add_argument("--spans", type=int, default=400_000, help="for each size (default: %(default)s)")
    parser.add_argument("--keep", type=float, default=0.0, help="the default sample rate (default: %(default)s)")
    options = parser.parse_args()
    gc.set_threshold(50_000, 20, 50)
    print(
        f"scanner {SCANNER}; us a record, the best of {ROUNDS} rounds; {BATCH} records at once; {max(options.keep, 0.05):.0%} kept"
    )
    print(f"{'':>12}", *(f"{step:>9}" for step in STEPS), f"{'on the way':>14}")
    corpora = [Corpus(int(size)) for size in options.sizes.split(",")] + [Corpus(8, shape="mixed")]
    for corpus in corpora:
        count = options.spans // corpus.record_spans
        groups = corpus.groups(-(-count // corpus.group_records), 10**18)
        values = [value for group in groups for _, value in group.records]
        rounds = [run(values, options.keep) for _ in range(ROUNDS)]
        best = {step: min(each.spent[step] for each in rounds) / len(values) / 1000 for step in STEPS}
        total = sum(spent for step, spent in best.items() if step not in ASIDE)
        print(f"{corpus!s:>12}", *(f"{best[step]:>9.2f}" for step in STEPS), f"{total:>14.2f}")


if __name__ == "__main__":
    main()
