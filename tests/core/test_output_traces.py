"""What the output topic has already is neither sent again nor missed, whatever else is forgotten."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.spans import fragment, lone, record, trace_id
from tss.core.buffer import FORGET_RECORDS, Buffer, Limits, Waits
from tss.core.decision import Decision, Reason, Verdict
from tss.core.memory import Memory
from tss.core.output_traces import OutputTrace, ProduceTimes
from tss.core.partition import Commit, Partition
from tss.core.trace import Trace

WALL = 10**15
KEEP = Decision(Verdict.KEEP, "errors", Reason.ROOT_QUIET, 0.5)


def buffer(memory: Memory | None = None) -> Buffer:
    return Buffer(Limits(1 << 30, 1000, 1000, 100), Waits(30_000, 600_000, 10_800_000), memory or Memory())


def partition(start: int, delivered: dict[int, list[int]], since_ms: int = 5000) -> Partition:
    """One that was taken up at ``start``, when the topic had of these traces what was made of these offsets."""
    known = {trace_id(number): OutputTrace(KEEP, offsets) for number, offsets in delivered.items()}
    return Partition(0, start, 300_000, committed=start, delivered=known, since_ms=since_ms)


def read(to: Buffer, home: Partition, *numbers: int, start: int, secs: float = 0) -> list[Trace]:
    """A record of each of these traces, one after the other; returns what comes out."""
    for offset, number in enumerate(numbers, start):
        to.add(home, record(offset, 1000 + offset / 1000 + secs, fragment(number)), WALL)
    return to.take()


# -- what is met again


def test_what_was_delivered_is_settled_silently_and_what_lies_between_is_late() -> None:
    """Late spans overtake each other on their way, so below the highest offset something may be missing."""
    into, home = buffer(), partition(10, {1: [10, 12]})
    into.adopt(home)
    late = read(into, home, 1, 1, 1, 1, start=10)
    assert [(each.late, each.decision, each.holds()) for each in late] == [
        (True, KEEP, [(home, 11)]),
        (True, KEEP, [(home, 13)]),
    ]
    assert into.take_counts().duplicate_spans == 2
    assert (home.ledger.low_water, into.open_traces) == (11, 0)


def test_a_trace_that_the_topic_does_not_have_is_as_ever() -> None:
    into, home = buffer(), partition(10, {1: [10]})
    into.adopt(home)
    assert read(into, home, 1, 2, start=10) == []
    assert (home.ledger.low_water, into.open_traces) == (11, 1)


def test_what_is_read_again_below_the_start_is_not_taken_up() -> None:
    """Or it would be judged anew, by the part of it that is left."""
    into, home = buffer(), partition(10, {1: [8, 10]})
    into.adopt(home)
    assert read(into, home, 1, start=8) == []
    assert into.open_traces == 0


def test_the_memory_of_decisions_may_forget_what_the_partition_does_not() -> None:
    into = buffer(Memory(kept_limit=1))
    home = partition(0, {number: [number] for number in range(50)})
    into.adopt(home)
    assert into.memory.kept == 1
    assert read(into, home, *range(50), start=0) == []
    assert into.take_counts().duplicate_spans == 50


def test_spans_later_than_all_that_was_delivered_follow_the_decision_when_it_is_passed() -> None:
    into, home = buffer(), partition(0, {1: [0]})
    into.adopt(home)
    read(into, home, *([2] * (FORGET_RECORDS + 1)), start=0)
    assert home.delivered is None
    (late,) = read(into, home, 1, start=FORGET_RECORDS + 1)[-1:]
    assert (late.trace_id, late.late, late.decision) == (trace_id(1), True, KEEP)


def test_only_what_was_passed_is_forgotten() -> None:
    into, home = buffer(), partition(0, {1: [0], 3: [0, 3 * FORGET_RECORDS]})
    into.adopt(home)
    read(into, home, *([2] * (FORGET_RECORDS + 1)), start=0)
    assert home.delivered is not None
    assert [*home.delivered] == [trace_id(3)]


def test_what_reaches_up_to_the_position_is_not_passed_yet() -> None:
    """The record at which the partition forgets is about to come."""
    into, home = buffer(), partition(FORGET_RECORDS, {1: [FORGET_RECORDS], 2: [FORGET_RECORDS - 1]})
    into.adopt(home)
    assert read(into, home, 1, start=FORGET_RECORDS) == []
    assert (into.take_counts().duplicate_spans, into.open_traces) == (1, 0)
    assert home.delivered is not None and home.delivered.keys() == {trace_id(1)}


def test_law_5_on_a_topic_with_gaps_what_was_passed_is_forgotten_too() -> None:
    """Where each transaction has one record, every other offset is that of a marker, which no reader gets."""
    into, home = buffer(), partition(1, {1: [1], 3: [3 * FORGET_RECORDS + 1]})
    into.adopt(home)
    for offset in range(1, FORGET_RECORDS + 10, 2):
        into.add(home, record(offset, 1000, fragment(2)), WALL)
    assert home.delivered is not None and [*home.delivered] == [trace_id(3)]


def test_law_5_at_the_end_of_the_log_nothing_stays_that_was_passed() -> None:
    into, home = buffer(), partition(0, {1: [0], 3: [1], 4: [5]})
    into.adopt(home)
    for offset, number in enumerate((1, 3)):
        into.add(home, record(offset, 1000, fragment(number)), WALL)
    into.reach(home, 2_000_000)
    assert home.delivered is not None and [*home.delivered] == [trace_id(4)], "what is not there yet may come"
    into.add(home, record(5, 1000, fragment(4)), WALL)
    into.reach(home, 2_000_000)
    assert home.delivered is None


def test_a_trace_that_is_open_from_another_partition_does_not_get_what_was_delivered() -> None:
    into, home, other = buffer(), partition(0, {1: [0]}), Partition(1, 0, 300_000)
    into.adopt(other)
    into.add(other, record(0, 1000, fragment(1), partition=1), WALL)
    into.adopt(home)
    read(into, home, 1, start=0)
    assert (home.ledger.low_water, other.ledger.low_water) == (1, 0)


# -- what was withdrawn


def decided(into: Buffer, home: Partition) -> Trace:
    into.add(home, record(0, 1000, fragment(1, errors=1, root=True)), WALL)
    into.add(home, record(1, 1100, fragment(2)), WALL)
    (trace,) = into.take()
    (same,) = into.decided(trace, KEEP)
    return same


def test_law_1_what_was_withdrawn_does_not_count_as_delivered() -> None:
    """Its partition went while it waited; when it comes back, the trace has still to be sent."""
    into, home = buffer(), Partition(0, 0, 300_000)
    into.adopt(home)
    trace = decided(into, home)
    into.forget([home])
    home.gone = True
    trace.let_go(home)
    into.settle(trace)
    again = Partition(0, 0, 300_000)
    into.adopt(again)
    (late,) = read(into, again, 1, start=0)
    assert (late.decision, late.holds()) == (KEEP, [(again, 0)])


def test_what_was_delivered_counts_as_delivered_when_the_partition_comes_back() -> None:
    into, home = buffer(), Partition(0, 0, 300_000)
    into.adopt(home)
    trace = decided(into, home)
    into.settle(trace)
    into.forget([home])
    again = Partition(0, 0, 300_000)
    into.adopt(again)
    assert read(into, again, 1, start=0) == []


def test_of_a_trace_on_two_partitions_the_part_that_is_ours_is_left() -> None:
    for gone, left in ((0, [b"two"]), (1, [b"one"])):
        partitions = Partition(0, 0, 300_000), Partition(1, 0, 300_000)
        trace = Trace(trace_id(1), partitions[0], 0)
        for at, payload in zip(partitions, (b"one", b"two"), strict=True):
            at.ledger.read(0)
            trace.hold(at, 0, lone(fragment(1, payload=payload)), 0)
        trace.take_off()
        assert trace.chunks() == [b"one", b"two"]
        trace.let_go(partitions[gone])
        assert trace.chunks() == left
        assert [each.in_flight for each in partitions] == [gone, 1 - gone]


# -- from when on the topic is to be read

STEPS = st.lists(st.tuples(st.integers(-200, 3000), st.integers(0, 30), st.integers(0, 3)), max_size=60)


@given(STEPS)
def test_reading_from_since_on_finds_all_that_reaches_the_low_water(steps: list[tuple[int, int, int]]) -> None:
    """Against all that was noted. The clock may even be behind an earlier owner's: then it begins too early."""
    produced, noted = ProduceTimes(), list[tuple[int, int]]()
    now, low_water = 10_000, 0
    for forward, offset, passed in steps:
        now += forward
        noted.append((now, low_water + offset))
        produced.note(now, low_water + offset)
        low_water += passed
        since = produced.since_ms(low_water, now)
        assert since <= now
        assert all(since <= at for at, offset in noted if offset >= low_water)


def test_since_follows_the_low_water() -> None:
    produced = ProduceTimes()
    assert produced.since_ms(0, 500) == 500, "nothing was produced: what will be is not older than now"
    for second in range(10):
        produced.note(1000 * second, 10 * second)
    assert [produced.since_ms(low, 99_000) for low in (0, 1, 10, 11, 90, 91)] == [0, 1000, 1000, 2000, 9000, 99_000]


def test_an_hour_of_produced_traces_is_an_entry_a_second() -> None:
    produced = ProduceTimes()
    for number in range(100_000):
        produced.note(number * 36, number)
    assert len(produced._entries) <= 3600


def test_since_stays_until_what_an_earlier_owner_produced_is_passed() -> None:
    home = partition(10, {1: [10, 40]}, since_ms=5000)
    assert home.commit(90_000) == Commit(10, 10, 5000)
    assert home.commit() == Commit(10, 10)
    for offset in range(10, 41):
        home.ledger.read(offset)
    assert home.commit(90_000) == Commit(41, 41, 90_000)


# -- what it takes


@pytest.mark.parametrize("offsets", [1, 4, 5, 40])
def test_law_5_what_is_known_to_be_delivered_takes_what_is_counted(offsets: int) -> None:
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    known = {
        bytes(bytearray(trace_id(number))): OutputTrace(
            KEEP, range(1000 * number + 10_000, 1000 * number + 10_000 + offsets)
        )
        for number in range(5_000)
    }
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert sum(each.held_bytes for each in known.values()) == pytest.approx(taken, rel=0.3)


def test_law_5_it_is_told_as_held_and_open_traces_make_room_for_it_until_it_is_passed() -> None:
    known = {number: [10 + number] for number in range(3000)}
    into, home = Buffer(Limits(2 << 20, 10**6, 10**6, 100), Waits(10**9, 10**9, 10**9), Memory()), partition(10, known)
    assert into.held_by_kind()["recalled"] == 0
    into.adopt(home)
    recalled = into.held_by_kind()["recalled"]
    assert recalled == sum(each.held_bytes for each in (home.delivered or {}).values()) > into.limits.open_bytes // 2
    fill = [fragment(10_000 + number, size=5_000) for number in range(400)]
    for number, each in enumerate(fill):
        into.add(home, record(10 + number, 1000, each), WALL)
    assert into.open_bytes <= into.limits.open_bytes // 2, "and never less than half of theirs"
    for offset in range(10 + len(fill), 5000):
        into.add(home, record(offset, 1000, fragment(20_000 + offset, size=5_000)), WALL)
    assert into.held_by_kind()["recalled"] == 0 and into.open_bytes > into.limits.open_bytes // 2
    into.forget([home])
    assert into.held_by_kind()["recalled"] == 0
