"""Law 5: what the buffer says it holds is what the process takes for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.alone


@pytest.mark.parametrize(
    ("spans", "records", "mib", "packed"),
    [(1, 300_000, 1000, False), (8, 40_000, 1000, False), (50, 6_000, 1000, False), (8, 60_000, 204, True)],
)
def test_law_5_held_bytes_agree_with_resident_memory_within_15_percent(
    spans: int, records: int, mib: int, packed: bool
) -> None:
    command = [sys.executable, "-m", "tests.core.holding", *map(str, (spans, records, mib))]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    early, held, taken, packs = map(int, said.split())
    assert early == 0
    assert (packs > 0) is packed
    assert held == pytest.approx(taken, rel=0.15)
