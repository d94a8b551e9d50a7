"""A batch of closed traces to verdicts, with what the metrics need to know of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import attrs

from tss.core.buffer import Buffer
from tss.core.decision import Decision
from tss.core.formats.apm_stats import SpanObserver
from tss.core.sampling.combine import Sampler
from tss.core.trace import Trace

if TYPE_CHECKING:
    from tss.core.force import Enforcer


@attrs.define(eq=False)
class Evaluated:
    """A batch decided. Traces that hold nothing were decided and settled before this start: nothing counts them."""

    kept: list[Trace] = attrs.field(factory=list)  # with something to send
    ended: list[Trace] = attrs.field(factory=list)  # all others
    decided: dict[Decision, int] = attrs.field(factory=dict)  # traces
    decided_spans: dict[Decision, int] = attrs.field(factory=dict)
    late_spans: dict[Decision, int] = attrs.field(factory=dict)
    delays_secs: list[float] = attrs.field(factory=list)  # stream time from the first record to the decision

    def count(self, decision: Decision | None, traces: int, spans: int) -> None:
        """Add these."""
        if decision is not None:
            self.decided[decision] = self.decided.get(decision, 0) + traces
            self.decided_spans[decision] = self.decided_spans.get(decision, 0) + spans


def evaluate(batch: Sequence[Trace], sampler: Sampler, buffer: Buffer, enforcer: Enforcer | None = None) -> Evaluated:
    """Decide each trace, and what waited for its decision; a late fragment of a kept trace has it already.

    ``enforcer`` is what enforces the force rules, while any is active: they go before the policies.
    """
    found = Evaluated()
    kept, ended, delays = found.kept, found.ended, found.delays_secs
    last, traces, spans = None, 0, 0  # of one decision after another most are the same
    for trace in batch:
        if trace.decision is None:
            decision = None if enforcer is None else enforcer.decide(trace, sampler)
            together = buffer.decided(trace, sampler.decide(trace) if decision is None else decision)
        else:
            together = [trace]
        for each in together:
            if each.decision is None or not each.is_held():
                ended.append(each)
                continue
            if each.decision.keeps:
                kept.append(each)
            else:
                ended.append(each)
            if each.late:
                found.late_spans[each.decision] = found.late_spans.get(each.decision, 0) + each.held_spans
                continue
            if each.decision is not last:
                found.count(last, traces, spans)
                last, traces, spans = each.decision, 0, 0
            traces += 1
            spans += each.held_spans
            if each.first_ms >= 0 and each.closed_ms >= 0:
                delays.append((each.closed_ms - each.first_ms) / 1000)
    found.count(last, traces, spans)
    return found


def observe(
    found: Evaluated, observers: Sequence[SpanObserver], failed: Callable[[SpanObserver, Exception], None]
) -> None:
    """Show every span once, kept or dropped, while it is as it came: what is counted of the sample would not be true.

    A trace that cannot be counted is told to ``failed``. It is no reason to end: it would be read again, and end every
    start after this one.
    """
    for traces, kept in ((found.kept, True), (found.ended, False)):
        for trace in traces:
            if trace.is_held():
                _show(trace.trace_id, trace.chunks(), kept, observers, failed)


def observe_late_dropped(
    late: Sequence[tuple[bytes, list[bytes]]],
    observers: Sequence[SpanObserver],
    failed: Callable[[SpanObserver, Exception], None],
) -> None:
    """The same for late spans of dropped traces (see ``Buffer.take_late_dropped``)."""
    for trace_id, chunks in late:
        _show(trace_id, chunks, False, observers, failed)


def _show(
    trace_id: bytes,
    chunks: list[bytes],
    kept: bool,
    observers: Sequence[SpanObserver],
    failed: Callable[[SpanObserver, Exception], None],
) -> None:
    for observer in observers:
        try:
            observer.add(trace_id, chunks, kept)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is this trace's alone
            failed(observer, error)
