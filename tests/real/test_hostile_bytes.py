"""Law 5: whatever comes, what is said to be held is what the process takes, and it stays below the limit."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.alone

MIB = 1 << 20
LIMIT_MIB = 48
# Rounds that fill the limit at least twice, or reach what bounds the kind. A third of them is the first look.
ROUNDS = {
    "many_traces": 90,
    "low_water": 900,
    "values": 900,
    "huge": 450,
    "partitions": 900,
    "cardinality": 900,
    "wide": 600,
    "kept": 900,
    "broken": 300,
    "everything": 1200,
}
# Beside what is told: the tables of statistics and span metrics, the template of each record's text, the heap's holes.
BESIDE_BYTES = 30 * MIB


@pytest.mark.parametrize("kind", ROUNDS)
def test_law_5_hostile_traffic_stays_within_the_limit(kind: str) -> None:
    command = [sys.executable, "-m", "tests.core.hostile", kind, str(LIMIT_MIB), str(ROUNDS[kind])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    looks = [[int(word) for word in line.split()] for line in done.stdout.splitlines()]
    first, second, third = looks
    for told, most, taken, _ in looks:
        assert most <= LIMIT_MIB * MIB, (looks, done.stderr)
        assert taken <= 1.15 * told + BESIDE_BYTES, (looks, done.stderr)
    grown_told, grown = third[0] - second[0], third[2] - second[2]
    assert third[3] - second[3] >= 0.9 * (second[3] - first[3]), "as much traffic again"
    assert grown <= max(grown_told, 0) * 1.15 + 6 * MIB, (looks, done.stderr)
