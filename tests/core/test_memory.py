"""What is remembered, and how much."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.core.spans import trace_id
from tss.core.decision import Decision, Reason, Verdict
from tss.core.memory import Kept, Memory, RecentIds

KEEP = Decision(Verdict.KEEP, "errors", Reason.ROOT_QUIET, 1.0)
FIRST = (0, 0)
DROP = Decision(Verdict.DROP, "default", Reason.ROOT_QUIET, 0.0)


def test_kept_traces_are_forgotten_least_recently_used_first() -> None:
    memory = Memory(kept_limit=2)
    for number in (1, 2):
        memory.keep(trace_id(number), KEEP, FIRST)
    assert memory.recall_kept(trace_id(1))
    memory.keep(trace_id(3), KEEP, FIRST)
    assert memory.recall_kept(trace_id(2)) is None
    assert memory.recall_kept(trace_id(1)) is not None
    assert memory.kept == 2


def test_deliveries_that_overtake_each_other_cover_only_themselves() -> None:
    memory = Memory()
    memory.keep(trace_id(1), KEEP, FIRST)
    memory.sending(trace_id(1), [(0, 10), (0, 20), (0, 30)])
    memory.delivered(trace_id(1), [(0, 30)])
    kept = memory.recall_kept(trace_id(1))
    assert kept is not None
    assert [kept.has_delivered(0, offset) for offset in (5, 10, 20, 30, 31)] == [True, False, False, True, False]
    memory.delivered(trace_id(1), [(0, 10), (0, 20)])
    assert kept.has_delivered(0, 10)
    assert not kept.has_delivered(1, 10)


def test_dropped_traces_are_remembered_for_at_least_the_limit() -> None:
    limit = 1000
    dropped = RecentIds(limit)
    ids = [trace_id(number) for number in range(5 * limit)]
    for number, id in enumerate(ids):
        dropped.add(id)
        dropped.add(id)  # again: it counts once
        assert min(limit, number + 1) <= len(dropped) <= 2 * limit
        if number % 97 == 0:
            assert all(each in dropped for each in ids[max(0, number - limit + 1) : number + 1])
    assert ids[0] not in dropped
    assert trace_id(10**9) not in dropped


@given(st.sets(st.integers(0, 400), max_size=60))
def test_nothing_is_remembered_that_was_not_dropped(numbers: set[int]) -> None:
    """A false yes would drop an error trace (law 1)."""
    dropped = RecentIds(64)
    for number in numbers:
        dropped.add(trace_id(number))
    assert {number for number in range(401) if trace_id(number) in dropped} == numbers


def test_a_verdict_is_recalled_as_it_was() -> None:
    memory = Memory()
    memory.drop(trace_id(1))
    memory.keep(trace_id(2), KEEP, FIRST)
    assert memory.was_dropped(trace_id(1))
    assert not memory.was_dropped(trace_id(2))
    kept = memory.recall_kept(trace_id(2))
    assert kept is not None
    assert kept.decision is KEEP


def test_of_what_had_to_be_forgotten_the_ids_stay() -> None:
    memory = Memory(kept_limit=2, evicted_limit=10)
    for number in range(5):
        memory.keep(trace_id(number), KEEP, FIRST)
    assert [memory.has_evicted(trace_id(number)) for number in range(6)] == [True, True, True, False, False, False]
    assert memory.take_evictions() == 3
    assert memory.take_evictions() == 0
    plain = Memory(kept_limit=1)
    for number in range(3):
        plain.keep(trace_id(number), KEEP, FIRST)
    assert not plain.has_evicted(trace_id(0))
    assert plain.take_evictions() == 2


def test_law_1_what_is_on_its_way_is_not_forgotten() -> None:
    """What came late of it could else be said to cover it."""
    memory = Memory(kept_limit=2, evicted_limit=100)
    for number in range(6):
        memory.keep(trace_id(number), KEEP, FIRST)
        memory.sending(trace_id(number), [(0, number)])
    assert [memory.covering(trace_id(number)) is not None for number in range(6)] == [True] * 6
    for number in range(6):
        memory.delivered(trace_id(number), [(0, number)])
        memory.settled(trace_id(number))
    for number in range(6, 10):
        memory.keep(trace_id(number), KEEP, FIRST)
    assert memory.kept == 2, "the limit is come back to"
    assert memory.has_evicted(trace_id(0))


def test_what_was_learned_counts_as_kept_and_gives_way_to_what_is_known() -> None:
    memory = Memory(kept_limit=1)
    learned = Kept(KEEP, (3, 3))
    assert memory.learn(trace_id(1), learned) is learned
    assert memory.learn(trace_id(1), Kept(KEEP, (4, 4))) is learned
    memory.learn(trace_id(2), Kept(KEEP, (5, 5)))
    assert memory.recall_kept(trace_id(1)) is None
