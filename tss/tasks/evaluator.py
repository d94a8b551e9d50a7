"""Decides closed traces: the kept go to the exporter, the dropped straight to the committer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import structlog
import trio

from tss.core import measures
from tss.core.buffer import Buffer
from tss.core.evaluation import Evaluated, evaluate, observe
from tss.core.force import POLICY, Rulebook
from tss.core.measures import Meter
from tss.core.sampling import Sampler
from tss.core.statistics import SpanObserver
from tss.core.trace import Trace
from tss.tasks.sharing import Memories

log = structlog.get_logger()


async def run(
    closed: trio.MemoryReceiveChannel[list[Trace]],
    kept: trio.MemorySendChannel[list[Trace]],
    settled: trio.MemorySendChannel[list[Trace]],
    sampler: Sampler,
    buffer: Buffer,
    observers: Sequence[SpanObserver],
    meter: Meter,
    memories: Memories,
    rulebook: Rulebook,
    clock: Callable[[], float] = time.time,
) -> None:
    """Until the channel ends. Several of these may run: a trace and what comes late of it meet in the buffer.

    Force rules count by the wall clock, as they are an operator's hand in what happens now and nothing of the log's.
    """
    with closed, kept, settled:
        async for batch in closed:
            recalled = await memories.recall(batch)
            enforcer = None if rulebook.is_empty else rulebook.active(clock())
            found = evaluate(recalled, sampler, buffer, enforcer)
            if observers:
                observe(found, observers, _could_not_count)
            _show(found, meter)
            if found.ended:
                await memories.drop(found.ended)
                await settled.send(found.ended)
            if found.kept:
                await kept.send(found.kept)


def _could_not_count(observer: SpanObserver, error: Exception) -> None:
    log.error("a trace could not be counted", observer=repr(observer), reason=repr(error), exc_info=error)


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
