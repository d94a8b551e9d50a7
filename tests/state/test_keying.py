"""An unkeyed topic is told of, in a metric, in /health, and with what to do; and no more once it is keyed."""

from __future__ import annotations

import structlog
import trio
from trio.testing import MockClock

from tests.fakes.meter import FakeMeter
from tss.core import measures
from tss.core.health import Health, State
from tss.core.polled import Sample
from tss.state.keying import CALM_SECS, COMPONENT, Keying


def made(*, rekeyed: bool = False) -> tuple[Keying, FakeMeter, Health]:
    meter, health = FakeMeter(), Health()
    return Keying(meter, health, rekeyed=rekeyed), meter, health


async def test_unkeyed_records_degrade_until_there_are_none(autojump_clock: MockClock) -> None:
    keying, meter, health = made()
    keying.sampled(Sample(8, 3, 4))
    assert meter.counted(measures.UNKEYED) == 3
    assert health.components[COMPONENT].state is State.DEGRADED
    assert "kafka.rekey" in health.components[COMPONENT].detail
    await trio.sleep(CALM_SECS - 1)
    keying.sampled(Sample(8, 0, 4))
    assert health.components[COMPONENT].state is State.DEGRADED
    await trio.sleep(1)
    keying.sampled(Sample(0, 0, 4))
    assert health.components[COMPONENT].state is State.UP


async def test_its_recovery_is_logged_once_and_health_stays_as_it_is(autojump_clock: MockClock) -> None:
    keying, _, health = made()
    keying.sampled(Sample(8, 3, 4))
    await trio.sleep(CALM_SECS)
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):  # polls
            keying.sampled(Sample(8, 0, 4))
            await trio.sleep(1)
    assert [line["event"] for line in lines] == ["the topic is keyed by trace id again"]
    assert health.components[COMPONENT].state is State.UP


async def test_of_one_partition_or_a_keyed_topic_nothing_is_said() -> None:
    keying, meter, health = made()
    for sample in (Sample(8, 8, 1), Sample(8, 8, 0), Sample(8, 0, 4)):
        keying.sampled(sample)
    assert meter.counted(measures.UNKEYED) == 0
    assert not health.components


async def test_traces_on_two_partitions_are_told_of() -> None:
    keying, meter, health = made()
    keying.split(2)
    assert meter.counted(measures.SPLIT_TRACES) == 2
    assert "partitioner" in health.components[COMPONENT].detail


async def test_that_unkeyed_traces_are_spread_is_no_news() -> None:
    keying, meter, health = made()
    keying.sampled(Sample(8, 3, 4))
    keying.split(2)
    assert meter.counted(measures.SPLIT_TRACES) == 2
    assert "partition_traces_by_id" in health.components[COMPONENT].detail


async def test_behind_the_first_stage_the_advice_is_another() -> None:
    keying, _, health = made(rekeyed=True)
    keying.sampled(Sample(1, 1, 4))
    assert "kafka.rekey.partitioner" in health.components[COMPONENT].detail
