"""Parking: a long-open trace holds Kafka back a minute, survives its owners, and nothing that Redis loses is lost."""

from __future__ import annotations

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.core.spans import fragment, message, record, span, trace_id
from tests.fakes.redis import Mood
from tests.tasks.parking import HOURS_3, Owner, World
from tss.core import measures
from tss.core.decision import Reason
from tss.core.errors import Away, Lost
from tss.core.otlp import Records
from tss.core.startposition import StartPosition
from tss.tasks import sweeper, unparker

LONG = trace_id(0)
EACH_SECS = 50  # between two records
STEPS = (HOURS_3 - 1000) // EACH_SECS


def long_world() -> World:
    """A span of one trace every 200 s for nearly three hours, its root at last, and others that are short."""
    world = World(committed=0)
    for number in range(STEPS):
        some = [fragment(number + 1, root=True, payload=b"short %d." % number)]
        if number % 4 == 0:
            some.append(fragment(0, [number + 1], parents=[0], payload=b"long %d." % number))
        world.records.append(record(number, 1000 + number * EACH_SECS, *some))
    world.records.append(record(STEPS, 1000 + STEPS * EACH_SECS, fragment(0, root=True, payload=b"root.")))
    for more in range(1, 4):
        world.records.append(record(STEPS + more, 1000 + (STEPS + more) * EACH_SECS, fragment(STEPS + 10 + more)))
    return world


def whole() -> list[bytes]:
    return [b"long %d." % number for number in range(0, STEPS, 4)] + [b"root."]


def spans_of(world: World) -> list[bytes]:
    return b"".join(world.sea[LONG]).replace(b".", b".\n").splitlines()


async def test_a_three_hour_trace_holds_the_low_water_and_the_replay_back_a_minute() -> None:
    world = long_world()
    owner = Owner(world)
    for position in range(20, STEPS, 20):
        await owner.live(position)
        commit = owner.partition.commit()
        assert position - commit.offset <= (60 + 2 * EACH_SECS) // EACH_SECS
        assert position - commit.replay_from <= (60 + 60 + 30 + 3 * EACH_SECS) // EACH_SECS
    assert commit.parked is not None
    assert commit.parked.floor == 0, "and where to begin without Redis is not forgotten"
    await owner.live()
    assert spans_of(world) == whole()
    assert owner.meter.counted(measures.UNPARKINGS) == 1
    assert owner.partition.commit().replay_from > STEPS - 5, "nor does the replay reach back over it once it has ended"


async def test_law_2_three_owners_one_after_the_other_and_it_goes_out_whole_and_once() -> None:
    world = long_world()
    for end in (60, 130, None):
        owner = Owner(world)
        await owner.live(end)
        if end:
            await owner.parker.hand_over()
            await owner.leave()
    assert spans_of(world) == whole()
    assert all(len(spans) == 1 for trace, spans in world.sea.items() if trace != LONG), "and no other went twice"
    assert owner.meter.counted(measures.REREAD) == 0
    await owner.turn()
    assert LONG not in world.redis.shelves[0].summaries, "and nothing of it stays"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, STEPS), max_size=6), st.randoms(use_true_random=False))
async def test_law_1_owners_that_are_killed_anywhere_and_a_redis_that_forgets(ends: list[int], chance: object) -> None:
    """Whatever is lost and when: every span goes out, and where Redis was well, the long trace once."""
    world = long_world()
    flushed = False
    for end in sorted(ends):
        owner = Owner(world)
        await owner.live(end, step=chance.choice([1, 3, 7]))  # type: ignore[attr-defined]
        if chance.random() < 0.4:  # type: ignore[attr-defined]
            world.redis.flush()
            flushed = True
    owner = Owner(world)
    await owner.live()
    if flushed:
        assert set(spans_of(world)) == set(whole())
    else:
        assert spans_of(world) == whole()
    assert {trace_id(number + 1) for number in range(STEPS)} <= world.sea.keys()


async def test_law_1_redis_flushed_between_two_owners_the_next_reads_from_the_floor() -> None:
    world = long_world()
    owner = Owner(world)
    await owner.live(100)
    await owner.leave()
    world.redis.flush()
    owner = Owner(world)
    at = owner.starts[0]
    assert at == StartPosition(0, 0, committed=True, parked=at.parked, shelf=at.shelf, rules=at.rules)
    assert owner.meter.by_label(measures.REREAD) == {("not_fitting",): 1}
    await owner.live()
    assert spans_of(world) == whole()


async def test_law_1_a_failover_that_lost_the_last_writes_is_noticed() -> None:
    world = long_world()
    owner = Owner(world)
    await owner.live(60)
    before = world.redis.shelves[0]
    await owner.live(100)
    assert world.redis.shelves[0].seq > before.seq
    await owner.leave()
    world.redis.shelves[0] = before
    owner = Owner(world)
    assert owner.meter.by_label(measures.REREAD) == {("not_fitting",): 1}
    await owner.live()
    assert spans_of(world) == whole()


@pytest.mark.parametrize("lose", ["all", "last"])
async def test_law_1_a_live_owner_that_meets_a_lost_redis_reads_again_from_the_floor(lose: str) -> None:
    world = long_world()
    owner = Owner(world)
    await owner.live(60)
    before = world.redis.shelves[0]
    await owner.live(100)
    if lose == "all":
        world.redis.flush()
    else:
        world.redis.shelves[0] = before
    await owner.live()
    assert owner.meter.by_label(measures.REREAD) == {("lost",): 1}
    assert owner.meter.by_label(measures.REBALANCES) == {("assigned",): 1}, "it stays this replica's all the time"
    assert spans_of(world) == whole()
    assert all(len(spans) == 1 for trace, spans in world.sea.items() if trace != LONG), "its memory knows the others"
    assert owner.partition.shelf is not None, "and it parks again"


async def test_law_2_decided_before_it_is_read_again_what_is_parked_goes_out_once() -> None:
    """As under pressure: the owner before had parked more than it could commit."""
    world = long_world()
    before = Owner(world)
    await before.live(20)
    before.fenced = True
    await before.live(40)
    owner = Owner(world)
    trace = owner.buffer._open.get(LONG)
    assert trace is not None
    assert trace.parked_to > owner.partition.start
    owner.buffer._close(trace, Reason.PRESSURE)
    closed = owner.buffer.take()
    await unparker._bring_back(closed, owner.parked, owner.deciding, owner.assignments)
    owner.read(trace.parked_to + 1)
    late = owner.buffer.take()
    assert LONG not in {each.trace_id for each in late}, "it is on its way already"
    (kept,) = owner.kept.receive_nowait()
    assert kept is trace
    await owner.memories.keep([trace])
    assert b"".join(trace.chunks()).count(b"long") == trace.parked_to // 4 + 1
    owner.buffer.settle(trace)
    await owner.live()
    assert spans_of(world).count(b"long 4.") == 0, "nor later, in the place of what the test has taken"


async def test_law_2_what_is_read_again_from_the_floor_is_replayed_from_before_it() -> None:
    """Or whoever comes next would not know what was dropped before the floor, and judge the rest of that anew."""
    world = World(committed=0)
    world.records.append(record(0, 1000, fragment(1, root=True, payload=b"short.")))
    for number in range(1, 5):
        world.records.append(record(number, 1000 + number * 20, fragment(0, [number], parents=[0], payload=b"long.")))
    owner = Owner(world, rate=0.0, turn_after_secs=20)
    await owner.live(4)
    commit = owner.partition.commit()
    assert commit.parked is not None
    assert (commit.parked.floor, commit.replay_from) == (1, 0)
    world.redis.flush()
    await owner.turn()
    await owner.live()
    assert owner.meter.by_label(measures.REREAD) == {("lost",): 1}
    assert owner.partition.start == 1
    assert owner.partition.commit().replay_from == 0


async def test_law_1_what_is_lost_is_noticed_when_there_is_more_to_park() -> None:
    world = long_world()
    owner = Owner(world)
    await owner.live(20)
    world.redis.flush()
    owner.read(28)
    await owner.decide()
    await owner.parker._park_all(owner.buffer.to_park(60_000, 10**6))
    assert owner.partition.shelf is not None
    assert owner.partition.shelf.lost == "lost"
    assert owner.meter.counted(measures.PARKING_REFUSED, "lost") > 0
    await owner.live()
    assert spans_of(world) == whole()


async def test_law_8_redis_away_only_what_is_parked_waits() -> None:
    world = long_world()
    owner = Owner(world)
    await owner.live(STEPS)
    world.redis.mood = Mood.AWAY
    await owner.live()
    assert LONG not in world.sea
    assert len(world.sea) >= STEPS, "nothing else waits"
    assert owner.waiting
    (trace,) = owner.waiting
    assert owner.buffer.closed_bytes == trace.size
    assert b"".join(trace.chunks()) == b"root.", "and it takes no more than its summary, and what came last"
    commit = owner.partition.commit()
    assert commit.parked is not None
    assert commit.parked.floor == 0
    world.redis.mood = Mood.WELL
    await owner.turn()
    assert spans_of(world) == whole()


async def test_law_1_redis_away_at_the_assignment() -> None:
    world = long_world()
    owner = Owner(world)
    await owner.live(100)
    await owner.leave()
    world.redis.mood = Mood.AWAY
    owner = Owner(world)
    assert owner.starts[0].offset == 0
    assert owner.meter.by_label(measures.REREAD) == {("away",): 1}
    await owner.live(150)
    assert owner.partition.shelf is None
    world.redis.mood = Mood.WELL
    await owner.live(170)
    assert owner.meter.counted(measures.PARKINGS) > 0, "it comes back by itself"
    await owner.live()
    assert spans_of(world) == whole()


async def test_answers_that_are_not_heard_put_nothing_twice() -> None:
    world = long_world()
    owner = Owner(world)
    for position in range(10, STEPS, 10):
        world.redis.mood = Mood.VANISHING if position % 30 == 0 else Mood.WELL
        await owner.live(position)
        if position in (60, 130):
            world.redis.mood = Mood.WELL
            owner = Owner(world)
    world.redis.mood = Mood.WELL
    await owner.live()
    assert spans_of(world) == whole()
    assert owner.meter.counted(measures.REREAD) == 0, "nor is it taken for a loss"


async def test_law_1_a_call_that_was_given_up_and_is_done_after_the_next_one_changes_nothing() -> None:
    world = long_world()
    owner = Owner(world)
    given_up: list[tuple[object, ...]] = []

    async def away(*what: object) -> int:
        given_up.append(what)
        raise Away("it is on its way still")

    owner.read(10)
    await owner.decide()
    healthy = owner.parked
    object.__setattr__(owner.parker, "parking", _With(healthy, away))
    await owner.parker.turn()
    object.__setattr__(owner.parker, "parking", healthy)
    await owner.live(30)
    with pytest.raises(Lost):
        await healthy.park(*given_up[0])  # type: ignore[arg-type]
    owner = Owner(world)
    await owner.live()
    assert spans_of(world) == whole()
    assert owner.meter.counted(measures.REREAD) == 0


async def test_a_zombie_is_fenced_by_the_token_and_takes_nothing_from_the_new_owner() -> None:
    world = long_world()
    zombie = Owner(world)
    await zombie.live(60)
    owner = Owner(world)
    token = world.redis.shelves[0].token
    zombie.read(80)
    zombie.world, zombie.fenced = attrs.evolve(world, sea={}), True
    for _ in range(3):
        await zombie.turn()
        zombie.read(90)
    assert world.redis.shelves[0].token == token
    await owner.live()
    assert spans_of(world) == whole()
    assert owner.meter.counted(measures.REREAD) == 0
    assert LONG not in zombie.world.sea


async def test_a_handover_leaves_the_next_owner_nothing_to_read_again() -> None:
    world = long_world()
    owner = Owner(world)
    owner.read(100)
    await owner.decide()
    await owner.parker.hand_over()
    await owner.commit()
    assert world.committed == 100
    await owner.leave()
    assert world.committed == 100
    owner = Owner(world)
    assert owner.starts[0].offset == 100
    assert owner.buffer.open_traces > 0
    await owner.live()
    assert spans_of(world) == whole()
    assert all(len(spans) == 1 for trace, spans in world.sea.items() if trace != LONG)


@pytest.mark.parametrize("ends", ["killed", "leaves", "revoked"])
@pytest.mark.parametrize("keeps", [True, False])
async def test_law_2_what_was_decided_before_the_last_commit_is_not_decided_again(ends: str, keeps: bool) -> None:
    """A parked trace got one more span, which was held in memory, and ended. Redis still has what was parked."""
    world = World(committed=0)
    world.records = [
        record(0, 1000, fragment(0, [1], parents=[0], payload=b"parked.")),
        record(1, 1500, fragment(0, root=True, payload=b"held.")),
        record(2, 5000, fragment(1, root=True)),
        record(3, 9000, fragment(2, root=True)),
    ]
    first = Owner(world, rate=float(keeps))
    first.read(1)
    await first.parker.hand_over()
    assert LONG in world.redis.shelves[0].summaries
    first.read(3)
    await first.decide()
    await first.parker.hand_over()
    if ends != "revoked":
        await first.commit()
    if ends != "killed":
        await first.leave()
    assert world.committed == 3
    assert LONG in world.redis.shelves[0].summaries, "not removed yet"
    second = Owner(world, rate=float(keeps))
    assert LONG not in second.starts[0].summaries
    await second.live()
    assert LONG not in world.redis.shelves[0].summaries
    assert sum(each.spans_kept + each.spans_dropped for each in second.buffer.tally.policies.values()) <= 2
    if keeps:
        assert spans_of(world) == [b"parked.", b"held."]


async def test_law_1_what_ended_above_the_last_commit_goes_on_at_the_next_owner() -> None:
    """Redis was told that a trace has ended, and the commit that says so never came."""
    world = long_world()
    first = Owner(world)
    await first.live(STEPS)
    first.fenced = True
    first.read()
    await first.decide()
    await first.assignments.before_commit(first.assignments.due())
    assert LONG in world.redis.shelves[0].ends
    world.sea.clear()
    for _ in range(2):
        second = Owner(world)
        assert LONG in second.starts[0].summaries
    await second.live()
    assert spans_of(world) == whole()


@pytest.mark.parametrize("mood", [Mood.AWAY, Mood.SLOW])
async def test_law_8_a_commit_does_not_wait_for_redis(mood: Mood, autojump_clock: MockClock) -> None:
    world = long_world()
    owner = Owner(world)
    await owner.live(STEPS)
    owner.read()
    await owner.decide()
    world.redis.mood, world.redis.slow_secs = mood, 60.0
    began = trio.current_time()
    await owner.commit()
    assert trio.current_time() - began <= 1.0
    assert world.committed is not None and world.committed > STEPS


async def test_law_5_what_finds_no_room_stays_in_memory() -> None:
    world = long_world()
    owner = Owner(world, max_bytes=10)
    await owner.live(100)
    assert owner.meter.counted(measures.PARKING_REFUSED, "full") > 0
    assert owner.partition.commit().offset == 0
    await owner.live()
    assert spans_of(world) == whole()
    assert owner.meter.counted(measures.UNPARKINGS) == 0


async def test_law_5_parking_gives_back_what_it_took() -> None:
    world = long_world()
    owner = Owner(world)
    await owner.live(100)
    held = owner.buffer.open_bytes
    await owner.parker.hand_over()
    traces = owner.buffer._open.all()
    assert owner.buffer.open_bytes == sum(trace.size for trace in traces) < held
    assert all(trace.chunks() == [] and trace.held_spans == trace.spans for trace in traces)
    await owner.live()
    owner.buffer.reach(owner.partition, 10**12)
    await owner.decide()
    assert (owner.buffer.open_bytes, owner.buffer.open_spans, owner.buffer.closed_bytes) == (0, 0, 0)
    assert owner.partition.in_flight == 0


async def test_a_trace_that_is_dropped_is_not_fetched() -> None:
    world = long_world()
    owner = Owner(world, rate=0.0)
    await owner.live(STEPS)
    calls = world.redis.calls
    world.redis.mood = Mood.AWAY
    await owner.live()
    assert owner.buffer.closed_bytes == 0
    assert calls
    assert owner.meter.counted(measures.UNPARKINGS) == 0


async def test_a_trace_that_closes_while_it_is_parked_goes_out_and_leaves_nothing() -> None:
    world = long_world()
    owner = Owner(world)
    park = owner.parking.park

    async def late(*what: object) -> int:
        trace = owner.buffer._open.get(LONG)
        assert trace is not None
        owner.buffer._close(trace, Reason.PRESSURE)
        return await park(*what)  # type: ignore[arg-type]

    owner.read(10)
    await owner.decide()
    object.__setattr__(owner.parker, "parking", _With(owner.parked, late))
    await owner.parker.turn()
    await owner.decide()
    assert spans_of(world) == whole()[:3]
    await owner.commit()
    await owner.live(14)
    await owner.turn()
    assert LONG not in world.redis.shelves[0].summaries


class _With:
    def __init__(self, parking: object, park: object) -> None:
        self._parking, self.park = parking, park

    def __getattr__(self, name: str) -> object:
        return getattr(self._parking, name)


async def test_revoked_while_it_waits_for_redis_it_is_the_next_owners() -> None:
    world = long_world()
    owner = Owner(world)
    await owner.live(STEPS)
    world.redis.mood = Mood.AWAY
    await owner.live()
    owner.assignments._forget([0])
    await owner.decide()
    assert owner.waiting == []
    assert owner.buffer.closed_bytes == 0
    world.redis.mood = Mood.WELL
    owner = Owner(world)
    await owner.live()
    await owner.turn()
    assert spans_of(world) == whole()


def _of_long(offset: int, at_secs: int, number: int) -> Records:
    spans = message([span(0, number, 99)])  # its parent never comes
    return record(offset, at_secs, fragment(0, [number], parents=[99], payload=spans))


async def test_a_parked_trace_of_a_topic_that_was_made_again_is_decided_by_what_is_here_and_counted() -> None:
    """Its spans in Redis are given up: their place is the new partition's. What is in memory nobody else can read."""
    world = World(committed=0)
    world.records = [_of_long(0, 1000, 1), *(record(n, 1000 + 10 * n, fragment(n, root=True)) for n in range(1, 12))]
    world.records += [_of_long(12, 1121, 2)]
    owner = Owner(world)
    await owner.live()
    assert owner.meter.counted(measures.PARKINGS) == 1
    owner.assignments.assigned({0: StartPosition(0, 0, committed=False, end=0, topic="new", anew=True)})
    await owner.decide()
    assert world.sea[LONG] == [message([span(0, 2, 99)])]
    sweeper.show(owner.buffer, owner.meter)
    assert owner.meter.counted(measures.PARKED_GIVEN_UP) == 1
    assert owner.buffer.closed_bytes == owner.buffer.open_bytes == 0 and not owner.waiting


async def test_law_5_nothing_more_is_parked_while_too_much_waits_to_be_removed() -> None:
    owner = Owner(long_world())
    await owner.live(1)
    shelf = owner.partition.shelf
    assert shelf is not None
    ended = [number.to_bytes(16, "big") for number in range(10**6, 10**6 + owner.buffer.limits.shelf_bytes // 100)]
    for each in ended:
        shelf.end(each, 10**9)  # no commit says so yet
    await owner.live(8)
    assert owner.meter.counted(measures.PARKINGS) == 0
    assert owner.meter.counted(measures.PARKING_REFUSED, "memory") > 0
    shelf.removed(ended)
    await owner.turn()
    assert owner.meter.counted(measures.PARKINGS) > 0
