"""How long the topic keeps its records is shown beside what is still needed of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import trio
from trio.testing import MockClock

from tests.core.spans import one_record
from tests.fakes.meter import FakeMeter
from tss.core import measures
from tss.core.alignment import Alignment
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.memory import Memory
from tss.core.retention import Retention
from tss.core.startposition import StartPosition
from tss.state.assignments import Assignments
from tss.state.inputs import Inputs
from tss.tasks import keeper

WALL_SECS = 10_000.0


class Topic:
    """What a broker would say."""

    topic = "t"

    def __init__(self) -> None:
        self.settings = Retention(86_400, math.inf)
        self.at: dict[int, int] = {}
        self.asked = 0

    async def retention(self) -> Retention:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        return self.settings

    async def first(self, ids: Sequence[int]) -> Mapping[int, int]:
        await trio.lowlevel.checkpoint()
        return {id: self.at[id] for id in ids if id in self.at}


def assignments(meter: FakeMeter) -> tuple[Assignments, Buffer]:
    buffer = Buffer(Limits(1 << 30, 1000, 1000, 1000), Waits(1000, 1000, 1000), Memory())
    made = Assignments("t", buffer, meter, max_skew_ms=0, replay_secs=0, commits=True, wall_secs=lambda: WALL_SECS)
    return made, buffer


async def test_the_headroom_is_what_may_be_deleted_without_a_loss(autojump_clock: MockClock) -> None:
    meter, topic, stop = FakeMeter(), Topic(), trio.Event()
    ours, _ = assignments(meter)
    topic.at = {0: 40, 1: 7}
    ours.assigned(
        {
            0: StartPosition(100, 90, committed=True),
            1: StartPosition(7, 7, committed=True),
            2: StartPosition(1, 1, committed=True),
        }
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run, topic, ours, meter, stop)
        await trio.sleep(0.5)
        gauges = {labels[1]: value for (name, labels), value in meter.gauges.items() if name == measures.HEADROOM.name}
        assert gauges == {"0": 60, "1": 0}, "of 2 the broker does not tell"
        assert meter.gauges[measures.RETENTION.name, ("t",)] == 86_400
        assert meter.gauges[measures.RETENTION_BYTES.name, ("t",)] == math.inf
        ours.lost([0])
        topic.settings = Retention()
        await trio.sleep(keeper.LOOK_SECS * (keeper.SETTINGS_LOOKS + 1))
        gauges = {labels[1]: value for (name, labels), value in meter.gauges.items() if name == measures.HEADROOM.name}
        assert gauges == {"1": 0}
        assert math.isnan(meter.gauges[measures.RETENTION.name, ("t",)]), "and not what it was"
        stop.set()
    assert topic.asked == 2, "the settings are asked for more rarely"


def test_the_age_is_shown_while_a_record_waits_and_ends_with_it() -> None:
    meter = FakeMeter()
    ours, buffer = assignments(meter)
    ours.assigned({0: StartPosition(5, 5, committed=True)})
    age = meter.watched[measures.OLDEST_AGE.name, ("t", "0")]
    assert (age(), meter.counters[measures.RECORDS_LOST.name, ("t", "0")]) == (0, 0)
    (partition,) = ours
    ours.show_lags({0: 3})
    assert math.isnan(age()), "something waits, and nobody knows how old it is"
    buffer.add(partition, one_record(0, 5, 4_000_000, ()), 10**15)
    assert age() == 6_000, "what was not read is at most as old as what was"
    ours.show_lags({0: 0})
    assert age() == 0
    ours.lost([0])
    assert (measures.OLDEST_AGE.name, ("t", "0")) not in meter.watched


def test_the_first_stage_tells_the_same_of_its_input() -> None:
    meter = FakeMeter()
    inputs = Inputs("in", Alignment(1000), meter, wall_secs=lambda: WALL_SECS)
    inputs.assigned({0: StartPosition(5, 5, committed=True)})
    age = meter.watched[measures.OLDEST_AGE.name, ("in", "0")]
    assert (inputs.needed(), age()) == ({0: 5}, 0)
    for offset in (5, 6):
        inputs.alignment.add(one_record(0, offset, 4_000_000 + offset * 1000, ()), 0, (), 10**15)
    inputs.alignment.reach([0])
    assert (inputs.needed(), age()) == ({0: 5}, 5_995)
    inputs.in_hand = inputs.alignment.take(1, 10**15)
    assert (inputs.needed(), age()) == ({0: 5}, 5_995), "what is being written is still needed"
    inputs.written(inputs.in_hand)
    inputs.in_hand = ()
    assert (inputs.needed(), age()) == ({0: 6}, 5_994)
    inputs.written(inputs.alignment.take(1, 10**15))
    assert (inputs.needed(), age()) == ({0: 7}, 0)
    inputs.show_lags({0: 1})
    assert age() == 5_994
    inputs.lost([0])
    assert inputs.needed() == {}
