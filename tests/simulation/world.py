"""The daemon in a simulated world: replicas live and die, the broker and the destinations have their moods."""

from __future__ import annotations

import random
import traceback
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import attrs
import trio
from trio.testing import MockClock

from tests.fakes.deadletters import FakeDeadLetters
from tests.fakes.destination import Arrival, FakeDestination, Mood, SpanKey, spans_of
from tests.fakes.kafka import EPOCH_MS, FakeKafka, FakeMember, wall_ms
from tests.fakes.redis import FakeDecisions, FakeParking, FakeRedis
from tests.fakes.redis import Mood as RedisMood
from tests.scheduling import scheduled_by
from tests.simulation.oracle import Fact, facts_of, sizes_of
from tests.simulation.plan import Fault, NewRules, Plan, Shared, Trouble
from tests.simulation.watch import HEARING, LIVING, Hearing, Incarnation, Place, watched
from tss.core.deadletter import DeadLetter
from tss.core.delivery import Batching, Retrying
from tss.core.health import Health
from tss.core.partition import Commit, Partition
from tss.core.ruleset import Change
from tss.daemon import wiring
from tss.daemon.outside import Outside
from tss.daemon.selection import select
from tss.daemon.stopping import StopTimes
from tss.edges.redis.takeover import ParkedTraces
from tss.settings import Sampling, fingerprint_of
from tss.state.assignments import Assignments
from tss.state.rulesets import Rulesets
from tss.state.sharing import Sharing

OPERATORS_SECS = 60.0  # an operator has patience with a destination for so long
PATIENCE_SECS = 240.0  # of simulated time, from the end of all faults until everything has to be committed
NEVER = 1 << 62
DECISION_TTL_SECS = 3600.0  # longer than any run


class ParkedHere(ParkedTraces):
    """Without the thread for what blocks: the simulation has none."""

    async def begin(self, partition: int, token: str) -> None:
        await trio.lowlevel.checkpoint()
        self.parking.take_over(partition, None, token)


@attrs.define
class Passing:
    """One commit: at which moment of the world which offset of a partition."""

    moment: int
    partition: int
    commit: Commit
    incarnation: int


class World:
    """One run. ``moment`` counts what happens, so that before and after are never in doubt."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.chance = random.Random(f"world {plan.seed}")
        self.moment = 0
        self.story: list[tuple[float, str]] = []
        self.broken: list[str] = []
        self.deaths: list[Exception] = []  # what lives ended of that nobody ended
        self.lives: list[Incarnation] = []
        self.kafka = FakeKafka(plan.tastes.partitions, attrs.evolve(plan.habits), self.chance)
        self.kafka.on_commit = self._committed
        self.kafka.tell = self.tell
        self.facts: dict[Place, dict[bytes, list[Fact]]] = {}  # what is in each record
        self.sizes: dict[Place, dict[bytes, int]] = {}
        self.redis = FakeRedis()
        self.destinations = [self._destination(number) for number in range(plan.destinations)]
        self.dead_letters = FakeDeadLetters(self.chance, 0.05, self._put_aside)
        self.delivered: list[dict[SpanKey, int]] = [{} for _ in self.destinations]  # the moment it came first
        self.released: set[str] = set()  # destinations of which an operator gave up what was held
        self.set_aside: dict[Place, dict[str, int]] = {}  # garbage: by place and reason the moment it was kept
        self.excused: dict[tuple[int, int, bytes], int] = {}
        self.commits: list[Passing] = []
        self.sampling = plan.settings.sampling  # in the file now
        self.texts: dict[str, str] = {}
        self.ended_ms = 0
        self._kills: dict[int, trio.CancelScope] = {}
        self._stops: dict[int, trio.Event] = {}

    def tell(self, text: str) -> None:
        self.moment += 1
        self.story.append((trio.current_time(), text))

    def is_broken(self, text: str) -> None:
        self.broken.append(text)
        self.tell(f"BROKEN {text}")

    # -- what the outside reports

    def _destination(self, number: int) -> FakeDestination:
        chance = self.chance
        destination = FakeDestination(
            name=f"sea{number}",
            comes_last=number == 0 and self.plan.destinations > 1 and self.plan.seed % 2 == 0,
            batching=Batching(chance.choice([1, 3, 20]), chance.choice([0.0, 0.2, 1.0]), chance.choice([1, 4])),
            retrying=Retrying(initial_secs=0.1, max_secs=2.0, probe_secs=2.0),
            chance=chance,
            max_delay_secs=self.plan.max_send_delay_secs,
        )
        destination.taken = lambda arrivals: self._taken(number, arrivals)
        return destination

    def _taken(self, number: int, arrivals: Sequence[Arrival]) -> None:
        traces = ", ".join(dict.fromkeys(arrival.key.trace_id.hex()[:8] for arrival in arrivals))
        sender = arrivals[0].sender if arrivals else 0
        self.tell(f"sea{number} takes {len(arrivals)} spans from #{sender}: {traces}")
        for arrival in arrivals:
            self.delivered[number].setdefault(arrival.key, self.moment)

    def _put_aside(self, letters: Sequence[DeadLetter]) -> None:
        for letter in letters:
            self.tell(
                f"dead-lettered ({letter.reason}) {letter.partition}:{letter.offset} {letter.trace_id[:8]} {letter.destination}"
            )
            if not letter.reason or not letter.detail:
                self.is_broken(f"law 4: {letter!r} has no reason")
            if letter.destination:
                number = int(letter.destination.removeprefix("sea"))
                self._check_guilt(letter, self.destinations[number])
                for span in spans_of(letter.payload):
                    self.delivered[number].setdefault(SpanKey.of(span), self.moment)
            elif letter.partition is not None and letter.offset is not None:
                self.set_aside.setdefault((letter.partition, letter.offset), {}).setdefault(letter.reason, self.moment)

    def _check_guilt(self, letter: DeadLetter, destination: FakeDestination) -> None:
        trace_id = bytes.fromhex(letter.trace_id)
        guilty = destination.refused | destination.partly | destination.crashing
        # Of a partial success nobody can say which traces of the batch were meant.
        if letter.reason != "partial_success" and trace_id not in guilty and letter.destination not in self.released:
            self.is_broken(
                f"law 4: {letter.trace_id[:8]} was dead-lettered for {letter.destination}, which would take it"
            )

    async def _operator(self) -> None:
        """Looks from time to time, and releases what has been held for long."""
        while True:
            await trio.sleep(5)
            for life in self._living:
                for name, lane in life.lanes.items():
                    if lane.standing.down_secs > OPERATORS_SECS:
                        self.released.add(name)
                        self.tell(f"an operator releases {lane.release()} traces of {name} in #{life.serial}")

    def _committed(self, member: FakeMember, partition: int, commit: Commit) -> None:
        floor = f", parked from {commit.parked.floor}" if commit.parked else ""
        rules = f", rules {commit.rules}" if len(commit.rules) > 1 else ""
        self.tell(f"{member.name} commits {partition}: {commit.offset}, replay from {commit.replay_from}{floor}{rules}")
        self.commits.append(Passing(self.moment, partition, commit, int(member.name.split("#")[1])))

    def _excuse(self, partition: Partition, offset: int, trace_id: bytes) -> None:
        self.moment += 1
        self.excused.setdefault((partition.id, offset, trace_id), self.moment)

    def _has(self, partition: int, offset: int, trace_id: bytes) -> bool:
        return trace_id in self.facts.get((partition, offset), {})

    # -- lives

    async def _replica(self, name: str) -> None:
        """Lives again and again until it leaves for good."""
        again = True
        while again:
            life = Incarnation(len(self.lives) + 1, name)
            self.lives.append(life)
            again = await self._live(life)
            if again:
                await trio.sleep(self.chance.uniform(0, 5))

    async def _live(self, life: Incarnation) -> bool:
        stop, kill = trio.Event(), trio.CancelScope()
        self._stops[life.serial], self._kills[life.serial] = stop, kill
        LIVING.set(life)
        plan = self.plan
        hearing = self.tell, self._excuse, self.is_broken, self._has, lambda: self.moment
        HEARING.set(Hearing(*hearing, plan.waits, plan.max_trace_bytes))
        self.tell(f"#{life.serial} ({life.replica}) starts")
        try:
            with kill:
                await select(self.plan.settings, self._outside(life), stop)
        except Exception as error:
            self.deaths.append(error)
            self.is_broken(f"#{life.serial} died by itself: {traceback.format_exc()}")
            if life.member:
                life.member.die()
        finally:
            del self._stops[life.serial], self._kills[life.serial]
        if not life.ended:
            self.is_broken(f"#{life.serial} ended although nobody asked")
            life.ended = "killed"
        self.tell(f"#{life.serial} has ended ({life.ended})")
        if life.stop_asked_at is not None and life.ended != "killed":
            self._check_stop(life, trio.current_time() - life.stop_asked_at)
        return life.ended in ("killed", "restarted") and len(self.lives) < 60

    def _check_stop(self, life: Incarnation, took_secs: float) -> None:
        app = self.plan.settings.app
        times = StopTimes.of(app.shutdown_timeout_secs, app.graceful_shutdown, parks=self.plan.shared is not None)
        life.hurried = took_secs >= times.drain_secs
        if took_secs > app.shutdown_timeout_secs:
            self.is_broken(
                f"law 9: #{life.serial} took {took_secs:.1f} s to stop, {app.shutdown_timeout_secs} s are allowed"
            )

    def _outside(self, life: Incarnation) -> Outside:
        shared = self.plan.shared
        parked = ParkedHere(FakeParking(self.redis, shared.max_parked_bytes), life.meter) if shared else None

        @asynccontextmanager
        async def open_member(assignments: Assignments, rulesets: Rulesets) -> AsyncIterator[FakeMember]:
            async with self.kafka.open_member(
                f"{life.replica}#{life.serial}", assignments, parked, lambda: rulesets.program, assignments.learn
            ) as member:
                life.member = member
                yield member

        life.rulesets = wiring.rulesets_of(attrs.evolve(self.plan.settings, sampling=self.sampling), life.meter, self)
        current = life.rulesets.current
        self.texts[current.fingerprint] = current.text
        return Outside(
            open_member=open_member,
            rulesets=life.rulesets,
            wall_secs=lambda: wall_ms() / 1000,
            destinations=[destination.from_sender(life.serial) for destination in self.destinations],
            dead_letters=self.dead_letters,
            meter=life.meter,
            health=Health(),
            chance=random.Random(f"life {self.plan.seed} {life.serial}"),
            sharing=self._sharing(shared) if shared else None,
            parking=parked,
            lanes=life.lanes,
        )

    def _sharing(self, shared: Shared) -> Sharing:
        decisions = FakeDecisions(self.redis, shared.remember_dropped)
        return Sharing(decisions, DECISION_TTL_SECS, shared.remember_dropped)

    async def _change(self, change: NewRules) -> None:
        await trio.sleep(change.at_secs)
        self.sampling = change.sampling
        self.tell(f"the file has {fingerprint_of(change.sampling)}{', and all hear of it' if change.live else ''}")
        if change.live:
            for life in self._living:
                await trio.sleep(self.chance.uniform(0, 0.5))
                self._use(life, change.sampling)

    def _use(self, life: Incarnation, sampling: Sampling) -> None:
        found = wiring.ruleset_of(sampling, self.plan.settings.effective_exporters)
        self.texts[found.fingerprint] = found.text
        if life.rulesets is not None and life.serial in self._stops:
            revision = life.rulesets.revision + 1
            life.rulesets.accept(found, Change(found.fingerprint, revision, 0.0, source="file"))
            self.tell(f"#{life.serial} uses {found.fingerprint}")

    async def get(self, fingerprint: str) -> str | None:
        """See `Texts`."""
        return self.texts.get(fingerprint)

    async def put(self, fingerprint: str, text: str) -> None:
        """See `Texts`."""
        self.texts[fingerprint] = text

    @property
    def _living(self) -> list[Incarnation]:
        return [life for life in self.lives if life.serial in self._stops and life.stop_asked_at is None]

    def _kill(self, life: Incarnation) -> None:
        self.tell(f"kill -9 of #{life.serial}")
        life.ended = "killed"
        if life.member:
            life.member.die()
        self._kills[life.serial].cancel()

    def _stop(self, life: Incarnation, ending: str) -> None:
        self.tell(f"SIGTERM to #{life.serial} ({ending})")
        life.ended = ending
        life.stop_asked_at = trio.current_time()
        self._stops[life.serial].set()

    # -- the run

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._operator)
            for number in range(self.plan.replicas):
                nursery.start_soon(self._replica, f"replica{number}")
            async with trio.open_nursery() as doings:
                doings.start_soon(self._write_all)
                for fault in self.plan.faults:
                    doings.start_soon(self._happen, fault, nursery)
                for change in self.plan.changes:
                    doings.start_soon(self._change, change)
                for trouble in self.plan.shared.troubles if self.plan.shared else ():
                    doings.start_soon(self._trouble, trouble)
            self.tell("all faults have ended; nothing more is written")
            if not self._living and not self._stops:
                nursery.start_soon(self._replica, "last")
            with trio.move_on_after(PATIENCE_SECS):
                while not self.kafka.caught_up:
                    await trio.sleep(1)
            if not self.kafka.caught_up:
                self.is_broken(
                    f"law 1: after {PATIENCE_SECS:.0f} s without faults not all is committed: {self.kafka!r}"
                )
            await trio.sleep(10)  # what is in flight, late commits
            while self._stops:  # those that are between two lives too
                for life in self._living:
                    self._stop(life, "stopped")
                await trio.sleep(1)
            self.ended_ms = EPOCH_MS + round(trio.current_time() * 1000)
            nursery.cancel_scope.cancel()

    async def _write_all(self) -> None:
        for write in self.plan.writes:
            await trio.sleep_until(write.at_secs)
            while self.kafka.down:
                await trio.sleep(0.1)  # the producer waits, and writes in order when the broker is back
            entry = self.kafka.append(write.partition, write.value, write.timestamp_ms)
            facts = self.facts[write.partition, entry.offset] = facts_of(write.value)
            self.sizes[write.partition, entry.offset] = sizes_of(write.value)
            traces = ", ".join(f"{trace_id.hex()[:8]} x{len(some)}" for trace_id, some in facts.items()) or "garbage"
            odd = "" if abs(write.timestamp_ms - entry.appended_ms) < 3000 else f", timestamp {write.timestamp_ms}"
            self.tell(f"written {write.partition}:{entry.offset}: {traces}{odd}")
            self._mark(facts)

    def _mark(self, facts: dict[bytes, list[Fact]]) -> None:
        """Some traces are such that a destination will not have them."""
        for trace_id in facts:
            for number, destination in enumerate(self.destinations):
                lot = random.Random(f"{trace_id.hex()} {number}").random()
                if lot < self.plan.refused_share:
                    destination.refused.add(trace_id)
                elif lot > 1 - self.plan.partly_share:
                    destination.partly.add(trace_id)
                elif lot < self.plan.refused_share + self.plan.crashing_share:
                    destination.crashing.add(trace_id)

    async def _happen(self, fault: Fault, nursery: trio.Nursery) -> None:
        await trio.sleep(fault.at_secs)
        self.tell(str(fault))
        if fault.kind == "join" and len(self._living) < 3:
            nursery.start_soon(self._replica, f"joiner{fault.who}")
        elif fault.kind in ("kill", "term", "leave", "cut", "rewind"):
            await self._befall(fault)
        else:
            await self._last(fault)
        self.tell(f"over: {fault.kind}")

    async def _trouble(self, trouble: Trouble) -> None:
        await trio.sleep(trouble.at_secs)
        self.tell(str(trouble))
        if trouble.mood is None:
            self.redis.flush()
            return
        self.redis.mood = trouble.mood
        await trio.sleep(trouble.for_secs)
        self.redis.mood = RedisMood.WELL
        self.tell("Redis is well")

    async def _befall(self, fault: Fault) -> None:
        """One replica has it."""
        living = self._living
        if fault.kind == "kill":  # the orchestrator has no patience with one that is stopping either
            living = [life for life in self.lives if life.serial in self._stops and life.ended != "killed"]
        if not living:
            return
        victim = living[fault.who % len(living)]
        match fault.kind:
            case "kill":
                self._kill(victim)
            case "term":
                self._stop(victim, "restarted")
            case "leave" if len(living) > 1:
                self._stop(victim, "stopped")
            case "cut" if victim.member:
                victim.member.cut()
                await trio.sleep(fault.for_secs)
                victim.member.mend()
            case "rewind" if victim.member:
                for partition in victim.member.positions:
                    victim.member.rewind(partition, 0)

    async def _last(self, fault: Fault) -> None:
        """The outside is in trouble for a while."""
        habits = self.kafka.habits
        destination = self.destinations[fault.who % len(self.destinations)]
        begin, end = {
            "broker_down": (lambda: setattr(self.kafka, "down", True), lambda: setattr(self.kafka, "down", False)),
            "commit_fails": (
                lambda: setattr(habits, "commit_fails_rate", fault.rate),
                lambda: setattr(habits, "commit_fails_rate", 0.0),
            ),
            "commit_answer_lost": (
                lambda: setattr(habits, "commit_answer_lost_rate", fault.rate),
                lambda: setattr(habits, "commit_answer_lost_rate", 0.0),
            ),
            "commit_hangs": (
                lambda: setattr(habits, "commit_hangs", True),
                lambda: setattr(habits, "commit_hangs", False),
            ),
            "mood": (lambda: destination.set_mood(fault.mood), lambda: destination.set_mood(Mood.WELL)),
            "join": (lambda: None, lambda: None),
        }[fault.kind]
        begin()
        await trio.sleep(fault.for_secs)
        end()


def run(plan: Plan, begins_secs: float = 0) -> World:
    """Live through it. Deterministic: trio's own choices come from the seed too.

    ``begins_secs`` is the simulated time at which the daemon starts: what was to be written before is there already.
    """
    with scheduled_by(plan.seed), watched():
        clock = MockClock(autojump_threshold=0)
        clock.jump(begins_secs)
        return trio.run(_run, plan, clock=clock)


async def _run(plan: Plan) -> World:
    world = World(plan)
    await world.run()
    return world
