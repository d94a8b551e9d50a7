"""The laws of the design, on two hundred seeds of the simulated world, and as many with a Redis; on fewer with twenty
policies. `python -m tests.simulation --seed N` tells one."""

import os

import pytest

from tests.interpreted import ASKED
from tests.simulation.laws import breaches
from tests.simulation.plan import fleet, plan
from tests.simulation.quiet import quiet
from tests.simulation.world import run

# The interpreted source is the same source, and decides the same: it sees every fifth world.
STEP = 5 if os.environ.get(ASKED) else 1
SEEDS = range(0, 200, STEP)
RULED = range(0, 40, STEP)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_laws_are_kept(seed):
    with quiet():
        assert breaches(run(plan(seed))) == [], f"python -m tests.simulation --seed {seed}"


@pytest.mark.parametrize("seed", SEEDS)
def test_the_laws_are_kept_by_a_fleet_with_redis(seed):
    with quiet():
        assert breaches(run(fleet(seed))) == [], f"python -m tests.simulation --fleet --seed {seed}"


@pytest.mark.parametrize("seed", RULED)
def test_the_laws_are_kept_with_twenty_policies(seed):
    with quiet():
        assert breaches(run(plan(seed, ruled=True))) == [], f"python -m tests.simulation --ruled --seed {seed}"


@pytest.mark.parametrize("seed", RULED)
def test_the_laws_are_kept_by_a_fleet_with_twenty_policies(seed):
    with quiet():
        assert breaches(run(fleet(seed, ruled=True))) == [], f"python -m tests.simulation --ruled --fleet --seed {seed}"


def test_a_seed_tells_the_same_story_twice():
    with quiet():
        assert run(plan(7)).story == run(plan(7)).story
