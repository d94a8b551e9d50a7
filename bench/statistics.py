"""What it costs to count spans for statistics: `python -m bench.statistics [--sizes 1,8,50]`.

Beside it what the scanner takes for the same bytes, in the same process. The traces are those of `bench.corpus`: of
the sizes given, whole, and once of eight spans in eight records. Times are the best of some rounds.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Sequence

from bench.corpus import Corpus
from tss.core.formats.apm_stats import Concentrator
from tss.core.otlp import Encoding, ScanError, Scanner

ROUNDS = 7


def traces_of(corpus: Corpus, spans: int) -> list[tuple[bytes, list[bytes]]]:
    """Traces with their chunks."""
    scan_errors: list[ScanError] = []
    find = Scanner().fragments
    found: dict[bytes, list[bytes]] = {}
    for group in corpus.groups(-(-spans // corpus.group_spans), time.time_ns()):
        for _, value in group.records:
            for fragment in find(value, Encoding.OTLP_PROTO, scan_errors):
                found.setdefault(fragment.trace_id, []).append(fragment.payload)
    return [*found.items()]


def scan_ns(traces: Sequence[tuple[bytes, list[bytes]]]) -> int:
    scan_errors: list[ScanError] = []
    find = Scanner().fragments
    began = time.perf_counter_ns()
    for _, chunks in traces:
        for chunk in chunks:
            find(chunk, Encoding.OTLP_PROTO, scan_errors)
    return time.perf_counter_ns() - began


def count_ns(traces: Sequence[tuple[bytes, list[bytes]]]) -> tuple[int, int, int]:
    """All of it, that the series of a new process are named included; and the second time, when they are known; and
    what it takes to take the groups."""
    concentrator = Concentrator(time.time_ns())
    add = concentrator.add
    spent = []
    for _ in range(2):
        began = time.perf_counter_ns()
        for trace_id, chunks in traces:
            add(trace_id, chunks, kept=False)
        spent.append(time.perf_counter_ns() - began)
    began = time.perf_counter_ns()
    concentrator.take(time.time_ns())
    return spent[0], spent[1], time.perf_counter_ns() - began


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.statistics", description=__doc__)
    parser.add_argument("--sizes", default="1,8,50", help="spans a trace, with commas between (default: %(default)s)")
    parser.add_argument("--spans", type=int, default=100_000, help="for each size (default: %(default)s)")
    options = parser.parse_args()
    gc.set_threshold(50_000, 20, 50)
    print(f"us a span, the best of {ROUNDS} rounds")
    print(f"{'':>12}", *(f"{word:>10}" for word in ("scan", "count", "first time", "take (ms)", "groups")))
    for corpus in [Corpus(int(size)) for size in options.sizes.split(",")] + [Corpus(8, shape="mixed")]:
        traces = traces_of(corpus, options.spans)
        concentrator = Concentrator(time.time_ns())
        for trace_id, chunks in traces:
            concentrator.add(trace_id, chunks, kept=False)
        spans = concentrator.spans
        counted = [count_ns(traces) for _ in range(ROUNDS)]
        scan = min(scan_ns(traces) for _ in range(ROUNDS))
        first, again, take = (min(each) for each in zip(*counted, strict=True))
        figures = [f"{ns / spans / 1000:>10.3f}" for ns in (scan, again, first)]
        print(f"{corpus!s:>12}", *figures, f"{take / 1e6:>10.2f}", f"{concentrator.groups:>10}")


if __name__ == "__main__":
    main()
