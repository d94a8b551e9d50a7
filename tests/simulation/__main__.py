"""``python -m tests.simulation --seed N`` tells one seed's story; ``--seeds FROM:TO`` tries many."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from functools import partial

import tests.interpreted  # noqa: F401  # before anything of the daemon, for its effect
from tests.simulation.laws import breaches
from tests.simulation.plan import Plan, changing, fleet, plan
from tests.simulation.quiet import quiet
from tests.simulation.world import World, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this one and print its story")
    parser.add_argument("--seeds", help="FROM:TO, try these and report those that break a law")
    parser.add_argument("--fleet", action="store_true", help="with a Redis, and replicas that come and go")
    parser.add_argument("--ruled", action="store_true", help="with twenty policies")
    parser.add_argument("--changing", action="store_true", help="with policies that change")
    parser.add_argument("--files", action="store_true", help="with policies that change only between two lives")
    given = parser.parse_args()
    planned = partial(fleet if given.fleet else plan, ruled=given.ruled)
    if given.changing or given.files:
        planned = partial(changing, fleeting=given.fleet, live=not given.files)
    with quiet():
        if given.seed is not None:
            return tell(planned(given.seed))
        first, last = (given.seeds or "0:200").split(":")
        return try_all(planned(seed) for seed in range(int(first), int(last)))


def tell(plan: Plan) -> int:
    """One seed: its plan, its story, its breaches."""
    world = run(plan)
    print(world.plan)
    for at, text in world.story:
        print(f"{at:9.3f}  {text}")
    found = breaches(world)
    print(*(found or ["all laws kept"]), sep="\n")
    return bool(found)


def try_all(plans: Iterable[Plan]) -> int:
    """Many seeds, and what they were worth together."""
    began, failed, count, sums = time.perf_counter(), 0, 0, dict.fromkeys(("spans", "rulings", "lives", "commits"), 0)
    for each in plans:
        world = run(each)
        count += 1
        found = breaches(world)
        for text in found[:3]:
            print(f"seed {each.seed}: {text}")
        failed += bool(found)
        _add(sums, world)
    took = time.perf_counter() - began
    print(f"{count} seeds, {failed} failed, {took:.1f} s, {1000 * took / count:.0f} ms each; {sums}")
    return bool(failed)


def _add(sums: dict[str, int], world: World) -> None:
    sums["spans"] += sum(len(facts) for by_trace in world.facts.values() for facts in by_trace.values())
    sums["rulings"] += sum(len(life.rulings) for life in world.lives)
    sums["lives"] += len(world.lives)
    sums["commits"] += len(world.commits)


if __name__ == "__main__":
    sys.exit(main())
