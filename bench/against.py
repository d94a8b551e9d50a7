"""Two checkouts of the daemon over the same topic, in alternating pairs: whether a change made it slower.

The neighbours on a shared machine cost more than most changes do. Within a pair they cost both about the same, so the
ratios of the pairs are compared: their median, and an interval that holds the true median with 95 % or more, whatever
their distribution (order statistics, the sign test's interval).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from bench.daemon import run_tss
from bench.processes import PYTHON, ROOT, BenchFailed
from bench.runs import Run
from bench.topic import Topic

PAIRS = 9
CONFIDENCE = 0.95
HEAD = f"{'corpus':>17} {'this, us a record':>18} {'other':>7} {'spans per CPU-second of this over the other':>45}"


@frozen
class Pairs:
    """Of one corpus: runs of this checkout and of the other, by turns."""

    topic: Topic
    runs: Sequence[tuple[Run, Run]]

    def __str__(self) -> str:
        ours, others = zip(*self.runs, strict=True)
        micros = [statistics.median(run.micros_per_record for run in some) for some in (ours, others)]
        ratios = [ours.spans_per_cpu_sec / other.spans_per_cpu_sec for ours, other in self.runs]
        low, high = interval(ratios)
        least = min(run.cpu_secs for pair in self.runs for run in pair)
        figure = (
            f"{statistics.median(ratios):.1%} ({low:.1%} to {high:.1%}; {len(ratios)} pairs of {least:.0f} s or more)"
        )
        return f"{self.topic.corpus!s:>17} {micros[0]:>18.2f} {micros[1]:>7.2f} {figure:>45}"


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Two of the values between which the true median lies with CONFIDENCE; all of them where they are too few for it."""
    ordered = sorted(values)
    count, outside, rank = len(ordered), 0.0, 0
    while rank < count // 2:
        outside += 2 * math.comb(count, rank) / 2**count
        if outside > 1 - CONFIDENCE:
            break
        rank += 1
    first = max(rank - 1, 0)
    return ordered[first], ordered[count - 1 - first]


def compare(topic: Topic, directory: Path, other: Path, pairs: int) -> Pairs:
    """Raises BenchFailed when the other checkout has no environment, or a run fails."""
    python = other / ".venv" / "bin" / "python"
    if not python.exists():
        raise BenchFailed(f"{other} has no .venv: run `make setup` there")
    programs = {ROOT: PYTHON, other.resolve(): (str(python), "-m")}
    runs = []
    for number in range(pairs):
        # Who is first has the colder caches, and the broker the warmer ones after it: so each is first in turn.
        turn = [*programs] if number % 2 else [*programs][::-1]
        found = {place: run_tss(topic, directory, python=programs[place], place=place) for place in turn}
        runs.append((found[ROOT], found[other.resolve()]))
    return Pairs(topic, runs)
