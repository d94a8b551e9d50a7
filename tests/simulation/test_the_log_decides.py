"""Law 3: decisions are a function of the records and their order, not of how fast they were read."""

import random
from collections.abc import Sequence
from typing import Any

import attrs
import pytest

from tests.core.spans import fragment, one_record
from tests.fakes.kafka import EPOCH_MS
from tests.simulation.laws import breaches
from tests.simulation.plan import MIB, Plan, plan
from tests.simulation.policies import TWENTY
from tests.simulation.quiet import quiet
from tests.simulation.traffic import Tastes, Write, ahead, writes
from tests.simulation.world import World, run
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.combining import Sampler
from tss.core.decision import Reason
from tss.core.evaluation import TOO_LARGE
from tss.core.memory import Memory
from tss.core.otlp import Encoding, Fragment, Records, Scanner
from tss.core.partition import Partition
from tss.core.policies import policies
from tss.core.streamtime import GRACE_MS
from tss.core.trace import Trace
from tss.settings import Sampling

SAMPLING = Sampling(latency_threshold_ms=500, latency_sample_rate=0.5, default_sample_rate=0.2)
WAITS = Waits(root_quiet_ms=3000, inactivity_ms=8000, max_duration_ms=15_000)
COLLECTORS = {
    "decision_wait": attrs.evolve(WAITS, decision_wait_ms=8000),
    "after the root": attrs.evolve(WAITS, decision_wait_ms=12_500, root_wait_ms=1500),
}
ROOMY = Limits(64 * MIB, 1_000_000, 100_000, 20)
LIMITS = {
    "roomy": ROOMY,
    "few bytes": attrs.evolve(ROOMY, max_bytes=10_000),
    "few spans": attrs.evolve(ROOMY, max_spans=20),
    "few traces": attrs.evolve(ROOMY, max_traces=4),
}

Verdicts = dict[bytes, tuple[str, str, str]]


@attrs.define
class Reader:
    """Reads one log at its own speed: batches, looks at the wall clock, and evaluation come when chance has it."""

    log: Sequence[tuple[Write, Records]]
    limits: Limits
    chance: random.Random
    waits: Waits = WAITS
    live: bool = False  # the wall clock moves stream time between records, as it does at the end of the log
    sampling: Sampling = SAMPLING

    def decide(self) -> Verdicts:
        sampler = Sampler(policies(self.sampling))
        buffer = Buffer(self.limits, self.waits, Memory(), program=sampler.program)
        partitions = {id: Partition(id, 0, 60_000) for id in {write.partition for write, _ in self.log}}
        verdicts: Verdicts = {}
        waiting: list[Trace] = []
        eagerness = self.chance.choice([0.01, 0.3, 1.0])
        for write, record in self.log:
            now_ms = EPOCH_MS + round(write.at_secs * 1000)
            if self.live and self.chance.random() < 0.7:
                # All that was written before this moment has been read, so the end of the log is known up to it.
                buffer.reach(partitions[write.partition], self.chance.randint(now_ms - 1000, now_ms))
            late_ms = 0 if self.live else self.chance.choice([0, 10_000, 3_600_000])
            buffer.add(partitions[write.partition], record, now_ms + late_ms)
            waiting += buffer.take()
            if self.chance.random() < eagerness:
                self._evaluate(waiting, buffer, sampler, verdicts)
        for partition in partitions.values():
            buffer.reach(partition, EPOCH_MS + 3_600_000)
        waiting += buffer.take()
        self._evaluate(waiting, buffer, sampler, verdicts)
        return verdicts

    def _evaluate(self, waiting: list[Trace], buffer: Buffer, sampler: Sampler, verdicts: Verdicts) -> None:
        for trace in waiting:
            if trace.decision is not None:
                buffer.settle(trace)  # late
                continue
            decision = TOO_LARGE if trace.reason is Reason.TOO_LARGE else sampler.decide(trace)
            assert trace.trace_id not in verdicts, "law 4: decided once"
            verdicts[trace.trace_id] = decision.verdict.value, decision.policy, decision.reason.value
            for each in buffer.decided(trace, decision):
                buffer.settle(each)
        waiting.clear()


def log_of(seed: int, partitions: int, sampling: Sampling = SAMPLING) -> list[tuple[Write, Records]]:
    """Timestamps out of order within the grace.

    Not in it, since there the log cannot decide alone: records without a timestamp (they count as stream time, which at
    the log's end the wall clock moves) and those so far ahead that only the wall clock can tell whether to believe them.
    """
    chance = random.Random(f"log {seed}")
    ruled = bool(sampling.policies)
    tastes = Tastes(partitions, 60, 60, 500, 3, 8, 20, absurd_share=0, two_partitions_share=0, decorated=ruled)
    scanner = Scanner(program=Sampler(policies(sampling)).program)
    offsets = dict.fromkeys(range(partitions), 0)
    log = []
    for write in writes(tastes, chance):
        assert EPOCH_MS + write.at_secs * 1000 - write.timestamp_ms <= GRACE_MS
        records = scanner.records()
        records.add(write.partition, offsets[write.partition], write.timestamp_ms)
        scanner.read(write.value, Encoding.AUTO, records, [])
        log.append((write, records))
        offsets[write.partition] += 1
    return log


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("seed", range(8))
def test_speed_does_not_decide(seed, limits):
    log = log_of(seed, 1)
    chance = random.Random(seed)
    decided = [Reader(log, LIMITS[limits], chance, live=live).decide() for live in (False, False, True, True)]
    assert decided[0], "nothing was decided"
    assert all(each == decided[0] for each in decided)
    if limits != "roomy":
        assert any(reason == "pressure" for _, _, reason in decided[0].values()), "no pressure"


@pytest.mark.parametrize("limits", ["roomy", "few traces"])
@pytest.mark.parametrize("seed", range(8))
def test_speed_does_not_decide_with_twenty_policies(seed, limits):
    log, chance = log_of(seed, 1, TWENTY), random.Random(seed)
    readers = [Reader(log, LIMITS[limits], chance, live=live, sampling=TWENTY) for live in (False, False, True, True)]
    decided = [reader.decide() for reader in readers]
    assert all(each == decided[0] for each in decided)
    assert len({policy for _, policy, _ in decided[0].values()}) > 8, "few policies ever decided"


@pytest.mark.parametrize("name", COLLECTORS)
@pytest.mark.parametrize("seed", range(8))
def test_speed_does_not_decide_with_the_waits_of_a_collector(seed, name):
    log, waits, chance = log_of(seed, 1), COLLECTORS[name], random.Random(seed)
    limits = attrs.evolve(ROOMY, max_trace_bytes=1500)
    decided = [Reader(log, limits, chance, waits, live=live).decide() for live in (False, False, True, True)]
    assert all(each == decided[0] for each in decided)
    reasons = {reason for _, _, reason in decided[0].values()}
    assert {"decision_wait", "too_large"} <= reasons <= {"decision_wait", "root_wait", "too_large", "span_limit"}
    assert ("root_wait" in reasons) is (waits.root_wait_ms > 0)


@pytest.mark.parametrize("seed", range(8))
def test_neither_does_the_order_among_partitions(seed):
    log = log_of(seed, 3)
    chance = random.Random(seed)
    decided = []
    for _ in range(3):
        own = {id: [each for each in log if each[0].partition == id] for id in range(3)}
        order = [each[0].partition for each in log]
        chance.shuffle(order)
        decided.append(Reader([own[id].pop(0) for id in order], ROOMY, chance).decide())
    decided.append(Reader(log, ROOMY, chance, live=True).decide())
    assert all(each == decided[0] for each in decided)


# -- the whole daemon


def peaceful(seed: int) -> Plan:
    """A world without faults, pressure or timestamps that only a wall clock can judge. In every second one a clock is ahead."""
    drawn = plan(seed)
    tastes = attrs.evolve(drawn.tastes, absurd_share=0.0, two_partitions_share=0.0)
    chance = random.Random(f"peace {seed}")
    written = writes(tastes, chance)
    app = attrs.evolve(
        drawn.settings.app, max_buffer_bytes=64 * MIB, max_buffer_traces=100_000, max_buffer_spans=1_000_000
    )
    return attrs.evolve(
        drawn,
        settings=attrs.evolve(drawn.settings, app=app),
        tastes=tastes,
        writes=written if seed % 2 else ahead(written, app.max_clock_skew_secs - 5, chance),
        faults=[],
        replicas=1,
    )


def verdicts(world: World) -> Verdicts:
    return {
        ruling.trace_id: (ruling.decision.verdict.value, ruling.decision.policy, ruling.decision.reason.value)
        for life in world.lives
        for ruling in life.rulings
    }


@pytest.mark.parametrize("seed", range(12))
def test_live_and_backlog_decide_alike(seed):
    world = peaceful(seed)
    with quiet():
        live, late = run(world), run(world, begins_secs=7200)
    assert breaches(live) == []
    assert verdicts(live) == verdicts(late) != {}


# -- the memory of decisions, and destinations that answer when they like

MEMORIES = {
    "by time": lambda: Memory(secs=20),
    "by count": lambda: Memory(closed_limit=12),
    "few deliveries": lambda: Memory(kept_limit=2, secs=20),
    "all": lambda: Memory(kept_limit=2, closed_limit=12, secs=20),
}


def chatter(seed: int) -> list[tuple[int, Records]]:
    """One partition on which few ids come again and again: in time, late, and long after they are forgotten."""
    chance = random.Random(f"chatter {seed}")
    now_ms, log = EPOCH_MS, []
    for offset in range(400):
        now_ms += chance.choice([0, 10, 300, 900, 900, 2_500]) if chance.random() < 0.97 else 25_000
        ids = chance.sample(range(30), chance.choice([1, 1, 3]))
        fragments = tuple(_piece(id, offset, chance) for id in ids)
        log.append((now_ms, one_record(0, offset, now_ms - chance.randint(0, GRACE_MS), fragments)))
    return log


def _piece(id: int, number: int, chance: random.Random) -> Fragment:
    failed = chance.random() < 0.2
    root = chance.random() < 0.6
    return fragment(id, (number + 1,), root=root, errors=int(failed), parents=() if root else (0,))


@attrs.define
class Outside:
    """What happens beside the log: decisions and deliveries come in time, much later, or in no order."""

    chance: random.Random
    buffer: Buffer
    sampler: Sampler
    eager: float
    quick: float
    undecided: list[Trace] = attrs.field(factory=list)
    under_way: list[Trace] = attrs.field(factory=list)
    followed: dict[tuple[int, bytes], tuple[str, str]] = attrs.field(factory=dict)

    def turn(self, eager: float, quick: float) -> None:
        self.undecided += self.buffer.take()
        if self.chance.random() < eager:
            while self.undecided and self.chance.random() < max(eager, 0.5):
                self._decide(self.undecided.pop(self.chance.choice([0, -1])))
        if self.chance.random() < quick:
            self.chance.shuffle(self.under_way)
            count = len(self.under_way) if quick == 1 else self.chance.randint(0, len(self.under_way))
            self.buffer.settle_all([self.under_way.pop() for _ in range(count)])

    def _decide(self, trace: Trace) -> None:
        together = [trace] if trace.decision else self.buffer.decided(trace, self.sampler.decide(trace))
        for each in together:
            assert each.decision is not None
            for _, offset in each.holds() if each.decision.keeps or not each.late else ():
                self.followed[offset, each.trace_id] = each.decision.verdict.value, each.decision.reason.value
        self.under_way += together


def fates(log: list[tuple[int, Records]], memory: Memory, chance: random.Random, *, live: bool) -> dict[Any, Any]:
    """What became of each fragment; those that are missing followed a trace that was dropped."""
    buffer = Buffer(attrs.evolve(ROOMY, max_trace_spans=3), attrs.evolve(WAITS, root_quiet_ms=2000), memory)
    eager, quick = chance.choice([(1.0, 1.0), (1.0, 0.02), (0.3, 0.3), (0.05, 0.5), (0.01, 0.01)])
    outside = Outside(chance, buffer, Sampler(policies(SAMPLING)), eager, quick)
    partition = Partition(0, 0, 10**9, replay_secs=60)
    for now_ms, record in log:
        if live and chance.random() < 0.7:
            buffer.reach(partition, chance.randint(now_ms - 500, now_ms))
        buffer.add(partition, record, now_ms)
        outside.turn(eager, quick)
    buffer.reach(partition, EPOCH_MS + 10**9)
    outside.turn(1.0, 1.0)
    while outside.undecided or outside.under_way:
        outside.turn(1.0, 1.0)
    assert (partition.ledger.low_water, buffer.closed_bytes, partition.in_flight) == (400, 0, 0)
    return outside.followed


@pytest.mark.parametrize("kind", MEMORIES)
@pytest.mark.parametrize("seed", range(25))
def test_law_3_nor_does_how_fast_destinations_answer(seed, kind):
    log, chance = chatter(seed), random.Random(seed)
    first, *others = [fates(log, MEMORIES[kind](), chance, live=live) for live in (False, False, True, False, True)]
    assert all(each == first for each in others)
    assert len(first) < sum(len(record.fragments(0)) for _, record in log), "nothing followed a trace that was dropped"
