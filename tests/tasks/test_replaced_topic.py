"""A topic that was deleted and made again: what is decided stays decided, and no offset of the old one counts (law 1)."""

from __future__ import annotations

from tests.core.spans import batch, message, one_record, span, trace_id
from tests.fakes.meter import FakeMeter
from tests.fakes.redis import FakeDecisions, FakeRedis
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.combining import Sampler
from tss.core.decision import Reason
from tss.core.memory import Memory
from tss.core.otlp import Encoding, Records, scan
from tss.core.parked import Shelf
from tss.core.policies.rest import Rest
from tss.core.shared_decisions import from_bytes, mark_of, to_bytes
from tss.core.startposition import StartPosition
from tss.core.trace import Trace
from tss.state.assignments import Assignments
from tss.state.sharing import SharedMemories, Sharing

WALL = 10**12
OLD, NEW = "one", "two"


def record(offset: int, at_secs: int, trace: int, number: int, parent: int | None = None) -> Records:
    value = message([span(trace, number, parent)])
    return one_record(0, offset, 1000 * at_secs, scan(value, Encoding.OTLP_PROTO).fragments)


class Replica:
    """Of partition 0, with a Redis that outlives it."""

    def __init__(self, redis: FakeRedis, start: StartPosition) -> None:
        self.meter = FakeMeter()
        self.buffer = Buffer(Limits(1 << 30, 1000, 1000, 1000), Waits(30_000, 60_000, 10_800_000), Memory())
        self.assignments = Assignments("t", self.buffer, self.meter, max_skew_ms=0, replay_secs=60, commits=True)
        self.shared = SharedMemories(Sharing(FakeDecisions(redis), 10**6), self.buffer, self.meter)
        self.sampler = Sampler([Rest(1.0)])
        self.sent: list[tuple[bytes, int]] = []  # trace and spans
        self.commits = self.assignments.assigned({0: start})

    def read(self, *records: Records) -> None:
        for run in self.assignments.bind(batch(records)):
            self.buffer.add_some(run.partition, run.records, run.first, run.stop, WALL)

    async def decide(self) -> list[Trace]:
        going: list[Trace] = []
        for trace in await self.shared.recall(self.buffer.take()):
            going += [trace] if trace.decision else self.buffer.decided(trace, self.sampler.decide(trace))
        return going

    async def deliver(self, traces: list[Trace]) -> None:
        self.sent += [(trace.trace_id, trace.held_spans) for trace in traces if trace.chunks()]
        await self.shared.keep(traces)
        self.buffer.settle_all(traces)

    async def turn(self) -> None:
        await self.deliver(await self.decide())


def anew() -> StartPosition:
    return StartPosition(0, 0, committed=False, end=10, topic=NEW, anew=True)


def old() -> StartPosition:
    return StartPosition(0, 0, committed=True, end=0, topic=OLD)


async def test_what_is_open_is_decided_as_it_is() -> None:
    replica = Replica(FakeRedis(), old())
    replica.read(record(500, 1000, 1, 1, parent=0))
    commits = replica.assignments.assigned({0: anew()})
    assert (commits[0].offset, commits[0].topic) == (0, NEW)
    [trace] = await replica.decide()
    assert trace.decision is not None and trace.decision.reason is Reason.INACTIVE
    await replica.deliver([trace])
    assert replica.sent == [(trace_id(1), 1)]
    assert replica.assignments.due()[0].offset == 0, "nothing of the new one has been read"
    assert (replica.buffer.open_bytes, replica.buffer.closed_bytes) == (0, 0)


async def test_law_1_late_spans_in_the_new_topic_are_not_taken_for_what_was_delivered_of_the_old_one() -> None:
    for in_flight in (False, True):
        replica = Replica(FakeRedis(), old())
        replica.read(record(500, 1000, 1, 0), record(501, 1100, 2, 0))
        going = await replica.decide()
        if not in_flight:
            await replica.deliver(going)
        replica.assignments.assigned({0: anew()})
        if in_flight:
            await replica.deliver(going)
        assert (trace_id(1), 1) in replica.sent
        replica.sent.clear()
        replica.read(record(7, 1101, 1, 5, parent=0))
        await replica.turn()
        assert replica.sent.count((trace_id(1), 1)) == 1, (
            f"a late span under an offset that the old topic had, {in_flight=}"
        )
        replica.sent.clear()
        replica.assignments.lost([0])
        replica.assignments.assigned({0: StartPosition(7, 7, committed=True, topic=NEW)})
        replica.read(record(7, 1101, 1, 5, parent=0))
        await replica.turn()
        assert replica.sent == [], "and then it is known"


async def test_law_1_nor_by_a_replica_that_only_redis_told_of_it() -> None:
    redis = FakeRedis()
    first = Replica(redis, old())
    first.read(record(500, 1000, 1, 0), record(501, 1100, 2, 0))
    await first.turn()
    second = Replica(redis, anew())
    second.read(record(7, 1101, 1, 5, parent=0), record(8, 2000, 9, 0))
    await second.turn()
    assert second.sent == [(trace_id(1), 1)], "late, under the decision that there is"
    third = Replica(redis, StartPosition(0, 0, committed=True, end=9, topic=NEW))
    third.read(record(7, 1101, 1, 5, parent=0), record(8, 2000, 9, 0))
    await third.turn()
    assert third.sent == [], "of the new topic it is believed"


async def test_where_no_id_is_told_offsets_are_believed() -> None:
    redis = FakeRedis()
    first = Replica(redis, StartPosition(0, 0, committed=True, end=0))
    first.read(record(500, 1000, 1, 0), record(501, 1100, 2, 0))
    await first.turn()
    [value] = [redis.kept[trace_id(1)]]
    assert b"[[0,500]]" in value, "as the version before wrote it"
    second = Replica(redis, StartPosition(500, 500, committed=True, end=502))
    second.read(record(500, 1000, 1, 0), record(501, 1100, 2, 0))
    await second.turn()
    assert second.sent == []


async def test_decisions_say_of_which_topic_their_offsets_are_and_the_version_before_reads_them() -> None:
    redis = FakeRedis()
    first = Replica(redis, old())
    first.read(record(500, 1000, 1, 0), record(501, 1100, 2, 0))
    await first.turn()
    value = redis.kept[trace_id(1)]
    assert b"[[0,500],[%d,0]]" % mark_of(OLD) in value
    as_before = from_bytes(value)
    assert as_before is not None and as_before.covered == {0: 500}
    same, other = from_bytes(value, mark_of(OLD)), from_bytes(value, mark_of(NEW))
    assert same is not None and same.covered == {0: 500}
    assert other is not None and (other.covered, other.decision) == ({}, same.decision)
    plain = from_bytes(to_bytes(as_before), mark_of(NEW))
    assert plain is not None and plain.covered == {0: 500}, "the version before does not say"
    assert mark_of("") == 0 and mark_of(OLD) < -(1 << 32) - 1


def test_what_is_taken_up_anew_is_still_of_the_same_topic() -> None:
    replica = Replica(FakeRedis(), old())
    replica.read(record(5, 1000, 1, 1))
    replica.read(record(0, 1000, 2, 1, parent=0))
    [partition] = replica.assignments
    assert (partition.position, partition.commit().topic) == (1, OLD), "the log went back"
    partition.shelf = Shelf("token")
    partition.shelf.put(trace_id(2), 0)
    replica.assignments.reread(partition, "lost")
    assert replica.assignments.rewind() == {0: 0}
    [again] = replica.assignments
    assert again is not partition and again.commit().topic == OLD


def test_an_id_that_is_told_later_goes_with_the_next_commit() -> None:
    replica = Replica(FakeRedis(), StartPosition(0, 0, committed=True, end=0))
    replica.assignments.identify(NEW)
    [partition] = replica.assignments
    assert partition.commit().topic == NEW
