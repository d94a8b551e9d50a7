"""The log of the last decisions: what it has is what was decided, within its bytes."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from tests.core.spans import lone, record, trace_id
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.combining import FAILS, KEEPS, REFUSES, SILENT, Sampler
from tss.core.decision import Decision, Reason, Verdict
from tss.core.decision_log import ENTRY_BYTES, UNASKED, DecisionLog
from tss.core.evaluation import evaluate
from tss.core.explaining import said_by
from tss.core.memory import Memory
from tss.core.otlp.fragment import Fragment
from tss.core.partition import Partition
from tss.core.policies.policy import ABSTAIN, DROP, FAILED, Policy
from tss.core.policies.rest import Rest
from tss.core.trace import Trace

NOW_SECS = 1_700_000_000
HOME = Partition(3, 0, 1 << 60)


class Fixed(Policy):
    """Votes as the last byte of the trace id says."""

    def __init__(self, place: int) -> None:
        super().__init__(f"policy {place}")
        self._place = place

    def vote(self, trace: Trace) -> float:
        return (ABSTAIN, 0.5, DROP, FAILED)[trace.trace_id[-1 - self._place % 8] & 3]


def part(id: bytes) -> Fragment:
    return Fragment(id, b"x" * 10, 1, 0, 1_000_000, 2_000_000, True, b"12345678", b"")


def closed(id: bytes) -> Trace:
    trace = Trace(id, HOME, 0)
    trace.absorb(lone(part(id)), 0)
    trace.reason, trace.closed_second = Reason.ROOT_QUIET, NOW_SECS
    return trace


def ids(count: int, seed: int = 1) -> list[bytes]:
    chance = random.Random(seed)
    return [chance.randbytes(16) for _ in range(count)]


@pytest.mark.parametrize("policies", [1, 16, 17, 40])
def test_an_entry_has_the_decision_and_each_vote(policies: int) -> None:
    sampler = Sampler([Fixed(place) for place in range(policies)])
    log = DecisionLog(1 << 20)
    log.now_secs = NOW_SECS + 5
    wanted = {}
    for id in ids(500):
        trace = closed(id)
        wanted[id] = sampler.decide(trace)
        log.add(trace, wanted[id], sampler)
    for id, decision in wanted.items():
        [found] = log.find(id)
        said = [(SILENT, KEEPS, REFUSES, FAILS)[id[-1 - place % 8] & 3] for place in range(policies)]
        assert (found.trace_id, found.decision, list(found.votes)) == (id, decision, said)
        assert (found.closed_secs, found.decided_secs, found.partition) == (NOW_SECS, NOW_SECS + 5, 3)
        assert (found.spans, found.bytes, found.late_spans) == (1, 10, 0)
    assert said_by(sampler) == said
    assert log.find(bytes(15) + b"\1") == []


def test_law_5_the_oldest_go_and_the_bytes_stay_within_the_limit() -> None:
    sampler, limit = Sampler([Fixed(place) for place in range(20)]), 1 << 20
    log, all_ids = DecisionLog(limit), ids(30_000)
    decision = Decision(Verdict.DROP, "none", Reason.INACTIVE, 0.0)
    for number, id in enumerate(all_ids):
        log.now_secs = NOW_SECS + number
        log.add(closed(id), decision, sampler, UNASKED)
        assert log.held_bytes <= limit
    kept = [bool(log.find(id)) for id in all_ids]
    first = kept.index(True)
    assert all(kept[first:]) and not any(kept[:first]), "the oldest are gone, and no other"
    assert len(log) == 30_000 - first and log.since_secs() == NOW_SECS + first
    assert log.reach_secs(NOW_SECS + 30_000) == 30_000 - first
    assert log.held_bytes / len(log) <= 70, "with 20 policies, and with the space of what has gone"
    assert ENTRY_BYTES + 8 <= 62


def test_told_bytes_are_those_that_it_takes() -> None:
    sampler, decision = Sampler([Rest(0.0)]), Decision(Verdict.DROP, "none", Reason.INACTIVE, 0.0)
    traces = [closed(id) for id in ids(20_000)]
    tracemalloc.start()
    log = DecisionLog(4 << 20)
    for trace in traces:
        log.add(trace, decision, sampler, UNASKED)
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert taken == pytest.approx(log.held_bytes, rel=0.05)


def test_entries_are_read_under_the_rules_that_made_them() -> None:
    """Two partitions may decide by different rules for a while, in turns."""
    old, new = Sampler([Rest(1.0, name="old")]), Sampler([Fixed(0), Fixed(1), Rest(0.0, name="new")])
    log = DecisionLog(1 << 20)
    for place, id in enumerate(ids(2000)):
        sampler = (old, new)[place % 2]
        log.add(closed(id), sampler.decide(closed(id)), sampler)
    found = [log.find(id)[0] for id in ids(2000)]
    assert all(each.sampler is (old, new)[place % 2] for place, each in enumerate(found))
    assert {len(each.votes) for each in found[::2]} == {1} and {len(each.votes) for each in found[1::2]} == {3}
    assert log.held_bytes < 1 << 18, "they do not take a new chunk at each turn"


def test_late_spans_are_counted_with_the_last_decision_of_their_trace() -> None:
    sampler, log = Sampler([Rest(1.0)]), DecisionLog(1 << 20)
    id, other = ids(2)
    for now in (10, 20):
        log.now_secs = now
        log.add(closed(id), sampler.decide(closed(id)), sampler)
    log.late(id, 3)
    log.late(id, 100_000)
    log.late(other, 3)
    assert [(each.decided_secs, each.late_spans) for each in log.find(id)] == [(20, 65_535), (10, 0)]


def test_what_another_replica_decided_is_told_as_such() -> None:
    log = DecisionLog(1 << 20)
    log.follow(closed(trace_id(1)))
    [found] = log.find(trace_id(1))
    assert not found.decision.keeps and not found.votes and found.decision.policy == ""


def test_the_evaluation_enters_every_trace_and_the_buffer_counts_late_spans() -> None:
    buffer = Buffer(Limits(1 << 24, 9000, 9000, 9000), Waits(1000, 1000, 9000), Memory())
    sampler, home = Sampler([Rest(0.5)]), Partition(0, 0, 1 << 60)
    wanted = ids(300)
    for offset, id in enumerate(wanted):
        buffer.add(home, record(offset, NOW_SECS, part(id)), 0)
    buffer.add(home, record(300, NOW_SECS + 5, part(ids(1, 2)[0])), 0)
    found = evaluate(buffer.take(), sampler, buffer)
    assert len(found.kept) + len(found.ended) == 300 and len(buffer.log) == 300
    assert {each.trace_id for each in found.kept} == {id for id in wanted if buffer.log.find(id)[0].decision.keeps}
    for offset, id in enumerate(wanted, 301):
        buffer.add(home, record(offset, NOW_SECS + 5, part(id)), 0)
    evaluate(buffer.take(), sampler, buffer)
    assert {buffer.log.find(id)[0].late_spans for id in wanted} == {1}
    assert buffer.held_by_kind()["decision_log"] == buffer.log.held_bytes > 0
