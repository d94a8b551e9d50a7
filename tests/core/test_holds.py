"""What a trace holds on further partitions."""

from __future__ import annotations

import tracemalloc

import pytest

from tests.core.spans import fragment, lone, trace_id
from tss.core.holds import HOLDS_BYTES, RECORD_BYTES, Holds
from tss.core.partition import Partition
from tss.core.trace import Trace


def on_two(records: int, payload: bytes = b"12345") -> tuple[Trace, Partition, Partition]:
    """A trace with one record on its home, and some on another partition."""
    home, other = Partition(0, 0, 300_000), Partition(1, 0, 300_000)
    trace = Trace(trace_id(1), home, 0)
    home.ledger.read(0)
    trace.absorb(lone(fragment(1, payload=payload)), 0)
    trace.hold(home, 0, lone(fragment(1, payload=payload)), 0)
    for offset in range(records):
        other.ledger.read(offset)
        trace.absorb(lone(fragment(1, [offset + 1], payload=payload)), 0)
        trace.hold(other, offset, lone(fragment(1, [offset + 1], payload=payload)), 0)
    return trace, home, other


@pytest.mark.parametrize("records", [1, 3, 20])
def test_law_5_the_bytes_told_are_those_taken(records: int) -> None:
    partition = Partition(1, 0, 300_000)
    for _ in range(records):
        partition.ledger.read(partition.ledger.next)
    kept = []
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(5_000):
        holds = Holds(partition, 0)
        for _ in range(records):
            holds.add(partition.ledger.next - 1, bytes(bytearray(100)), 1)
        kept.append([holds])
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert sum(each.size for (each,) in kept) == pytest.approx(taken, rel=0.2)


@pytest.mark.parametrize("records", [1, 2, 9])
def test_a_trace_whose_home_is_anothers_goes_on_as_if_it_had_never_been_there(records: int) -> None:
    trace, home, other = on_two(records)
    elsewhere = Partition(2, 0, 300_000)
    alone = Trace(trace_id(1), elsewhere, 0)
    alone.absorb(lone(fragment(1, payload=b"12345")), 0)
    for offset in range(records):
        elsewhere.ledger.read(offset)
        alone.absorb(lone(fragment(1, [offset + 1], payload=b"12345")), 0)
        alone.hold(elsewhere, offset, lone(fragment(1, [offset + 1], payload=b"12345")), 0)
    assert trace.forget([home])
    assert (trace.home, trace.further, trace.first_offset) == (other, None, 0)
    assert trace.holds() == [(other, offset) for offset in range(records)]
    assert (trace.held_spans, trace.payload_bytes, trace.size) == (records, 5 * records, alone.size)
    assert not trace.forget([other])


def test_a_trace_stays_when_a_further_partition_is_anothers() -> None:
    trace, home, other = on_two(3)
    one, _, _ = on_two(0)
    for offset in range(3):
        one.absorb(lone(fragment(1, [offset + 1], payload=b"12345")), 0)
    assert trace.size == one.size + HOLDS_BYTES + 3 * (RECORD_BYTES + 5)
    assert trace.forget([other])
    assert (trace.home, trace.further, trace.held_spans, trace.size) == (home, None, 1, one.size)


def test_law_1_what_is_let_go_is_neither_settled_nor_waited_for() -> None:
    trace, home, other = on_two(2)
    trace.take_off()
    assert (home.in_flight, other.in_flight) == (1, 2)
    assert trace.let_go(other) > 0
    assert (home.in_flight, other.in_flight, other.ledger.low_water) == (1, 0, 0)
    assert trace.holds() == [(home, 0)]
    trace.release()
    assert (home.in_flight, home.ledger.low_water) == (0, 1)
