"""Decides closed traces: the kept go to the exporter, the dropped straight to the committer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import structlog
import trio

from tss.core import measures
from tss.core.buffer import Buffer
from tss.core.measures import Meter
from tss.core.sampling import Sampler
from tss.core.trace import Trace

log = structlog.get_logger()


async def run(
    closed: trio.MemoryReceiveChannel[list[Trace]],
    kept: trio.MemorySendChannel[list[Trace]],
    settled: trio.MemorySendChannel[list[Trace]],
    sampler: Sampler,
    buffer: Buffer,
    meter: Meter,
) -> None:
    """Until the channel ends. Several of these may run: a trace and what comes late of it meet in the buffer."""
    with closed, kept, settled:
        async for batch in closed:
            decided = [each for trace in batch for each in _decide(trace, sampler, buffer)]
            _show(decided, meter)
            keep = [trace for trace in decided if trace.pieces and trace.decision and trace.decision.keeps]
            rest = [trace for trace in decided if not (trace.pieces and trace.decision and trace.decision.keeps)]
            if rest:
                await settled.send(rest)
            if keep:
                await kept.send(keep)


def _decide(trace: Trace, sampler: Sampler, buffer: Buffer) -> list[Trace]:
    """The trace and what waited for its decision; a late fragment of a kept trace has it already."""
    if trace.decision is not None:
        return [trace]
    return buffer.decided(trace, sampler.decide(trace))


def _show(decided: Sequence[Trace], meter: Meter) -> None:
    counts: Counter[tuple[str, str, str]] = Counter()
    spans: Counter[str] = Counter()
    late: Counter[str] = Counter()
    delays: list[float] = []
    for trace in decided:
        decision = trace.decision
        if decision is None or not trace.pieces:
            continue  # decided and settled before this start; decided again only to be remembered
        if trace.late:
            late[decision.verdict.value] += trace.spans
            continue
        counts[decision.policy, decision.verdict.value, decision.reason.value] += 1
        spans[decision.verdict.value] += trace.sent_spans
        if trace.first_ms is not None and trace.closed_ms is not None:
            delays.append((trace.closed_ms - trace.first_ms) / 1000)
    for (policy, verdict, reason), count in counts.items():
        meter.count(measures.DECISIONS, count, policy, verdict, reason)
    for verdict, count in spans.items():
        meter.count(measures.DECIDED_SPANS, count, verdict)
    for verdict, count in late.items():
        meter.count(measures.LATE_SPANS, count, verdict)
    for delay in delays:
        meter.observe(measures.DECISION_DELAY, delay)
