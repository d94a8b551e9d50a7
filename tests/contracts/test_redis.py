"""The fakes keep the contract of the real ones; theirs are tested on a real server (tests/real/test_redis_edge.py)."""

from __future__ import annotations

from functools import partial

import pytest

from tests.contracts.redis import MAX_BYTES, A, World, check_redis
from tests.fakes.redis import FakeDecisions, FakeParking, FakeRedis, Mood
from tss.core.errors import Away
from tss.core.parked import Parcel


async def test_fake_redis():
    redis = FakeRedis()
    world = World(
        FakeDecisions(redis),
        FakeDecisions(redis, remember_dropped=False),
        FakeParking(redis, MAX_BYTES),
        redis.flush,
        fill=partial(setattr, redis, "mood", Mood.FULL),
        go_away=partial(setattr, redis, "mood", Mood.AWAY),
    )
    await check_redis(world)


async def test_a_vanishing_one_has_done_what_it_was_asked():
    redis = FakeRedis()
    parking = FakeParking(redis)
    parking.take_over(0, None, "t")
    redis.mood = Mood.VANISHING
    with pytest.raises(Away):
        await parking.park(0, "t", 0, [Parcel(A, b"s", b"f")])
    redis.mood = Mood.WELL
    assert await parking.fetch(0, "t", [A]) == {A: [b"f"]}


async def test_a_slow_one_answers_late(autojump_clock):
    redis = FakeRedis(mood=Mood.SLOW, slow_secs=3)
    await FakeDecisions(redis).write({A: b"a"}, [], {})
    assert autojump_clock.current_time() == 3
