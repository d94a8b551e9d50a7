"""Decides closed traces: the kept go to the exporter, the dropped straight to the committer."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
import trio

from tss.core import measures
from tss.core.buffer import Buffer
from tss.core.evaluation import Evaluated, evaluate
from tss.core.measures import Meter
from tss.core.sampling import Sampler
from tss.core.statistics import SpanObserver
from tss.core.trace import Trace

log = structlog.get_logger()


async def run(
    closed: trio.MemoryReceiveChannel[list[Trace]],
    kept: trio.MemorySendChannel[list[Trace]],
    settled: trio.MemorySendChannel[list[Trace]],
    sampler: Sampler,
    buffer: Buffer,
    observers: Sequence[SpanObserver],
    meter: Meter,
) -> None:
    """Until the channel ends. Several of these may run: a trace and what comes late of it meet in the buffer."""
    with closed, kept, settled:
        async for batch in closed:
            found = evaluate(batch, sampler, buffer)
            _observe(found, observers)
            _show(found, meter)
            if found.ended:
                await settled.send(found.ended)
            if found.kept:
                await kept.send(found.kept)


def _observe(found: Evaluated, observers: Sequence[SpanObserver]) -> None:
    """Show every span once, kept or dropped, while it is as it came: what is counted of the sample would not be true."""
    if not observers:
        return
    for traces, kept in ((found.kept, True), (found.ended, False)):
        for trace in traces:
            if trace.is_held():
                chunks = trace.chunks()
                for observer in observers:
                    _show_to(observer, trace.trace_id, chunks, kept)


def _show_to(observer: SpanObserver, trace_id: bytes, chunks: list[bytes], kept: bool) -> None:
    """A trace that cannot be counted is no reason to end: it would be read again, and end every start after this one."""
    try:
        observer.add(trace_id, chunks, kept)
    except Exception as error:
        log.exception("a trace could not be counted", observer=repr(observer), reason=repr(error))


def _show(found: Evaluated, meter: Meter) -> None:
    for decision, count in found.decided.items():
        meter.count(measures.DECISIONS, count, decision.policy, decision.verdict.value, decision.reason.value)
    for decision, count in found.decided_spans.items():
        meter.count(measures.DECIDED_SPANS, count, decision.verdict.value)
    for decision, count in found.late_spans.items():
        meter.count(measures.LATE_SPANS, count, decision.verdict.value)
    meter.observe_all(measures.DECISION_DELAY, found.delays_secs)
