"""Decides a batch of closed traces, and counts the decisions for the metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import attrs

from tss.core.buffer import Buffer
from tss.core.combining import Sampler
from tss.core.decision import Decision, Reason, Verdict
from tss.core.decision_log import REPLAYED, RESTED, UNASKED, DecisionLog
from tss.core.formats.apm_stats import SpanObserver
from tss.core.judging import Judge
from tss.core.policies.policy import Policy
from tss.core.tally import Tally
from tss.core.trace import Trace

if TYPE_CHECKING:
    from tss.core.force import Enforcer

TOO_LARGE = Decision(Verdict.DROP, "maximum_trace_size_bytes", Reason.TOO_LARGE, 0.0)
"""The decision about every trace that is too large. It comes before force rules and policies."""
_TOO_LARGE = Reason.TOO_LARGE  # a global, because an attribute of an enum costs more and each trace asks
RULES_UNKNOWN = "unknown_rules"
"""The policy of a decision that no ruleset made."""
UNKNOWN_RULES = {reason: Decision(Verdict.DROP, RULES_UNKNOWN, reason, 0.0, weighted=False) for reason in Reason}
"""By reason, the decision about a trace that an earlier owner of its partition may have decided by rules that are not known
here. No replica remembers its decision, so it is dropped."""


@attrs.define(eq=False)
class Evaluated:
    """The decisions about a batch. A trace that holds no record is not counted: it was settled before this start."""

    kept: list[Trace] = attrs.field(factory=list)  # with spans to send
    ended: list[Trace] = attrs.field(factory=list)  # all other traces
    decided: dict[Decision, int] = attrs.field(factory=dict)  # traces
    decided_spans: dict[Decision, int] = attrs.field(factory=dict)
    decided_bytes: dict[Decision, int] = attrs.field(factory=dict)
    late_spans: dict[Decision, int] = attrs.field(factory=dict)
    late_bytes: dict[Decision, int] = attrs.field(factory=dict)
    shadowed: dict[tuple[str, bool, bool], int] = attrs.field(factory=dict)
    """Traces by a shadow policy that votes on them, whether they are kept, and whether they would be if it acted."""
    unknown: dict[str, int] = attrs.field(factory=dict)
    """Traces without a decision of their own, by what was missing: see `Judge.why`."""
    samplers: dict[Sampler, None] = attrs.field(factory=dict)  # of other rulesets than the one in force
    delays_secs: list[float] = attrs.field(factory=list)  # stream time from the first record to the closing

    def count(self, decision: Decision | None, traces: int, spans: int, size: int) -> None:
        """Add these traces, spans and bytes to the counts of the decision. None: nothing to add."""
        if decision is not None:
            self.decided[decision] = self.decided.get(decision, 0) + traces
            self.decided_spans[decision] = self.decided_spans.get(decision, 0) + spans
            self.decided_bytes[decision] = self.decided_bytes.get(decision, 0) + size

    def add_to(self, tally: Tally) -> None:
        """Add what was decided to the counts by policy."""
        for decision, count in self.decided.items():
            tally.count(decision, count, self.decided_spans[decision], self.decided_bytes[decision])
        for decision, count in self.late_spans.items():
            tally.count(decision, 0, count, self.late_bytes[decision])

    def count_shadows(self, shadowed: Sequence[tuple[str, bool]], keeps: bool) -> None:
        """Add a trace to the counts of the shadow policies that vote on it."""
        for policy, would_keep in shadowed:
            key = policy, keeps, would_keep
            self.shadowed[key] = self.shadowed.get(key, 0) + 1


def evaluate(
    batch: Sequence[Trace],
    sampler: Sampler,
    buffer: Buffer,
    enforcer: Enforcer | None = None,
    judge: Judge | None = None,
) -> Evaluated:
    """Decide each trace, and the late fragments that wait for its decision. Other late spans have a decision already.

    ``enforcer`` applies the force rules, which come before the policies; None if no rule is active. ``judge`` chooses the
    sampler of each trace; None: it is ``sampler``.
    """
    found = Evaluated()
    log = buffer.log
    kept, ended, delays = found.kept, found.ended, found.delays_secs
    tally = buffer.tally
    # Counted in runs, because mostly a trace has the same decision as the one before.
    last, traces, spans, size = None, 0, 0, 0
    for trace in batch:
        if trace.decision is None:
            together = buffer.decided(trace, _decide(trace, sampler, enforcer, judge, found, log))
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
            tally.decided(each)
            if each.late:
                log.late(each.trace_id, each.held_spans)
                found.late_spans[each.decision] = found.late_spans.get(each.decision, 0) + each.held_spans
                found.late_bytes[each.decision] = found.late_bytes.get(each.decision, 0) + each.payload_bytes
                continue
            if each.decision is not last:
                found.count(last, traces, spans, size)
                last, traces, spans, size = each.decision, 0, 0, 0
            traces += 1
            spans += each.held_spans
            size += each.payload_bytes
            if each.first_ms >= 0 and each.closed_ms >= 0:
                delays.append((each.closed_ms - each.first_ms) / 1000)
    found.count(last, traces, spans, size)
    found.add_to(tally)
    for used in (sampler, *found.samplers):
        tally.take_votes(used.policies)
    return found


def _decide(
    trace: Trace,
    sampler: Sampler,
    enforcer: Enforcer | None,
    judge: Judge | None,
    found: Evaluated,
    log: DecisionLog,
) -> Decision:
    held = trace.is_held()
    marks = 0 if held else REPLAYED | (RESTED if _may_be_a_rest(trace) else 0)
    if trace.reason is _TOO_LARGE:
        log.add(trace, TOO_LARGE, sampler, marks | UNASKED)
        return TOO_LARGE
    if judge is not None:
        chosen = judge.of(trace)
        if chosen is None:
            found.unknown[judge.why] = found.unknown.get(judge.why, 0) + 1
            unknown = UNKNOWN_RULES[trace.reason or Reason.OTHER]
            log.add(trace, unknown, sampler, marks | UNASKED)
            return unknown
        if chosen is not sampler:
            found.samplers[chosen] = None
        sampler = chosen
    forced = None if enforcer is None else enforcer.decide(trace, sampler)
    # Also if a rule decides, because the log has the votes of all policies.
    decision = sampler.decide(trace) if held else sampler.foresee(trace)
    if forced is not None:
        log.add(trace, forced, sampler, marks)
        return forced
    log.add(trace, decision, sampler, marks)
    if sampler.shadows and held:
        found.count_shadows(sampler.shadowed(trace), decision.keeps)
    return decision


def _may_be_a_rest(trace: Trace) -> bool:
    """Whether records of a trace in the replay may have been parked: these are not read again if the trace was long."""
    home = trace.home
    if home.shelf is None:
        return False
    return not trace.is_complete() or trace.closed_ms - trace.start_ns // 1_000_000 > 1000 * home.replay.secs


def vote_again(policy: Policy, traces: list[Trace]) -> None:
    """Ask a policy for its votes on these decided traces, to measure how long it takes."""
    for trace in traces:
        policy.vote(trace)


def observe(
    found: Evaluated, observers: Sequence[SpanObserver], failed: Callable[[SpanObserver, Exception], None]
) -> None:
    """Show every span to the observers once, kept or dropped, before it is rewritten.

    Counts of the kept spans alone would be wrong (law 7). If an observer cannot count a trace, ``failed`` is called and
    the daemon goes on. If it ended, it would read the same trace after each restart, and end again.
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
    """Show late spans of dropped traces to the observers (see ``Buffer.take_late_dropped``)."""
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
        except Exception as error:  # noqa: BLE001  # any error concerns only this trace
            failed(observer, error)
