"""From the settings to the objects that the tasks of one selection share."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import attrs
import trio

from tss.core import measures
from tss.core.buffer import Buffer, Waits
from tss.core.combining import Sampler
from tss.core.conditions.program import Program
from tss.core.health import Health
from tss.core.judging import Judge
from tss.core.measures import Meter
from tss.core.memory import Memory
from tss.core.policies import policies
from tss.core.preparing import Preparation
from tss.core.routing import Match, Router
from tss.core.ruleset import Change, Ruleset
from tss.core.tally import Tally
from tss.core.trace import Trace
from tss.daemon import snapshot
from tss.daemon.outside import Outside, limits
from tss.daemon.stopping import StopTimes
from tss.settings import (
    DatadogExporter,
    Sampling,
    Settings,
    SettingsError,
    TraceExporter,
    canonical,
    fingerprint_of,
    sampling_of,
    text_of,
)
from tss.settings.sections.sampling import FIRST
from tss.state.assignments import Assignments
from tss.state.debug_lines import DecisionLines
from tss.state.keying import Keying
from tss.state.lane import Lane
from tss.state.pausing import Pausing
from tss.state.rulesets import Rulesets, Texts
from tss.state.sharing import ALONE, Memories, SharedMemories
from tss.state.turns import Turns
from tss.tasks.evaluator import Deciding
from tss.tasks.parker import Parker

Batches = trio.MemorySendChannel[list[Trace]]


@attrs.frozen
class Parts:
    """What the tasks of one selection share."""

    outside: Outside
    times: StopTimes
    buffer: Buffer
    rulesets: Rulesets
    assignments: Assignments
    memories: Memories
    lanes: Sequence[Lane]
    keying: Keying
    pausing: Pausing
    preparation: Preparation
    parker: Parker | None  # None: nothing is parked
    decisions: DecisionLines = attrs.field(factory=DecisionLines)
    turns: Turns = attrs.field(factory=Turns)

    def deciding(self, *, kept: Batches, settled: Batches) -> Deciding:
        """All that a task needs to decide; it owns these ends of the channels."""
        return Deciding(
            kept=kept,
            settled=settled,
            judge=Judge(self.buffer, self.rulesets.choose),
            rulesets=self.rulesets,
            buffer=self.buffer,
            observers=self.outside.observers,
            meter=self.outside.meter,
            memories=self.memories,
            rulebook=self.outside.rulebook,
            clock=time.time,
            told=self.decisions,
            turns=self.turns,
        )


def wire(settings: Settings, outside: Outside) -> Parts:
    """Make the parts, and show their gauges."""
    app, meter, health, sharing = settings.app, outside.meter, outside.health, outside.sharing
    rulesets = outside.rulesets or rulesets_of(settings, meter)
    observed = bool(outside.observers)
    buffer = _buffer(settings, rulesets.program, outside.tally, shared=sharing is not None, observed=observed)
    buffer.row_queues = outside.row_queues
    assignments = _assignments(settings, outside, buffer, rulesets)
    lanes = _lanes(settings, outside)
    outside.traces.begin(buffer, assignments)
    _watch(buffer, assignments, meter, health)
    return Parts(
        outside=outside,
        times=StopTimes.of(app.shutdown_timeout_secs, app.graceful_shutdown, parks=outside.parking is not None),
        buffer=buffer,
        rulesets=rulesets,
        assignments=assignments,
        memories=SharedMemories(sharing, buffer, meter) if sharing else ALONE,
        lanes=lanes,
        keying=Keying(meter, health, rekeyed=settings.kafka.rekey.enabled),
        pausing=Pausing(health, meter, [lane.standing for lane in lanes]),
        preparation=Preparation(settings.span_compression, weights=_weighs(settings)),
        parker=_parker(settings, outside, buffer, assignments),
    )


def _weighs(settings: Settings) -> bool:
    """Whether to write weights on the spans. Datadog's own formats have a field for them, which is always filled."""
    exporters = settings.effective_exporters
    return settings.sampling.weights and not all(
        isinstance(each, DatadogExporter) and each.via != "otlp" for each in exporters
    )


def _buffer(settings: Settings, program: Program, tally: Tally, *, shared: bool, observed: bool) -> Buffer:
    bounds = limits(settings)
    memory = Memory.within(bounds.memory_bytes, settings.app.decision_memory_secs, shared=shared)
    return Buffer(bounds, waits_of(settings), memory, observed=observed, program=program, tally=tally)


def waits_of(settings: Settings) -> Waits:
    """How long traces stay open, from the settings."""
    app, plan = settings.app, settings.sampling.plan
    return Waits(
        round(app.root_quiet_secs * 1000),
        round(app.inactivity_timeout_secs * 1000),
        round(app.max_trace_duration_secs * 1000),
        0 if plan is None else plan.decision_wait_ms,
        0 if plan is None else plan.root_wait_ms,
    )


def sampler_of(settings: Settings) -> Sampler:
    """What decides, from the settings."""
    return ruleset_of(settings.sampling, settings.effective_exporters).sampler


def ruleset_of(sampling: Sampling, exporters: Sequence[TraceExporter]) -> Ruleset:
    """The ruleset of a section; kept traces go to these destinations."""
    sampling = canonical(sampling)  # a replica that reads the text has to make the same
    return Ruleset(fingerprint_of(sampling), text_of(sampling), _sampler(sampling, exporters))


def _sampler(sampling: Sampling, exporters: Sequence[TraceExporter]) -> Sampler:
    matches = {each.name: Match(**each.match) for each in exporters}
    plan = sampling.plan
    if plan is not None:
        return plan.sampler(Router(matches))
    return Sampler(policies(sampling), Router(matches), first=sampling.combine == FIRST)


def rulesets_of(settings: Settings, meter: Meter, texts: Texts | None = None) -> Rulesets:
    """The rulesets of a daemon that starts with these settings. ``texts`` has those that decided before."""
    sampling, exporters = settings.sampling, settings.effective_exporters
    first = ruleset_of(sampling, exporters)

    def read(text: str) -> Ruleset | None:
        try:
            return ruleset_of(sampling_of(text, sampling), exporters)
        except SettingsError:
            return None

    return Rulesets(first, Change(first.fingerprint, 1, time.time()), meter, texts, read)


def _assignments(settings: Settings, outside: Outside, buffer: Buffer, rulesets: Rulesets) -> Assignments:
    assignments = Assignments(
        settings.kafka.input_topic,
        buffer,
        outside.meter,
        max_skew_ms=round(settings.app.max_clock_skew_secs * 1000),
        replay_secs=round(settings.app.replay_secs),
        commits=settings.kafka.enable_auto_commit,
        clock_ms=outside.clock_ms,
        wall_secs=outside.wall_secs,
        rulesets=rulesets,
        rules=lambda: outside.rulebook.program,
    )
    outside.crew.on_death(assignments.distrust)
    return assignments


def _lanes(settings: Settings, outside: Outside) -> list[Lane]:
    lanes = [
        Lane(
            topic=settings.kafka.input_topic,
            destination=destination,
            dead_letters=outside.dead_letters,
            health=outside.health,
            meter=outside.meter,
            chance=outside.chance,
        )
        for destination in outside.destinations
    ]
    outside.lanes.update({lane.destination.name: lane for lane in lanes})
    return lanes


def _parker(settings: Settings, outside: Outside, buffer: Buffer, assignments: Assignments) -> Parker | None:
    if outside.parking is None:
        return None
    outside.meter.watch(measures.PARKED_TRACES, lambda: sum(len(each.shelf or ()) for each in assignments))
    return Parker(
        parking=outside.parking,
        buffer=buffer,
        assignments=assignments,
        meter=outside.meter,
        after_ms=round(settings.app.park_after_secs * 1000),
        make_token=lambda: f"{outside.chance.getrandbits(64):016x}",
    )


def _held(buffer: Buffer, kind: str) -> int:
    return buffer.held_by_kind()[kind]


def _watch(buffer: Buffer, assignments: Assignments, meter: Meter, health: Health) -> None:
    bounds, memory = buffer.limits, buffer.memory
    meter.watch(measures.BUFFER_TRACES, lambda: buffer.open_traces)
    meter.watch(measures.BUFFER_SPANS, lambda: buffer.open_spans)
    meter.watch(measures.BUFFER_BYTES, lambda: buffer.held_bytes)
    for kind in buffer.held_by_kind():
        meter.watch(measures.HELD_BYTES, partial(_held, buffer, kind), kind)
    meter.watch(measures.MEMORY_REACH, buffer.reach_secs)
    meter.watch(measures.LOG_REACH, lambda: buffer.log.reach_secs(time.time()))
    meter.watch(measures.TIME_AHEAD, lambda: buffer.ahead_secs(round(time.time() * 1000)))
    meter.watch(measures.MEMORY_KEPT, lambda: memory.kept)
    meter.watch(measures.MEMORY_DROPPED, lambda: memory.dropped)
    meter.set(measures.BUFFER_TRACES_LIMIT, bounds.max_traces)
    meter.set(measures.BUFFER_SPANS_LIMIT, bounds.max_spans)
    meter.set(measures.BUFFER_BYTES_LIMIT, bounds.max_bytes)
    health.details["partition_states"] = lambda: snapshot.partitions(assignments)
    health.numbers |= {
        "openTraces": lambda: buffer.open_traces,
        "openSpans": lambda: buffer.open_spans,
        "tracesOnTwoPartitions": lambda: buffer.on_two_partitions,
        "heldBytes": lambda: buffer.held_bytes,
        "partitions": lambda: len(assignments),
        "uncommittedRecords": lambda: sum(each.ledger.uncommitted for each in assignments),
    }
