"""The Collector's verdicts on 3,000 configurations with 10 traces each, in a file: the quick tests need no Go.

That the file says what the Collector's own code says, a test of the real tier sees to (`tests/real/test_collector_oracle.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.oracles import making, otel
from tests.oracles.answers import line
from tests.oracles.otel import Answer, Case

FILE = Path(__file__).parent / "verdicts.golden"
SEED = "golden"
COUNT = 3000
STALE = "the random cases are others than when this file was written: python -m tests.oracles --golden"


def lines(cases: Iterable[Case], answers: Iterable[Answer]) -> list[str]:
    """One for each case: a hash of it, and the verdicts in the order of its traces."""
    return [f"{_hash(case)} {line(case, answer)}" for case, answer in zip(cases, answers, strict=True)]


def _hash(case: Case) -> str:
    return hashlib.sha256(json.dumps(case, sort_keys=True).encode()).hexdigest()[:8]


def write() -> None:
    """Ask the Collector's code, which may have to be built first."""
    cases = making.cases(SEED, COUNT)
    FILE.write_text("".join(f"{each}\n" for each in lines(cases, otel.verdicts(cases))))


def cases(first: int, end: int) -> Iterator[tuple[Case, str]]:
    """Cases, each with the Collector's verdicts as `answers.line` tells them."""
    written = FILE.read_text().splitlines()
    for number in range(first, end):
        case = making.case(SEED, number)
        mark, _, verdicts = written[number].partition(" ")
        assert mark == _hash(case), STALE
        yield case, verdicts
