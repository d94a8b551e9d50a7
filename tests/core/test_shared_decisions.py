"""Which traces could have been decided elsewhere, and what happens to those that were (law 2)."""

from __future__ import annotations

import json
import random

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.spans import fragment, message, record, span, trace_id
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.decision import Decision, Reason, Verdict
from tss.core.memory import Kept, Memory
from tss.core.otlp import Fragment
from tss.core.packing import Packer, train
from tss.core.parked import Shelf
from tss.core.partition import UNKNOWN_END, Partition
from tss.core.policies.probability import SPACE
from tss.core.shared_decisions import (
    CLOCKS_MS,
    NOTHING,
    from_bytes,
    homes_of,
    reach_of,
    to_bytes,
    unknown_here,
    within_reach,
)  # fmt: skip
from tss.core.trace import Trace

WALL = 10**12
TTL_MS = 3_600_000
DROP = Decision(Verdict.DROP, "default", Reason.INACTIVE, 0.0)
KEEP = Decision(Verdict.KEEP, "errors", Reason.INACTIVE, 0.25, ("sea",))


def make(memory: Memory | None = None) -> Buffer:
    return Buffer(Limits(1 << 30, 1000, 1000, 1000), Waits(30_000, 600_000, 10_800_000), memory or Memory(secs=3600))


def part(trace: int, number: int, *, root: bool = False, size: int = 0) -> Fragment:
    """One real span, of which number 0 is the root."""
    only = span(trace, number, None if root else 0)
    only.name += "x" * size
    parents = [] if root else [0]
    return fragment(trace, [number], root=root, parents=parents, payload=message([only]))


def known(
    *covered: tuple[int, int], first: tuple[int, int] = (0, 0), outstanding: tuple[tuple[int, int], ...] = ()
) -> Kept:
    kept = Kept(KEEP, first)
    kept.covered = dict(covered)
    kept.outstanding = {*outstanding} or None
    return kept


def closed(buffer: Buffer, home: Partition, *records: tuple[int, Fragment]) -> Trace:
    """A trace of these records, closed."""
    for offset, only in records:
        buffer.add(home, record(offset, 100.0, only, partition=home.id), WALL)
    buffer.reach(home, 800_000)
    (trace,) = buffer.take()
    return trace


# -- who is asked for


def horizon_passed(horizon: int = 10, at_secs: float = 100.0) -> tuple[Buffer, Partition]:
    buffer, home = make(), Partition(0, 0, 300_000, end=horizon)
    buffer.add(home, record(horizon, at_secs, fragment(99, root=True)), WALL)
    return buffer, home


def with_start(trace: int, start_ms: int, *, root: bool = True) -> Fragment:
    only = fragment(trace, root=root, parents=() if root else (5,))
    return Fragment(
        only.trace_id,
        only.payload,
        1,
        0,
        start_ms * 1_000_000,
        start_ms * 1_000_000 + 1,
        root,
        only.span_ids,
        only.missing,
    )


def test_what_was_in_the_log_before_the_partition_was_ours_is_asked_for() -> None:
    buffer, home = make(), Partition(0, 0, 300_000, end=2)
    for offset in range(4):
        buffer.add(home, record(offset, 100.0 + offset, with_start(offset, 150_000)), WALL)
    buffer.reach(home, 200_000)
    asked = unknown_here(buffer.take(), buffer.memory, TTL_MS)
    assert [trace.trace_id for trace in asked] == [trace_id(0), trace_id(1)]


@pytest.mark.parametrize(
    ("start_ms", "root", "at_secs", "is_asked"),
    [
        (150_000, True, 150.0, False),  # whole, and began when it was ours: nobody else can have seen it
        (100_000 - CLOCKS_MS, True, 150.0, False),
        (99_999 - CLOCKS_MS, True, 150.0, True),  # it began before: a late root
        (150_000, False, 150.0, True),  # a rest: its root may have been decided
        (150_000, False, 100.0 + 3000, False),  # by now nobody would remember
        (1, True, 100.0 + 3590, False),
    ],
)
def test_the_rest_of_a_trace_that_was_there_before_is_asked_for(
    start_ms: int, root: bool, at_secs: float, is_asked: bool
) -> None:
    buffer, home = horizon_passed()
    buffer.add(home, record(11, at_secs, with_start(1, start_ms, root=root)), WALL)
    buffer.reach(home, round(at_secs * 1000) + 700_000)
    trace = next(trace for trace in buffer.take() if trace.trace_id == trace_id(1))
    assert bool(unknown_here([trace], buffer.memory, TTL_MS)) is is_asked


def test_a_branch_on_a_partition_that_was_anothers_is_asked_for() -> None:
    buffer, home = horizon_passed()
    other = Partition(1, 0, 300_000, end=5)
    buffer.add(home, record(11, 150.0, with_start(1, 150_000)), WALL)
    buffer.add(other, record(0, 150.0, with_start(1, 150_000), partition=1), WALL)
    buffer.reach(home, 200_000)
    trace = next(trace for trace in buffer.take() if trace.trace_id == trace_id(1))
    assert unknown_here([trace], buffer.memory, TTL_MS) == [trace]
    assert buffer.take_counts().on_two_partitions == 1


def test_what_an_earlier_owner_parked_is_asked_for_wherever_the_log_is_said_to_have_ended() -> None:
    buffer, home = horizon_passed()
    buffer.add(home, record(11, 150.0, with_start(1, 150_000)), WALL)
    trace = buffer._open.get(trace_id(1))
    assert trace is not None
    summary, _ = trace.leave()
    buffer, home = make(), Partition(0, 12, 300_000, end=5, shelf=Shelf("t"))
    buffer.take_over(home, {trace_id(1): attrs.evolve(summary, first_offset=20, parked_to=30)})
    buffer.add(home, record(12, 200.0, fragment(98, root=True)), WALL)
    (trace,) = buffer.take()
    assert unknown_here([trace], buffer.memory, TTL_MS) == [trace]


def test_a_kept_one_that_had_to_be_forgotten_is_asked_for() -> None:
    memory = Memory(kept_limit=1, closed_limit=2, evicted_limit=100)
    buffer, home = make(memory), Partition(0, 0, 300_000, end=0)
    for number in (1, 2):
        memory.keep(trace_id(number), KEEP, (0, 0))
    buffer.add(home, record(0, 100.0, fragment(99, root=True)), WALL)
    for number in (1, 2, 3):
        buffer.add(home, record(number, 150.0, with_start(number, 150_000)), WALL)
    buffer.reach(home, 200_000)
    late, *decided_anew = sorted(buffer.take(), key=lambda trace: trace.decision is None)
    assert late.trace_id == trace_id(2), "it is still remembered"
    assert trace_id(1) in [trace.trace_id for trace in unknown_here(decided_anew, memory, TTL_MS)]
    assert trace_id(3) not in [trace.trace_id for trace in unknown_here(decided_anew, memory, TTL_MS)]
    assert buffer.take_counts().evicted == 1


def test_where_the_end_is_not_told_the_horizon_is_where_all_has_been_read() -> None:
    buffer, home = make(), Partition(0, 3, 300_000)
    buffer.add(home, record(7, 100.0, fragment(1, root=True)), WALL)
    assert home.horizon == UNKNOWN_END
    buffer.reach(home, 103_000)
    assert (home.horizon, home.horizon_ms) == (8, 101_000)
    buffer.reach(home, 200_000)
    assert (home.horizon, home.horizon_ms) == (8, 101_000)


# -- and of these, of whom anything can be known


def told(*traces: Trace, reach: int, memory: Memory | None = None) -> tuple[list[Trace], list[Trace], dict[int, int]]:
    return within_reach([*traces], dict.fromkeys(homes_of([*traces]), reach), memory or Memory())


def read_evenly(count: int = 100) -> tuple[Buffer, Partition]:
    """Offset n comes at 100 + n s."""
    buffer, home = make(), Partition(0, 0, 300_000, replay_secs=60, end=1000)
    for offset in range(count):
        buffer.add(home, record(offset, 100.0 + offset, with_start(offset, (100 + offset) * 1000)), WALL)
    buffer.reach(home, 800_000)
    return buffer, home


def test_whole_traces_above_the_reach_are_not_asked_for() -> None:
    buffer, _ = read_evenly()
    traces = buffer.take()
    anywhere, whole, from_offsets = told(*traces, reach=20)
    # Those that began up to ten seconds after, too: hosts' clocks.
    assert ([trace.first_offset for trace in whole], anywhere) == ([*range(30)], [])
    assert from_offsets == {0: 0}
    assert told(*traces, reach=NOTHING) == ([], [], {})
    _, whole, from_offsets = told(*traces[50:], reach=70)
    assert ([trace.first_offset for trace in whole], from_offsets) == ([*range(50, 80)], {0: 40})


def test_rests_and_forgotten_ones_are_asked_for_everywhere() -> None:
    memory = Memory(kept_limit=1, evicted_limit=100)
    for number in (1, 2):
        memory.keep(trace_id(number), KEEP, (0, 0))
    buffer, home = make(), Partition(0, 0, 300_000, replay_secs=60, end=1000)
    buffer.add(home, record(1, 150.0, with_start(1, 150_000)), WALL)
    buffer.add(home, record(5, 150.0, with_start(5, 150_000, root=False)), WALL)
    buffer.reach(home, 900_000)
    traces = buffer.take()
    assert told(*traces, reach=NOTHING, memory=memory) == (traces, [], {})


def test_whole_ones_that_began_before_may_be_rests() -> None:
    buffer, home = make(), Partition(0, 0, 300_000, replay_secs=60, end=1000)
    for offset in range(100):
        buffer.add(home, record(offset, 100.0 + offset, with_start(1000 + offset, (100 + offset) * 1000)), WALL)
    buffer.add(home, record(100, 200.0, with_start(1, 120_999)), WALL)
    buffer.reach(home, 900_000)
    trace = next(trace for trace in buffer.take() if trace.trace_id == trace_id(1))
    assert told(trace, reach=5)[1] == []
    assert told(trace, reach=20) == ([], [trace], {0: 10})


def test_below_the_reach_no_clock_is_believed() -> None:
    buffer, home = make(), Partition(0, 0, 300_000, replay_secs=60, end=1000)
    buffer.add(home, record(3, 150.0, with_start(1, 900_000)), WALL)
    buffer.reach(home, 900_000)
    traces = buffer.take()
    assert told(*traces, reach=4) == ([], traces, {0: 3})
    assert told(*traces, reach=3) == ([], [], {})


def test_a_branch_counts_as_well() -> None:
    buffer, home = make(), Partition(0, 0, 300_000, replay_secs=60, end=1000)
    other = Partition(1, 0, 300_000, replay_secs=60, end=1000)
    for offset, at, to in ((3, 150.0, home), (7, 150.0, other)):
        buffer.add(to, record(offset, at, with_start(1, 150_000), partition=to.id), WALL)
    buffer.reach(home, 900_000)
    (trace,) = buffer.take()
    assert within_reach([trace], {home: NOTHING, other: NOTHING}, Memory()) == ([], [], {})
    assert within_reach([trace], {home: NOTHING, other: 8}, Memory()) == ([], [trace], {0: 0, 1: 0})
    assert homes_of([trace]) == {home, other}


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=40), st.integers(0, 60), st.integers(0, 200_000))
def test_what_is_below_an_offset_had_come_by_its_time(steps: list[int], reach: int, ms: int) -> None:
    home = Partition(0, 0, 300_000, replay_secs=60)
    times = [100_000 + sum(steps[:count]) for count in range(1, len(steps) + 1)]
    for offset, each in enumerate(times):
        home.time.observe(each, WALL)
        home.mark(offset)
    assert all(time <= home.replay.time_at(reach) for time in times[:reach])
    assert all(time <= ms for time in times[: home.replay.offset_at(ms)])


def test_decisions_reach_to_after_their_last_record() -> None:
    assert reach_of([(0, 3), (0, 2), (1, 0)]) == {0: 4, 1: 1}
    assert reach_of([]) == {}


# -- what is said of them

NAMES = st.none() | st.lists(st.text(max_size=5), max_size=3).map(tuple)
DECISIONS = st.builds(
    Decision,
    st.just(Verdict.KEEP),
    st.text(max_size=20),
    st.sampled_from(Reason),
    st.floats(0, 1),
    NAMES,
    st.booleans(),
)
PLACES = st.tuples(st.integers(0, 10_000), st.integers(0, (1 << 62)))


@given(
    DECISIONS,
    PLACES,
    st.integers(-1, SPACE - 1),
    st.dictionaries(st.integers(0, 10_000), st.integers(0, 1 << 62)),
    st.sets(PLACES),
)
def test_what_is_kept_comes_back_as_it_was(
    decision: Decision,
    first: tuple[int, int],
    rv: int,
    covered: dict[int, int],
    outstanding: set[tuple[int, int]],
) -> None:
    kept = Kept(decision, first, rv)
    kept.covered, kept.outstanding = covered, outstanding or None
    back = from_bytes(to_bytes(kept))
    assert back is not None
    assert (back.decision, back.first, back.rv, back.covered, back.outstanding or set()) == (
        decision,
        first,
        rv,
        covered,
        outstanding,
    )


def test_a_common_one_is_small() -> None:
    kept = known((7, 123_456_789), first=(7, 123_456_780))
    assert to_bytes(kept) == b'[1,["errors","inactive",0.25,["sea"]],7,123456780,[[7,123456789]],[]]'


BROUGHT_BYTES = b'[1,["share","inactive",0.25,null],7,123456780,[[7,123456789]],[[-2,54043195528445952],[7,123456785]]]'
WAITED_BYTES = b'[1,["share","max_duration",0.25,null],7,123456780,[[7,123456789]],[[-3,0],[7,123456785]]]'
UNWEIGHTED_BYTES = b'[1,["share","inactive",0.25,null],7,123456780,[[7,123456789]],[[-1,-1],[7,123456785]]]'


def test_a_decision_without_a_weight_as_it_stands_in_redis() -> None:
    kept = Kept(Decision(Verdict.KEEP, "share", Reason.INACTIVE, 0.25, weighted=False), (7, 123_456_780))
    kept.covered, kept.outstanding = {7: 123_456_789}, {(7, 123_456_785)}
    assert to_bytes(kept) == UNWEIGHTED_BYTES
    assert kept.outstanding == {(7, 123_456_785)}, "writing changes nothing"
    back = from_bytes(UNWEIGHTED_BYTES)
    assert back is not None
    assert not back.decision.weighted
    assert back.outstanding == {(7, 123_456_785)}
    assert to_bytes(back) == UNWEIGHTED_BYTES


@pytest.mark.parametrize("stored", [UNWEIGHTED_BYTES, BROUGHT_BYTES, WAITED_BYTES])
def test_the_version_before_takes_a_decision_with_a_place_that_no_record_has(stored: bytes) -> None:
    """It reads exactly this shape, compares the undelivered places with those of records, and writes all of them again."""
    match json.loads(stored):
        case [1, [str(), str(reason), int() | float(), None], int(), int(), list(covered), list(outstanding)]:
            assert reason in {"root_quiet", "inactive", "max_duration", "span_limit", "pressure"}, "no other is known"
            assert all(isinstance(each, int) for place in (*covered, *outstanding) for each in place)
            assert all(abs(partition) < 1 << 63 and -1 <= offset < 1 << 63 for partition, offset in outstanding)
        case _:
            pytest.fail("the version before would not know the decision, and decide anew (law 2)")
    extra, real = json.loads(stored)[-1]
    kept = known((7, 123_456_789), outstanding=(tuple(extra), tuple(real)))  # what it makes of the bytes
    assert kept.has_delivered(7, 123_456_784) and not kept.has_delivered(7, 123_456_785)
    assert kept.has_delivered_up_to(7, 123_456_784)
    kept.send([(7, 123_456_790)])
    kept.deliver([(7, 123_456_785), (7, 123_456_790)])
    assert kept.outstanding == {tuple(extra)}
    assert json.dumps([extra], separators=(",", ":")).encode() in to_bytes(kept), "so that the next version finds it"


def test_a_decision_with_the_randomness_that_a_span_brought_as_it_stands_in_redis() -> None:
    kept = Kept(Decision(Verdict.KEEP, "share", Reason.INACTIVE, 0.25), (7, 123_456_780), 0xC0_0000_0000_0000)
    kept.covered, kept.outstanding = {7: 123_456_789}, {(7, 123_456_785)}
    assert to_bytes(kept) == BROUGHT_BYTES
    assert kept.outstanding == {(7, 123_456_785)}, "writing changes nothing"
    back = from_bytes(BROUGHT_BYTES)
    assert back is not None
    assert (back.rv, back.outstanding) == (kept.rv, kept.outstanding)
    assert to_bytes(back) == BROUGHT_BYTES
    wrong = from_bytes(BROUGHT_BYTES.replace(b"54043195528445952", b"%d" % SPACE))
    assert wrong is not None
    assert wrong.rv == -1, "no randomness is that large"


@pytest.mark.parametrize("reason", [Reason.DECISION_WAIT, Reason.ROOT_WAIT])
def test_a_reason_that_the_version_before_does_not_know_as_it_stands_in_redis(reason: Reason) -> None:
    kept = Kept(Decision(Verdict.KEEP, "share", reason, 0.25), (7, 123_456_780))
    kept.covered, kept.outstanding = {7: 123_456_789}, {(7, 123_456_785)}
    root_wait = WAITED_BYTES.replace(b"max_duration", b"root_quiet").replace(b"[-3,0]", b"[-3,1]")
    assert to_bytes(kept) == (WAITED_BYTES if reason is Reason.DECISION_WAIT else root_wait)
    back = from_bytes(to_bytes(kept))
    assert back is not None
    assert (back.decision, back.outstanding) == (kept.decision, kept.outstanding)
    assert to_bytes(back) == to_bytes(kept)
    newer = from_bytes(WAITED_BYTES.replace(b"[-3,0]", b"[-3,2]"))
    assert newer is not None
    assert newer.decision.reason is Reason.MAX_DURATION


def test_a_decision_of_the_version_before_has_a_weight() -> None:
    back = from_bytes(b'[1,["errors","inactive",0.25,["sea"]],7,123456780,[[7,123456789]],[]]')
    assert back is not None and back.decision.weighted


@given(st.binary(max_size=40))
def test_what_nobody_could_have_written_is_not_known(value: bytes) -> None:
    assert from_bytes(value) is None


@pytest.mark.parametrize(
    "value",
    [
        b'[2,["errors","inactive",0.25,["sea"]],7,1,[[7,1]],[]]',  # a version to come
        b'[1,["errors","inactive",0.25,["sea"]],7,1,[[7]],[]]',
        b'[1,["errors","inactive","all",null],7,1,[],[]]',
        b'[1,["errors","inactive",1,[3]],7,1,[],[]]',
        b'[1,["errors","inactive",0.25,["sea"]],7,1]',
        b"[" * 100_000,
        b"{}",
    ],
)
def test_what_a_later_version_writes_is_not_known(value: bytes) -> None:
    assert from_bytes(value) is None


def test_law_2_a_decision_for_a_reason_to_come_counts() -> None:
    back = from_bytes(b'[1,["errors","whim",0.25,["sea"]],7,1,[[7,1]],[]]')
    assert back is not None
    assert back.decision == Decision(Verdict.KEEP, "errors", Reason.OTHER, 0.25, ("sea",))
    for reason in Reason:
        back = from_bytes(b'[1,["errors","%s",0.25,null],7,1,[[7,1]],[]]' % reason.value.encode())
        assert back is not None and back.decision.reason is reason


# -- what happens to them


def test_law_2_what_every_destination_has_settles_and_the_rest_follows() -> None:
    buffer, home = make(), Partition(0, 0, 300_000)
    trace = closed(buffer, home, (0, part(1, 0, root=True)), (1, part(1, 1)), (2, part(1, 2)), (3, part(1, 3)))
    (late,) = buffer.kept_elsewhere(trace, known((0, 2), outstanding=((0, 1),)))
    assert late.payload == part(1, 1).payload + part(1, 3).payload
    assert (late.late, late.decision, late.spans, late.held_spans, late.payload_bytes) == (
        True, KEEP, 2, 2, len(late.payload),
    )  # fmt: skip
    assert buffer.take_counts().duplicate_spans == 2
    # As long as the rest is under way all of its records are held, and read again it is not sent again.
    assert home.ledger.low_water == 0
    kept = buffer.memory.recall_kept(trace_id(1))
    assert kept is not None
    assert [kept.has_delivered(0, offset) for offset in range(4)] == [True, False, True, False]
    buffer.settle(late)
    assert [kept.has_delivered(0, offset) for offset in range(4)] == [True] * 4
    assert (home.ledger.low_water, home.in_flight, buffer.closed_bytes, kept.in_flight) == (4, 0, 0, 0)


def test_law_2_nothing_that_is_delivered_goes_again() -> None:
    buffer, home = make(), Partition(0, 0, 300_000)
    trace = closed(buffer, home, (0, part(1, 0, root=True)), (1, part(1, 1)))
    buffer.add(home, record(2, 900.0, part(1, 2)), WALL)  # it waits for the decision
    buffer.add(home, record(3, 900.0, part(1, 3)), WALL)
    (late,) = buffer.kept_elsewhere(trace, known((0, 2)))
    assert late.payload == part(1, 3).payload
    assert buffer.take_counts().duplicate_spans == 3
    assert (home.ledger.low_water, home.in_flight) == (3, 1)
    buffer.settle(late)
    assert (home.ledger.low_water, home.in_flight, buffer.closed_bytes) == (4, 0, 0)
    buffer.add(home, record(4, 900.0, part(1, 4)), WALL)
    (later,) = buffer.take()
    assert later.decision == KEEP, "it is remembered here, too"


def test_law_2_a_dropped_one_stays_dropped() -> None:
    buffer, home = make(), Partition(0, 0, 300_000)
    trace = closed(buffer, home, (0, part(1, 0, root=True)))
    buffer.add(home, record(1, 900.0, part(1, 1)), WALL)
    buffer.dropped_elsewhere(trace)
    assert (home.ledger.low_water, home.in_flight, buffer.closed_bytes) == (2, 0, 0)
    buffer.add(home, record(2, 900.0, part(1, 2)), WALL)
    assert buffer.take() == []
    assert buffer.take_counts().late_dropped_spans == 3


def test_law_7_of_a_trace_dropped_elsewhere_only_what_no_other_can_have_read_is_noted() -> None:
    home = Partition(0, 0, 300_000, end=2)
    limits, waits = Limits(1 << 30, 10**6, 10**6, 10**6), Waits(30_000, 600_000, 10_800_000)
    buffer = Buffer(limits, waits, Memory(evicted_limit=100, secs=1e6), observed=True)
    trace = closed(buffer, home, (0, part(1, 0, root=True)), (2, part(1, 1)))
    buffer.add(home, record(3, 900.0, part(1, 2)), WALL)  # it waits for the decision
    buffer.dropped_elsewhere(trace)
    noted = buffer.take_late_dropped()
    assert noted == [(trace_id(1), [part(1, 1).payload]), (trace_id(1), [part(1, 2).payload])]
    assert (home.ledger.low_water, home.in_flight, buffer.closed_bytes) == (4, 0, 0)
    assert buffer.take_counts().late_dropped_spans == 3


def test_a_trace_decided_on_another_partition_is_counted() -> None:
    buffer, home = make(), Partition(1, 0, 300_000)
    trace = closed(buffer, home, (0, part(1, 1)))
    (late,) = buffer.kept_elsewhere(trace, known((0, 7)))
    assert late.payload == part(1, 1).payload
    assert buffer.take_counts().on_two_partitions == 1
    assert buffer.take_counts().on_two_partitions == 0
    assert buffer.on_two_partitions == 1


def test_what_is_on_a_branch_is_told_apart_too() -> None:
    buffer, home, other = make(), Partition(0, 0, 300_000), Partition(1, 0, 300_000)
    buffer.add(home, record(0, 100.0, part(1, 0, root=True)), WALL)
    buffer.add(other, record(0, 100.0, part(1, 1), partition=1), WALL)
    buffer.add(other, record(1, 100.0, part(1, 2), partition=1), WALL)
    buffer.reach(home, 200_000)
    (trace,) = buffer.take()
    (late,) = buffer.kept_elsewhere(trace, known((1, 0), first=(1, 0)))
    assert late.payload == part(1, 0, root=True).payload + part(1, 2).payload
    assert late.spans == 2
    buffer.settle(late)
    assert (home.ledger.low_water, other.ledger.low_water, buffer.closed_bytes) == (1, 2, 0)


def test_whoever_reads_on_after_a_late_one_finds_the_whole_trace() -> None:
    buffer, home = make(), Partition(0, 50, 300_000, replay_from=10, replay_secs=60)
    for offset in range(10, 60):
        buffer.add(home, record(offset, 100.0 + offset, fragment(offset, root=True)), WALL)
    buffer.add(home, record(60, 300.0, part(1, 1)), WALL)
    buffer.reach(home, 1_000_000)
    for trace in buffer.take():
        if trace.trace_id == trace_id(1):
            buffer.settle_all(buffer.kept_elsewhere(trace, known((0, 20), first=(0, 12))))
        else:
            buffer.settle_all(buffer.decided(trace, DROP))
    buffer.add(home, record(61, 1000.0, fragment(1061)), WALL)
    commit = home.commit()
    assert (commit.offset, commit.replay_from) == (61, 12)


# -- packed


def pieces_of(count: int) -> list[tuple[int, Fragment]]:
    chance = random.Random(1)
    return [(offset, part(1, offset, root=offset == 0, size=chance.randint(0, 900))) for offset in range(count)]


def test_packed_fragments_can_be_told_apart() -> None:
    """Packed twice, with loose ones after: each record's bytes come back."""
    buffer, home = make(), Partition(0, 0, 300_000)
    records = pieces_of(12)
    packer = Packer()
    packer.use(train([only.payload * 9 for _, only in records] * 20))
    for offset, only in records:
        buffer.add(home, record(offset, 100.0, only), WALL)
        if offset in (5, 9):
            (trace,) = buffer._open.all()
            assert trace.pack(packer) > 0
    buffer.reach(home, 800_000)
    (trace,) = buffer.take()
    (late,) = buffer.kept_elsewhere(trace, known((0, 10), outstanding=((0, 3), (0, 7))))
    assert late.payload == b"".join(records[offset][1].payload for offset in (3, 7, 11))
    assert late.spans == 3
    buffer.settle(late)
    assert home.ledger.low_water == 12
