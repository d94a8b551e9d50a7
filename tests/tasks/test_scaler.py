"""The scaler's group is told in time, and holds up nothing when it cannot be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import trio
from trio.testing import MockClock

from tests.core.spans import batch, record
from tests.fakes.meter import FakeMeter
from tss.core import measures
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.errors import CannotCommit
from tss.core.memory import Memory
from tss.core.startposition import StartPosition
from tss.state.assignments import Assignments
from tss.tasks import scaler


@attrs.define
class Offsets:
    """Implements ReadGroup."""

    held: dict[int, int] = attrs.field(factory=dict)
    told: list[tuple[float, dict[int, int]]] = attrs.field(factory=list)
    refuses: bool = False
    hangs: bool = False

    async def standing(self, ids: Sequence[int]) -> dict[int, int]:
        await self._mood()
        return {id: self.held.get(id, -1) for id in ids}

    async def commit(self, positions: Mapping[int, int]) -> None:
        await self._mood()
        self.told.append((trio.current_time(), dict(positions)))
        self.held |= positions

    async def _mood(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.hangs:
            await trio.sleep_forever()
        if self.refuses:
            raise CannotCommit("NOT_COORDINATOR")


class Rig:
    def __init__(self) -> None:
        self.meter, self.offsets, self.stop = FakeMeter(), Offsets(), trio.Event()
        buffer = Buffer(Limits(1 << 30, 1000, 1000, 1000), Waits(30_000, 30_000, 30_000), Memory())
        self.assignments = Assignments("t", buffer, self.meter, max_skew_ms=0, replay_secs=0, commits=True)

    def assign(self, **starts: int) -> None:
        self.assignments.assigned({int(id[1:]): StartPosition(at, at, committed=True) for id, at in starts.items()})

    def read(self, *offsets: int) -> None:
        self.assignments.bind(batch([record(offset, 1.0) for offset in offsets]))

    async def run(self, secs: float) -> None:
        await scaler.run(self.offsets, self.assignments, self.meter, self.stop, secs)


async def test_the_positions_are_told_at_every_interval_and_at_the_stop(autojump_clock: MockClock) -> None:
    rig = Rig()
    rig.assign(p0=10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run, 5.0)
        await trio.sleep(5.5)
        rig.read(10, 11, 12)
        await trio.sleep(10)
        rig.read(13)
        await trio.sleep(1)
        rig.stop.set()
    assert rig.offsets.told == [(5.0, {0: 10}), (10.0, {0: 13}), (16.5, {0: 14})]
    assert rig.meter.counted(measures.SCALER_COMMITS, "ok") == 3


async def test_a_partition_that_goes_is_told_at_once_and_then_no_more(autojump_clock: MockClock) -> None:
    rig = Rig()
    rig.assign(p0=10, p1=20)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run, 5.0)
        await trio.sleep(6)
        rig.read(10, 11)
        await rig.assignments.revoked([0])
        await trio.sleep(0.1)
        rig.offsets.held[0] = 99  # its next owner's
        await trio.sleep(10)
        rig.assign(p0=50)  # and back: what stands now is asked again
        await trio.sleep(10)
        rig.stop.set()
    assert rig.offsets.told == [(5.0, {0: 10, 1: 20}), (6.0, {0: 12})]
    assert rig.offsets.held == {0: 99, 1: 20}


async def test_who_gets_a_partition_goes_on_from_what_stands(autojump_clock: MockClock) -> None:
    rig = Rig()
    rig.offsets.held = {0: 13}
    rig.assign(p0=10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run, 1.0)
        await trio.sleep(1.5)
        rig.read(10, 11)
        await trio.sleep(1)
        rig.read(12, 13)
        await trio.sleep(1)
        rig.stop.set()
    assert rig.offsets.told == [(3.0, {0: 14})]


async def test_law_8_a_group_that_refuses_or_hangs_is_counted_and_tried_again(autojump_clock: MockClock) -> None:
    rig = Rig()
    rig.assign(p0=10)
    rig.offsets.refuses = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run, 1.0)
        await trio.sleep(2.5)
        assert rig.meter.counted(measures.SCALER_COMMITS, "failed") == 2
        rig.offsets.refuses, rig.offsets.hangs = False, True
        with trio.fail_after(0.1):
            for _ in range(50):  # more handovers than are remembered: none waits
                rig.assign(p1=5)
                await rig.assignments.revoked([1])
        await trio.sleep(100)
        assert rig.meter.counted(measures.SCALER_COMMITS, "failed") >= 15
        rig.offsets.hangs = False
        await trio.sleep(10)
        rig.stop.set()
    assert rig.offsets.held[0] == 10


async def test_law_9_a_group_that_hangs_holds_the_stop_up_for_seconds_only(autojump_clock: MockClock) -> None:
    rig = Rig()
    rig.assign(p0=10)
    rig.offsets.hangs = True
    rig.stop.set()
    await rig.run(5.0)
    # Both what parted and what stays; the daemon does not even wait for these.
    assert trio.current_time() <= 2 * scaler.ANSWER_SECS
    await rig.assignments.revoked([0])  # nobody listens any more


async def test_at_the_logs_end_the_group_stands_there_whatever_no_reader_gets(autojump_clock: MockClock) -> None:
    """An aborted transaction comes last: KEDA would see a lag for ever."""
    rig = Rig()
    rig.assign(p0=10, p1=0)
    rig.read(10)
    rig.assignments.reach({0: 14, 9: 3})
    assert rig.assignments.positions() == {0: 14, 1: 0}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run, 5.0)
        await trio.sleep(6)
        rig.stop.set()
    assert rig.offsets.held == {0: 14, 1: 0}


async def test_a_partition_that_comes_back_is_read_from_where_it_is_assigned() -> None:
    rig = Rig()
    rig.assign(p0=10)
    rig.assignments.reach({0: 14})
    rig.assignments.lost([0])
    rig.assign(p0=10)
    assert rig.assignments.positions() == {0: 10}
    rig.assignments.reach({0: 14})
    rig.read(15)
    assert rig.assignments.positions() == {0: 16}


async def test_a_partition_that_goes_is_told_with_its_end(autojump_clock: MockClock) -> None:
    rig = Rig()
    rig.assign(p0=10)
    rig.read(10)
    rig.assignments.reach({0: 14})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run, 1000.0)
        await trio.sleep(1)
        await rig.assignments.revoked([0])
        await trio.sleep(1)
        assert rig.offsets.held == {0: 14}
        rig.stop.set()
