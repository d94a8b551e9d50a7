"""What is remembered, and how much."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.spans import trace_id
from tss.core.buffer import SENT_BYTES, SENT_RECORD_BYTES
from tss.core.decision import Decision, Reason, Verdict
from tss.core.memory import DROPPED, KEPT, UNDECIDED, UNKNOWN, Kept, Memory, RecentIds
from tss.core.verdicts import TRACE_BYTES

KEEP = Decision(Verdict.KEEP, "errors", Reason.ROOT_QUIET, 1.0)
FIRST = (0, 0)
DROP = Decision(Verdict.DROP, "default", Reason.ROOT_QUIET, 0.0)


def test_what_was_delivered_is_forgotten_least_recently_used_first_and_the_verdict_stays() -> None:
    memory = Memory(kept_limit=2)
    for number in (1, 2):
        memory.keep(trace_id(number), KEEP, FIRST)
        memory.delivered(trace_id(number), [(0, 5)])
    assert memory.recall_kept(trace_id(1))
    memory.keep(trace_id(3), KEEP, FIRST)
    assert memory.covering(trace_id(2)) is None
    assert memory.covering(trace_id(1)) is not None
    assert memory.kept == 2
    again = memory.recall_kept(trace_id(2), 0, (7, 70))
    assert again is not None
    assert (again.decision, again.first, again.covered) == (KEEP, (7, 70), {})


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
    assert [memory.has_evicted(trace_id(number)) for number in range(6)] == [True, True, True, True, True, False]
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
    assert memory.covering(trace_id(1)) is None


def test_verdicts_are_forgotten_in_the_order_of_the_closings_not_of_the_decisions() -> None:
    """Law 3: a decision comes when a destination has room; a closing comes when the log says so."""
    for order in ([0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [3, 0, 5, 1, 4, 2]):
        memory = Memory(closed_limit=3)
        numbers = [memory.closed(trace_id(number)) for number in range(6)]
        assert [memory.look(trace_id(number), 0) for number in range(6)] == [UNKNOWN] * 3 + [UNDECIDED] * 3
        for number in order:
            if number % 2:
                memory.keep(trace_id(number), KEEP, FIRST, numbers[number])
            else:
                memory.drop(trace_id(number), numbers[number])
        found = [memory.look(trace_id(number), 0) for number in range(6)]
        assert found == [UNKNOWN, UNKNOWN, UNKNOWN, KEPT, DROPPED, KEPT]


def test_of_two_traces_with_one_id_the_later_closing_counts_though_it_is_decided_first() -> None:
    memory = Memory(closed_limit=2)
    first = memory.closed(trace_id(1))
    memory.closed(trace_id(2))
    memory.closed(trace_id(3))
    assert memory.look(trace_id(1), 0) == UNKNOWN
    second = memory.closed(trace_id(1))
    memory.drop(trace_id(1), second)
    memory.keep(trace_id(1), KEEP, FIRST, first)
    assert memory.was_dropped(trace_id(1))
    memory.sending(trace_id(1), [(0, 4)])  # law 1: what is on its way is known all the same
    assert memory.covering(trace_id(1)) is not None


@pytest.mark.parametrize("secs", [1, 10, 59, 60, 600, 601, 86_400])
def test_a_closing_is_remembered_for_the_time_asked_for_and_a_sixtieth_or_a_second_more(secs: int) -> None:
    step_secs = max(1, -(-secs // 60))
    for since in sorted({0, 1, secs // 2, secs - 1, secs, secs + step_secs, secs + 2 * step_secs, 9 * secs}):
        memory = Memory(secs=secs)
        memory.turn(0, 10**12)
        memory.drop(trace_id(1))
        floor = memory.turn(0, 10**12 + 1000 * since)
        remembered = memory.look(trace_id(1), floor) == DROPPED
        assert remembered is (since <= secs) or secs < since < secs + step_secs
        assert memory.look(trace_id(1), 0) == DROPPED, "of another partition it may be remembered"


def test_a_partition_that_is_read_again_finds_what_it_was_told_before() -> None:
    memory = Memory(secs=60)
    for second in range(500):
        floor = memory.turn(0, second * 1000)
        memory.drop(trace_id(second))
        assert memory.look(trace_id(max(0, second - 60)), floor) == DROPPED
    for second in range(430, 500):
        floor = memory.turn(0, second * 1000)
        assert memory.look(trace_id(second), floor) == DROPPED


def test_how_far_back_it_reaches_is_told() -> None:
    roomy, small = Memory(secs=60), Memory(secs=60, closed_limit=100)
    for memory, reach in ((roomy, 60), (small, 9)):
        for second in range(500):
            memory.turn(0, second * 1000)
            for each in range(10):
                memory.drop(trace_id(10 * second + each))
        assert memory.reach_secs(0, 499_000) == pytest.approx(reach, abs=2)
        assert memory.is_cut(0) is (memory is small)
        assert (memory.reach_secs(1, 499_000), memory.is_cut(1)) == (0, False)


@pytest.mark.parametrize("count", [10, 1_000, 100_000])
def test_law_5_a_closed_trace_takes_no_more_than_is_said(count: int) -> None:
    """Beside 64 tables of 16 slots, which are there from the start."""
    memory = Memory(closed_limit=count)
    start = memory.held_bytes
    for number in range(3 * count):
        memory.drop(trace_id(number))
    assert count <= memory.dropped <= count + 1
    assert memory.held_bytes <= start + count * TRACE_BYTES * 1.2


def test_law_5_time_gives_back_what_it_forgets() -> None:
    memory = Memory(secs=60)
    for number in range(20_000):
        memory.turn(0, 1000)
        memory.drop(trace_id(number))
    most = memory.held_bytes
    for number in range(20_000, 40_000):
        memory.turn(0, number * 1000)
        memory.drop(trace_id(number))
    assert memory.dropped < 70
    assert memory.held_bytes < most / 5


def test_law_5_a_kept_trace_takes_about_what_is_said() -> None:
    memory = Memory(kept_limit=10**6)
    ids = [trace_id(number) for number in range(20_000)]
    memory.keep(trace_id(-1), KEEP, FIRST)
    before = memory.held_bytes
    tracemalloc.start()
    try:
        for number, id in enumerate(ids):
            memory.keep(bytes(bytearray(id)), KEEP, (1000 + number, number << 20))
            memory.sending(id, [(1000 + number, number << 20)])
            memory.delivered(id, [(1000 + number, number << 20)])
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken == pytest.approx(memory.held_bytes - before, rel=0.15)


def test_law_5_what_is_on_its_way_takes_about_what_is_said() -> None:
    memory = Memory(kept_limit=10**6)
    places = [[(1000, (number << 20) + at) for at in range(10)] for number in range(5_000)]
    for number in range(5_000):
        memory.keep(trace_id(number), KEEP, FIRST)
    del places
    tracemalloc.start()
    try:
        for number in range(5_000):
            memory.sending(trace_id(number), [(1000, (number << 20) + at) for at in range(10)])
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken == pytest.approx(5_000 * (SENT_BYTES + 10 * SENT_RECORD_BYTES), rel=0.15)


def test_law_1_what_was_parked_is_delivered_only_when_nothing_up_to_there_is_on_its_way() -> None:
    kept = Kept(KEEP, FIRST)
    kept.send([(0, 10), (0, 20), (1, 5)])
    kept.covered = {0: 30}
    assert not kept.has_delivered_up_to(0, 25)
    assert not kept.has_delivered_up_to(0, 10)
    assert kept.has_delivered_up_to(0, 9), "all that is on its way is above"
    assert not kept.has_delivered_up_to(0, 31), "more than anybody took"
    kept.outstanding = None
    assert kept.has_delivered_up_to(0, 30)
