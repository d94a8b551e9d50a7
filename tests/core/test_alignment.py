"""No partition runs ahead of another, none is forgotten, none is waited for without end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.core.spans import fragment, one_record
from tss.core.alignment import SILENCE_MS, WAITING_BYTES, Alignment, ReadRecord, ends_of, still_ours
from tss.core.otlp import Records

AHEAD_MS = 1000
WALL = 10**12


def record(partition: int, offset: int, ms: int) -> Records:
    return one_record(partition, offset, ms, (fragment(offset + 1),))


def taken(alignment: Alignment, wall_ms: int = WALL, most: int = 1000) -> list[tuple[int, int]]:
    return [(read.partition.id, read.offset) for read in alignment.take(most, wall_ms)]


def of(*ids: int) -> Alignment:
    alignment = Alignment(AHEAD_MS)
    alignment.begin(ids)
    return alignment


def add(alignment: Alignment, partition: int, *times_ms: int, wall_ms: int = WALL, offset: int = 0) -> None:
    for number, ms in enumerate(times_ms, offset):
        alignment.add(record(partition, number, ms), 0, (), wall_ms)


def test_law_5_headers_wait_like_spans() -> None:
    alignment = of(0, 1)
    for offset in range(5):
        alignment.add(record(0, offset, 1000), 0, (("tenant", bytes(WAITING_BYTES // 4)),), WALL)
    assert alignment.hold() == {0}
    alignment.forget([0])
    assert alignment.hold() == set()


def test_one_partition_waits_for_nobody() -> None:
    alignment = of(0)
    add(alignment, 0, 1000, 90_000, 5000)
    assert taken(alignment) == [(0, 0), (0, 1), (0, 2)]


def test_a_partition_that_has_told_nothing_yet_is_waited_for_but_not_for_ever() -> None:
    alignment = of(0, 1)
    add(alignment, 0, 1000)
    assert taken(alignment) == []
    assert taken(alignment, WALL + SILENCE_MS) == [(0, 0)]


def test_at_its_end_a_partition_holds_nobody_back() -> None:
    alignment = of(0, 1)
    add(alignment, 0, 1000, 90_000)
    alignment.reach([1])
    assert taken(alignment) == [(0, 0), (0, 1)]


def test_what_is_ahead_waits_until_the_others_have_come() -> None:
    alignment = of(0, 1)
    add(alignment, 0, 1000, 1900, 2100, 9000)
    add(alignment, 1, 1000)
    assert {*taken(alignment)} == {(1, 0), (0, 0), (0, 1)}
    add(alignment, 1, 1500, offset=1)
    assert {*taken(alignment)} == {(1, 1), (0, 2)}
    add(alignment, 1, 8500, offset=2)
    assert {*taken(alignment)} == {(1, 2), (0, 3)}


def test_a_clock_ahead_of_ours_counts_as_now() -> None:
    alignment = of(0, 1)
    add(alignment, 0, WALL + 10**9)
    add(alignment, 1, WALL - 10)
    assert {*taken(alignment)} == {(0, 0), (1, 0)}


def test_without_a_timestamp_a_record_goes_with_the_others() -> None:
    alignment = of(0)
    add(alignment, 0, -1, 0, 5000)
    assert taken(alignment) == [(0, 0), (0, 1), (0, 2)]


def test_what_has_gone_is_not_ours_even_when_it_comes_back() -> None:
    alignment = of(0)
    add(alignment, 0, 1000, 1001)
    first = alignment.take(1, WALL)
    alignment.forget([0])
    alignment.begin([0])
    assert still_ours(first) == []
    assert taken(alignment) == []
    add(alignment, 7, 1000)  # read before it went
    assert taken(alignment, WALL + SILENCE_MS) == []


def test_after_a_pause_nobody_counts_as_silent() -> None:
    alignment = of(0, 1)
    add(alignment, 0, 1000)
    add(alignment, 1, 1000)
    assert len(taken(alignment)) == 2
    later = WALL + 10 * SILENCE_MS
    alignment.hear(later)
    add(alignment, 0, 90_000, wall_ms=later, offset=1)
    assert taken(alignment, later) == []


def test_law_5_what_waits_has_a_limit_in_bytes_and_reading_does_not_flap() -> None:
    alignment = of(0, 1)
    add(alignment, 1, 1000)
    large = fragment(1, size=WAITING_BYTES // 4)
    for offset in range(4):
        alignment.add(one_record(0, offset, 90_000 + 1000 * offset, (large,)), 0, (), WALL)
    assert [*taken(alignment)] == [(1, 0)]
    assert alignment.hold() == set()
    add(alignment, 0, 99_000, offset=4)
    assert alignment.hold() == {0}
    add(alignment, 1, 89_000, offset=1)
    assert {*taken(alignment)} == {(1, 1), (0, 0)}
    assert alignment.hold() == {0}, "no flapping"
    add(alignment, 1, 91_000, offset=2)
    assert {*taken(alignment)} == {(1, 2), (0, 1), (0, 2)}
    assert alignment.hold() == set()
    alignment.forget([0, 1])
    assert alignment.hold() == set()


times = st.lists(st.integers(1, 60).map(lambda secs: secs * 500), max_size=12)


@given(st.lists(times, min_size=1, max_size=4), st.integers(1, 7), st.randoms())
def test_all_goes_in_order_and_within_the_bound(logs: list[list[int]], most: int, chance: object) -> None:
    """However it is polled: each partition in its order, all of it once, and none further than the bound ahead of a
    partition of which more is to come."""
    alignment = of(*range(len(logs)))
    rest = {id: [*enumerate(log)] for id, log in enumerate(logs)}
    gone: list[ReadRecord] = []
    while any(rest.values()):
        id = chance.choice([id for id, log in rest.items() if log])  # type: ignore[attr-defined]
        offset, ms = rest[id].pop(0)
        alignment.add(record(id, offset, ms), 0, (), WALL)
        while some := alignment.take(most, WALL):
            gone += some
            assert len(some) <= most
            newest_ms = max(read.timestamp_ms for read in some)
            for other, log in enumerate(logs):
                if rest[other]:  # there is more of it to come
                    read_ms = max(log[: len(log) - len(rest[other])], default=-AHEAD_MS)
                    assert newest_ms <= read_ms + AHEAD_MS
        alignment.reach([other for other, log in rest.items() if not log])
    alignment.reach(rest)
    while some := alignment.take(most, WALL):
        gone += some
    for id, log in enumerate(logs):
        assert [read.offset for read in gone if read.partition.id == id] == [*range(len(log))]
    assert ends_of(gone) == {id: len(log) for id, log in enumerate(logs) if log}
