"""Law 5: looked-up values are counted where they are held."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from tests.core.spans import message, record, span
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.memory import Memory
from tss.core.otlp import Ask, Encoding, Location, Lookup, Scanner
from tss.core.otlp.fragment import values_bytes
from tss.core.otlp.lookup import Values
from tss.core.packing import Packer
from tss.core.partition import Partition
from tss.core.trace import PACK_MIN_BYTES

ASKS = Lookup.of([Ask(Location.SPAN, "user"), Ask(Location.SPAN, "query"), Ask(Location.SPAN, "missing")])


def told_of(size: int, number: int) -> bytes:
    one = span(number, number, 0)
    for at, key in enumerate(("user", "query")):
        text = f"{number * 2 + at:08d}" * (size // 8)
        one.attributes.append(KeyValue(key=key, value=AnyValue(string_value=text)))
    return message([one])


@pytest.mark.parametrize("size", [16, 80, 2_000])
def test_law_5_values_that_differ_in_each_trace_count_as_what_they_take(size: int) -> None:
    buffer = Buffer(Limits(1 << 40, 10**9, 10**9, 10**9), Waits(10**9, 10**9, 10**9), Memory())
    home, scanner = Partition(0, 0, 10**15), Scanner(ASKS)
    payloads = [told_of(size, number) for number in range(5_000)]
    for offset in range(2_000):  # what comes first takes more: tables grow
        buffer.add(home, record(offset, 1.0, *scanner.fragments(payloads[offset], Encoding.OTLP_PROTO, [])), 10**15)
    before = buffer.open_bytes
    tracemalloc.start()
    try:
        for offset in range(2_000, 5_000):
            copy = bytes(bytearray(payloads[offset]))
            buffer.add(home, record(offset, 1.0, *scanner.fragments(copy, Encoding.OTLP_PROTO, [])), 10**15)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert buffer.open_bytes - before == pytest.approx(taken, rel=0.15)


TEXTS = st.text(max_size=100) | st.binary(max_size=100) | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats()
VALUES = st.lists(st.lists(TEXTS, max_size=8).map(tuple), max_size=5).map(tuple)


@given(VALUES, VALUES)
def test_more_values_never_count_less(one: Values, other: Values) -> None:
    assert values_bytes(()) == 0
    assert values_bytes((*one, *other)) >= max(values_bytes(one), values_bytes(other))


def test_what_is_packed_keeps_its_values_and_their_bytes() -> None:
    buffer = Buffer(Limits(1 << 40, 10**9, 10**9, 10**9), Waits(10**9, 10**9, 10**9), Memory())
    home, scanner = Partition(0, 0, 10**15), Scanner(ASKS)
    payload = told_of(8 * PACK_MIN_BYTES, 1)
    buffer.add(home, record(0, 1.0, *scanner.fragments(payload, Encoding.OTLP_PROTO, [])), 10**15)
    (trace,) = buffer._open.all()
    before = trace.size
    assert trace.pack(Packer()) > 0
    assert values_bytes(trace.values) <= trace.size < before


def test_a_trace_that_was_parked_counts_its_values_still() -> None:
    buffer = Buffer(Limits(1 << 40, 10**9, 10**9, 10**9), Waits(10**9, 10**9, 10**9), Memory())
    home, scanner = Partition(0, 0, 10**15), Scanner(ASKS)
    buffer.add(home, record(0, 1.0, *scanner.fragments(told_of(4_000, 1), Encoding.OTLP_PROTO, [])), 10**15)
    (trace,) = buffer._open.all()
    summary, _ = trace.leave()
    buffer.park(trace)
    assert trace.size == buffer.open_bytes > values_bytes(trace.values) > 8_000
    other = type(trace)(trace.trace_id, Partition(0, 1, 10**15), 0)
    other.take_over(summary)
    assert other.size == trace.size
