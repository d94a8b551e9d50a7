"""What the log says of thousands of partitions fits into a line that container runtimes do not cut."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.fakes.meter import FakeMeter
from tss.core.alignment import Alignment
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.memory import Memory
from tss.core.partition import Commit
from tss.core.startposition import StartPosition
from tss.state import debug_lines
from tss.state.assignments import Assignments
from tss.state.inputs import Inputs

LINE_BYTES = 16 * 1024
IDS = range(3_000)
STARTS = {id: StartPosition(10**12 + id, 10**12, committed=True) for id in IDS}


def assigned() -> Assignments:
    buffer = Buffer(Limits(1 << 30, 1000, 1000, 1000), Waits(30_000, 30_000, 30_000), Memory())
    made = Assignments("t", buffer, FakeMeter(), max_skew_ms=0, replay_secs=60, commits=True)
    made.assigned(STARTS)
    return made


def inputs() -> Inputs:
    made = Inputs("t", Alignment(1000), FakeMeter())
    made.assigned(STARTS)
    return made


def commits() -> None:
    debug_lines.tell_commit({id: Commit(10**12 + id, 10**12) for id in IDS})


@pytest.mark.parametrize(
    "happens", [assigned, lambda: assigned().lost(IDS), inputs, lambda: inputs().lost(IDS), commits]
)
def test_no_line_is_longer_than_runtimes_take(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], Any]) -> None:
    monkeypatch.setattr(debug_lines, "is_told", lambda: True)
    with capture_logs() as lines:
        happens()
    assert lines
    assert max(len(json.dumps(line)) for line in lines) < LINE_BYTES - 1_000
