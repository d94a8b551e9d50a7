"""Law 5: facts are counted where they are held."""

from __future__ import annotations

import tracemalloc

import pytest

from tests.core.programs import Is
from tests.core.spans import message, scanned, span
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.conditions.formula import Field, Leaf, Not, OfRoot, OfSpans, Place, Window
from tss.core.conditions.program import ASKS_NOTHING, Program
from tss.core.memory import Memory
from tss.core.otlp import Scanner
from tss.core.packing import Packer
from tss.core.partition import Partition
from tss.core.trace import PACK_MIN_BYTES, TRACE_BYTES, facts_bytes

NAME = Field(Place.SPAN, "name")
TWENTY = Program([OfSpans(Leaf(NAME, Is(f"span {number}"))) for number in range(20)])
ROOTED = Program([OfRoot(Not(Leaf(NAME, Is(f"span {number}")))) for number in range(20)])
WINDOWED = Program([*TWENTY.asks, *ROOTED.asks, Window(3), Window(5, 10)])


def a_buffer(program: Program) -> Buffer:
    return Buffer(Limits(1 << 40, 10**9, 10**9, 10**9), Waits(10**9, 10**9, 10**9), Memory(), program=program)


def growth(program: Program) -> tuple[float, float]:
    """The counted and the taken bytes of a trace."""
    buffer, home, scanner = a_buffer(program), Partition(0, 0, 10**15), Scanner(program)
    payloads = [message([span(number, number, start_ms=number + 1)]) for number in range(5_000)]
    for offset in range(2_000):  # what comes first takes more: tables grow
        buffer.add(home, scanned(scanner, payloads[offset], offset, 1000), 10**15)
    before = buffer.open_bytes
    tracemalloc.start()
    try:
        for offset in range(2_000, 5_000):
            copy = bytes(bytearray(payloads[offset]))
            buffer.add(home, scanned(scanner, copy, offset, 1000), 10**15)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    return (buffer.open_bytes - before) / 3000, taken / 3000


@pytest.mark.parametrize(
    "program", [ASKS_NOTHING, TWENTY, ROOTED, WINDOWED], ids=["nothing", "spans", "roots", "windows"]
)
def test_law_5_facts_count_as_what_they_take(program: Program) -> None:
    counted, taken = growth(program)
    assert counted == pytest.approx(taken, rel=0.15)


def test_facts_of_twenty_conditions_take_no_more_than_a_trace_without() -> None:
    """They are shared by all traces that have the same."""
    (_, without), (_, taken) = growth(ASKS_NOTHING), growth(TWENTY)
    assert taken == pytest.approx(without, abs=8)


def test_what_is_packed_keeps_its_facts_and_their_bytes() -> None:
    buffer, home, scanner = a_buffer(ROOTED), Partition(0, 0, 10**15), Scanner(ROOTED)
    one = span(1, 1)
    one.attributes.add(key="k").value.string_value = "text " * PACK_MIN_BYTES
    buffer.add(home, scanned(scanner, message([one]), 0, 1000), 10**15)
    (trace,) = buffer._open.all()
    before, facts = trace.size, trace.facts
    assert trace.pack(Packer()) > 0
    assert trace.facts == facts != b""
    assert TRACE_BYTES + facts_bytes(facts) <= trace.size < before


def test_a_trace_that_was_parked_counts_its_facts_still() -> None:
    buffer, home, scanner = a_buffer(ROOTED), Partition(0, 0, 10**15), Scanner(ROOTED)
    buffer.add(home, scanned(scanner, message([span(1, 1)]), 0, 1000), 10**15)
    (trace,) = buffer._open.all()
    summary, _ = trace.leave()
    buffer.park(trace)
    assert trace.size == buffer.open_bytes > TRACE_BYTES + len(trace.facts)
    other = type(trace)(trace.trace_id, Partition(0, 1, 10**15), 0)
    other.take_over(summary)
    assert other.size == trace.size
    assert other.facts == trace.facts != b""
