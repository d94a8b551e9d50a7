"""Traces parked under one `exporters[].match`, taken over under another: they go the ways that the owner's settings say."""

from __future__ import annotations

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, TracesData
from structlog.testing import capture_logs

from tests.core.programs import Is
from tests.core.spans import scanned, span, trace_id
from tests.tasks.parking import Owner, World
from tss.core import measures
from tss.core.conditions.formula import TRUE, Field, Leaf, OfSpans, Place
from tss.core.conditions.program import Program
from tss.core.otlp import Scanner
from tss.core.policies.policy import Policy
from tss.core.routing import Match, Router
from tss.core.trace import Trace

LONG = trace_id(0)
EACH_SECS = 50
ROOT = 6

BY_TIER = {"gold": Match(attributes={"tier": ("gold",)}), "iron": Match(attributes={"tier": ("iron",)})}
BY_REGION = {"eu": Match(attributes={"region": ("eu",)}), "us": Match(attributes={"region": ("us",)})}
BOTH = {"us": Match(attributes={"region": ("us",)}), "gold": Match(attributes={"region": ("eu",), "tier": ("gold",)})}
PATHS = {
    "none": None,
    "tier": BY_TIER,
    "region": BY_REGION,
    "both": BOTH,
    "turned": {"us": BOTH["gold"], "eu": BOTH["us"]},
}
WAYS = {"none": None, "tier": ("gold",), "region": ("eu",), "both": ("gold",), "turned": ("us",)}


def program_of(owner: str) -> Program:
    matches = PATHS[owner]
    return Program(Router(matches).asks if matches else ())


def value(number: int, *, root: bool) -> bytes:
    made = span(0, number, None if root else 0)
    said = ResourceSpans(scope_spans=[ScopeSpans(spans=[made])])
    if number == 2:  # one span alone says it, long before the trace ends
        said.resource.attributes.add(key="tier").value.string_value = "gold"
        said.scope_spans[0].spans[0].attributes.add(key="region").value.string_value = "eu"
    return TracesData(resource_spans=[said]).SerializeToString()


def world_for(owner: str) -> World:
    """The records as an owner with these settings scans them."""
    scanner = Scanner(program_of(owner))
    world = World()
    for offset in range(ROOT + 1):
        piece = value(0 if offset == ROOT else offset + 1, root=offset == ROOT)
        world.records.append(scanned(scanner, piece, offset, 1000 * (1000 + offset * EACH_SECS)))
    return world


async def parked_by(first: str) -> World:
    world = world_for(first)
    owner = Owner(world, matches=PATHS[first])
    await owner.live(ROOT - 1)
    assert owner.partition.commit().parked is not None and LONG in world.redis.shelves[0].summaries
    return world


async def goes_on(world: World, owner: str) -> Owner:
    world.records = world_for(owner).records
    return Owner(world, matches=PATHS[owner])


async def ends(owner: Owner) -> None:
    await owner.live()
    owner.buffer.reach(owner.partition, 1000 * 9_000)
    await owner.turn()


@pytest.mark.parametrize("second", [*PATHS])
@pytest.mark.parametrize("first", [*PATHS])
async def test_law_2_a_parked_trace_goes_the_ways_of_who_decides_it(first: str, second: str) -> None:
    world = await parked_by(first)
    with capture_logs() as logs:
        owner = await goes_on(world, second)
    await ends(owner)
    assert owner.ways == {LONG: WAYS[second]}
    assert world.sea[LONG] and world.committed == ROOT + 1
    told = [line for line in logs if "other settings of policies or exporters[].match" in line["event"]]
    changed = program_of(first).fingerprint != program_of(second).fingerprint
    assert [line["traces"] for line in told] == [1] * changed
    assert owner.meter.counted(measures.UNLOOKED) == changed


@pytest.mark.parametrize("last", [*PATHS])
async def test_what_is_parked_again_before_it_was_looked_up_stays_unknown(last: str) -> None:
    """The second owner adds spans to what the first one parked, and leaves before the trace ends."""
    world = await parked_by("tier")
    owner = await goes_on(world, "region")
    await owner.live(ROOT - 1)
    owner.parker.after_ms = 0
    await owner.parker.hand_over()
    await owner.commit()
    third = await goes_on(world, last)
    await ends(third)
    assert third.ways == {LONG: WAYS[last]}


@pytest.mark.parametrize("second", ["tier", "region"])
async def test_what_an_older_version_parked_is_looked_up_again(second: str) -> None:
    world = await parked_by("tier")
    world.redis.shelves[0].programs.clear()
    owner = await goes_on(world, second)
    await ends(owner)
    assert owner.ways == {LONG: WAYS[second]}


class Gold(Policy):
    """Keeps what has a tier."""

    def __init__(self) -> None:
        super().__init__("gold", (OfSpans(Leaf(Field(Place.RESOURCE, "attributes", "tier"), Is("gold"))),))

    def bind(self, program: Program) -> None:
        self.program, self.slot = program, program.slot(self.asks[0])

    def vote(self, trace: Trace) -> float:
        return 1.0 if self.program.answer(trace.facts, self.slot) == TRUE else 0.0


async def test_a_policy_decides_by_what_it_asked_too() -> None:
    """Before the spans are here nothing is known of them, and nothing may be dropped for that."""
    world = await parked_by("region")
    world.records = world_for("none").records
    owner = Owner(world, policy=Gold())
    await ends(owner)
    assert owner.ways == {LONG: None}
    assert owner.buffer.memory.kept == 1 and world.committed == ROOT + 1
