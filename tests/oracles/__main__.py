"""`make oracle`: the Collector's own code and ours on new random cases. Every difference is told, the first ones as small as they get.

The same seed gives the same cases.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any

from tests import policies
from tests.oracles import asking, golden
from tests.oracles.comparing import differences
from tests.oracles.making import cases
from tests.oracles.otel import Case
from tests.oracles.thresholds import thresholds

TOLD = 20  # of each kind


def main(arguments: list[str]) -> int:
    """The exit code: 1 if anything differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.oracles", description=__doc__)
    parser.add_argument("--count", type=int, default=3000, metavar="N", help="configurations, each with ten traces")
    parser.add_argument("--seed", default=str(int(time.time())))
    parser.add_argument(
        "--golden", action="store_true", help="write the answers that the quick tests compare with, and end"
    )
    options = parser.parse_args(arguments)
    if options.golden:
        golden.write()
        return 0
    kinds: list[tuple[str, Callable[[], Iterable[object]]]] = [
        ("verdicts", partial(_verdicts, options.seed, options.count, None)),
        ("verdicts of traces in pieces", partial(_verdicts, options.seed, options.count, 1)),
        ("conditions", lambda: asking.conditions(Random(options.seed), options.count)),
        ("thresholds", lambda: thresholds(Random(options.seed), options.count)),
    ]
    print(f"seed {options.seed}", flush=True)
    total = 0
    for name, found in kinds:
        began, number = time.monotonic(), 0
        for number, told in enumerate(found(), 1):
            if number <= TOLD:
                print(told, flush=True)
        print(f"{name}: {number} of {options.count} differ ({time.monotonic() - began:.0f} s)", flush=True)
        total += number
    return bool(total)


def _verdicts(seed: str, count: int, pieces: int | None) -> Iterable[object]:
    def ours(asked: Sequence[Case]) -> list[Mapping[str, Any]]:
        return [policies.answer(case, pieces) for case in asked]

    return differences(cases(seed, count), ours)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
