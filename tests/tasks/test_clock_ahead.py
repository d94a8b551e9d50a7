"""What the sweeper says of clocks that are ahead."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from tests.core.spans import batch, fragment, record
from tests.fakes.meter import FakeMeter
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.health import Health
from tss.core.memory import Memory
from tss.core.otlp import Records
from tss.core.partition import Partition
from tss.core.throttle import LOG_SECS
from tss.core.trace import Trace
from tss.state.assignments import Run
from tss.state.keying import Keying
from tss.tasks import sweeper
from tss.tasks.consumer import Batch

WALL_SECS = 1_000_000
EVENT = "a record's timestamp is ahead of the clock"


def records(first: int, *ahead_secs: float) -> Records:
    return batch(
        [record(first + number, WALL_SECS + secs, fragment(first + number)) for number, secs in enumerate(ahead_secs)]
    )


async def told(buffer: Buffer, batches: Sequence[tuple[Partition, Records]], clock: MockClock) -> list[list[object]]:
    """Partition, offset and seconds of each warning, by batch; half a minute lies between two batches."""
    polled_in, polled_out = trio.open_memory_channel[Batch](0)
    closed_in, closed_out = trio.open_memory_channel[list[Trace]](100)
    keying = Keying(FakeMeter(), Health(), rekeyed=False)
    found: list[list[object]] = []
    with closed_out:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sweeper.run, polled_out, closed_in, buffer, FakeMeter(), keying)
            with polled_in:
                for partition, read in batches:
                    with capture_logs() as lines:
                        await polled_in.send(Batch(WALL_SECS * 1000, [Run(partition, read, 0, len(read))], []))
                        await trio.testing.wait_all_tasks_blocked()
                    said = [each for each in lines if each["event"].startswith(EVENT)]
                    found.append([(each["partition"], each["offset"], each["ahead_secs"]) for each in said])
                    clock.jump(LOG_SECS)
    return found


async def test_the_record_that_is_ahead_is_named_once(mock_clock: MockClock) -> None:
    buffer = Buffer(Limits(1 << 30, 10**6, 10**6, 10**6), Waits(30_000, 600_000, 10_800_000), Memory())
    one, two = Partition(1, 0, 300_000), Partition(2, 0, 300_000)
    for each in (one, two):
        buffer.adopt(each)
    said = await told(
        buffer,
        [
            (two, records(0, -1, 9.9)),  # not far enough to be told
            (one, records(0, 0, 290, 5)),
            (one, records(3, 0, 100)),  # below the one before: it has been told
            (one, records(5, 299.5, 301)),  # the second is further ahead than is believed
            (two, records(2, -1, -3600)),
        ],
        mock_clock,
    )
    assert said == [[], [(1, 1, 290.0)], [], [(1, 5, 299.5)], []]
    assert buffer.ahead_secs(WALL_SECS * 1000) == pytest.approx(299.5)
    assert buffer.ahead_secs((WALL_SECS + 300) * 1000) == 0
