"""Where traces were met first: exact while there is room, and never too late."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.spans import fragment, record, trace_id
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.decision import Decision, Reason, Verdict
from tss.core.firstmet import FirstMet
from tss.core.memory import Memory
from tss.core.partition import Partition

MIB = 1 << 20
DROP = Decision(Verdict.DROP, "default", Reason.ROOT_QUIET, 0.0)
STEPS = st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["meet", "meet", "meet", "window", "shorten"])))


@given(STEPS)
def test_law_2_it_is_never_said_to_be_later_than_it_was(steps: list[tuple[int, str]]) -> None:
    """Against a dict of all that were met since the window."""
    met = FirstMet()
    first_of: dict[int, int] = {}
    known: dict[int, tuple[int, int]] = {}
    shortened = False
    for second, (number, what) in enumerate(steps):
        if what == "window":
            window = second - number
            met.forget_before(window)
            known = {id: each for id, each in known.items() if each[1] >= window}
        elif what == "shorten":
            met.shorten()
            shortened = True
        else:
            first = first_of.setdefault(number, second)
            wanted = known.get(number, (second, 0))[0]
            found = met.meet(trace_id(number), second, second)
            assert found <= wanted
            assert shortened or found >= first
            known[number] = wanted, second


def test_law_2_what_was_forgotten_for_want_of_room_begins_with_the_oldest_of_it() -> None:
    met = FirstMet()
    for number in range(10):
        met.meet(trace_id(number), 100 + number, 100)
    met.shorten()
    assert met.meet(trace_id(3), 500, 110) == 103
    met.shorten()
    assert met.meet(trace_id(5), 600, 120) == 100
    met.forget_before(111)  # what was met last before is of no use to anybody
    assert met.meet(trace_id(50), 700, 130) == 700


def test_law_5_it_takes_what_is_said() -> None:
    ids = [trace_id(number) for number in range(100_000)]
    tracemalloc.start()
    try:
        met = FirstMet()
        for number, id in enumerate(ids):
            met.meet(id, number, 5)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert met.held_bytes == pytest.approx(taken, rel=0.05)
    assert met.held_bytes < 32 * len(ids)


def test_law_5_one_trace_that_holds_the_low_water_does_not_make_it_grow_without_bound() -> None:
    """Each dropped trace gets a late span, for as long as the oldest one is open."""
    limit = 4 * MIB
    buffer = Buffer(Limits(limit, 10**9, 10**9, 10**9), Waits(1000, 10**9, 10**9), Memory.within(limit, 600))
    home = Partition(0, 0, 10**15, replay_secs=60)
    buffer.adopt(home)
    buffer.add(home, record(0, 1.0, fragment(10**6)), 10**15)
    most, offset = 0, 1
    for number in range(60_000):
        at = 1 + number / 100
        buffer.add(home, record(offset, at, fragment(number, root=True, size=10)), 10**15)
        for trace in buffer.take():
            if trace.reason is not Reason.PRESSURE:
                buffer.settle_all(buffer.decided(trace, DROP))
        buffer.add(home, record(offset + 1, at, fragment(max(0, number - 300), size=10)), 10**15)
        offset += 2
        if not number % 100:
            buffer.relieve_ledgers()
            most = max(most, buffer.ledger_bytes)
            home.commit()
    assert home.ledger.low_water == 0
    assert home.replay.met_bytes <= buffer.limits.ledger_bytes // 2
    assert most <= buffer.limits.ledger_bytes
    assert buffer.held_bytes <= limit


def test_law_5_what_is_marked_of_the_log_counts_and_ends_the_trace_that_holds_the_low_water() -> None:
    """Records a second apart: the ledger is small, and what says from where on to read is not."""
    limit = 4 * MIB
    buffer = Buffer(Limits(limit, 10**9, 10**9, 10**9), Waits(1000, 10**9, 10**9), Memory.within(limit, 600))
    homes = [Partition(id, 0, 10**15, replay_secs=60) for id in range(20)]
    for home in homes:
        buffer.adopt(home)
        buffer.add(home, record(0, 1.0, fragment(10**6 + home.id)), 10**15)
    pressed = []
    for second in range(1, 2000):
        for home in homes:
            buffer.add(home, record(second, second, fragment(20 * second + home.id, root=True, size=10)), 10**15)
        closed = buffer.take()
        pressed += [trace for trace in closed if trace.reason is Reason.PRESSURE]
        for trace in closed:
            buffer.settle_all(buffer.decided(trace, DROP))
        buffer.relieve_ledgers()
        for home in homes:
            home.commit()
        assert buffer.ledger_bytes <= buffer.limits.ledger_bytes * 1.1
    assert pressed
    assert len(pressed) <= 60, "a chunk of the ledger is given back whole, with the few that were open then"
