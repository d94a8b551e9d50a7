"""The warning of a memory of decisions that reaches back less far than late spans may be."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from tests.core.spans import batch, fragment, record
from tests.fakes.meter import FakeMeter
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.health import Health
from tss.core.memory import Memory
from tss.core.partition import Partition
from tss.core.throttle import LOG_SECS
from tss.core.trace import Trace
from tss.state.assignments import Run
from tss.state.keying import Keying
from tss.tasks import sweeper
from tss.tasks.consumer import Batch

TRACES = 3000
WALL = 10**12


def batches(home: Partition) -> Iterator[Batch]:
    """Ten traces in a second of stream time."""
    for first in range(0, TRACES, 100):
        numbers = range(first, first + 100)
        records = batch([record(each, 1000 + each / 10, fragment(each, root=True)) for each in numbers])
        yield Batch(WALL, [Run(home, records, 0, len(records))], [])


async def warned(remembered: int, root_quiet_secs: int, between_secs: float) -> tuple[list[float], list[object]]:
    """When, in the task's own time, and how far back the memory was said to reach."""
    buffer = Buffer(
        Limits(1 << 30, 10**6, 10**6, 10**6),
        Waits(1000 * root_quiet_secs, 600_000, 10**9),
        Memory(closed_limit=remembered),
    )
    home, meter = Partition(0, 0, 300_000), FakeMeter()
    buffer.adopt(home)
    polled_in, polled_out = trio.open_memory_channel[Batch](0)
    closed_in, closed_out = trio.open_memory_channel[list[Trace]](1000)
    times: list[float] = []
    with closed_out, capture_logs() as lines:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                sweeper.run, polled_out, closed_in, buffer, meter, Keying(meter, Health(), rekeyed=False)
            )
            began = trio.current_time()
            with polled_in:
                for batch in batches(home):
                    await polled_in.send(batch)
                    await trio.sleep(between_secs)
                    times += [trio.current_time() - began] * (len(lines) - len(times))
    found = [line for line in lines if line["event"].startswith("decisions are forgotten within the time")]
    assert len(found) == len(lines)
    return times, [line["reach_secs"] for line in found]


async def test_decisions_that_are_forgotten_before_root_quiet_are_warned_of(autojump_clock: MockClock) -> None:
    times, reaches = await warned(remembered=150, root_quiet_secs=20, between_secs=6)  # 15 s of stream time
    assert len(times) == 1 + int((times[-1] - times[0]) // LOG_SECS) > 1, "once, and then from time to time"
    assert reaches == pytest.approx([12.0] * len(times), abs=4)


@pytest.mark.parametrize(("remembered", "root_quiet_secs"), [(400, 20), (150, 5), (10_000, 60)])
async def test_a_memory_that_reaches_as_far_is_not(
    remembered: int, root_quiet_secs: int, autojump_clock: MockClock
) -> None:
    assert await warned(remembered, root_quiet_secs, between_secs=6) == ([], [])
