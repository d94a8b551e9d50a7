"""Where a restart begins to read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tss.core.partition import Commit, Partition


@given(
    st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=80),
    st.integers(1, 60),
)
def test_the_replay_reaches_back_its_seconds_before_the_low_water(steps: list[tuple[int, bool]], secs: int) -> None:
    """Against brute force over all records: marks are one a second and pruned, the answer must not suffer."""
    partition = Partition(0, 0, 300_000)
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
        commit = partition.commit(secs)
        low_water = min(held, default=offset + 1)
        reached = times[min(low_water, offset)]
        wanted = min(other for other, time in enumerate(times) if time >= reached - secs)
        assert commit == Commit(low_water, min(low_water, wanted))


def test_no_replay_when_it_is_off_or_nothing_was_read() -> None:
    partition = Partition(0, 7, 300_000)
    assert partition.commit(60) == Commit(7, 7)
    partition.time.observe(1000, 10**15)
    partition.mark(7)
    partition.ledger.read(7)
    assert partition.commit(0) == Commit(8, 8)


def test_law_2_revoked_before_anything_was_read_it_leaves_the_replay_as_it_was() -> None:
    partition = Partition(0, 100, 300_000, 100, replay_from=40)
    assert partition.commit(60) == Commit(100, 40)
