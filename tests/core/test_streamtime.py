"""Time is the log's time."""

from hypothesis import given
from hypothesis import strategies as st

from tss.core.streamtime import GRACE_MS, NO_TIME, Ring, StreamTime

NOW = 1_000_000_000


def test_time_is_the_largest_timestamp_seen() -> None:
    time = StreamTime(300_000)
    for timestamp in (10, 30, 20):
        assert time.observe(timestamp, NOW)
    assert time.now_ms == 30


def test_an_absurd_timestamp_counts_as_now_and_is_told() -> None:
    time = StreamTime(300_000)
    assert time.observe(NOW - 3_600_000, NOW)
    assert not time.observe(NOW + 300_001, NOW)
    assert time.now_ms == NOW - 3_600_000  # an hour-old backlog stays an hour old
    assert time.observe(NOW + 300_000, NOW)
    assert time.now_ms == NOW + 300_000


def test_no_timestamp_is_no_fault_and_no_time() -> None:
    time = StreamTime(300_000)
    assert time.observe(-1, NOW)
    assert time.observe(0, NOW)
    assert time.now_ms == NO_TIME


def test_at_the_end_the_wall_clock_moves_time_less_the_grace() -> None:
    time = StreamTime(300_000)
    time.reach(NOW)
    assert time.now_ms == NOW - GRACE_MS
    time.reach(NOW - 5)
    assert time.now_ms == NOW - GRACE_MS  # never back


def test_how_far_the_records_are_ahead_of_the_wall_clock() -> None:
    time = StreamTime(300_000)
    assert time.ahead_ms(NOW) == 0
    time.observe(NOW + 290_000, NOW)
    time.observe(NOW, NOW)
    assert [time.ahead_ms(NOW), time.ahead_ms(NOW + 289_999), time.ahead_ms(NOW + 300_000)] == [290_000, 1, 0]
    time.reach(NOW + 400_000)
    assert time.ahead_ms(NOW + 300_000) == 0  # the wall clock is not ahead of itself


@given(st.lists(st.tuples(st.integers(0, 100_000), st.integers(0, 3_000)), max_size=60))
def test_entries_come_out_in_their_second_or_at_the_next_turn_after_it(steps: list[tuple[int, int]]) -> None:
    ring = Ring()
    waiting: dict[int, int] = {}
    now = 0
    for number, (ahead, forward) in enumerate(steps):
        waiting[number] = ring.put(-(-(now + ahead) // 1000), number)
        assert waiting[number] * 1000 >= now + ahead or ahead == 0
        now += forward
        out = {entry: second for second, entry in ring.turn(now)}
        assert out == {entry: second for entry, second in waiting.items() if second * 1000 <= now}
        for entry in out:
            del waiting[entry]


def test_a_turn_hands_out_oldest_first_and_survives_a_jump_of_years() -> None:
    ring = Ring()
    ring.put(5, "b")
    ring.put(4, "a")
    ring.put(10**10, "z")
    assert [entry for _, entry in ring.turn(10**12)] == ["a", "b"]


def test_what_is_put_while_turning_waits_for_the_next_turn() -> None:
    ring = Ring()
    ring.put(1, "a")
    for _, entry in ring.turn(2_000):
        ring.put(2, entry)
    assert [entry for _, entry in ring.turn(3_000)] == ["a"]
