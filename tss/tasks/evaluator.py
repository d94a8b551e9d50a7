"""Decides closed traces: kept ones go to the preparer, dropped ones straight to the committer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import attrs
import trio

from tss.core import measures
from tss.core.buffer import Buffer
from tss.core.combining import Sampler
from tss.core.decision import FORCE, Reason, Verdict
from tss.core.evaluation import Evaluated, evaluate, observe, observe_late_dropped, vote_again
from tss.core.force import Enforcer, Rulebook
from tss.core.formats.apm_stats import SpanObserver
from tss.core.judging import Judge
from tss.core.measures import Meter
from tss.core.tally import Tally
from tss.core.trace import Trace
from tss.state.debug_lines import DecisionLines
from tss.state.rulesets import Rulesets
from tss.state.sharing import ALONE, Memories
from tss.state.tallying import show_new
from tss.state.turns import Turns
from tss.state.uncounted import Uncounted

MEASURE_SECS = 1.0  # between two measurements of the policies' votes
MEASURED_TRACES = 32  # some 2 us for each policy


@attrs.define
class VoteTimes:
    """Measures how long a vote of each policy takes, once in a while."""

    clock_ns: Callable[[], int] = time.perf_counter_ns
    _due_ns: int = 0

    def time(self, found: Evaluated, sampler: Sampler, tally: Tally) -> None:
        """Let each policy vote once more on some traces of this batch, if it is time. The votes count nowhere."""
        now_ns = self.clock_ns()
        if now_ns < self._due_ns:
            return
        ours = [each for each in (*found.kept, *found.ended) if not each.late and each.knows(sampler.program)]
        traces = ours[:MEASURED_TRACES]
        if not traces:
            return
        self._due_ns = now_ns + round(MEASURE_SECS * 1e9)
        for policy in sampler.policies:
            began_ns = self.clock_ns()
            vote_again(policy, traces)
            tally.policy(policy.name).vote_secs = (self.clock_ns() - began_ns) / len(traces) / 1e9


@attrs.frozen
class Deciding:
    """What a task needs to decide batches, and the channels it sends them to. Leaving the context closes these."""

    kept: trio.MemorySendChannel[list[Trace]]
    settled: trio.MemorySendChannel[list[Trace]]
    judge: Judge
    rulesets: Rulesets
    buffer: Buffer
    observers: Sequence[SpanObserver]
    meter: Meter
    memories: Memories = ALONE
    rulebook: Rulebook = attrs.field(factory=Rulebook)
    clock: Callable[[], float] = time.time
    told: DecisionLines = attrs.field(factory=DecisionLines)
    turns: Turns = attrs.field(factory=Turns)  # the same for all evaluators
    votes: VoteTimes = attrs.field(factory=VoteTimes)
    uncounted: Uncounted = attrs.field(default=attrs.Factory(lambda self: Uncounted(self.meter), takes_self=True))

    def enforcer(self) -> Enforcer | None:
        """The force rules in force, or None without rules.

        They are judged by the wall clock: an operator wants an effect now, whatever the timestamps in the topic are.
        """
        return None if self.rulebook.is_empty else self.rulebook.active(self.clock())

    async def ruled(self, batch: list[Trace]) -> list[Trace]:
        """Wait until Kafka knows by which rulesets these are decided. Returns those that are to be decided here: what waits on
        a partition that is revoked is left to its next owner."""
        while held := self.judge.held(batch):
            gone = {trace for trace in held if trace.home.revoked and self.buffer.withdraw(trace)}
            if gone:
                batch = [trace for trace in batch if trace not in gone]
            if all(trace.home.revoked for trace in held):
                break
            await self.rulesets.wait()
        return batch

    async def decide(self, batch: Sequence[Trace], enforcer: Enforcer | None) -> None:
        """Decide these. All their spans are in memory."""
        if (
            self.observers
        ):  # first: these are traces that another replica dropped, and their bytes are counted no longer (law 5)
            observe_late_dropped(self.buffer.take_late_dropped(), self.observers, self.uncounted)
        self.buffer.log.now_secs = int(self.clock())
        found = evaluate(batch, self.rulesets.current.sampler, self.buffer, enforcer, self.judge)
        if self.observers:
            observe(found, self.observers, self.uncounted)
        _show(found, self.meter)
        show_new(self.buffer.tally, self.meter)
        for queue in self.buffer.row_queues:
            decided_ms = round(1000 * self.clock())
            queue.add(found.kept, decided_ms)
            queue.add(found.ended, decided_ms)
        self.votes.time(found, self.rulesets.current.sampler, self.buffer.tally)
        self.told.tell(found.kept, found.ended)
        if found.ended:
            await self.memories.drop(found.ended)
            await self.settled.send(found.ended)
        if found.kept:
            await self.kept.send(found.kept)

    def lacks_spans(self, trace: Trace, enforcer: Enforcer | None) -> bool:
        """Whether parked spans of the trace are needed, for the decision or because the trace is kept."""
        if not trace.is_parked():
            return False
        if (
            trace.decision is not None
        ):  # late spans of a trace that another replica decided; if kept, the parked ones have to be sent
            return trace.decision.keeps
        if self.observers:
            return True
        if trace.reason is Reason.TOO_LARGE:  # dropped, whatever its spans are
            return False
        if self.judge.lacks_spans(trace) or (enforcer is not None and not enforcer.knows(trace)):
            return True
        sampler = self.judge.of(trace)
        if sampler is None:
            return False
        forced = None if enforcer is None else enforcer.decide(trace, sampler)
        return (sampler.foresee(trace) if forced is None else forced).keeps

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kept.close()
        self.settled.close()


async def run(
    closed: trio.MemoryReceiveChannel[list[Trace]],
    deciding: Deciding,
    lacking: trio.MemorySendChannel[list[Trace]] | None = None,
) -> None:
    """Until the channel ends. Several evaluators may run. They vote in closing order, whatever their questions to Redis take.

    Traces that lack parked spans go to ``lacking``, undecided, so that no other trace waits for Redis.
    """
    with closed, deciding:
        while True:
            try:
                batch, turn = await deciding.turns.receive(closed)
            except trio.EndOfChannel:
                break
            recalled = await deciding.memories.recall(await deciding.ruled(batch))
            await turn.come()
            enforcer = deciding.enforcer()
            whole = recalled if lacking is None else _without_lacking(recalled, deciding, enforcer, lacking)
            turn.over()  # `decide` votes before its first checkpoint
            await deciding.decide(whole, enforcer)
    if lacking is not None:
        lacking.close()


def _without_lacking(
    batch: list[Trace], deciding: Deciding, enforcer: Enforcer | None, lacking: trio.MemorySendChannel[list[Trace]]
) -> list[Trace]:
    found = [trace for trace in batch if deciding.lacks_spans(trace, enforcer)]
    if not found:
        return batch
    lacking.send_nowait(found)  # never blocks: all closed traces together are bounded in bytes (closed_bytes)
    return [trace for trace in batch if not trace.is_parked() or trace not in found]


def _show(found: Evaluated, meter: Meter) -> None:
    for decision, count in found.decided.items():
        policy, verdict = decision.policy, decision.verdict.value
        if decision.rule is not None:
            policy = FORCE
            meter.count(measures.FORCED, count, decision.rule, verdict)
        meter.count(measures.DECISIONS, count, policy, verdict, decision.reason.value)
    for (policy, keeps, would_keep), count in found.shadowed.items():
        verdict, would = (Verdict.KEEP.value if each else Verdict.DROP.value for each in (keeps, would_keep))
        meter.count(measures.SHADOW_DECISIONS, count, policy, verdict, would)
    for why, count in found.unknown.items():
        meter.count(measures.UNKNOWN_RULES, count, why)
    for decision, count in found.decided_spans.items():
        meter.count(measures.DECIDED_SPANS, count, decision.verdict.value)
    for decision, count in found.late_spans.items():
        meter.count(measures.LATE_SPANS, count, decision.verdict.value)
    meter.observe_all(measures.DECISION_DELAY, found.delays_secs)
