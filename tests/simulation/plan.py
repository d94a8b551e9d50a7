"""Everything that a seed decides beforehand: the settings, the traffic, the outside, the faults."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from tests.fakes.destination import Mood
from tests.fakes.kafka import TOPIC, Habits
from tests.fakes.redis import Mood as RedisMood
from tests.simulation.policies import TWENTY, some
from tests.simulation.traffic import Tastes, Write, ahead, writes
from tss.core.buffer import Waits
from tss.daemon.stopping import StopTimes
from tss.settings import App, Kafka, OtlpExporter, Sampling, Settings

MIB = 1024 * 1024


@attrs.frozen
class Fault:
    """Something that goes wrong (or comes and goes) at a moment, for a while. ``who`` picks its victim."""

    at_secs: float
    kind: str
    for_secs: float = 0.0
    who: int = 0
    mood: Mood = Mood.WELL
    rate: float = 0.0

    def __str__(self) -> str:
        more = {"mood": f" destination {self.who} is {self.mood.value}", "commit_fails": f" {self.rate:.0%}"}
        return f"fault: {self.kind}{more.get(self.kind, f' ({self.who})')} for {self.for_secs:.1f} s"


@attrs.frozen
class Shared:
    """The Redis that all replicas share, and what befalls it."""

    remember_dropped: bool
    max_parked_bytes: int
    troubles: list[Trouble]


@attrs.frozen
class Trouble:
    """Redis is in a mood for a while, or (None) loses everything at that moment."""

    at_secs: float
    mood: RedisMood | None
    for_secs: float = 0.0

    def __str__(self) -> str:
        return f"Redis is {self.mood.value} for {self.for_secs:.1f} s" if self.mood else "Redis is flushed"


@attrs.frozen
class NewRules:
    """From a moment on the file of all replicas has another `sampling` section."""

    at_secs: float
    sampling: Sampling
    live: bool  # the living replicas hear of it, each a little later; else only those that start


@attrs.frozen
class Plan:
    """One seed's world."""

    seed: int
    settings: Settings
    tastes: Tastes
    habits: Habits
    writes: list[Write] = attrs.field(repr=False)
    faults: list[Fault]
    replicas: int
    destinations: int
    refused_share: float
    partly_share: float
    crashing_share: float
    max_send_delay_secs: float
    waits: Waits  # of a Collector's section; 0: off
    max_trace_bytes: int  # the same
    shared: Shared | None = None
    changes: Sequence[NewRules] = ()

    @property
    def orderly(self) -> bool:
        """Replicas come and go, but nobody is killed or cut off, what is sent has its answer, and Redis is well."""
        kinds = {"term", "join", "leave", "commit_fails", "broker_down"}
        return (
            self.shared is not None
            and not self.shared.troubles
            and self.settings.app.graceful_shutdown
            and all(fault.kind in kinds for fault in self.faults)
        )

    @property
    def calm(self) -> bool:
        """Nothing goes wrong and nobody comes or goes: then nothing may arrive twice either."""
        return not self.faults and self.replicas == 1 and not self.habits.commit_fails_rate

    @property
    def pressed(self) -> bool:
        """The limits are so small that traces are decided early."""
        app = self.settings.app
        return app.max_buffer_bytes < MIB or app.max_buffer_traces < 1000 or app.max_buffer_spans < 1000


def plan(seed: int, *, ruled: bool = False) -> Plan:
    """``ruled``: the same world with twenty policies, and spans that they can tell apart."""
    chance = random.Random(f"tss {seed}")
    settings = _settings(chance)
    if ruled:
        app = settings.app
        if app.max_buffer_bytes < MIB:  # for as many spans as without their attributes
            app = attrs.evolve(app, max_buffer_bytes=3 * app.max_buffer_bytes)
        settings = attrs.evolve(settings, sampling=TWENTY, app=app)
    app = settings.app
    waits, max_trace_bytes = _collectors(random.Random(f"waits {seed}"))
    tastes = Tastes(
        partitions=chance.randint(1, 4),
        traces=chance.randint(25, 70),
        during_secs=chance.uniform(20, 60),
        latency_threshold_ms=settings.sampling.latency_threshold_ms,
        quiet_secs=waits.shortest_ms / 1000 or app.root_quiet_secs,
        inactive_secs=waits.decision_wait_ms / 1000 or app.inactivity_timeout_secs,
        giant_spans=app.max_trace_spans,
        absurd_share=chance.choice([0, 0.02, 0.1]),
        two_partitions_share=chance.choice([0, 0, 0.1]),
        mixed_share=chance.choice([0, 0.1, 0.4]),
        late_share=chance.choice([0.05, 0.2]),
        decorated=ruled,
    )
    habits = Habits(
        eager=chance.random() < 0.3,
        max_poll_records=chance.choice([1, 5, 50]),
        gap_rate=chance.choice([0, 0, 0.1]),
        idle_wait_secs=chance.choice([0.3, 1.0, 1.0]),
        close_secs=StopTimes.of(app.shutdown_timeout_secs, app.graceful_shutdown).leave_secs,
    )
    calm = chance.random() < 0.1
    written = writes(tastes, chance)
    clocks = random.Random(f"clocks {seed}")
    if clocks.random() < 0.4:
        written = ahead(written, app.max_clock_skew_secs - 5, clocks)
    return Plan(
        seed=seed,
        settings=settings,
        tastes=tastes,
        habits=habits,
        writes=written,
        faults=[] if calm else sorted(_faults(tastes, app, chance), key=lambda fault: fault.at_secs),
        replicas=1 if calm else chance.choice([1, 1, 2, 3]),
        destinations=chance.choice([1, 1, 2, 3]),
        refused_share=chance.choice([0, 0, 0.1]),
        partly_share=chance.choice([0, 0, 0.05]),
        crashing_share=random.Random(f"crashing {seed}").choice([0, 0, 0, 0.05]),
        max_send_delay_secs=chance.choice([0.02, 0.5]),
        waits=waits,
        max_trace_bytes=max_trace_bytes,
    )


def _collectors(chance: random.Random) -> tuple[Waits, int]:
    """What a Collector's section says of waits and size. Two thirds of the worlds have none."""
    if chance.random() < 2 / 3:
        return Waits(0, 0, 0), 0
    waits = Waits(0, 0, 0, chance.choice([8_000, 12_500]), chance.choice([0, 1_500, 3_000, 5_500, 20_000]))
    return waits, chance.choice([0, 600, 1500])


def fleet(seed: int, *, ruled: bool = False) -> Plan:
    """The same world with a Redis, more replicas that come and go, and traces that are parked soon."""
    alone, chance = plan(seed, ruled=ruled), random.Random(f"fleet {seed}")
    orderly = seed % 4 == 0
    app = attrs.evolve(
        alone.settings.app,
        park_after_secs=chance.choice([0.5, 2.0, 5.0]),
        graceful_shutdown=orderly or alone.settings.app.graceful_shutdown,
    )
    kinds = ["join", "leave", "term", "commit_fails"] + ([] if orderly else ["kill", "kill", "cut"])
    comings = [
        Fault(chance.uniform(0, alone.tastes.during_secs + 10), chance.choice(kinds), chance.uniform(0, 5),
              chance.randrange(6), rate=chance.choice([0.3, 1.0]))
        for _ in range(chance.randint(2, 8))
    ]  # fmt: skip
    faults = comings if orderly else [*alone.faults, *comings]
    troubles = [] if orderly or chance.random() < 0.3 else [*_troubles(alone.tastes, chance)]
    return attrs.evolve(
        alone,
        settings=attrs.evolve(alone.settings, app=app),
        faults=sorted(faults, key=lambda fault: fault.at_secs),
        replicas=chance.choice([1, 2, 3]),
        # What cannot be dead-lettered at once is sent again with the rest of its batch.
        refused_share=0 if orderly else alone.refused_share,
        partly_share=0 if orderly else alone.partly_share,
        crashing_share=0 if orderly else alone.crashing_share,
        shared=Shared(chance.random() < 0.7, chance.choice([1 << 28, 1 << 28, 3000]), troubles),
    )


def changing(seed: int, *, fleeting: bool = False, live: bool = True) -> Plan:
    """The same world with other policies from time to time. ``live``: some of the changes reach replicas that run."""
    base, chance = (fleet if fleeting else plan)(seed, ruled=True), random.Random(f"changing {seed}")
    app = attrs.evolve(base.settings.app, replay_secs=chance.choice([10.0, 30.0, 60.0, 60.0]))
    changes = [
        NewRules(chance.uniform(0, base.tastes.during_secs + 5), some(chance), live and chance.random() < 0.8)
        for _ in range(chance.randint(1, 6))
    ]
    return attrs.evolve(
        base,
        settings=attrs.evolve(base.settings, app=app),
        changes=sorted(changes, key=lambda change: change.at_secs),
    )


def _troubles(tastes: Tastes, chance: random.Random) -> Iterator[Trouble]:
    moods = [None, *(mood for mood in RedisMood if mood is not RedisMood.WELL)]
    for _ in range(chance.randint(1, 6)):
        yield Trouble(chance.uniform(0, tastes.during_secs + 10), chance.choice(moods), chance.uniform(1, 15))


def _settings(chance: random.Random) -> Settings:
    pressed = chance.random() < 0.25
    limits: dict[str, Any] = {"max_buffer_bytes": 64 * MIB, "max_buffer_traces": 100_000, "max_buffer_spans": 1_000_000}
    if pressed:
        limits.update(chance.choice([
            {"max_buffer_bytes": chance.choice([8_000, 30_000])},
            {"max_buffer_traces": chance.choice([2, 6])},
            {"max_buffer_spans": chance.choice([10, 30])},
        ]))  # fmt: skip
    app = App(
        instance_id="simulated",
        **limits,
        max_trace_spans=chance.choice([12, 40]),
        shutdown_timeout_secs=chance.choice([5.0, 30.0]),
        evaluation_workers=chance.choice([1, 4]),
        graceful_shutdown=chance.random() < 0.9,
        inactivity_timeout_secs=chance.choice([8.0, 12.5]),
        max_trace_duration_secs=chance.choice([15.0, 60.0]),
        root_quiet_secs=chance.choice([0.0, 3.0, 5.5]),
        max_clock_skew_secs=60.0,
        replay_secs=chance.choice([0.0, 10.0, 30.0, 60.0]),
    )
    kafka = Kafka(brokers="simulated", input_topic=TOPIC, auto_offset_reset="earliest",
                  commit_interval_secs=chance.choice([0.5, 2.0, 5.0]))  # fmt: skip
    sampling = Sampling(
        error_sample_rate=chance.choice([1.0, 1.0, 0.5]),
        latency_threshold_ms=500,
        latency_sample_rate=chance.choice([0.1, 0.5, 1.0]),
        default_sample_rate=chance.choice([0.0, 0.0, 0.2]),
    )
    # Datadog, the default, has a field for weights; with any other destination they are in the spans.
    others = (OtlpExporter(name="sea", endpoint="http://sea"),) if app.evaluation_workers > 1 else ()
    return Settings(app=app, kafka=kafka, sampling=sampling, exporters=others)


def _faults(tastes: Tastes, app: App, chance: random.Random) -> Iterator[Fault]:
    if chance.random() < 0.2:
        yield from _stop_in_trouble(tastes, app, chance)
    kinds = ["kill", "kill", "kill", "term", "join", "leave", "broker_down", "cut", "mood", "mood", "commit_fails",
             "commit_answer_lost", "commit_hangs", "rewind"]  # fmt: skip
    liked = chance.sample(kinds, chance.randint(1, len(kinds)))
    troubles = [mood for mood in Mood if mood is not Mood.WELL]
    for _ in range(chance.randint(1, 10)):
        kind = chance.choice(liked)
        yield Fault(
            at_secs=chance.uniform(0, tastes.during_secs + app.inactivity_timeout_secs),
            kind=kind,
            for_secs=chance.choice([chance.uniform(0, 2), chance.uniform(2, 12)]),
            who=chance.randrange(6),
            mood=chance.choice(troubles),
            rate=chance.choice([0.3, 1.0]),
        )


def _stop_in_trouble(tastes: Tastes, app: App, chance: random.Random) -> Iterator[Fault]:
    """Somebody does not answer for longer than a stop may take, and a stop is asked for."""
    at_secs = chance.uniform(0, tastes.during_secs)
    later_secs = chance.uniform(3, 12)  # so that something is in hand by then
    troubles = chance.sample(["mood", "mood", "broker_down", "commit_hangs"], chance.randint(1, 3))
    for kind in troubles:
        yield Fault(at_secs, kind, later_secs + app.shutdown_timeout_secs * 1.5, chance.randrange(6), Mood.HANGING)
    yield Fault(at_secs + later_secs, chance.choice(["term", "leave"]), 0, chance.randrange(6))
