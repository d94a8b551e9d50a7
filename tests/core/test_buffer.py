"""When traces close, what is late, what is held, what is forgotten."""

from __future__ import annotations

import gc
import time
import tracemalloc

import pytest

from tests.core.spans import fragment, message, one_record, record, span, trace_id
from tss.core.buffer import NOTED_BYTES, Buffer, Limits, Waits
from tss.core.combining import Sampler
from tss.core.decision import Decision, Reason, Verdict
from tss.core.holds import RECORD_BYTES
from tss.core.ledger import CHUNK_BYTES, CHUNK_RECORDS
from tss.core.memory import Memory
from tss.core.otlp import Encoding, scan
from tss.core.partition import Partition
from tss.core.policies.errors import Errors
from tss.core.policies.rest import Rest
from tss.core.trace import TRACE_BYTES, Trace

WALL = 10**12
SAMPLER = Sampler([Errors(1.0), Rest(0.0)])


def make(memory: Memory | None = None, **limits: int) -> Buffer:
    bounds = {"max_bytes": 1 << 30, "max_spans": 1000, "max_traces": 1000, "max_trace_spans": 100} | limits
    return Buffer(Limits(**bounds), Waits(30_000, 600_000, 10_800_000), memory or Memory())


def observed() -> Buffer:
    limits, waits = Limits(1 << 30, 1000, 1000, 100), Waits(30_000, 600_000, 10_800_000)
    return Buffer(limits, waits, Memory(), observed=True)


def partition(start: int = 0, id: int = 0) -> Partition:
    return Partition(id, start, 300_000)


def closed(buffer: Buffer) -> list[tuple[bytes, Reason | None]]:
    return [(trace.trace_id, trace.reason) for trace in buffer.take()]


def decide(buffer: Buffer) -> list[Trace]:
    return [
        each
        for trace in buffer.take()
        for each in ([trace] if trace.decision else buffer.decided(trace, SAMPLER.decide(trace)))
    ]


def decide_and_settle(buffer: Buffer) -> list[Trace]:
    decided = decide(buffer)
    for trace in decided:
        buffer.settle(trace)
    return decided


def test_root_quiet_closes_a_complete_trace_before_the_record_that_brings_the_time() -> None:
    buffer, home = make(), partition()
    buffer.add(home, record(0, 100, fragment(1, [0], root=True)), WALL)
    buffer.add(home, record(1, 129, fragment(2)), WALL)
    assert closed(buffer) == []
    buffer.add(home, record(2, 130, fragment(1, [1], parents=[0])), WALL)  # the same trace: too late, by its own time
    assert closed(buffer) == [(trace_id(1), Reason.ROOT_QUIET)]
    assert buffer.open_traces == 1


def test_a_missing_parent_keeps_a_trace_open_until_it_comes() -> None:
    buffer, home = make(), partition()
    buffer.add(home, record(0, 100, fragment(1, [0], root=True)), WALL)
    buffer.add(home, record(1, 110, fragment(1, [2], parents=[1])), WALL)
    buffer.add(home, record(2, 500, fragment(2)), WALL)
    assert closed(buffer) == []
    buffer.add(home, record(3, 510, fragment(1, [1], parents=[0])), WALL)
    buffer.add(home, record(4, 539, fragment(2, [1])), WALL)
    assert closed(buffer) == []
    buffer.add(home, record(5, 540, fragment(2, [2])), WALL)
    assert closed(buffer) == [(trace_id(1), Reason.ROOT_QUIET)]


def test_inactive_and_max_duration() -> None:
    buffer, home = make(), partition()
    buffer.add(home, record(0, 100, fragment(1, parents=[9])), WALL)
    buffer.add(home, record(1, 100, fragment(2, parents=[9])), WALL)
    offset = 2
    for at in range(200, 10_900, 100):
        buffer.add(home, record(offset, at, fragment(2, [at], parents=[9])), WALL)
        offset += 1
    assert closed(buffer) == [(trace_id(1), Reason.INACTIVE), (trace_id(2), Reason.SPAN_LIMIT)]
    buffer = make(max_trace_spans=1000)
    home = partition()
    for number, at in enumerate(range(100, 10_901, 100)):
        buffer.add(home, record(number, at, fragment(2, [at], parents=[9])), WALL)
    assert closed(buffer) == [(trace_id(2), Reason.MAX_DURATION)]


def test_an_idle_partition_finishes_its_traces_by_the_wall_clock() -> None:
    buffer, home = make(), partition()
    buffer.add(home, record(0, 100, fragment(1, root=True)), WALL)
    buffer.reach(home, 131_000)
    assert closed(buffer) == []  # less the grace
    buffer.reach(home, 132_000)
    assert closed(buffer) == [(trace_id(1), Reason.ROOT_QUIET)]


def test_traces_before_any_believable_time_are_clocked_by_the_first_one() -> None:
    buffer, home = make(), partition()
    buffer.add(home, record(0, 10**10, fragment(1, root=True)), 0)
    buffer.add(home, record(1, 100, fragment(2)), 100_000)
    buffer.add(home, record(2, 129, fragment(2, [1])), 129_000)
    assert closed(buffer) == []
    buffer.add(home, record(3, 130, fragment(2, [2])), 130_000)
    assert closed(buffer) == [(trace_id(1), Reason.ROOT_QUIET)]
    assert buffer.take_counts().absurd == 1


def test_law_5_pressure_decides_the_oldest_and_throws_nothing_away() -> None:
    two = (TRACE_BYTES + 2 * RECORD_BYTES + 8 + 1000) * 2 * 64 // 32 + 10
    cases: list[dict[str, int]] = [{"max_traces": 2}, {"max_spans": 2}, {"max_bytes": two}]
    for limits in cases:
        buffer, home = make(None, **limits), partition()
        for number in range(4):
            buffer.add(home, record(number, 100, fragment(number, size=1000)), WALL)
        assert closed(buffer) == [(trace_id(0), Reason.PRESSURE), (trace_id(1), Reason.PRESSURE)], limits
        assert home.ledger.low_water == 0  # still held: nothing was thrown away


def test_law_5_the_shares_of_the_limit_are_the_whole_of_it() -> None:
    limits = Limits(64 << 20, 9, 9, 9)
    shares = [
        limits.open_bytes, limits.closed_bytes, limits.ledger_bytes, limits.memory_bytes, 4 * limits.poll_bytes,
        limits.log_bytes, limits.reservoir_bytes + limits.name_bytes + limits.row_bytes, limits.sample_bytes,
    ]  # fmt: skip
    assert [share >> 20 for share in shares] == [32, 8, 8, 5, 4, 4, 2, 1]
    assert sum(shares) == limits.max_bytes
    assert limits.loose_bytes == 21 << 20, "quiet traces are packed well before any is decided early"


def test_law_5_a_ledger_over_its_share_decides_what_holds_the_low_water() -> None:
    buffer, home = make(max_bytes=16 * CHUNK_BYTES), partition()
    buffer.adopt(home)
    for number in range(3):
        buffer.add(home, record(number * CHUNK_RECORDS, 100, fragment(number)), WALL)
    buffer.relieve_ledgers()
    assert closed(buffer) == [(trace_id(0), Reason.PRESSURE)]


def test_law_5_all_that_holds_the_oldest_chunk_of_a_ledger_is_decided_for_only_that_gives_it_back() -> None:
    buffer, home = make(max_bytes=16 * CHUNK_BYTES), partition()
    buffer.adopt(home)
    for number in range(12):  # four in each of three chunks
        buffer.add(home, record(number * CHUNK_RECORDS // 4, 100, fragment(number)), WALL)
    buffer.relieve_ledgers()
    assert closed(buffer) == [(trace_id(number), Reason.PRESSURE) for number in range(4)]


def test_law_5_traces_that_never_had_a_time_are_not_kept_alive_when_they_have_ended() -> None:
    buffer, home = make(max_traces=10), partition()
    for number in range(500):
        buffer.add(home, record(number, -1, fragment(number)), WALL)
    decide_and_settle(buffer)
    assert len(home.unclocked) == 10


def test_law_1_the_low_water_waits_for_the_end_of_the_trace() -> None:
    buffer, home = make(), partition()
    buffer.add(home, record(0, 100, fragment(1, root=True, errors=1)), WALL)
    buffer.add(home, record(1, 100, fragment(2, root=True)), WALL)
    buffer.add(home, record(2, 140, fragment(3)), WALL)
    first, second = decide(buffer)
    assert (first.decision, second.decision) == (
        Decision(Verdict.KEEP, "errors", Reason.ROOT_QUIET, 1.0),
        Decision(Verdict.DROP, "default", Reason.ROOT_QUIET, 0.0),
    )
    buffer.settle(second)
    assert home.ledger.low_water == 0
    buffer.settle(first)
    assert home.ledger.low_water == 2
    assert home.in_flight == 0


def test_law_2_late_fragments_follow_the_verdict_whenever_they_come() -> None:
    buffer, home = make(), partition()
    buffer.add(home, record(0, 100, fragment(1, root=True, errors=1)), WALL)
    buffer.add(home, record(1, 100, fragment(2, root=True)), WALL)
    buffer.add(home, record(2, 140, fragment(1, [5]), fragment(2, [5], errors=1)), WALL)  # closed, not yet decided
    decided = decide(buffer)
    assert [(trace.trace_id, trace.late, trace.decision and trace.decision.verdict) for trace in decided] == [
        (trace_id(1), False, Verdict.KEEP), (trace_id(1), True, Verdict.KEEP),
        (trace_id(2), False, Verdict.DROP), (trace_id(2), True, Verdict.DROP),
    ]  # fmt: skip
    buffer.add(home, record(3, 141, fragment(1, [6]), fragment(2, [6], errors=1)), WALL)  # decided
    later = decide(buffer)
    assert [(trace.trace_id, trace.late) for trace in later] == [(trace_id(1), True)]
    for trace in [*decided, *later]:
        buffer.settle(trace)
    assert home.ledger.low_water == 4
    assert buffer.closed_bytes == 0


def test_law_2_what_was_delivered_is_settled_silently_when_read_again() -> None:
    memory = Memory()
    buffer, home = make(memory), partition()
    buffer.add(home, record(0, 100, fragment(1, root=True, errors=1)), WALL)
    buffer.add(home, record(1, 140, fragment(1, [5])), WALL)
    (main, late) = decide(buffer)
    buffer.settle(late)  # deliveries overtake each other
    buffer.forget([home])
    again = partition()
    buffer.add(again, record(0, 100, fragment(1, root=True, errors=1)), WALL)
    assert [trace.late for trace in buffer.take()] == [True]  # not delivered yet: it is sent again
    buffer.settle(main)
    buffer.forget([again])
    once_more = partition()
    buffer.add(once_more, record(0, 100, fragment(1, root=True, errors=1)), WALL)
    buffer.add(once_more, record(1, 140, fragment(1, [5])), WALL)
    assert buffer.take() == []
    assert once_more.ledger.low_water == 2
    assert buffer.take_counts().duplicate_spans == 2


def test_law_2_records_below_the_committed_offset_only_bring_the_verdict_back() -> None:
    buffer, home = make(), partition(start=2)
    buffer.add(home, record(0, 100, fragment(1, root=True)), WALL)
    buffer.add(home, record(1, 101, fragment(1, [1], parents=[0], errors=1)), WALL)
    buffer.add(home, record(2, 200, fragment(1, [2], parents=[0])), WALL)  # without the replay it would be dropped
    main, late = decide(buffer)
    assert main.holds() == []
    assert (late.late, late.decision and late.decision.verdict) == (True, Verdict.KEEP)
    counts = buffer.take_counts()
    assert (counts.replayed, counts.records, counts.traces, counts.spans) == (2, 3, 0, 1)
    buffer.settle(main)
    buffer.settle(late)
    assert home.ledger.low_water == 3


def test_law_6_a_trace_across_the_committed_offset_exports_only_what_is_above() -> None:
    buffer, home = make(), partition(start=1)
    low, high = message([span(1, 0)]), message([span(1, 1, 0, error=True)])
    for offset, value in enumerate([low, high]):
        buffer.add(home, one_record(0, offset, 100_000, scan(value, Encoding.AUTO).fragments), WALL)
    buffer.reach(home, 140_000)
    (trace,) = decide(buffer)
    assert (trace.spans, trace.payload) == (2, high)


def test_a_revoked_partition_takes_its_open_traces_with_it() -> None:
    buffer, home, other = make(), partition(), partition(id=1)
    buffer.add(home, record(0, 100, fragment(1), fragment(2)), WALL)
    buffer.add(other, record(0, 100, fragment(2, [1]), partition=1), WALL)  # a trace on two partitions
    buffer.forget([home])
    assert buffer.open_traces == 1
    buffer.add(home, record(1, 100, fragment(1)), WALL)  # still in a channel when the partition went
    assert buffer.open_traces == 1
    buffer.reach(other, 10**9)
    (trace,) = decide_and_settle(buffer)
    assert trace.holds() == []
    assert (other.ledger.low_water, buffer.open_bytes, buffer.closed_bytes, buffer.open_spans) == (1, 0, 0, 0)


def test_law_1_what_a_revoked_partition_commits_waits_for_open_and_counts_what_still_arrives() -> None:
    buffer, home = make(), partition()
    buffer.add(home, record(0, 100, fragment(1, root=True, errors=1)), WALL)
    buffer.add(home, record(1, 120, fragment(2)), WALL)
    buffer.reach(home, 132_000)
    (trace,) = decide(buffer)
    buffer.forget([home])
    assert (home.in_flight, home.ledger.low_water) == (1, 0)
    buffer.settle(trace)
    assert (home.in_flight, home.ledger.low_water) == (0, 1)  # the open trace is read again by the next owner


def test_law_5_what_has_ended_is_not_kept_alive_by_an_old_deadline() -> None:
    """Traces whose deadline moved forward, and traces decided under pressure: none waits in the ring for its old one."""
    buffer, home = make(max_traces=50), partition()
    for number in range(400):
        at = 100 + number // 100
        buffer.add(home, record(2 * number, at, fragment(number, [1], parents=[0])), WALL)
        buffer.add(home, record(2 * number + 1, at, fragment(number, [0], root=True)), WALL)
        decide_and_settle(buffer)
    gc.collect()
    assert sum(isinstance(each, Trace) for each in gc.get_objects()) <= buffer.open_traces + 5


def test_a_trace_of_many_records_with_missing_parents_is_not_copied_for_each() -> None:
    buffer, home = make(max_trace_spans=10**6, max_spans=10**6), partition()
    began = time.process_time()
    for number in range(20_000):
        buffer.add(home, record(number, 100, fragment(1, [number], parents=[10**6 + number])), WALL)
    assert time.process_time() - began < 3  # 0.2 s; quadratic it is 10 s and more


@pytest.mark.parametrize(("spans", "size"), [(1, 460), (8, 3700), (50, 23_000)])
def test_law_5_bytes_are_accounted_within_a_sixth(spans: int, size: int) -> None:
    """What the buffer says it holds against what the interpreter allocated for it."""
    values = [
        message([span(number, each, each - 1 if each else None) for each in range(spans)]) for number in range(400)
    ]
    padding = bytes([0xFA, 0x3F]) + b"\xe4\x03" + bytes(484)  # an unknown field of 484 bytes brings them to size
    values = [value + padding * max(0, (size - len(value)) // 488) for value in values]
    buffer, home = make(max_spans=10**6, max_traces=10**6), partition()
    gc.collect()
    tracemalloc.start()
    for offset, value in enumerate(values):
        copy = bytes(bytearray(value))  # as a client library hands over bytes of its own
        buffer.add(home, one_record(0, offset, 100_000, scan(copy, Encoding.AUTO).fragments), WALL)
    del copy
    gc.collect()
    allocated = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert buffer.open_bytes == pytest.approx(allocated, rel=1 / 6)


def test_law_1_a_late_span_on_its_way_at_the_kill_finds_its_verdict_however_long_the_trace_took() -> None:
    def life(home: Partition, upto: int) -> tuple[Buffer, list[Trace]]:
        buffer, decided = make(), []
        log = {
            0: fragment(1, [0], parents=[1], errors=1),
            50: fragment(1, [1], root=True),
            115: fragment(1, [2], parents=[1]),
        }
        for second in range(home.replay.first_read, upto):
            parts = (log[second],) if second in log else ()
            buffer.add(home, record(second, 1000 + second, *parts), WALL)
            decided += decide(buffer)
        return buffer, decided

    home = Partition(0, 0, 300_000, replay_secs=60)
    buffer, (main, late) = life(home, 170)
    buffer.settle(main)
    commit = home.commit()
    assert (commit.offset, late.late) == (115, True)  # the late span is under way, and then comes kill -9
    again = Partition(0, commit.offset, 300_000, replay_from=commit.replay_from, replay_secs=60)
    _, decided = life(again, 170)
    assert [(each.late, [offset for _, offset in each.holds()]) for each in decided] == [(False, []), (True, [115])]
    assert all(each.decision and each.decision.keeps for each in decided)


def test_law_2_a_partition_that_comes_back_still_says_where_what_was_dropped_before_begins() -> None:
    """Whoever reads on after a crash must be able to judge the trace whole; here it is only remembered."""
    memory = Memory()
    log = {0: (100, fragment(1, [0])), 1: (105, fragment(1, [1, 2])), 2: (164, fragment(2))}

    def life() -> Partition:
        buffer, home = make(memory, max_trace_spans=3), Partition(0, 0, 300_000, replay_secs=60)
        for offset, (at, one) in log.items():
            buffer.add(home, record(offset, at, one), WALL)
            decide_and_settle(buffer)
        return home

    assert life().commit().replay_from == 0
    assert life().commit().replay_from == 0


def test_law_7_late_spans_of_a_dropped_trace_are_noted_for_whoever_counts_all() -> None:
    buffer, home = observed(), Partition(0, 2, 300_000, replay_from=0)
    buffer.add(home, record(0, 100, fragment(1, [0], root=True)), WALL)
    buffer.add(home, record(1, 131, fragment(1, [1], payload=b"read again to remember")), WALL)
    decide_and_settle(buffer)
    assert buffer.take_late_dropped() == []
    held = buffer.held_by_kind()["polled"]
    buffer.add(home, record(2, 132, fragment(1, [2], payload=b"two"), fragment(1, [3], payload=b"three")), WALL)
    assert buffer.held_by_kind()["polled"] - held >= 2 * NOTED_BYTES
    assert buffer.take_late_dropped() == [(trace_id(1), [b"two"]), (trace_id(1), [b"three"])]
    assert buffer.take_late_dropped() == []
    assert buffer.held_by_kind()["polled"] - held < NOTED_BYTES


def test_nothing_is_noted_for_nobody() -> None:
    buffer, home = make(), partition()
    buffer.add(home, record(0, 100, fragment(1, [0], root=True)), WALL)
    buffer.add(home, record(1, 131), WALL)
    decide_and_settle(buffer)
    buffer.add(home, record(2, 132, fragment(1, [2])), WALL)
    assert buffer.take_counts().late_dropped_spans == 1
    assert buffer.take_late_dropped() == []


def test_law_5_what_is_noted_takes_what_is_counted() -> None:
    buffer, home = observed(), partition()
    buffer.add(home, record(0, 100, fragment(1, [0], root=True)), WALL)
    buffer.add(home, record(1, 131), WALL)
    decide_and_settle(buffer)
    records = [record(2 + number, 132, fragment(1, [number])) for number in range(10_000)]
    for each in records:
        each.trace_id(0)  # its batch counts the object, and makes it when it is asked for
    gc.collect()
    tracemalloc.start()
    before, held = tracemalloc.get_traced_memory()[0], buffer.held_bytes
    for each in records:
        buffer.add(home, each, WALL)
    taken, counted = tracemalloc.get_traced_memory()[0] - before, buffer.held_bytes - held
    tracemalloc.stop()
    assert 0.8 * counted < taken <= 1.05 * counted, (taken, counted)
