"""Decides closed traces: the kept go to the exporter, the dropped straight to the committer."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import attrs
import structlog
import trio

from tss.core import measures
from tss.core.buffer import Buffer
from tss.core.evaluation import Evaluated, evaluate, observe
from tss.core.measures import Meter
from tss.core.sampling import Sampler
from tss.core.statistics import SpanObserver
from tss.core.trace import Trace

log = structlog.get_logger()


@attrs.frozen
class Deciding:
    """What it takes to decide a batch, and where it goes then. Leaving it closes its ends of the channels."""

    kept: trio.MemorySendChannel[list[Trace]]
    settled: trio.MemorySendChannel[list[Trace]]
    sampler: Sampler
    buffer: Buffer
    observers: Sequence[SpanObserver]
    meter: Meter

    async def decide(self, batch: Sequence[Trace]) -> None:
        """Decide these, whose spans are all here."""
        found = evaluate(batch, self.sampler, self.buffer)
        if self.observers:
            observe(found, self.observers, _could_not_count)
        _show(found, self.meter)
        if found.ended:
            await self.settled.send(found.ended)
        if found.kept:
            await self.kept.send(found.kept)

    def lacks_spans(self, trace: Trace) -> bool:
        """Whether spans are needed of it, now or when it is kept, that are parked."""
        if not trace.is_parked() or trace.decision is not None:
            return False
        return bool(self.observers) or self.sampler.decide(trace).keeps

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kept.close()
        self.settled.close()


async def run(
    closed: trio.MemoryReceiveChannel[list[Trace]],
    kept: trio.MemorySendChannel[list[Trace]],
    settled: trio.MemorySendChannel[list[Trace]],
    sampler: Sampler,
    buffer: Buffer,
    observers: Sequence[SpanObserver],
    meter: Meter,
    aside: trio.MemorySendChannel[list[Trace]] | None = None,
) -> None:
    """Until the channel ends. Several of these may run: a trace and what comes late of it meet in the buffer.

    What lacks parked spans is put aside, undecided, so that nothing else waits until they are here.
    """
    with closed, Deciding(kept, settled, sampler, buffer, observers, meter) as deciding:
        async for batch in closed:
            whole = batch if aside is None else _put_aside(batch, deciding, aside)
            await deciding.decide(whole)
    if aside is not None:
        aside.close()


def _put_aside(
    batch: Sequence[Trace], deciding: Deciding, aside: trio.MemorySendChannel[list[Trace]]
) -> Sequence[Trace]:
    lacking = [trace for trace in batch if deciding.lacks_spans(trace)]
    if not lacking:
        return batch
    aside.send_nowait(lacking)  # as many as there are: they are bounded in bytes, as all that is closed
    return [trace for trace in batch if not trace.is_parked() or trace not in lacking]


def _could_not_count(observer: SpanObserver, error: Exception) -> None:
    log.error("a trace could not be counted", observer=repr(observer), reason=repr(error), exc_info=error)


def _show(found: Evaluated, meter: Meter) -> None:
    for decision, count in found.decided.items():
        meter.count(measures.DECISIONS, count, decision.policy, decision.verdict.value, decision.reason.value)
    for decision, count in found.decided_spans.items():
        meter.count(measures.DECIDED_SPANS, count, decision.verdict.value)
    for decision, count in found.late_spans.items():
        meter.count(measures.LATE_SPANS, count, decision.verdict.value)
    meter.observe_all(measures.DECISION_DELAY, found.delays_secs)
