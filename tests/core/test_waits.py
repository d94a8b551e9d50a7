"""The waits and the size limit of a Collector's section: when they close a trace, and that a replay and a takeover do the same."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.spans import fragment, one_record, record, trace_id
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.combining import Sampler
from tss.core.decision import Decision, Reason, Verdict
from tss.core.evaluation import TOO_LARGE, evaluate
from tss.core.force import Enforcer
from tss.core.memory import Memory
from tss.core.otlp import Fragment, Records
from tss.core.parked import Shelf, Summary
from tss.core.partition import Partition
from tss.core.policies.rest import Rest
from tss.core.trace import Trace

WALL = 10**12
LIMITS = Limits(1 << 30, 10**6, 10**6, 10**6)
OURS = Waits(3_000, 6_000, 20_000)  # these must have no effect
TEN = attrs.evolve(OURS, decision_wait_ms=10_000)
SAMPLER = Sampler([Rest(1.0)])


def make(waits: Waits = TEN, **limits: int) -> Buffer:
    return Buffer(attrs.evolve(LIMITS, **limits), waits, Memory())


def home(start: int = 0, id: int = 0) -> Partition:
    return Partition(id, start, 300_000)


def at_ms(offset: int, ms: int, *fragments: Fragment, partition: int = 0) -> Records:
    return one_record(partition, offset, ms, fragments)


def closed(buffer: Buffer) -> list[tuple[bytes, Reason | None]]:
    return [(trace.trace_id, trace.reason) for trace in buffer.take()]


def closing_second(buffer: Buffer, partition: Partition, offset: int, from_ms: int) -> tuple[int, Reason | None]:
    """Move stream time second by second until a trace closes."""
    for second in range(from_ms // 1000 + 1, from_ms // 1000 + 100):
        buffer.add(partition, at_ms(offset, second * 1000), WALL)
        if found := buffer.take():
            return second, found[0].reason
        offset += 1
    raise AssertionError("no trace closed")


# -- decision_wait


@pytest.mark.parametrize("complete", [True, False])
def test_decision_wait_closes_a_trace_that_long_after_its_first_span_whether_spans_come_or_not(complete: bool) -> None:
    for quiet in (True, False):
        buffer, partition = make(), home()
        buffer.add(partition, record(0, 100, fragment(1, [0], root=complete, parents=[] if complete else [9])), WALL)
        for second in range(101, 110):
            more = () if quiet else (fragment(1, [second], parents=[0 if complete else 9]),)
            buffer.add(partition, record(second, second, *more), WALL)
        assert closed(buffer) == []
        buffer.add(partition, record(110, 110, fragment(1, [200])), WALL)  # the same trace: too late, by its own time
        assert closed(buffer) == [(trace_id(1), Reason.DECISION_WAIT)]


@pytest.mark.parametrize(
    ("arrived_ms", "wait_ms", "second"),
    [(1, 3000, 4), (100, 3000, 4), (999, 3000, 4), (1000, 3000, 4), (1001, 3000, 5), (600, 2500, 4), (1, 500, 1)],
)
def test_decision_wait_ends_with_the_second_of_stream_time_in_which_it_is_over(
    arrived_ms: int, wait_ms: int, second: int
) -> None:
    """As the Collector's ticks, measured on it with 3 s, but for the exact second: there 1000 ms waits until 5 s."""
    buffer, partition = make(attrs.evolve(OURS, decision_wait_ms=wait_ms)), home()
    base = 1_000_000_000
    buffer.add(partition, at_ms(0, base + arrived_ms, fragment(1)), WALL)
    found = closing_second(buffer, partition, 1, base + arrived_ms)
    assert found == (base // 1000 + second, Reason.DECISION_WAIT)


def test_an_idle_partition_closes_by_the_wall_clock() -> None:
    buffer, partition = make(), home()
    buffer.add(partition, record(0, 100, fragment(1)), WALL)
    buffer.reach(partition, 111_000)
    assert closed(buffer) == []  # less the grace
    buffer.reach(partition, 112_000)
    assert closed(buffer) == [(trace_id(1), Reason.DECISION_WAIT)]


# -- decision_wait_after_root_received


@pytest.mark.parametrize(
    ("wait_ms", "root_wait_ms", "second", "reason"),
    [
        (10_000, 1_000, 4, Reason.ROOT_WAIT),  # the first five as the Collector, measured on it
        (10_000, 500, 3, Reason.ROOT_WAIT),
        (10_000, 1_900, 4, Reason.ROOT_WAIT),
        (10_000, 0, 11, Reason.DECISION_WAIT),
        (3_000, 5_000, 4, Reason.DECISION_WAIT),
        (3_000, 1_000, 4, Reason.DECISION_WAIT),  # both are over at 3100 ms
        (3_000, 999, 4, Reason.ROOT_WAIT),
    ],
)
def test_the_wait_after_the_root_is_never_longer_than_decision_wait(
    wait_ms: int, root_wait_ms: int, second: int, reason: Reason
) -> None:
    """A child at 100 ms, the root at 2100 ms."""
    buffer, partition = make(attrs.evolve(OURS, decision_wait_ms=wait_ms, root_wait_ms=root_wait_ms)), home()
    base = 1_000_000_000
    buffer.add(partition, at_ms(0, base + 100, fragment(1, [1], parents=[0])), WALL)
    buffer.add(partition, at_ms(1, base + 2_100, fragment(1, [0], root=True)), WALL)
    assert closing_second(buffer, partition, 2, base + 2_100) == (base // 1000 + second, reason)


@pytest.mark.parametrize("whole", [True, False])
def test_the_first_root_counts_and_nothing_after_it_whether_the_trace_is_whole_or_not(whole: bool) -> None:
    buffer, partition = make(attrs.evolve(TEN, root_wait_ms=2_000)), home()
    buffer.add(partition, record(0, 100, fragment(1, [0], root=True)), WALL)
    buffer.add(partition, record(1, 101, fragment(1, [1], root=True)), WALL)
    buffer.add(partition, record(2, 101.9, fragment(1, [2], parents=[0 if whole else 9])), WALL)
    assert closed(buffer) == []
    buffer.add(partition, record(3, 102, fragment(2)), WALL)
    assert closed(buffer) == [(trace_id(1), Reason.ROOT_WAIT)]


def test_a_wait_after_the_root_alone_is_off_as_nobody_can_set_it() -> None:
    buffer, partition = make(attrs.evolve(OURS, root_wait_ms=1_000)), home()
    buffer.add(partition, record(0, 100, fragment(1, root=True)), WALL)
    assert closing_second(buffer, partition, 1, 100_000) == (103, Reason.ROOT_QUIET)


def test_a_root_without_a_time_counts_from_the_first_one() -> None:
    buffer, partition = make(attrs.evolve(TEN, root_wait_ms=2_000)), home()
    buffer.add(partition, at_ms(0, -1, fragment(1, root=True)), WALL)
    buffer.add(partition, record(1, 100), WALL)
    assert closing_second(buffer, partition, 2, 100_000) == (102, Reason.ROOT_WAIT)


# -- what applies with them, and what does not


def test_the_limits_still_apply() -> None:
    buffer, partition = make(max_trace_spans=3, max_traces=2), home()
    buffer.add(partition, record(0, 100, fragment(1, [0, 1, 2])), WALL)
    assert closed(buffer) == [(trace_id(1), Reason.SPAN_LIMIT)]
    for number in (2, 3, 4):
        buffer.add(partition, record(number, 100, fragment(number)), WALL)
    assert closed(buffer) == [(trace_id(2), Reason.PRESSURE)]


def test_the_shortest_wait_is_the_one_that_the_decision_memory_must_reach() -> None:
    assert OURS.shortest_ms == 3_000
    assert TEN.shortest_ms == 10_000
    assert attrs.evolve(TEN, root_wait_ms=2_000).shortest_ms == 2_000
    assert attrs.evolve(TEN, root_wait_ms=20_000).shortest_ms == 10_000
    assert attrs.evolve(OURS, root_wait_ms=2_000).shortest_ms == 3_000


def test_a_trace_that_moves_to_its_other_partition_waits_anew_after_the_root() -> None:
    buffer, first, second = make(attrs.evolve(TEN, root_wait_ms=4_000)), home(), home(id=1)
    buffer.add(first, record(0, 100, fragment(1, [0], root=True)), WALL)
    buffer.add(second, record(0, 50, fragment(1, [1], parents=[0]), partition=1), WALL)
    buffer.forget([first])
    assert closing_second(buffer, second, 1, 50_000) == (54, Reason.ROOT_WAIT)


# -- maximum_trace_size_bytes


def pieces(*sizes: int) -> list[Fragment]:
    return [fragment(1, [number], size=size) for number, size in enumerate(sizes)]


def test_a_trace_that_is_too_large_is_closed_at_once_and_dropped_and_late_spans_follow() -> None:
    buffer, partition = make(max_trace_bytes=200), home()
    for offset, piece in enumerate(pieces(100, 100, 1, 100)):
        buffer.add(partition, record(offset, 100, piece), WALL)
        if offset < 2:
            assert closed(buffer) == [], "not more than the limit"
    found = evaluate(buffer.take(), SAMPLER, buffer)
    assert [(each.decision, each.held_spans, each.late) for each in found.ended] == [
        (TOO_LARGE, 3, False),
        (TOO_LARGE, 1, True),
    ]
    assert (TOO_LARGE.verdict, TOO_LARGE.policy) == (Verdict.DROP, "maximum_trace_size_bytes")
    assert found.kept == []
    buffer.settle_all(found.ended)
    buffer.add(partition, record(4, 101, fragment(1, [9])), WALL)
    assert buffer.take() == []
    assert buffer.take_counts().late_dropped_spans == 1
    assert partition.ledger.low_water == 5


def test_no_force_rule_keeps_a_trace_that_is_too_large() -> None:
    class KeepsAll(Enforcer):
        def decide(self, trace: Trace, sampler: Sampler) -> Decision | None:
            return sampler.forced(trace, "force:all", True)

    for size, decided in ((201, TOO_LARGE), (200, Decision(Verdict.KEEP, "force:all", Reason.DECISION_WAIT, 1.0))):
        buffer, partition = make(max_trace_bytes=200), home()
        buffer.add(partition, record(0, 100, *pieces(size)), WALL)
        buffer.reach(partition, WALL)
        found = evaluate(buffer.take(), SAMPLER, buffer, KeepsAll(()))
        assert [each.decision for each in (*found.kept, *found.ended)] == [decided]


def test_a_trace_that_is_too_large_and_has_too_many_spans_is_too_large() -> None:
    buffer, partition = make(max_trace_bytes=200, max_trace_spans=1), home()
    buffer.add(partition, record(0, 100, *pieces(201)), WALL)
    assert closed(buffer) == [(trace_id(1), Reason.TOO_LARGE)]


@given(st.lists(st.integers(1, 120), min_size=1, max_size=8), st.integers(0, 8))
def test_law_2_a_replay_from_anywhere_closes_it_with_the_same_record(sizes: list[int], start: int) -> None:
    """Records below the start are not held, but they count."""
    found = []
    for begin in (0, start):
        buffer, partition = make(max_trace_bytes=200), home(begin)
        for offset, piece in enumerate(pieces(*sizes)):
            buffer.add(partition, record(offset, 100, piece), WALL)
            if closing := buffer.take():
                found.append((offset, closing[0].reason, closing[0].spans))
                break
    too_large = [number for number in range(len(sizes)) if sum(sizes[: number + 1]) > 200]
    assert found == ([(too_large[0], Reason.TOO_LARGE, too_large[0] + 1)] * 2 if too_large else [])


# -- parked and taken over

steps = st.lists(
    st.tuples(st.integers(0, 4_000), st.booleans(), st.integers(1, 90), st.booleans()), min_size=1, max_size=12
)
waits = st.builds(Waits, st.just(3_000), st.just(6_000), st.just(20_000), st.integers(1, 20_000), st.integers(0, 9_000))


@given(steps, waits, st.sampled_from([0, 200]))
def test_laws_2_and_3_a_trace_parked_and_taken_over_anywhere_closes_as_one_that_never_was(
    steps: Sequence[tuple[int, bool, int, bool]], waits: Waits, max_trace_bytes: int
) -> None:
    assert _life(steps, waits, max_trace_bytes, parks=True) == _life(steps, waits, max_trace_bytes, parks=False)


def _life(
    steps: Sequence[tuple[int, bool, int, bool]], waits: Waits, max_trace_bytes: int, *, parks: bool
) -> tuple[int, Reason | None, int, int, int]:
    """The record or the second that closed it, its reason, and what is known of it."""
    buffer, partition = make(waits, max_trace_bytes=max_trace_bytes), Partition(0, 0, 10**9, shelf=Shelf("t"))
    now_ms = 1_000_000_000
    for offset, (later_ms, root, size, parked) in enumerate(steps):
        now_ms += later_ms
        buffer.add(partition, at_ms(offset, now_ms, fragment(0, [offset], root=root, size=size)), WALL)
        if found := buffer.take():
            return offset, *_known(found[0])
        if parks and parked:
            (trace,) = buffer._open.all()
            summary, _ = trace.leave()
            buffer.park(trace)
            buffer = make(waits, max_trace_bytes=max_trace_bytes)  # the next owner
            partition = Partition(0, offset + 1, 10**9, shelf=Shelf("t"))
            buffer.take_over(partition, {trace_id(0): Summary.from_bytes(summary.to_bytes())})
    for second in range(now_ms // 1000, now_ms // 1000 + 30):
        buffer.add(partition, at_ms(second, second * 1000), WALL)
        if found := buffer.take():
            return second, *_known(found[0])
    raise AssertionError("it never closed")


def _known(trace: Trace) -> tuple[Reason | None, int, int, int]:
    return trace.reason, trace.spans, trace.first_ms, trace.seen_bytes


def test_a_trace_that_the_version_before_parked_counts_its_root_from_the_last_record() -> None:
    """That version noted neither when the root came nor the bytes below the low water."""
    old = (
        b'{"first_offset":0,"parked_to":2,"spans":3,"held_spans":3,"payload_bytes":150,"errors":0,"start_ns":6,"end_ns":7,'
        b'"has_root":true,"first_ms":100000,"last_ms":103000,"overflown":false,"values":[]}'
    )
    summary = Summary.from_bytes(b"\x01" + len(old).to_bytes(4, "big") + bytes(4) + old)
    assert (summary.root_ms, summary.seen_bytes) == (103_000, 150)
    buffer, partition = make(attrs.evolve(TEN, root_wait_ms=2_000)), Partition(0, 3, 10**9, shelf=Shelf("t"))
    buffer.take_over(partition, {trace_id(0): summary})
    assert closing_second(buffer, partition, 3, 103_000) == (105, Reason.ROOT_WAIT)
    rootless = old.replace(b'"has_root":true', b'"has_root":false')
    assert Summary.from_bytes(b"\x01" + len(rootless).to_bytes(4, "big") + bytes(4) + rootless).root_ms == -1


# -- completeness stays known


def test_that_a_trace_missed_a_parent_is_known_after_its_decision() -> None:
    buffer, partition = make(attrs.evolve(TEN, root_wait_ms=2_000)), home()
    buffer.add(partition, record(0, 100, fragment(1, [0], root=True), fragment(2, [0], root=True)), WALL)
    buffer.add(partition, record(1, 101, fragment(1, [1], parents=[0]), fragment(2, [1], parents=[7])), WALL)
    buffer.add(partition, record(2, 102), WALL)
    decision = Decision(Verdict.KEEP, "all", Reason.ROOT_WAIT, 1.0)
    complete = [each.is_complete() for trace in buffer.take() for each in buffer.decided(trace, decision)]
    assert complete == [True, False]
