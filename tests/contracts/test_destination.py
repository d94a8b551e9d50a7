"""The fake keeps the contract of the real ones; theirs are tested where they are (tests/edges)."""

from __future__ import annotations

from functools import partial

import pytest

from tests.contracts.destination import World, check_destination
from tests.fakes.destination import FakeDestination, Mood


@pytest.mark.parametrize("away", [Mood.AGAIN, Mood.AGAIN_AFTER, Mood.MISCONFIGURED])
async def test_fake_destination(away):
    fake = FakeDestination()
    world = World(
        fake,
        lambda: {(arrival.key.trace_id, arrival.key.span_id) for arrival in fake.arrivals},
        go_away=partial(fake.set_mood, away),
        come_back=partial(fake.set_mood, Mood.WELL),
        hang=partial(fake.set_mood, Mood.HANGING),
        reads_spans=False,  # it has no bytes that are no spans
    )
    await check_destination(world)
