"""Decides closed traces: the kept go to the exporter, the dropped straight to the committer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import attrs
import trio

from tss.core import measures
from tss.core.buffer import Buffer
from tss.core.evaluation import Evaluated, evaluate, observe, observe_late_dropped
from tss.core.force import POLICY, Enforcer, Rulebook
from tss.core.formats.apm_stats import SpanObserver
from tss.core.measures import Meter
from tss.core.sampling import Sampler
from tss.core.trace import Trace
from tss.state.debug_lines import DecisionLines
from tss.state.sharing import ALONE, Memories
from tss.state.uncounted import Uncounted


@attrs.frozen
class Deciding:
    """What it takes to decide a batch, and where it goes then. Leaving it closes its ends of the channels."""

    kept: trio.MemorySendChannel[list[Trace]]
    settled: trio.MemorySendChannel[list[Trace]]
    sampler: Sampler
    buffer: Buffer
    observers: Sequence[SpanObserver]
    meter: Meter
    memories: Memories = ALONE
    rulebook: Rulebook = attrs.field(factory=Rulebook)
    clock: Callable[[], float] = time.time
    told: DecisionLines = attrs.field(factory=DecisionLines)
    uncounted: Uncounted = attrs.field(default=attrs.Factory(lambda self: Uncounted(self.meter), takes_self=True))

    def enforcer(self) -> Enforcer | None:
        """What enforces the force rules, while there are any.

        They count by the wall clock, as they are an operator's hand in what happens now and nothing of the log's.
        """
        return None if self.rulebook.is_empty else self.rulebook.active(self.clock())

    async def decide(self, batch: Sequence[Trace], enforcer: Enforcer | None) -> None:
        """Decide these, whose spans are all here."""
        if self.observers:  # first: the recall has just let go of the bytes of what another has dropped (law 5)
            observe_late_dropped(self.buffer.take_late_dropped(), self.observers, self.uncounted)
        found = evaluate(batch, self.sampler, self.buffer, enforcer)
        if self.observers:
            observe(found, self.observers, self.uncounted)
        _show(found, self.meter)
        self.told.tell(found.kept, found.ended)
        if found.ended:
            await self.memories.drop(found.ended)
            await self.settled.send(found.ended)
        if found.kept:
            await self.kept.send(found.kept)

    def lacks_spans(self, trace: Trace, enforcer: Enforcer | None) -> bool:
        """Whether spans are needed of it, now or when it is kept, that are parked."""
        if not trace.is_parked():
            return False
        if trace.decision is not None:  # late, by a decision of another, and what is parked has yet to go out
            return trace.decision.keeps
        return trace.unlooked or bool(self.observers) or enforcer is not None or self.sampler.decide(trace).keeps

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kept.close()
        self.settled.close()


async def run(
    closed: trio.MemoryReceiveChannel[list[Trace]],
    deciding: Deciding,
    aside: trio.MemorySendChannel[list[Trace]] | None = None,
) -> None:
    """Until the channel ends. Several of these may run: a trace and what comes late of it meet in the buffer.

    What lacks parked spans is put aside, undecided, so that nothing else waits until they are here.
    """
    with closed, deciding:
        async for batch in closed:
            recalled = await deciding.memories.recall(batch)
            enforcer = deciding.enforcer()
            whole = recalled if aside is None else _put_aside(recalled, deciding, enforcer, aside)
            await deciding.decide(whole, enforcer)
    if aside is not None:
        aside.close()


def _put_aside(
    batch: list[Trace], deciding: Deciding, enforcer: Enforcer | None, aside: trio.MemorySendChannel[list[Trace]]
) -> list[Trace]:
    lacking = [trace for trace in batch if deciding.lacks_spans(trace, enforcer)]
    if not lacking:
        return batch
    aside.send_nowait(lacking)  # as many as there are: they are bounded in bytes, as all that is closed
    return [trace for trace in batch if not trace.is_parked() or trace not in lacking]


def _show(found: Evaluated, meter: Meter) -> None:
    for decision, count in found.decided.items():
        policy, verdict = decision.policy, decision.verdict.value
        if policy.startswith(f"{POLICY}:"):
            policy, _, rule = policy.partition(":")
            meter.count(measures.FORCED, count, rule, verdict)
        meter.count(measures.DECISIONS, count, policy, verdict, decision.reason.value)
    for decision, count in found.decided_spans.items():
        meter.count(measures.DECIDED_SPANS, count, decision.verdict.value)
    for decision, count in found.late_spans.items():
        meter.count(measures.LATE_SPANS, count, decision.verdict.value)
    meter.observe_all(measures.DECISION_DELAY, found.delays_secs)
