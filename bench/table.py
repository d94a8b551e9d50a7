"""The figures of the runs over one corpus, for the terminal and for a file."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from bench.runs import Run
from bench.topic import Topic

HEAD = (
    f"{'corpus':>13} {'consumer':>10} {'records':>8} {'CPU s':>7} {'us a record':>12} {'spans a CPU-second':>19} "
    f"{'ratio':>7} {'wall s':>7} {'peak MiB':>9} {'stall p99 ms':>13}"
)


@frozen
class Row:
    """One corpus."""

    topic: Topic
    runs: dict[str, Run]  # by consumer

    def ratio(self, consumer: str) -> float | None:
        """Its spans per CPU-second over the bare consumer's."""
        if (bare := self.runs.get("bare")) is None:
            return None
        return self.runs[consumer].spans_per_cpu_sec / bare.spans_per_cpu_sec

    def __str__(self) -> str:
        return "\n".join(self._line(consumer, run) for consumer, run in self.runs.items())

    def _line(self, consumer: str, run: Run) -> str:
        ratio = self.ratio(consumer)
        return (
            f"{self.topic.corpus!s:>13} {consumer:>10} {run.records:>8} {run.cpu_secs:>7.2f} "
            f"{run.micros_per_record:>12.1f} {run.spans_per_cpu_sec:>19,.0f} {'' if ratio is None else f'{ratio:.1%}':>7} "
            f"{run.wall_secs:>7.1f} {run.peak_bytes / (1 << 20):>9.0f} "
            f"{'' if run.stall_ms is None else f'{run.stall_ms:.1f}':>13}"
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "corpus": str(self.topic.corpus),
            "spans_per_record": self.topic.corpus.record_spans,
            "mixed": self.topic.corpus.mixed,
            "keep": self.topic.corpus.keep,
            "records": self.topic.records,
            "bytes": self.topic.size_bytes,
            "traces": self.topic.traces,
            "kept_traces": self.topic.kept_traces,
            "runs": {name: run.to_json() | {"ratio": self.ratio(name)} for name, run in self.runs.items()},
        }
