"""The laws while the policies change: random changes, rebalances, kills, and a file that changed between two lives."""

import os

import pytest

from tests.interpreted import ASKED
from tests.simulation.laws import breaches
from tests.simulation.plan import changing
from tests.simulation.quiet import quiet
from tests.simulation.world import run

STEP = 5 if os.environ.get(ASKED) else 1
SEEDS = range(0, 50, STEP)
FEW = range(0, 25, STEP)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_trace_has_one_verdict_while_the_policies_change(seed):
    with quiet():
        assert breaches(run(changing(seed))) == [], f"python -m tests.simulation --changing --seed {seed}"


@pytest.mark.parametrize("seed", FEW)
def test_a_trace_has_one_verdict_in_a_fleet_while_the_policies_change(seed):
    with quiet():
        assert breaches(run(changing(seed, fleeting=True))) == [], (
            f"python -m tests.simulation --changing --fleet --seed {seed}"
        )


@pytest.mark.parametrize("seed", FEW)
def test_a_trace_has_one_verdict_where_only_the_file_changes_between_two_lives(seed):
    with quiet():
        assert breaches(run(changing(seed, live=False))) == [], f"python -m tests.simulation --files --seed {seed}"


def test_the_policies_do_change():
    """Traces are decided by several rulesets in one life, and by others than those of the start."""
    with quiet():
        worlds = [run(changing(seed)) for seed in range(10)]
    sets = [{ruling.decision.ruleset for ruling in life.rulings} - {""} for world in worlds for life in world.lives]
    assert sum(len(each) > 1 for each in sets) > 3
