"""The records of a poll: the same rows compiled and in Python, no object for any, and nothing kept beyond their life."""

from __future__ import annotations

import gc
import sys
import tracemalloc

import pytest

from tests.core.otlp_records import COMPILED
from tests.core.spans import batch, fragment, message, record, rows, scanned, span, trace_id
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.memory import Memory
from tss.core.otlp import SCANNER, Encoding, Fragment, Records, Scanner, plain_records, reference
from tss.core.partition import Partition

FAR = 10**12
SIZE = 1000
compiled = pytest.mark.skipif(SCANNER != "compiled", reason="interpreted, rows are objects")


def a_buffer() -> Buffer:
    return Buffer(Limits(1 << 34, FAR, FAR, FAR), Waits(FAR, FAR, FAR), Memory())


def read(values: list[bytes]) -> Records:
    scanner = Scanner()
    records = scanner.records()
    for offset, value in enumerate(values):
        records.add(0, offset, 1000 + offset)
        scanner.read(value, Encoding.OTLP_PROTO, records, [])
    return records


def test_both_have_the_same_rows() -> None:
    values = [message([span(1, 1), span(2, 2, 1)]), b"\xff", message([span(3, 3, 1), span(3, 4, 9)])]
    both = []
    for module, records in ((COMPILED, Records()), (reference, plain_records.Records())):
        scanner = module.Scanner()
        for partition, value in enumerate(values):
            records.add(partition // 2, 7 + partition, -1)
            scanner.read(value, Encoding.OTLP_PROTO, records, [])
        told = [[records.trace_id(at), records.payload(at), records.facts(at), records.forced(at)] for at in range(3)]
        ids = [(records.span_ids(at), records.missing(at)) for at in range(3)]
        both.append((rows(records), records.runs(), [records.pieces(number) for number in range(3)], told, ids))
    assert both[0] == both[1]
    assert [len(row.fragments) for row in both[0][0]] == [2, 0, 1]


def test_runs_end_with_the_partition_and_where_offsets_go_back() -> None:
    places = [(0, 1), (0, 3), (1, 4), (1, 4), (1, 2), (0, 5)]
    records = batch([record(offset, 1.0, partition=partition) for partition, offset in places])
    assert records.runs() == [(0, 0, 2), (1, 2, 3), (1, 3, 4), (1, 4, 5), (0, 5, 6)]
    assert Records().runs() == []


def test_a_row_that_is_not_there_is_an_error() -> None:
    records = record(0, 1.0, fragment(1))
    for look in (records.place, records.fragments, records.payload, records.trace_id):
        with pytest.raises(IndexError):
            look(1)
    with pytest.raises(IndexError):
        Records().append(fragment(1))


@compiled
def test_no_object_is_made_for_a_record_or_a_fragment() -> None:
    values = [message([span(1, number, 0)]) for number in range(SIZE)]
    buffer, home = a_buffer(), Partition(0, 0, FAR)
    scanner, errors = Scanner(), list[object]()
    buffer.add(home, read(values[:1]), FAR)  # the trace is open
    records = scanner.records()
    for offset in range(1, SIZE):
        records.add(0, offset, 1000)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(1, SIZE):
            records.add(0, number, 1000)
            scanner.read(values[number], Encoding.OTLP_PROTO, records, errors)  # type: ignore[arg-type]
        made = sum(each.count for each in tracemalloc.take_snapshot().statistics("filename") if "tss" in str(each))
        blocks = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert not errors and blocks < 10_000 and made < 20, (blocks, made)
    gc.collect()
    assert not [each for each in gc.get_objects() if isinstance(each, Fragment | plain_records.Row)]


def references(payloads: list[bytes]) -> list[int]:
    return [sys.getrefcount(each) for each in payloads]


@pytest.mark.parametrize("added", [0, SIZE // 2, SIZE])
def test_what_a_batch_owns_is_released_with_it(added: int) -> None:
    """Also if it is half read, and its partition is revoked meanwhile."""
    payloads = [message([span(number, 1)]) for number in range(SIZE)]
    before = references(payloads)
    buffer, home = a_buffer(), Partition(0, 0, FAR)
    buffer.adopt(home)
    records = read(payloads)
    buffer.add_some(home, records, 0, added, FAR)
    assert references(payloads) > before
    buffer.forget([home])
    buffer.add_some(home, records, added, SIZE, FAR)
    assert buffer.open_traces == 0
    del records
    gc.collect()
    assert references(payloads) == before


def test_a_trace_outlives_the_batch_of_its_records() -> None:
    buffer, home, value = a_buffer(), Partition(0, 0, FAR), message([span(1, 1)])
    buffer.add(home, scanned(Scanner(), bytes(bytearray(value))), FAR)
    gc.collect()
    (trace,) = buffer._open.all()
    assert (trace.trace_id, trace.payload) == (trace_id(1), value)


def test_law_5_what_a_batch_holds_is_told() -> None:
    values = [message([span(number, 1, 2)] * 3) for number in range(5_000)]
    gc.collect()
    tracemalloc.start()
    try:
        records = read([bytes(bytearray(value)) for value in values])
        for at in range(len(records)):
            records.trace_id(at)
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    if SCANNER == "compiled":  # malloc's own memory is not traced
        taken += records.held_bytes() - 5_000 * (33 + len(values[0]) + 49)
    assert taken <= 1.1 * records.held_bytes()
