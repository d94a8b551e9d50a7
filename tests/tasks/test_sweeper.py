"""What the sweeper says of the decisions that it remembers."""

from __future__ import annotations

import pytest
import trio
from structlog.testing import capture_logs

from tests.core.spans import batch, fragment, record
from tests.fakes.meter import FakeMeter
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.health import Health
from tss.core.memory import Memory
from tss.core.partition import Partition
from tss.core.trace import Trace
from tss.state.assignments import Run
from tss.state.keying import Keying
from tss.tasks import sweeper
from tss.tasks.consumer import Batch

ROOT_QUIET_SECS = 30
TRACES = 1500  # one a second, each in one record


@pytest.mark.parametrize(("remembered", "warnings"), [(10, 1), (10_000, 0)], ids=["ten", "all"])
async def test_law_2_decisions_that_are_forgotten_before_late_spans_can_come_are_warned_of(
    remembered: int, warnings: int
) -> None:
    home, meter = Partition(0, 0, 300_000), FakeMeter()
    memory = Memory(closed_limit=remembered)
    buffer = Buffer(Limits(1 << 30, 10**6, 10**6, 10**6), Waits(1000 * ROOT_QUIET_SECS, 600_000, 10_800_000), memory)
    buffer.adopt(home)
    records = batch([record(number, number, fragment(number)) for number in range(TRACES)])
    polled_in, polled_out = trio.open_memory_channel[Batch](1)
    closed_in, closed_out = trio.open_memory_channel[list[Trace]](100)
    with closed_out, capture_logs() as lines:
        async with trio.open_nursery() as nursery:
            keying = Keying(meter, Health(), rekeyed=False)
            nursery.start_soon(sweeper.run, polled_out, closed_in, buffer, meter, keying)
            for _ in range(2):  # the second look comes too soon to be told
                await polled_in.send(Batch(10**12, [Run(home, records, 0, len(records))], [], 0))
                records = batch([])
            polled_in.close()
    assert len([line for line in lines if "decisions are forgotten within the time" in line["event"]]) == warnings
