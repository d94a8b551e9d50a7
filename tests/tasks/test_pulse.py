"""The pulse, under a clock that the test moves."""

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from tss.core import measures
from tss.core.measures import Measure
from tss.tasks import pulse


class Observed:
    """Of a Meter, what the pulse needs."""

    def __init__(self) -> None:
        self.stalls: list[float] = []

    def observe(self, measure: Measure, value: float, *labels: str) -> None:
        assert measure is measures.LOOP_STALL
        self.stalls.append(round(value, 6))


async def after(jumps: list[float], mock_clock: MockClock) -> list[float]:
    """What is observed when the loop wakes after each of these times only."""
    meter = Observed()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulse.run, meter)
        for jump in jumps:
            await wait_all_tasks_blocked()
            mock_clock.jump(jump)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return meter.stalls


async def test_a_loop_at_ease_is_on_time(autojump_clock):
    meter = Observed()
    with trio.move_on_after(1.05):
        await pulse.run(meter)
    assert meter.stalls == [0] * 10


async def test_a_stall_is_what_came_too_late(mock_clock):
    with capture_logs() as logs:
        assert await after([0.1, 0.35, 0.05, 0.05], mock_clock) == [0, 0.25, 0]
    assert not logs


async def test_a_long_stall_counts_once_and_is_told(mock_clock):
    with capture_logs() as logs:
        assert await after([7.1, 0.1], mock_clock) == [7, 0]
    assert [(entry["log_level"], entry["secs"]) for entry in logs] == [("warning", 7)]


@pytest.mark.parametrize("late", [0.02])
async def test_a_real_stall_is_felt(late):
    import time

    meter = Observed()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulse.run, meter)
        await trio.sleep(pulse.BEAT_SECS - 0.01)
        time.sleep(0.01 + late)  # noqa: ASYNC251 - that is the point
        await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert max(meter.stalls) >= late / 2
