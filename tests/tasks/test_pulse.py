"""The pulse, under a clock that the test moves."""

import time

import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.fakes.meter import FakeMeter
from tss.core import measures
from tss.tasks import pulse


def stalls(meter: FakeMeter) -> list[float]:
    return [round(stall, 6) for stall in meter.observed[measures.LOOP_STALL.name, ()]]


async def after(jumps: list[float], mock_clock: MockClock) -> list[float]:
    """What is observed when the loop wakes after each of these times only."""
    meter = FakeMeter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulse.run, meter)
        for jump in jumps:
            await wait_all_tasks_blocked()
            mock_clock.jump(jump)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return stalls(meter)


class Impatient(FakeMeter):
    """Of a pulse that does not rest between two beats there would be no end on this clock."""

    def observe(self, measure: measures.Measure, value: float, *labels: str) -> None:
        super().observe(measure, value, *labels)
        assert len(self.observed[measure.name, labels]) <= 10, "ten beats a second"


async def test_a_loop_at_ease_is_on_time(autojump_clock):
    meter = Impatient()
    with trio.move_on_after(1.05):
        await pulse.run(meter)
    assert stalls(meter) == [0] * 10


async def test_a_stall_is_what_came_too_late(mock_clock):
    with capture_logs() as logs:
        assert await after([0.1, 0.35, 0.05, 0.05], mock_clock) == [0, 0.25, 0]
    assert not logs


async def test_a_long_stall_counts_once_and_is_told(mock_clock):
    with capture_logs() as logs:
        assert await after([7.1, 0.1], mock_clock) == [7, 0]
    assert [(entry["log_level"], entry["secs"]) for entry in logs] == [("warning", 7)]


async def test_a_real_stall_is_felt():
    """On the real clock: whatever else the machine does, the loop was held up for that long, and it can only be longer."""
    meter = FakeMeter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulse.run, meter)
        await wait_all_tasks_blocked()  # the beat is due within BEAT_SECS from now
        time.sleep(pulse.BEAT_SECS + 0.2)  # noqa: ASYNC251 - that is the point
        while not stalls(meter):
            await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
    assert stalls(meter)[0] >= 0.2
