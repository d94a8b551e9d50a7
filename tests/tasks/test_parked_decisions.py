"""Parked traces that somebody has decided, as the memory that replicas share knows; and those that force rules are for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from tests.core.spans import message, one_record, span, span_id, trace_id
from tests.fakes.redis import Mood, Writing
from tests.tasks.parking import Owner, World
from tss.core import measures
from tss.core.decision import Decision, Reason, Verdict
from tss.core.errors import Away
from tss.core.force import Action, Matcher, Op, Rule, Rulebook, Where
from tss.core.memory import Kept
from tss.core.otlp import Encoding, Records, scan
from tss.core.shared_decisions import to_bytes
from tss.edges.redis.takeover import ParkedTraces

LONG = trace_id(0)
EACH_SECS = 50
ROOT = 20  # the record with the root, which is its span 0; record n before it has span n + 1
KEEP = Decision(Verdict.KEEP, "errors", Reason.ROOT_QUIET, 1.0)


def record(offset: int, at_secs: float, trace: int, number: int, parent: int | None = 0) -> Records:
    value = message([span(trace, number, parent)])
    return one_record(0, offset, round(at_secs * 1000), scan(value, Encoding.OTLP_PROTO).fragments)


def world_with_root() -> World:
    spans = [record(offset, 1000 + offset * EACH_SECS, 0, offset + 1) for offset in range(ROOT)]
    return World([*spans, record(ROOT, 1000 + ROOT * EACH_SECS, 0, 0, None)])


def ends(world: World) -> None:
    """Something comes long after, so that all is decided that came before."""
    offset = len(world.records)
    world.records.append(record(offset, 10_000, 1, 0))


def straggles(world: World) -> None:
    """One more span, just after the root."""
    world.records.append(record(len(world.records), 1000 + ROOT * EACH_SECS + 10, 0, 99))


def sent(world: World) -> Counter[bytes]:
    """How often each span of the long trace went out."""
    data = TracesData.FromString(b"".join(world.sea.get(LONG, [])))
    return Counter(each.span_id for found in data.resource_spans for scope in found.scope_spans for each in scope.spans)


def ids(numbers: Sequence[int]) -> Counter[bytes]:
    return Counter(span_id(number) for number in numbers)


async def decided_by_another() -> World:
    """It has been exported, all of it, and remembered; and then its owner was killed, before it could commit that."""
    world = world_with_root()
    owner = Owner(world, shares=True)
    await owner.live(ROOT - 1)
    assert owner.partition.commit().parked is not None
    owner.fenced = True
    await owner.live()
    owner.buffer.reach(owner.partition, 1_000 * 9_000)
    await owner.turn()
    assert sent(world) == ids(range(ROOT + 1))
    assert LONG in world.redis.shelves[0].summaries
    assert LONG in world.redis.kept
    return world


def remember(world: World, covered: int, *outstanding: int) -> Kept:
    """As somebody did who exported, and wrote to Redis, what he had of it."""
    kept = Kept(KEEP, (0, 0))
    kept.covered = {0: covered}
    kept.outstanding = {(0, offset) for offset in outstanding} or None
    world.redis.kept[LONG] = to_bytes(kept)
    wrote(world)
    return kept


def wrote(world: World) -> None:
    """Another replica, of records as far as the root."""
    world.redis.writings.append(Writing(object(), frozenset({LONG}), {0: ROOT + 1}))


async def parked_by_another() -> World:
    world = world_with_root()
    await Owner(world, shares=True).live(ROOT - 1)
    ends(world)
    return world


async def test_law_2_a_parked_trace_that_was_exported_settles_silently_and_leaves_redis() -> None:
    world = await decided_by_another()
    ends(world)
    owner = Owner(world, shares=True)
    await owner.live()
    await owner.turn()
    assert sent(world) == ids(range(ROOT + 1))
    assert owner.meter.counted(measures.UNPARKINGS) == 0, "nor is it fetched"
    assert LONG not in world.redis.shelves[0].summaries
    assert world.committed == ROOT + 1
    assert owner.partition.in_flight == 0


@pytest.mark.parametrize("mood", [Mood.WELL, Mood.AWAY])
async def test_law_2_what_came_after_goes_out_late_and_alone(mood: Mood) -> None:
    """Away while it closes: then it waits, and is asked for once its spans are here."""
    world = await decided_by_another()
    straggles(world)
    ends(world)
    owner = Owner(world, shares=True)
    world.redis.mood = mood
    await owner.live()
    world.redis.mood = Mood.WELL
    await owner.turn()
    await owner.turn()
    assert sent(world) == ids([*range(ROOT + 1), 99])
    assert owner.meter.counted(measures.LATE_SPANS, "keep") == 1
    assert owner.meter.counted(measures.UNPARKINGS) == (mood is Mood.AWAY)
    assert owner.buffer.closed_bytes == owner.partition.in_flight == 0
    assert LONG not in world.redis.shelves[0].summaries


async def test_law_2_a_decision_that_covers_nothing_of_it_is_followed_all_the_same() -> None:
    world = await parked_by_another()
    remember(world, -1)
    owner = Owner(world, shares=True, rate=0.0)  # its own policies would drop it
    await owner.live()
    assert sent(world) == ids(range(ROOT + 1))
    assert owner.meter.counted(measures.LATE_SPANS, "keep") == ROOT + 1
    assert owner.meter.counted(measures.DECISIONS) == 0


async def test_law_1_what_was_still_on_its_way_below_the_last_parked_record_brings_all_of_it_back() -> None:
    world = await parked_by_another()
    remember(world, ROOT, 5)
    owner = Owner(world, shares=True, turn_after_secs=10**6)
    parked_to = owner.buffer._open.get(LONG).parked_to  # type: ignore[union-attr]
    assert parked_to >= 10
    await owner.live()
    assert sent(world) == ids(range(1, parked_to + 2)), "but not what is held here, and was delivered"
    assert owner.meter.counted(measures.LATE_SPANS, "keep") == parked_to + 1
    assert owner.buffer.closed_bytes == owner.partition.in_flight == 0


async def test_law_1_nor_does_its_own_memory_let_it_pass_when_the_partition_comes_back() -> None:
    world = world_with_root()
    owner = Owner(world, shares=True)
    await owner.live(ROOT - 1)
    await owner.leave()
    owner.buffer.memory.learn(LONG, remember(world, ROOT, 5))
    owner.assign()
    assert LONG in owner.buffer._open


async def test_law_2_a_parked_trace_that_was_dropped_is_not_fetched_and_leaves_redis() -> None:
    world = await parked_by_another()
    world.redis.dropped.add(LONG)
    wrote(world)
    owner = Owner(world, shares=True)
    await owner.live()
    await owner.turn()
    assert not sent(world)
    assert owner.meter.counted(measures.UNPARKINGS) == owner.buffer.closed_bytes == 0
    assert LONG not in world.redis.shelves[0].summaries


async def test_revoked_while_a_late_one_waits_for_its_spans_nothing_of_it_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await parked_by_another()
    remember(world, -1)
    owner = Owner(world, shares=True)

    async def away(*_what: object) -> dict[bytes, list[bytes]]:
        raise Away("it has just gone")

    with monkeypatch.context() as patch:
        patch.setattr(ParkedTraces, "fetch", away)
        await owner.live()
        assert [trace.late for trace in owner.waiting] == [True]
        owner.assignments._forget([0])
        await owner.decide()
    known = owner.buffer.memory.covering(LONG)
    assert known is not None and known.in_flight == 0, "else it could never be forgotten"
    assert owner.waiting == []
    assert owner.buffer.closed_bytes == 0
    owner = Owner(world, shares=True)
    await owner.live()
    assert sent(world) == ids(range(ROOT + 1))


@pytest.mark.parametrize("forced", [False, True])
async def test_a_force_rule_sees_the_spans_that_are_parked(*, forced: bool) -> None:
    matcher = Matcher(Where.NAME, "", Op.EQ, "span 3")
    rule = Rule("1", "the third", Action.KEEP, (matcher,), 0.0, 2e9)
    world = await parked_by_another()
    rulebook = Rulebook([rule], 0.0) if forced else Rulebook()
    owner = Owner(world, shares=True, rate=0.0, rulebook=rulebook)
    await owner.live()
    assert sent(world) == (ids(range(ROOT + 1)) if forced else Counter())
    assert owner.meter.counted(measures.UNPARKINGS) == forced
