"""A case whose traces are parked after some of its records. The next owner takes them over, and reads all records again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from tests.core.spans import scanned
from tests.policies import LATER_MS, NOW_MS, PLENTY, Wire
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.collector import Plan
from tss.core.combining import Sampler
from tss.core.decision import Decision
from tss.core.evaluation import evaluate
from tss.core.memory import Memory
from tss.core.otlp import Scanner
from tss.core.parked import Shelf, Summary
from tss.core.partition import Partition

FAR_MS = 10**9


def verdicts(plan: Plan, records: Sequence[Wire], cut: int) -> dict[bytes, Decision]:
    """The decision about each trace: after `cut` of the records, all open traces are parked."""
    first = _Owner(plan)
    first.read(records[:cut])
    summaries = dict(first.parked())
    second = _Owner(plan)
    second.buffer.take_over(second.home, summaries)
    second.read(records)
    second.buffer.reach(second.home, LATER_MS)
    found = evaluate(second.buffer.take(), second.sampler, second.buffer)
    return {trace.trace_id: trace.decision for trace in (*found.kept, *found.ended) if trace.decision is not None}


class _Owner:
    """A replica with the partition."""

    def __init__(self, plan: Plan) -> None:
        self.sampler: Sampler = plan.sampler()
        self.home = Partition(0, 0, FAR_MS, shelf=Shelf("token"))
        self.buffer = Buffer(
            Limits(PLENTY, PLENTY, PLENTY, PLENTY, plan.max_trace_bytes),
            Waits(PLENTY, PLENTY, PLENTY, plan.decision_wait_ms, plan.root_wait_ms),
            Memory(),
            program=self.sampler.program,
        )
        self._scanner = Scanner(program=self.sampler.program)

    def read(self, records: Sequence[Wire]) -> None:
        """From the first offset on."""
        for offset, (value, encoding) in enumerate(records):
            self.buffer.add(self.home, scanned(self._scanner, value, offset, NOW_MS, encoding), NOW_MS)

    def parked(self) -> Iterator[tuple[bytes, Summary]]:
        """All open traces, as Redis gives them to the next owner."""
        for trace in self.buffer.to_park(0, 1 << 20):
            summary, _ = trace.leave()
            self.buffer.park(trace)
            stored = Summary.from_bytes(summary.to_bytes())
            yield (
                trace.trace_id,
                attrs.evolve(stored, program=self.sampler.program.fingerprint).under(
                    {self.sampler.program.fingerprint: self.sampler.program}
                ),
            )
