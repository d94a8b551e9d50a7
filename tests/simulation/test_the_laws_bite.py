"""Would the simulation notice? Each sabotage of the daemon must break a law within a handful of seeds."""

from collections.abc import Callable

import pytest

from tests.simulation.laws import breaches
from tests.simulation.plan import fleet, plan
from tests.simulation.quiet import quiet
from tests.simulation.world import run
from tss.core.buffer import Buffer
from tss.core.delivery import Again
from tss.core.memory import Memory
from tss.core.packing import Packed
from tss.core.parked import Place, Shelf
from tss.core.partition import Commit, Partition
from tss.core.sampling import Sampler
from tss.core.trace import Trace
from tss.edges.parking import Parked
from tss.tasks import exporter
from tss.tasks.assignments import Assignments
from tss.tasks.sharing import Shared

SEEDS = range(60)
Patch = Callable[[type | object, str, object], None]


def settles_kept_traces_before_delivery(patch: Patch) -> str:
    decided = Buffer.decided

    def decided_and_settled(self, trace, decision):
        together = decided(self, trace, decision)
        for each in together:
            for partition, offset in each.holds():
                partition.ledger.settle(offset)
        return together

    def settle_without_ledger(self, offset):
        self.home.in_flight -= 1

    def latecomer_settled(self, partition, offset, fragment):
        late = latecomer(self, partition, offset, fragment)
        if fragment.trace_id not in self._closing:  # its decision is known: this is the last that decides of it
            partition.ledger.settle(offset)
        return late

    latecomer = Buffer._latecomer
    patch(Buffer, "decided", decided_and_settled)
    patch(Trace, "_settle", settle_without_ledger)
    patch(Buffer, "_latecomer", latecomer_settled)
    return "law 1"


def commits_what_it_has_read(patch: Patch) -> str:
    patch(Partition, "commit", lambda self: Commit(self.ledger.next, 0))
    return "law 1"


def forgets_what_it_dropped(patch: Patch) -> str:
    patch(Memory, "was_dropped", lambda self, trace_id: False)
    return "law 4"  # decided twice


def forgets_what_it_kept(patch: Patch) -> str:
    patch(Memory, "recall_kept", lambda self, trace_id: None)
    return "law 4"


def does_not_read_again_to_remember(patch: Patch) -> str:
    patch(Partition, "commit", lambda self, _now_ms=None: Commit(self.ledger.low_water, self.ledger.low_water))
    return "law 3"  # decides on what is left of a trace


def drops_what_comes_late_of_a_kept_trace(patch: Patch) -> str:
    is_decided = Buffer._is_decided

    def sloppy(self, partition, offset, fragment):
        return self.memory.recall_kept(fragment.trace_id) is not None or is_decided(self, partition, offset, fragment)

    patch(Buffer, "_is_decided", sloppy)
    return "law 1"


def closes_before_it_advances_time(patch: Patch) -> str:
    def add(self, partition, record, wall_ms):
        if partition.revoked:
            return
        self._turn(partition)  # with the time of the record before
        believed = partition.time.observe(record.timestamp_ms, wall_ms)
        self._absurd += not believed
        partition.mark(record.offset)
        self._records += 1
        if record.offset >= partition.start:
            partition.ledger.read(record.offset)
        else:
            self._replayed += 1
        for fragment in record.fragments:
            self._place(partition, record.offset, fragment)
            self._relieve()

    patch(Buffer, "add", add)
    return "law 3"


def gives_up_on_again(patch: Patch) -> str:
    async def deliver(lane, batch):
        outcome = await exporter._send(lane, batch)
        if not isinstance(outcome, Again):
            await original(lane, batch)

    original = exporter.deliver
    patch(exporter, "deliver", deliver)
    return "law 1"


def holds_no_late_fragment(patch: Patch) -> str:
    def latecomer(self, partition, offset, fragment):
        late = original(self, partition, offset, fragment)
        late.drop_chunks()
        partition.ledger.settle(offset)
        partition.in_flight -= 1
        return late

    original = Buffer._latecomer
    patch(Buffer, "_latecomer", latecomer)
    return "law 1"


def exports_what_is_dropped(patch: Patch) -> str:
    decide = Sampler.decide

    def kind(self, trace):
        decision = decide(self, trace)
        object.__setattr__(decision, "keeps", True)
        return decision

    patch(Sampler, "decide", kind)
    return "law 2"


def counts_nothing_late(patch: Patch) -> str:
    take_counts = Buffer.take_counts

    def forgetful(self):
        counts = take_counts(self)
        counts.late_dropped_spans = 0
        return counts

    patch(Buffer, "take_counts", forgetful)
    return "law 4"


def never_relieves(patch: Patch) -> str:
    patch(Buffer, "_relieve", lambda self: None)
    return "law 5"


def puts_no_refused_trace_aside(patch: Patch) -> str:
    async def nothing(lane, batch, reason, detail):
        pass

    patch(exporter, "_put_aside", nothing)
    return "law 1"


def waits_for_ever_when_stopping(patch: Patch) -> str:
    from tss.daemon import StopTimes

    ever = StopTimes(10_000.0, 10_000.0, 1.0, 5.0)
    patch(StopTimes, "of", classmethod(lambda _cls, _timeout_secs, _graceful, *, parks=False: ever))
    return "law 9"


def loses_spans_of_a_split_trace(patch: Patch) -> str:
    chunks = Trace.chunks
    patch(Trace, "chunks", lambda self: chunks(self)[-1:])
    return "law 1"


def loses_what_it_packs(patch: Patch) -> str:
    patch(Packed, "unpack", lambda self: b"")
    return "law 1"


SABOTAGES = [
    settles_kept_traces_before_delivery,
    commits_what_it_has_read,
    forgets_what_it_dropped,
    forgets_what_it_kept,
    does_not_read_again_to_remember,
    drops_what_comes_late_of_a_kept_trace,
    closes_before_it_advances_time,
    gives_up_on_again,
    holds_no_late_fragment,
    exports_what_is_dropped,
    counts_nothing_late,
    never_relieves,
    puts_no_refused_trace_aside,
    waits_for_ever_when_stopping,
    loses_spans_of_a_split_trace,
    loses_what_it_packs,
]


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda sabotage: sabotage.__name__)
def test_a_sabotage_is_noticed(sabotage, monkeypatch):
    law = sabotage(monkeypatch.setattr)
    with quiet():
        for seed in SEEDS:
            if any(text.startswith(law) for text in breaches(run(plan(seed)))):
                return
    raise AssertionError(f"{len(SEEDS)} seeds without a breach of {law}")


def tells_nobody_what_it_kept(patch: Patch) -> str:
    async def keep(self, traces):
        self._buffer.deliver(traces)

    patch(Shared, "keep", keep)
    return "law 2"


def asks_nobody(patch: Patch) -> str:
    async def recall(self, batch):
        return batch

    patch(Shared, "recall", recall)
    return "law 2"


def names_too_high_a_floor(patch: Patch) -> str:
    patch(Shelf, "place", lambda self, low_water: Place(low_water, self.token, self.seq))
    return "law 1"


def believes_a_redis_that_lost_it(patch: Patch) -> str:
    patch(Parked, "_at_floor", lambda self, id, start, reason, detail: start)
    return "law 1"


def does_not_read_again_what_redis_lost(patch: Patch) -> str:
    patch(Assignments, "rewind", lambda self: {})
    return "law 1"


SABOTAGES_OF_A_FLEET = [
    tells_nobody_what_it_kept,
    asks_nobody,
    names_too_high_a_floor,
    believes_a_redis_that_lost_it,
    does_not_read_again_what_redis_lost,
]


@pytest.mark.parametrize("sabotage", SABOTAGES_OF_A_FLEET, ids=lambda sabotage: sabotage.__name__)
def test_a_sabotage_of_a_fleet_is_noticed(sabotage, monkeypatch):
    law = sabotage(monkeypatch.setattr)
    with quiet():
        for seed in SEEDS:
            if any(text.startswith(law) for text in breaches(run(fleet(seed)))):
                return
    raise AssertionError(f"{len(SEEDS)} seeds without a breach of {law}")
