"""Law 4: the counts by policy and by service add up to what arrived, with late spans, rebalances and parking."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, TracesData

from tests.core.spans import fragment, record, scanned, span, trace_id
from tests.fakes.meter import FakeMeter
from tests.tasks.parking import Owner, World
from tss.core import measures
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.combining import Sampler
from tss.core.evaluation import evaluate
from tss.core.memory import Memory
from tss.core.names import Names
from tss.core.otlp import Records, Scanner
from tss.core.partition import Partition
from tss.core.policies.policy import ABSTAIN, DROP, FAILED, Policy
from tss.core.policies.rest import Rest
from tss.core.tally import Tally
from tss.core.trace import Trace
from tss.state.tallying import show_new
from tss.tasks.evaluator import VoteTimes

SERVICES = ("web", "pay", "db", "", "mail")


def payload(service: str, *spans: Span) -> bytes:
    attributes = [KeyValue(key="service.name", value=AnyValue(string_value=service))] if service else []
    part = ResourceSpans(resource=Resource(attributes=attributes), scope_spans=[ScopeSpans(spans=spans)])
    return TracesData(resource_spans=[part]).SerializeToString()


def traffic(seed: int, traces: int = 80) -> list[Records]:
    """Records in the order of their time: most traces end soon, some are parked, and some have late spans."""
    chance, scanner = random.Random(seed), Scanner()
    found: list[tuple[float, bytes]] = []
    for number in range(traces):
        begins = chance.uniform(0, 2000)
        root_secs = chance.choice((1, 5, 90, 400))
        for each in range(1, chance.randint(2, 6)):
            child = span(number, each, parent=0)
            late = chance.random() < 0.2
            at = begins + (root_secs + chance.uniform(35, 600) if late else chance.uniform(0, root_secs))
            found.append((at, payload(chance.choice(SERVICES), child)))
        if chance.random() < 0.9:
            found.append((begins + root_secs, payload(chance.choice(SERVICES), span(number, 0))))
    found.sort()
    return [
        scanned(scanner, value, offset, round(1000 * at))
        for offset, (at, value) in enumerate([*found, (9_000.0, payload("end", span(traces + 1, 0)))])
    ]


def counted(owners: Sequence[Owner]) -> Counter[str]:
    total: Counter[str] = Counter()
    for owner in owners:
        tally = owner.buffer.tally
        show_new(tally, owner.meter)
        for each in tally.policies.values():
            total["traces"] += each.kept + each.dropped
            total["kept"] += each.kept
            total["spans"] += each.spans_kept + each.spans_dropped
            total["bytes"] += each.bytes_kept + each.bytes_dropped
        for of in tally.services():
            total["traces by service"] += of.traces
            total["kept by service"] += of.kept
            total["bytes by service"] += of.bytes_in
        total["again"] += round(owner.meter.counted(measures.DUPLICATE_SPANS))
        total["shown"] += round(owner.meter.counted(measures.POLICY_SPANS))
    return total


@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize("seed", range(14))
async def test_law_4_the_counts_add_up_to_what_arrived(seed: int, shares: bool, autojump_clock) -> None:
    world = World(records=traffic(seed))
    chance = random.Random(seed)
    fragments = [each for record in world.records[:-1] for each in record.fragments(0)]
    owners = [Owner(world, rate=0.5, shares=shares)]
    for stop in sorted(chance.sample(range(1, len(world.records)), 3)):
        await owners[-1].live(stop, step=7)
        await owners[-1].parker.hand_over()
        await owners[-1].commit()
        await owners[-1].leave()
        owners.append(Owner(world, rate=0.5, shares=shares))
    await owners[-1].live(step=7)
    total = counted(owners)
    assert sum(owner.meter.counted(measures.PARKINGS) for owner in owners) > 5
    assert total["again"] == 0, "all owners parked what was open, so nothing was read again"
    assert total["spans"] == total["shown"] == sum(each.spans for each in fragments)
    assert total["bytes"] == total["bytes by service"] == sum(len(each.payload) for each in fragments)
    assert total["traces"] == total["traces by service"] >= len({each.trace_id for each in fragments})
    assert total["kept"] == total["kept by service"] > 10


async def test_a_trace_that_was_parked_by_another_owner_still_belongs_to_its_service(autojump_clock) -> None:
    world = World()
    scanner = Scanner()
    values = [
        (0, payload("web", span(1, 0))),
        (10, payload("pay", span(1, 1, parent=7))),
        (900, payload("end", span(2, 0))),
    ]
    world.records = [scanned(scanner, value, offset, 1000 * at) for offset, (at, value) in enumerate(values)]
    first = Owner(world)
    await first.live(2)
    await first.leave()
    second = Owner(world)
    await second.live()
    assert [(each.name, each.traces) for each in second.buffer.tally.services()] == [("web", 1)]


class Votes(Policy):
    """Votes the same on each trace."""

    def __init__(self, name: str, vote: float, *, shadow: bool = False) -> None:
        super().__init__(name, shadow=shadow)
        self._vote = vote

    def vote(self, trace: Trace) -> float:
        return self._vote


def decided(*policies: Policy, traces: int = 10) -> Buffer:
    sampler = Sampler(policies)
    buffer = Buffer(Limits(1 << 30, 10**6, 10**6, 10**6), Waits(1000, 1000, 10**9), Memory(), program=sampler.program)
    home = Partition(0, 0, 300_000)
    for number in range(traces):
        buffer.add(home, record(number, 10, fragment(number, root=True)), 0)
    buffer.reach(home, 10**6)
    found = evaluate(buffer.take(), sampler, buffer)
    ticks = iter(range(0, 10**9, 1000))
    VoteTimes(lambda: next(ticks)).time(found, sampler, buffer.tally)
    return buffer


def test_votes_are_counted_once_for_each_trace_shadows_too() -> None:
    rest = Rest(1.0)
    tally = decided(
        Votes("no", ABSTAIN),
        Votes("fails", FAILED),
        Votes("drops", DROP),
        Votes("too late", 1.0),
        rest,
        Votes("shadow", 1.0, shadow=True),
    ).tally
    votes = {name: (of.evaluated, of.matched, of.kept, of.dropped) for name, of in tally.policies.items()}
    assert votes == {
        "no": (10, 0, 0, 0),
        "fails": (10, 0, 0, 0),
        "drops": (10, 10, 0, 10),
        "too late": (10, 10, 0, 0),
        rest.name: (10, 10, 0, 0),
        "shadow": (10, 10, 0, 0),
    }


def test_the_seconds_of_a_policy_are_its_votes_times_what_one_was_measured_to_take() -> None:
    rest = Rest(1.0)
    buffer = decided(rest)
    tally = buffer.tally
    assert tally.policy(rest.name).vote_secs == pytest.approx(1e-7)  # a microsecond for ten
    again = Rest(1.0)
    again.evaluated = 50
    tally.take_votes([again])
    assert tally.policy(rest.name).seconds == pytest.approx(50e-7)


def test_services_beyond_the_limit_are_counted_together() -> None:
    buffer = Buffer(
        Limits(1 << 30, 10**6, 10**6, 10**6), Waits(1000, 1000, 10**9), Memory(), tally=Tally(Names(), most_services=3)
    )
    home, sampler, meter = Partition(0, 0, 300_000), Sampler([Rest(1.0)]), FakeMeter()
    for number in range(10):
        part = fragment(number, root=True, payload=payload(f"service {number}", span(number, 0)))
        buffer.add(home, record(number, 10, part), 0)
    buffer.reach(home, 10**6)
    found = evaluate(buffer.take(), sampler, buffer)
    buffer.tally.sent(found.kept)
    show_new(buffer.tally, meter)
    assert meter.by_label(measures.SERVICE_TRACES) == {
        ("service 0",): 1, ("service 1",): 1, ("service 2",): 1, ("tss.other",): 7,
    }  # fmt: skip
    assert meter.counted(measures.SERVICE_BYTES_OUT) == meter.counted(measures.SERVICE_BYTES_IN) > 0
    assert trace_id(0) in {trace.trace_id for trace in found.kept}
