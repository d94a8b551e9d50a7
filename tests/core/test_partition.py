"""Where a restart begins to read."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from tss.core.partition import Commit, Partition


@given(
    st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=80),
    st.integers(1, 60),
)
def test_the_replay_reaches_back_its_seconds_before_the_low_water(steps: list[tuple[int, bool]], secs: int) -> None:
    """Against brute force over all records: marks are one a second and pruned, the answer must not suffer."""
    partition = Partition(0, 0, 300_000, replay_secs=secs)
    times: list[int] = []
    now = 1_000
    held: list[int] = []
    for offset, (forward, hold) in enumerate(steps):
        now += forward
        partition.time.observe(now * 1000, 10**15)
        partition.mark(offset)
        partition.ledger.read(offset)
        times.append(now)
        if hold:
            partition.ledger.hold(offset)
            held.append(offset)
        if len(held) > 3:
            partition.ledger.settle(held.pop(0))
        commit = partition.commit()
        low_water = min(held, default=offset + 1)
        reached = times[min(low_water, offset)]
        wanted = min(other for other, time in enumerate(times) if time >= reached - secs)
        assert commit == Commit(low_water, min(low_water, wanted))


def test_no_replay_when_it_is_off() -> None:
    partition = Partition(0, 7, 300_000)
    for offset in range(7, 5000):
        partition.time.observe(offset * 1000, 10**15)
        partition.mark(offset)
        partition.replay.ended(bytes(16), offset)
        partition.ledger.read(offset)
    assert partition.commit() == Commit(5000, 5000)
    assert (len(partition.replay._seconds), len(partition.replay._end_seconds)) == (
        0,
        0,
    )  # nothing is noted that nobody needs


def test_law_2_revoked_before_the_replay_is_over_it_leaves_it_as_it_was() -> None:
    partition = Partition(0, 100, 300_000, committed=100, replay_from=40, replay_secs=60)
    assert partition.commit() == Commit(100, 40)
    for offset in range(40, 100):
        partition.time.observe(offset * 10_000, 10**15)
        partition.mark(offset)
        assert partition.commit() == Commit(100, 40)
    partition.mark(100)
    partition.ledger.read(100)
    assert partition.commit() == Commit(101, 93)  # six marks back are the sixty seconds


def test_law_2_no_trace_that_ended_in_the_window_is_cut_however_long_it_took() -> None:
    partition = Partition(0, 0, 300_000, replay_secs=60)
    for offset in range(300):
        partition.time.observe((1000 + offset) * 1000, 10**15)
        partition.mark(offset)
        partition.ledger.read(offset)
        if offset == 200:
            partition.replay.ended(b"long", 10)
        elif offset == 250:
            partition.replay.ended(b"short", 245)
    assert partition.commit() == Commit(300, 239)  # 200 is more than sixty seconds ago
    partition.replay.ended(b"late", 10)  # something came late of it: it is needed again
    assert partition.commit() == Commit(300, 10)


def test_law_3_a_replay_begins_with_the_record_that_set_the_stream_time_of_what_it_is_for() -> None:
    partition = Partition(0, 0, 300_000, replay_secs=60)
    for offset, second in enumerate([1000, 1001, 1290, 1002, 1003, 1601, 1700]):  # one clock is ahead
        partition.time.observe(second * 1000, 10**15)
        partition.mark(offset)
        partition.ledger.read(offset)
        if offset == 6:
            partition.replay.ended(b"long", 4)  # that came at 1290, whatever its own timestamp says
    assert partition.commit() == Commit(7, 2)
    assert partition.commit() == Commit(7, 2), "it is still needed"
    partition.time.observe(1800 * 1000, 10**15)
    partition.mark(7)
    partition.ledger.read(7)
    assert partition.commit() == Commit(8, 7)
    assert list(partition.replay._offsets) == [7]


def test_law_2_a_trace_taken_up_again_is_not_cut_before_it_has_ended() -> None:
    partition = Partition(0, 5, 300_000, committed=5, replay_from=0, replay_secs=60)
    partition.replay.reopened(b"open", 2)
    for offset in range(600):
        partition.time.observe((1000 + offset) * 1000, 10**15)
        partition.mark(offset)
        if offset >= 5:
            partition.ledger.read(offset)
    assert partition.commit() == Commit(600, 2)
    partition.replay.ended(b"open", 2)
    assert partition.commit() == Commit(600, 2)
    for offset in range(600, 700):
        partition.time.observe((1000 + offset) * 1000, 10**15)
        partition.mark(offset)
        partition.ledger.read(offset)
    assert partition.commit() == Commit(700, 639)


def test_the_oldest_record_not_done_with_is_as_old_as_the_newest_up_to_it() -> None:
    """A broker deletes a segment when the newest record in it, and in all before, is too old."""
    partition = Partition(0, 0, 300_000)
    for offset, second in enumerate([100, 90, 200, 150, 300]):
        partition.time.observe(second * 1000, 10**15)
        partition.mark(offset)
        partition.ledger.read(offset)
        partition.ledger.hold(offset)
        partition.position = offset + 1
    found = []
    for offset in range(5):
        found.append(partition.oldest_secs())
        partition.ledger.settle(offset)
        partition.commit()
    assert found == [100, 100, 200, 200, 300]
    assert partition.oldest_secs() is None, "nothing waits"
    partition.lag = 7
    assert partition.oldest_secs() == 300, "what was not read is no older than what was"


def test_the_wall_clock_makes_no_record_younger() -> None:
    """Old records that come into an idle partition are as old as they are: retention has no other clock."""
    partition = Partition(0, 0, 300_000)
    partition.time.reach(10**9)
    partition.time.observe(5_000, 10**15)
    partition.mark(0)
    partition.ledger.read(0)
    partition.ledger.hold(0)
    assert partition.oldest_secs() == 5


def test_without_a_timestamp_the_age_is_not_known() -> None:
    partition = Partition(0, 0, 300_000)
    partition.time.observe(-1, 10**15)
    partition.mark(0)
    partition.ledger.read(0)
    partition.ledger.hold(0)
    assert math.isnan(partition.oldest_secs() or 0)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=200))
def test_stamps_say_the_same_after_what_is_below_is_forgotten(steps: list[tuple[int, bool]]) -> None:
    partition = Partition(0, 0, 300_000)
    times: list[int] = []
    low = 0
    for offset, (later, settles) in enumerate(steps):
        times.append(max([*times[-1:], 1]) + later - 2)
        partition.time.observe(times[-1] * 1000, 10**15)
        partition.mark(offset)
        partition.ledger.read(offset)
        partition.ledger.hold(offset)
        if settles:
            partition.ledger.settle(low)
            low += 1
            partition.commit()
        if low <= offset and max(times[: low + 1]) > 0:
            assert partition.oldest_secs() == max(times[: low + 1])
    assert len(partition.stamps) <= len({*times})
