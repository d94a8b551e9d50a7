"""Law 1 in the small: the low water never passes what is held."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tss.core import ledger as ledger_module
from tss.core.errors import LawBroken
from tss.core.ledger import Ledger


class LedgerAgainstModel(RuleBasedStateMachine):
    """The ledger does what a plain dict of counters does."""

    @initialize(start=st.integers(0, 1 << 40))
    def begin(self, start: int) -> None:
        self.ledger = Ledger(start)
        self.next = start
        self.held: dict[int, int] = {}

    @rule(gap=st.one_of(st.just(0), st.integers(0, 5), st.integers(1000, 1 << 33)), holds=st.integers(0, 3))
    def read(self, gap: int, holds: int) -> None:
        offset = self.next + gap
        self.ledger.read(offset)
        for _ in range(holds):
            self.ledger.hold(offset)
            self.held[offset] = self.held.get(offset, 0) + 1
        self.next = offset + 1

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.held)))
        self.ledger.settle(offset)
        self.held[offset] -= 1
        if not self.held[offset]:
            del self.held[offset]

    @precondition(lambda self: self.held)
    @rule()
    def settle_oldest(self) -> None:
        oldest = min(self.held)
        for _ in range(self.held.pop(oldest)):
            self.ledger.settle(oldest)

    @invariant()
    def law_1_low_water_is_the_oldest_held(self) -> None:
        expected = min(self.held, default=self.next)
        # Offsets nobody wrote lie between records; the low water may stand on them, never above the oldest held.
        assert self.ledger.low_water == expected
        assert self.ledger.next == self.next


TestLedgerAgainstModel = LedgerAgainstModel.TestCase


def test_law_1_a_record_read_twice_stops_the_process() -> None:
    ledger = Ledger(5)
    ledger.read(5)
    with pytest.raises(LawBroken, match="law 1"):
        ledger.read(5)


@pytest.mark.parametrize("offset", [4, 5, 6, 7])
def test_law_1_settling_what_is_not_held_stops_the_process(offset: int) -> None:
    ledger = Ledger(5)
    ledger.read(5)
    ledger.read(6)
    with pytest.raises(LawBroken, match="law 1"):
        ledger.settle(offset)


@given(st.integers(1, 40))
def test_a_long_held_head_costs_four_bytes_a_record(hundreds: int) -> None:
    ledger = Ledger(0)
    count = hundreds * 100
    for offset in range(count):
        ledger.read(offset)
        ledger.hold(offset)
    assert ledger.bytes == ledger_module.CHUNK_BYTES * -(-count // ledger_module.CHUNK_RECORDS)
    for offset in range(1, count):
        ledger.settle(offset)
    assert ledger.low_water == 0
    ledger.settle(0)
    assert ledger.low_water == count
    assert ledger.bytes <= ledger_module.CHUNK_BYTES


def test_settled_counters_are_given_back_while_others_are_held() -> None:
    ledger = Ledger(0)
    count = 16 * ledger_module.CHUNK_RECORDS
    for offset in range(count):
        ledger.read(offset)
        ledger.hold(offset)
    for offset in range(count - 10):
        ledger.settle(offset)
    assert ledger.low_water == count - 10
    assert ledger.bytes == ledger_module.CHUNK_BYTES
    ledger.settle(count - 10)  # the offsets still mean the same records
    assert ledger.low_water == count - 9


def test_chunks_that_settled_before_their_end_was_read_are_given_back() -> None:
    """Offsets that nobody holds come at the end of each: markers of transactions, gaps, records without spans."""
    ledger = Ledger(0)
    for chunk in range(50):
        offset = chunk * ledger_module.CHUNK_RECORDS
        ledger.read(offset)
        ledger.hold(offset)
        ledger.settle(offset)
        ledger.read(offset + ledger_module.CHUNK_RECORDS - 1)
    assert ledger.bytes <= ledger_module.CHUNK_BYTES
    assert ledger.low_water == 50 * ledger_module.CHUNK_RECORDS
