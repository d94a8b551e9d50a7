"""The figures of the runs over one corpus, for the terminal and for a file."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from attrs import field, frozen

from bench.runs import Run
from bench.topic import Topic

HEAD = (
    f"{'corpus':>17} {'consumer':>10} {'records':>9} {'runs':>5} {'CPU s':>7} {'us a record':>12} "
    f"{'spans a CPU-second':>19} {'least-most':>23} {'ratio':>7} {'least-most':>13} {'wall s':>7} {'peak MiB':>9} "
    f"{'stall p99 ms':>13}"
)


@frozen
class Spread:
    """Some figures of the same thing: their median, the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Spread:
        return cls(statistics.median(figures), min(figures), max(figures))

    def __str__(self) -> str:
        return f"{self.median:.1%} ({self.least:.1%} to {self.most:.1%})"


@frozen
class Row:
    """One corpus, and the runs of each consumer over it: the first ones of all took turns, then the second ones."""

    topic: Topic
    runs: dict[str, list[Run]] = field(factory=dict)

    def add(self, consumer: str, run: Run) -> None:
        self.runs.setdefault(consumer, []).append(run)

    def spread(self, consumer: str, figure: Callable[[Run], float]) -> Spread:
        return Spread.of([figure(run) for run in self.runs[consumer]])

    def share(self, consumer: str, other: str) -> Spread:
        """Its spans per CPU-second over those of the other in the same turn."""
        turns = zip(self.runs[consumer], self.runs[other], strict=True)
        return Spread.of([run.spans_per_cpu_sec / beside.spans_per_cpu_sec for run, beside in turns])

    def ratio(self, consumer: str) -> float | None:
        """The same beside the bare consumer, the median; None where that did not run."""
        return self.share(consumer, "bare").median if "bare" in self.runs else None

    def __str__(self) -> str:
        return "\n".join(map(self._line, self.runs))

    def _line(self, consumer: str) -> str:
        runs = self.runs[consumer]
        speed = self.spread(consumer, lambda run: run.spans_per_cpu_sec)
        middle = {
            name: statistics.median(getattr(run, name) for run in runs)
            for name in ("cpu_secs", "micros_per_record", "wall_secs", "peak_bytes")
        }
        share = self.share(consumer, "bare") if "bare" in self.runs else None
        ratio = f"{share.median:>7.1%} {share.least:>6.1%}-{share.most:.1%}" if share else f"{'':>7} {'':>13}"
        stalls = [run.stall_ms for run in runs if run.stall_ms is not None]
        return (
            f"{self.topic.corpus!s:>17} {consumer:>10} {runs[0].records:>9} {len(runs):>5} {middle['cpu_secs']:>7.2f} "
            f"{middle['micros_per_record']:>12.2f} {speed.median:>19,.0f} {f'{speed.least:,.0f}-{speed.most:,.0f}':>23} "
            f"{ratio:>21} {middle['wall_secs']:>7.1f} {middle['peak_bytes'] / (1 << 20):>9.0f} "
            f"{f'{max(stalls):.1f}' if stalls else '':>13}"
        )

    def to_json(self) -> dict[str, Any]:
        corpus = self.topic.corpus
        return {
            "corpus": str(corpus),
            "spans_per_record": corpus.record_spans,
            "shape": corpus.shape,
            "keep": corpus.keep,
            "records": self.topic.records,
            "bytes": self.topic.size_bytes,
            "traces": self.topic.traces,
            "kept_traces": self.topic.kept_traces,
            "runs": {name: self._figures(name) for name in self.runs},
        }

    def _figures(self, consumer: str) -> dict[str, Any]:
        """What the plot draws: medians; and each run."""
        return {
            "spans_per_cpu_sec": self.spread(consumer, lambda run: run.spans_per_cpu_sec).median,
            "peak_bytes": self.spread(consumer, lambda run: run.peak_bytes).median,
            "ratio": self.ratio(consumer),
            "each": [run.to_json() for run in self.runs[consumer]],
        }
