"""What the tasks are joined to outside the process: Kafka, the destinations, Redis, the metrics, the operator."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from typing import Protocol

import attrs

from tss.core.buffer import Limits
from tss.core.decision_rows import RowQueue
from tss.core.errors import WrongSetting
from tss.core.force import Rulebook
from tss.core.formats.apm_stats import SpanObserver
from tss.core.health import Health
from tss.core.measures import Meter
from tss.core.names import Names
from tss.core.tally import Tally
from tss.daemon.fleet import Fleet
from tss.daemon.stopping import StopTimes
from tss.edges.destinations import open_destination
from tss.edges.kafka.retention import TopicRetention
from tss.edges.kafka.scaler import scaler_group
from tss.edges.kafka.source import KafkaSource
from tss.edges.kafka_output.output_topic import KafkaTopic, open_topic
from tss.edges.kafka_output.rekey_topic import keyed_settings
from tss.edges.unusable import UnusableFile
from tss.settings import KafkaExporter, Settings
from tss.state.assignments import Assignments
from tss.state.crew import Crew
from tss.state.deadletters import DeadLetters
from tss.state.lane import Destination, Lane
from tss.state.rulesets import Rulesets
from tss.state.sharing import Sharing
from tss.state.traces import TraceLookup
from tss.tasks.committer import Offsets
from tss.tasks.consumer import InputReader
from tss.tasks.keeper import RetainedTopic
from tss.tasks.parker import Parking
from tss.tasks.scaler import ReadGroup


class GroupMember(InputReader, Offsets, Protocol):
    """A member of the consumer group: reads, and commits what has been settled."""


@attrs.frozen
class Outside:
    """What the tasks are joined to. The simulation joins them to fakes that pass the same contracts."""

    open_member: Callable[[Assignments, Rulesets], AbstractAsyncContextManager[GroupMember]]
    destinations: Sequence[Destination]
    dead_letters: DeadLetters
    meter: Meter
    health: Health
    chance: random.Random
    observers: Sequence[SpanObserver] = ()  # of all spans, before sampling
    clock_ms: Callable[[], int] | None = None  # of the output topic, where there is one
    read_group: ReadGroup | None = None  # for an autoscaler, where one is configured
    sharing: Sharing | None = None  # None without Redis
    rulebook: Rulebook = attrs.field(factory=Rulebook)  # of force rules; the task `forcing` keeps it up to date
    rulesets: Rulesets | None = None  # None: only that of the settings
    wall_secs: Callable[[], float] = time.time
    parking: Parking | None = None  # where long-open traces go; None keeps them in memory
    retention: RetainedTopic | None = None  # asks how long the topic keeps its records
    source_retention: RetainedTopic | None = None  # the same for the input of the rekey stage, where there is one
    crew: Crew = attrs.field(factory=Crew)  # all tasks of the process: a death anywhere forbids every commit
    traces: TraceLookup = attrs.field(factory=lambda: TraceLookup("", time.time))  # begins when the selection starts
    lanes: dict[str, Lane] = attrs.field(factory=dict)  # by destination; filled when the selection starts
    tally: Tally = attrs.field(factory=lambda: Tally(Names()))
    row_queues: Sequence[RowQueue] = ()  # of the exporters of type decisions


async def open_outside(
    settings: Settings,
    opened: AsyncExitStack,
    *,
    fleet: Fleet,
    dead_letters: DeadLetters,
    observers: Sequence[SpanObserver],
    tally: Tally,
    row_queues: Sequence[RowQueue],
    rulebook: Rulebook,
    rulesets: Rulesets,
    meter: Meter,
    health: Health,
    crew: Crew,
    traces: TraceLookup,
) -> Outside:
    """Open the destinations; the consumer joins its group later, by ``open_member``.

    Raises WrongSetting when a file that an exporter's settings name cannot be used.
    """
    name, is_rekeyed = settings.app.instance_id, settings.kafka.rekey.enabled
    kafka = keyed_settings(settings.kafka) if is_rekeyed else settings.kafka  # the topic that the selection reads
    times = StopTimes.of(settings.app.shutdown_timeout_secs, settings.app.graceful_shutdown)
    destinations: list[Destination] = []
    topic: KafkaTopic | None = None
    for each in settings.effective_exporters:
        health.starting(f"exporter {each.name}")
        with names_setting(f"exporters, {each.name}"):
            if isinstance(each, KafkaExporter):
                topic = await opened.enter_async_context(open_topic(each, kafka, name, meter))
                destinations.append(topic)
            else:
                opening = open_destination(each, settings.datadog, computes_stats=settings.datadog.stats)
                destinations.append(await opened.enter_async_context(opening))

    def open_member(assignments: Assignments, rulesets: Rulesets) -> AbstractAsyncContextManager[GroupMember]:
        return KafkaSource.open(
            kafka, name, assignments, meter, health,
            program=lambda: rulesets.program, rules=lambda: rulebook.program, outbox=topic, parked=fleet.parked, close_secs=times.leave_secs,
            poll_bytes=limits(settings).poll_bytes, prepare=assignments.learn,
        )  # fmt: skip

    return Outside(
        open_member=open_member,
        destinations=destinations,
        dead_letters=dead_letters,
        meter=meter,
        health=health,
        chance=random.Random(),
        observers=observers,
        tally=tally,
        row_queues=row_queues,
        clock_ms=topic.clock_ms if topic else None,
        read_group=scaler_group(kafka, name),
        sharing=fleet.sharing,
        rulebook=rulebook,
        rulesets=rulesets,
        parking=fleet.parked,
        retention=TopicRetention(kafka, name),
        source_retention=TopicRetention(settings.kafka, name) if is_rekeyed else None,
        crew=crew,
        traces=traces,
    )


@contextmanager
def names_setting(key: str) -> Iterator[None]:
    """An unusable file is an error of the setting that names it: WrongSetting, with the key."""
    try:
        yield
    except UnusableFile as error:
        raise WrongSetting(f"{key}: {error}") from error


def limits(settings: Settings) -> Limits:
    """The limits of the buffer, from the settings."""
    app, plan = settings.app, settings.sampling.plan
    of_trace = 0 if plan is None else plan.max_trace_bytes
    return Limits(app.max_buffer_bytes, app.max_buffer_spans, app.max_buffer_traces, app.max_trace_spans, of_trace)
