"""Every channel, every nursery and the order of stopping: one screen to understand the daemon."""

from __future__ import annotations

import math
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from functools import partial
from typing import Protocol, TypeVar

import attrs
import structlog
import trio

from tss import __version__, snapshot
from tss.core import measures
from tss.core.alignment import Alignment
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.errors import StoppedAtOnce, WrongSetting
from tss.core.force import Rulebook
from tss.core.formats.apm_stats import SpanObserver
from tss.core.health import Health, State
from tss.core.measures import Meter
from tss.core.memory import Memory
from tss.core.otlp import SCANNER, Lookup
from tss.core.preparing import Preparation
from tss.core.routing import Match, Router
from tss.core.sampling import Sampler, policies
from tss.core.trace import Trace
from tss.counting import open_counting
from tss.edges import heap, logs, signals
from tss.edges.dead_letters.writer import open_dead_letters
from tss.edges.destinations import open_destination
from tss.edges.kafka.retention import TopicRetention
from tss.edges.kafka.scaler import scaler_group
from tss.edges.kafka.source import KafkaSource
from tss.edges.kafka_client.config import client_config
from tss.edges.kafka_output.output_topic import KafkaTopic, open_topic
from tss.edges.kafka_output.rekey_topic import keyed_settings, open_rekey, source_settings
from tss.edges.metrics import PrometheusMeter
from tss.edges.unusable import UnusableFile
from tss.edges.web import app as web
from tss.edges.web.admin import AdminApi
from tss.edges.web.force_api import ForceApi
from tss.edges.web.release_api import ReleaseApi
from tss.fleet import open_fleet
from tss.settings import ForceSampling, KafkaExporter, Settings
from tss.state.assignments import Assignments
from tss.state.crew import Crew
from tss.state.deadletters import DeadLetters
from tss.state.inputs import Inputs
from tss.state.keying import Keying
from tss.state.lane import Destination, Lane
from tss.state.narrating import Decisions
from tss.state.pausing import Pausing
from tss.state.sharing import ALONE, Shared, Sharing
from tss.tasks import (
    committer,
    consumer,
    evaluator,
    exporter,
    keeper,
    preparer,
    pulse,
    rekeyer,
    scaler,
    sweeper,
    trainer,
    trimmer,
    unparker,
)
from tss.tasks.consumer import Batch, Source
from tss.tasks.parker import Parker, Parking

log = structlog.get_logger()
T = TypeVar("T")

# Each channel's bound, and why. Batches of closed traces are at most 500 traces or 2 MiB; what is closed and not
# settled is bounded in bytes besides (Limits.closed_bytes).
POLLED_BATCHES = 2  # one in work, one ready; a poll's records wait in librdkafka's own queue, which is bounded in bytes
CLOSED_BATCHES = 8  # a burst of deadlines in one second should not stop reading while evaluators have a turn
KEPT_BATCHES = 2  # one ready while one is prepared
PREPARED_BATCHES = 4  # enough for every destination to gather its next batch; more would only hide a slow one
SETTLED_BATCHES = 64  # settling is the cheapest step and waits for nothing; only a scheduling turn is bridged


class Member(Source, committer.Offsets, Protocol):
    """A member of the consumer group: reads, and commits what has been settled."""


@attrs.frozen
class Outside:
    """What the tasks are joined to. The simulation joins them to fakes that pass the same contracts."""

    open_member: Callable[[Assignments, Lookup], AbstractAsyncContextManager[Member]]
    destinations: Sequence[Destination]
    dead_letters: DeadLetters
    meter: Meter
    health: Health
    chance: random.Random
    observers: Sequence[SpanObserver] = ()
    clock_ms: Callable[[], int] | None = None  # of the output topic, where there is one
    read_group: scaler.ReadGroup | None = None  # the scaler's, where there is one
    sharing: Sharing | None = None  # None: no Redis
    rulebook: Rulebook = attrs.field(factory=Rulebook)  # of force rules; others keep it up to date
    parking: Parking | None = None  # where long-open traces go; None keeps them in memory
    keeping: keeper.Keeping | None = None  # the topic, asked how long it keeps its records
    source_keeping: keeper.Keeping | None = None  # the same of the first stage's input, where there is one
    crew: Crew = attrs.field(factory=Crew)  # who dies, be it beside the selection, forbids its commits
    lanes: dict[str, Lane] = attrs.field(factory=dict)  # the way to each destination by name, once traces are selected


@attrs.frozen
class StopTimes:
    """How the seconds of a stop are spent (law 9): what is in hand, the last commit, what was counted, leaving the group."""

    drain_secs: float
    last_commit_secs: float
    last_counts_secs: float
    leave_secs: float
    hand_over_secs: float = 0.0

    @classmethod
    def of(cls, timeout_secs: float, graceful: bool, *, parks: bool = False) -> StopTimes:
        """Shares of ``shutdownTimeoutSecs``; a tenth is left over for starting late and ending the process."""
        short_secs = min(5.0, timeout_secs * 0.15)
        parking_secs = timeout_secs * 0.2 if graceful and parks else 0.0
        drain_secs = timeout_secs * 0.55 - parking_secs if graceful else 0.0
        return cls(drain_secs, short_secs, min(2.0, timeout_secs * 0.05), short_secs, parking_secs)


async def select(settings: Settings, outside: Outside, stop: trio.Event) -> None:
    """Read, hold, decide, deliver, commit, until told to stop.

    Stopping runs from the source to the sea: the consumer ends and closes its channel, so the sweeper ends when it has
    taken what was left in it, and so on down to the committer, whose end is the last commit. Open traces are not
    decided then: their records are not committed, and the next owner of the partition reads them again.
    """
    app, shelves = settings.app, outside.parking
    times = StopTimes.of(app.shutdown_timeout_secs, app.graceful_shutdown, parks=shelves is not None)
    meter, health, sharing = outside.meter, outside.health, outside.sharing
    buffer = _buffer(settings, shared=sharing is not None, observed=bool(outside.observers))
    memories = Shared(sharing, buffer, meter) if sharing else ALONE
    sampler, preparation = _sampler(settings), Preparation(settings.span_compression)
    assignments = _assignments(settings, outside, buffer, sampler.lookup)
    lanes = _lanes(settings, outside)
    _watch(buffer, assignments, meter, health)
    keying = Keying(meter, health, rekeyed=settings.kafka.rekey.enabled)
    parker = None if shelves is None else _parker(settings, outside, shelves, buffer, assignments, sampler.lookup)
    async with outside.open_member(assignments, sampler.lookup) as member, trio.open_nursery() as around:
        drain, crew = trio.CancelScope(), outside.crew
        around.start_soon(crew.watch, _stopper, stop, drain, times, health, name="stopper")
        around.start_soon(crew.watch, trainer.run, buffer.packer, meter, name="trainer")
        if outside.read_group is not None:
            around.start_soon(
                crew.watch, scaler.run, outside.read_group, assignments, meter, stop, settings.kafka.commit_interval_secs,
                name="scaler",
            )  # fmt: skip
        around.start_soon(crew.watch, keeper.run, outside.keeping, assignments, meter, stop, name="keeper")
        with drain:
            async with trio.open_nursery() as tasks:
                polled_in, polled_out = _channel("polled", POLLED_BATCHES, outside, Batch)
                aside_in, aside_out = trio.open_memory_channel[list[Trace]](math.inf)  # bounded in bytes: closed_bytes
                closed_in, closed_out = _channel("closed", CLOSED_BATCHES, outside, list[Trace])
                kept_in, kept_out = _channel("kept", KEPT_BATCHES, outside, list[Trace])
                prepared_in, prepared_out = _channel("prepared", PREPARED_BATCHES, outside, list[Trace])
                settled_in, settled_out = _channel("settled", SETTLED_BATCHES, outside, list[Trace])
                start = crew.start_in(tasks)
                reading = member, assignments, outside.dead_letters, polled_in, stop, meter, keying
                start(consumer.run, *reading, _pausing(health, meter, lanes), name="consumer")
                start(sweeper.run, polled_out, closed_in, buffer, meter, keying, outside.observers, name="sweeper")
                with closed_out, kept_in, settled_in, aside_in:  # each worker has a clone; these originals end here
                    judging = (
                        sampler,
                        buffer,
                        outside.observers,
                        meter,
                        memories,
                        outside.rulebook,
                        time.time,
                        Decisions(),
                    )
                    for number in range(app.evaluation_workers):
                        deciding = evaluator.Deciding(kept_in.clone(), settled_in.clone(), *judging)
                        aside = None if shelves is None else aside_in.clone()
                        start(evaluator.run, closed_out.clone(), deciding, aside, name=f"evaluator {number}")
                    if shelves is not None and parker is not None:
                        deciding = evaluator.Deciding(kept_in.clone(), settled_in.clone(), *judging)
                        start(unparker.run, aside_out, shelves, deciding, assignments, name="unparker")
                        around.start_soon(crew.watch, parker.run, name="parker")
                    start(preparer.run, kept_out, prepared_in, buffer, preparation, meter, name="preparer")
                    start(exporter.run, prepared_out, settled_in.clone(), lanes, meter, memories, name="exporter")
                settling = settled_out, member, assignments, buffer, meter, stop
                commit_times = settings.kafka.commit_interval_secs, times.last_commit_secs
                handing = (parker.hand_over if parker and times.hand_over_secs else None), times.hand_over_secs
                tasks.start_soon(committer.run, *settling, *commit_times, *handing, crew.ended, name="committer")
        sweeper.show(buffer, meter)  # what turned out while the tasks after the sweeper ended
        if drain.cancelled_caught:
            log.warning(
                "stopped before everything in hand was delivered; Kafka still has it",
                open_traces=buffer.open_traces, held_bytes=buffer.held_bytes,
            )  # fmt: skip
        around.cancel_scope.cancel()


async def _stopper(stop: trio.Event, drain: trio.CancelScope, times: StopTimes, health: Health) -> None:
    """The deadline of a stop begins when it is asked for."""
    await stop.wait()
    health.stopping = True
    drain.deadline = trio.current_time() + times.drain_secs


async def rekey(
    settings: Settings,
    outside: Outside,
    stop: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """The first stage, where the input is not keyed: split and write, until told to stop. Started once its topic is
    there, or the stop came first; ends with the transaction that is under way, or when its share of the time is over."""
    times = StopTimes.of(settings.app.shutdown_timeout_secs, settings.app.graceful_shutdown)
    kafka, name, health = settings.kafka, settings.app.instance_id, outside.health
    inputs = Inputs(kafka.input_topic, Alignment(round(kafka.rekey.max_ahead_secs * 1000)), outside.meter)
    async with open_rekey(kafka, name) as topic, trio.open_nursery() as around:
        ending = trio.CancelScope()
        around.start_soon(_ender, stop, ending, min(times.leave_secs, times.drain_secs))
        around.start_soon(keeper.run, outside.source_keeping, inputs, outside.meter, stop, name="keeper of the input")
        with ending:
            await rekeyer.make(topic, stop, health)
            task_status.started()
            source = KafkaSource.open(
                source_settings(kafka), name, inputs, outside.meter, health, outbox=topic, close_secs=times.leave_secs,
                component="kafka input", keeping=True,
            )  # fmt: skip
            async with source as member:
                around_it = inputs, topic, outside.dead_letters, stop
                await rekeyer.run(member, *around_it, outside.meter, health, outside.chance)
        if ending.cancelled_caught:
            log.warning("stopped in a transaction of the rekey stage; it is aborted, and its records are read again")
        around.cancel_scope.cancel()


async def _ender(stop: trio.Event, scope: trio.CancelScope, secs: float) -> None:
    await stop.wait()
    scope.deadline = trio.current_time() + secs


async def supervise(settings: Settings, heard: AsyncIterator[signal.Signals]) -> None:
    """The daemon: the selection, joined to the real outside, within its web server, its pulse and its signals.

    The web server starts first and stops last, so that probes are answered during the whole stop. ``heard`` are the signals; the
    deadline of a stop is not kept here, since this loop may be what hangs (edges/signals.py).
    """
    meter = PrometheusMeter()
    health = Health(time.time, partial(_show_component, meter))
    _show(meter, health)
    times = StopTimes.of(settings.app.shutdown_timeout_secs, settings.app.graceful_shutdown)
    rulebook, crew = Rulebook(), Crew()
    api, release = _admin(settings, rulebook)
    pages = AdminApi(api, release), _admin_at(settings.force_sampling)
    facts = web.Facts(health, SCANNER, meter.exposition, meter, health.read_numbers, *pages)
    stop = trio.Event()
    # The link to Redis has a nursery of its own, so it is closed within the house; the rest after it.
    async with AsyncExitStack() as opened, trio.open_nursery() as house, AsyncExitStack() as linked:
        await house.start(crew.watch, web.run, settings.observability, facts)
        house.start_soon(crew.watch, _signals, stop, heard, health, name="signals")
        house.start_soon(crew.watch, pulse.run, meter, name="pulse")
        house.start_soon(crew.watch, trimmer.run, heap.give_back, name="trimmer")
        connection = client_config(settings.kafka, settings.app.instance_id)
        # Where there is a first stage, all that follows reads its topic.
        kafka = keyed_settings(settings.kafka) if settings.kafka.rekey.enabled else settings.kafka
        keyed = attrs.evolve(settings, kafka=kafka)
        with _naming("deadLetter"):
            dead_letters = await opened.enter_async_context(
                open_dead_letters(settings.dead_letter, connection, meter, health)
            )
        with _naming("redis"):
            fleet = await open_fleet(settings, linked, rulebook, meter, health, crew)
        if fleet.forcing is not None:
            await house.start(crew.watch, fleet.forcing.run, settings.force_sampling.poll_secs, name="force rules")
            api.change = fleet.forcing.change
        destinations: list[Destination] = []
        topic: KafkaTopic | None = None
        for each in settings.effective_exporters:
            health.starting(f"exporter {each.name}")
            with _naming(f"exporters, {each.name}"):
                if isinstance(each, KafkaExporter):
                    writing = open_topic(each, kafka, settings.app.instance_id, meter)
                    topic = await opened.enter_async_context(writing)
                    destinations.append(topic)
                else:
                    opening = open_destination(each, settings.datadog, computes_stats=settings.datadog.stats)
                    destinations.append(await opened.enter_async_context(opening))

        def join(assignments: Assignments, lookup: Lookup) -> AbstractAsyncContextManager[Member]:
            name = settings.app.instance_id
            return KafkaSource.open(
                kafka,
                name,
                assignments,
                meter,
                health,
                lookup=lookup,
                outbox=topic,
                parked=fleet.parked,
                close_secs=times.leave_secs,
                poll_bytes=_limits(settings).poll_bytes,
            )

        clock_ms = topic.clock_ms if topic else None
        counting = await open_counting(settings, opened, times.last_counts_secs, meter)
        outside = Outside(
            join,
            destinations,
            dead_letters,
            meter,
            health,
            random.Random(),
            counting.observers,
            clock_ms,
            scaler_group(kafka, settings.app.instance_id),
            fleet.sharing,
            rulebook,
            fleet.parked,
            TopicRetention(kafka, settings.app.instance_id),
            TopicRetention(settings.kafka, settings.app.instance_id) if settings.kafka.rekey.enabled else None,
            crew,
        )
        release.exporters = outside.lanes
        async with trio.open_nursery() as beside:
            counted = trio.Event()
            for name, sender in counting.senders.items():
                beside.start_soon(crew.watch, sender, counted, name=name)
            if settings.kafka.rekey.enabled:
                await beside.start(crew.watch, rekey, settings, outside, stop, name="rekey")
            await select(keyed, outside, stop)
            counted.set()  # no span comes any more: what was counted is sent a last time
        house.cancel_scope.cancel()


def _show(meter: PrometheusMeter, health: Health) -> None:
    meter.set(measures.BUILD_INFO, 1, __version__, SCANNER)
    meter.watch(measures.READY, lambda: health.ready)
    logs.count_dropped(lambda lines: meter.count(measures.LOG_LINES_DROPPED, lines))
    health.starting("kafka")


def _show_component(meter: Meter, name: str, state: State) -> None:
    meter.set(measures.COMPONENT_DEGRADED, state is State.DEGRADED, name)


def _admin(settings: Settings, rulebook: Rulebook) -> tuple[ForceApi, ReleaseApi]:
    force = ForceApi(settings.force_sampling, rulebook, has_redis=bool(settings.redis.url))
    return force, ReleaseApi(force.guard)


def _admin_at(force: ForceSampling) -> tuple[str, int] | None:
    return (force.admin_addr, force.admin_port) if force.admin_token and force.admin_port else None


@contextmanager
def _naming(key: str) -> Iterator[None]:
    """A file that a setting names and that cannot be used is a fault of that setting."""
    try:
        yield
    except UnusableFile as error:
        raise WrongSetting(f"{key}: {error}") from error


async def _signals(stop: trio.Event, heard: AsyncIterator[signal.Signals], health: Health) -> None:
    """The first signal asks for an orderly stop; a second one stops at once; SIGUSR1 asks for the state."""
    async for number in heard:
        if number == signals.TELLS:
            logs.always("state", **snapshot.entry(health))
        elif not stop.is_set():
            log.info("stopping", signal=number.name)
            stop.set()
        elif number in signals.HASTENS:
            raise StoppedAtOnce(number.name)


def _channel(
    name: str, bound: int, outside: Outside, _kind: type[T]
) -> tuple[trio.MemorySendChannel[T], trio.MemoryReceiveChannel[T]]:
    """A bounded channel with its gauge."""
    send, receive = trio.open_memory_channel[T](bound)
    outside.meter.set(measures.CHANNEL_LIMIT, bound, name)
    outside.meter.watch(measures.CHANNEL_FILL, lambda: receive.statistics().current_buffer_used, name)
    outside.health.details[f"channel_{name}"] = lambda: f"{receive.statistics().current_buffer_used} of {bound}"
    return send, receive


def _lanes(settings: Settings, outside: Outside) -> list[Lane]:
    lanes = [
        Lane(
            settings.kafka.input_topic, destination, outside.dead_letters, outside.health, outside.meter, outside.chance
        )
        for destination in outside.destinations
    ]
    outside.lanes.update({lane.destination.name: lane for lane in lanes})
    return lanes


def _sampler(settings: Settings) -> Sampler:
    matches = {each.name: Match(**each.match) for each in settings.effective_exporters}
    return Sampler(policies(settings.sampling), Router(matches))


def _parker(
    settings: Settings, outside: Outside, shelves: Parking, buffer: Buffer, assignments: Assignments, lookup: Lookup
) -> Parker:
    outside.meter.watch(measures.PARKED_TRACES, lambda: sum(len(each.shelf or ()) for each in assignments))
    after_ms = round(settings.app.park_after_secs * 1000)
    make_token = lambda: f"{outside.chance.getrandbits(64):016x}"  # noqa: E731  # said where it is used
    return Parker(shelves, buffer, assignments, outside.meter, after_ms, make_token, lookup.fingerprint)


def _buffer(settings: Settings, *, shared: bool, observed: bool) -> Buffer:
    limits = _limits(settings)
    memory = Memory.within(limits.memory_bytes, settings.app.decision_memory_secs, shared=shared)
    return Buffer(limits, _waits(settings), memory, observed=observed)


def _limits(settings: Settings) -> Limits:
    app = settings.app
    return Limits(app.max_buffer_bytes, app.max_buffer_spans, app.max_buffer_traces, app.max_trace_spans)


def _waits(settings: Settings) -> Waits:
    app = settings.app
    seconds = app.root_quiet_secs, app.inactivity_timeout_secs, app.max_trace_duration_secs
    return Waits(*(round(each * 1000) for each in seconds))


def _assignments(settings: Settings, outside: Outside, buffer: Buffer, lookup: Lookup) -> Assignments:
    assignments = Assignments(
        settings.kafka.input_topic,
        buffer,
        outside.meter,
        max_skew_ms=round(settings.app.max_clock_skew_secs * 1000),
        replay_secs=round(settings.app.replay_secs),
        commits=settings.kafka.enable_auto_commit,
        clock_ms=outside.clock_ms,
        lookup=lookup,
    )
    outside.crew.on_death(assignments.distrust)
    return assignments


def _pausing(health: Health, meter: Meter, lanes: Sequence[Lane]) -> Pausing:
    return Pausing(health, meter, [lane.standing for lane in lanes])


def _held(buffer: Buffer, kind: str) -> int:
    return buffer.held_by_kind()[kind]


def _watch(buffer: Buffer, assignments: Assignments, meter: Meter, health: Health) -> None:
    limits, memory = buffer.limits, buffer.memory
    meter.watch(measures.BUFFER_TRACES, lambda: buffer.open_traces)
    meter.watch(measures.BUFFER_SPANS, lambda: buffer.open_spans)
    meter.watch(measures.BUFFER_BYTES, lambda: buffer.held_bytes)
    for kind in buffer.held_by_kind():
        meter.watch(measures.HELD_BYTES, partial(_held, buffer, kind), kind)
    meter.watch(measures.MEMORY_REACH, buffer.reach_secs)
    meter.watch(measures.TIME_AHEAD, lambda: buffer.ahead_secs(round(time.time() * 1000)))
    meter.watch(measures.MEMORY_KEPT, lambda: memory.kept)
    meter.watch(measures.MEMORY_DROPPED, lambda: memory.dropped)
    meter.set(measures.BUFFER_TRACES_LIMIT, limits.max_traces)
    meter.set(measures.BUFFER_SPANS_LIMIT, limits.max_spans)
    meter.set(measures.BUFFER_BYTES_LIMIT, limits.max_bytes)
    health.details["partition_states"] = lambda: snapshot.partitions(assignments)
    health.numbers |= {
        "openTraces": lambda: buffer.open_traces,
        "openSpans": lambda: buffer.open_spans,
        "tracesOnTwoPartitions": lambda: buffer.on_two_partitions,
        "heldBytes": lambda: buffer.held_bytes,
        "partitions": lambda: len(assignments),
        "uncommittedRecords": lambda: sum(each.ledger.uncommitted for each in assignments),
    }
