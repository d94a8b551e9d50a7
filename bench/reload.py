"""How long a change of the policies keeps the event loop busy at once: `python -m bench.reload [--open 100000]`.

That many traces are open, scanned for twenty policies. Then others come, which ask about other attributes: the open traces are
scanned again when they are decided. A step is what runs without a checkpoint: up to 500 records added, up to 500 traces
decided, or the change itself. Printed are the slowest hundredth of the steps before the change, and the slowest step after
it, in milliseconds of CPU time, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

import attrs

from bench.corpus import Corpus
from bench.policies import TWENTY
from tests.fakes.meter import FakeMeter
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.evaluation import evaluate
from tss.core.judging import Judge
from tss.core.memory import Memory
from tss.core.otlp import Encoding, ScanError, Scanner
from tss.core.ruleset import Change
from tss.core.startposition import StartPosition
from tss.daemon.wiring import ruleset_of
from tss.settings import Sampling, sampling_of
from tss.state.assignments import Assignments
from tss.state.rulesets import Rulesets
from tss.tasks.sweeper import RECORDS_AT_ONCE, TRACES_AT_ONCE

P = ParamSpec("P")
T = TypeVar("T")

FAR = 1 << 40
WAIT_MS = 30_000
OTHER = "policies: [{name: other, keep: 0.5, when: {attribute: {bench.other: '1'}}}, {name: rest, keep: 0.1}]"


@attrs.define
class Steps:
    """The CPU time of each step in ms."""

    took: list[float] = attrs.field(factory=list)

    def timed(self, step: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        began = time.thread_time_ns()
        found = step(*arguments, **named)
        self.took.append((time.thread_time_ns() - began) / 1e6)
        return found


class Bench:
    """A buffer with one partition, fed and emptied as the sweeper and an evaluator do."""

    def __init__(self, sampling: Sampling) -> None:
        first = ruleset_of(sampling, ())
        self.rulesets = Rulesets(first, Change(first.fingerprint, 1, 0.0), FakeMeter())
        self.buffer = Buffer(
            Limits(FAR, FAR, FAR, FAR), Waits(WAIT_MS, WAIT_MS, FAR), Memory(), program=self.rulesets.program
        )
        self.assignments = Assignments(
            "bench", self.buffer, FakeMeter(), max_skew_ms=0, replay_secs=60, commits=False, rulesets=self.rulesets
        )
        self.assignments.assigned({0: StartPosition(0, 0, committed=False, end=0)})
        (self.home,) = self.assignments
        self.judge = Judge(self.buffer, self.rulesets.choose)
        self.scanner = Scanner(self.rulesets.program)
        self.offset = 0

    def read(self, values: Sequence[bytes], at_ms: int, steps: Steps) -> None:
        """Add these records, and decide what that closes."""
        if self.scanner.records().program is not self.rulesets.program:
            self.scanner = Scanner(self.rulesets.program)
        errors: list[ScanError] = []
        for first in range(0, len(values), RECORDS_AT_ONCE):
            records = self.scanner.records()
            for value in values[first : first + RECORDS_AT_ONCE]:
                records.add(0, self.offset, at_ms)
                self.scanner.read(value, Encoding.AUTO, records, errors)
                self.offset += 1
            steps.timed(self.buffer.add_some, self.home, records, 0, len(records), FAR)
            closed = self.buffer.take()
            for start in range(0, len(closed), TRACES_AT_ONCE):
                batch = closed[start : start + TRACES_AT_ONCE]
                sampler = self.rulesets.current.sampler
                found = steps.timed(evaluate, batch, sampler, self.buffer, None, self.judge)
                self.buffer.settle_all(found.kept)
                self.buffer.settle_all(found.ended)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.reload", description=__doc__)
    parser.add_argument("--open", type=int, default=100_000, help="traces (default: %(default)s)")
    parser.add_argument("--spans", type=int, default=8, help="of a trace (default: %(default)s)")
    options = parser.parse_args()
    gc.set_threshold(50_000, 20, 50)  # as the daemon does
    values = [value for group in Corpus(options.spans).groups(2 * options.open, 10**18) for _, value in group.records][
        : 2 * options.open
    ]
    bench, before, after = Bench(sampling_of(json.dumps({"otelTailSampling": {"policies": TWENTY}}))), Steps(), Steps()
    each = max(1, options.open // (WAIT_MS // 100))  # traces in 100 ms, so that as many are open as asked
    now_ms, half = 10**12, len(values) // 2

    def feed(some: Sequence[bytes], steps: Steps) -> None:
        nonlocal now_ms
        for first in range(0, len(some), each):
            now_ms += 100
            bench.read(some[first : first + each], now_ms, steps)

    feed(values[: half + half // 4], before)
    opened = bench.buffer.open_traces
    other = ruleset_of(sampling_of(OTHER), ())
    after.timed(bench.rulesets.accept, other, Change(other.fingerprint, 2, 0.0))
    feed(values[half + half // 4 :], after)
    slowest = sorted(before.took)[len(before.took) * 99 // 100]
    print(
        f"{opened:,} traces open at the change, which took {after.took[0]:.2f} ms; slowest hundredth before {slowest:.2f} ms, "
        f"slowest after {max(after.took):.2f} ms, of {len(before.took):,} and {len(after.took):,} steps"
    )


if __name__ == "__main__":
    main()
