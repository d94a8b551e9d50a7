"""A topic, its consumer group and its members, in simulated time: no thread, no socket, chance from a seed.

What a real broker does and a daemon may meet is here: eager and cooperative rebalances with the handshake on revoke,
session timeouts, fencing, a broker that is away, commits that fail or of which the answer is lost, offsets that are
missing from the log, records read twice. Like the real edge, a member does one thing at a time (its owner thread).
"""

import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

import attrs
import trio

from tss.core.conditions.program import ASKS_NOTHING, Program
from tss.core.deadletter import DeadLetter
from tss.core.errors import CannotCommit
from tss.core.otlp import Encoding, Records, Scan, Scanner, scan
from tss.core.partition import Commit
from tss.core.polled import Polled
from tss.core.startposition import StartPosition
from tss.edges.kafka.starts import start_of
from tss.edges.kafka_client.offset_metadata import to_metadata
from tss.edges.redis.takeover import ParkedTraces
from tss.state.assignments import Assignments

TOPIC = "traces"
Prepare = Callable[[Mapping[int, StartPosition]], Awaitable[None]]
EPOCH_MS = 1_750_000_000_000  # where simulated time begins


def wall_ms() -> int:
    """The wall clock of the simulation."""
    return EPOCH_MS + round(trio.current_time() * 1000)


@attrs.frozen
class Entry:
    """One record in the log."""

    offset: int
    value: bytes
    timestamp_ms: int
    appended_ms: int
    scanned: Scan = attrs.field(repr=False)
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()


@attrs.define
class Log:
    """One partition."""

    entries: list[Entry] = attrs.field(factory=list, repr=lambda entries: str(len(entries)))
    end: int = 0
    committed: int | None = None
    metadata: str = ""

    def after(self, offset: int, limit: int) -> Sequence[Entry]:
        """Up to ``limit`` entries from ``offset`` on."""
        low, high = 0, len(self.entries)
        while low < high:
            middle = (low + high) // 2
            if self.entries[middle].offset < offset:
                low = middle + 1
            else:
                high = middle
        return self.entries[low : low + limit]


@attrs.define
class Habits:
    """How the broker and its clients behave; changed during a run by faults."""

    eager: bool = False  # the rebalance protocol
    session_secs: float = 6.0
    max_poll_records: int = 20
    idle_wait_secs: float = 0.4
    max_delay_secs: float = 0.02
    gap_rate: float = 0.0  # how often an offset is missing before a record
    commit_fails_rate: float = 0.0
    commit_answer_lost_rate: float = 0.0  # Kafka has it, the member does not know
    commit_hangs: bool = False
    reset: str = "earliest"
    close_secs: float = 1.0  # what the real edge takes at most to leave the group


CommitHeard = Callable[["FakeMember", int, Commit], None]


class FakeKafka:
    """One topic and one consumer group."""

    def __init__(self, partitions: int, habits: Habits, chance: random.Random) -> None:
        self.topic = TOPIC
        self.logs = [Log() for _ in range(partitions)]
        self.habits = habits
        self.chance = chance
        self.down = False
        self.serials = itertools.count(1)
        self.group = Group(self)
        self.on_commit: CommitHeard = lambda member, partition, commit: None
        self.tell: Callable[[str], None] = lambda text: None

    def __repr__(self) -> str:
        return f"<FakeKafka {[(log.committed, log.end) for log in self.logs]} {self.group}>"

    def append(
        self,
        partition: int,
        value: bytes,
        timestamp_ms: int,
        key: bytes | None = None,
        headers: tuple[tuple[str, bytes | None], ...] = (),
    ) -> Entry:
        log = self.logs[partition]
        if self.chance.random() < self.habits.gap_rate:
            log.end += self.chance.randint(1, 3)  # a transaction marker, a compacted record
        entry = Entry(log.end, value, timestamp_ms, wall_ms(), scan(value, Encoding.AUTO), key, headers)
        log.entries.append(entry)
        log.end += 1
        return entry

    @property
    def caught_up(self) -> bool:
        """Whether everything in the log is committed."""
        return all((log.committed or 0) >= log.end for log in self.logs)

    def start_of(self, partition: int) -> StartPosition:
        """Where a member takes the partition up."""
        log = self.logs[partition]
        if log.committed is None:
            offset = 0 if self.habits.reset == "earliest" else log.end
            return StartPosition(offset, offset, committed=False, end=log.end)
        return start_of(log.committed, log.metadata, 0, log.end, self.habits.reset)

    @asynccontextmanager
    async def open_member(
        self,
        name: str,
        assignments: Assignments,
        parked: ParkedTraces | None = None,
        program: Callable[[], Program] = lambda: ASKS_NOTHING,
        prepare: Prepare | None = None,
    ) -> AsyncIterator["FakeMember"]:
        member = FakeMember(self, name, assignments, parked, program, prepare)
        try:
            yield member
        finally:
            if not member.dead:
                # Shielded: the group should not have to wait for the session timeout; bounded: law 9.
                with trio.move_on_after(self.habits.close_secs, shield=True):
                    await member.leave()
                member.cut()
                member.dead = True


class Group:
    """The coordinator: who is in, who owns what, and who is to own it."""

    def __init__(self, kafka: FakeKafka) -> None:
        self._kafka = kafka
        self.members: list[FakeMember] = []
        self.owners: dict[int, FakeMember] = {}
        self.targets: dict[int, FakeMember] = {}
        self.to_give_up: set[int] = set()  # eager: the serials of the members whose joining is awaited

    def __repr__(self) -> str:
        return f"<Group {[member.name for member in self.members]}>"

    def join(self, member: "FakeMember") -> None:
        self.members.append(member)
        self._rebalance(f"{member.name} joined")

    def leave(self, member: "FakeMember", why: str) -> None:
        self.members.remove(member)
        for partition in [partition for partition, owner in self.owners.items() if owner is member]:
            del self.owners[partition]
        self._rebalance(f"{member.name} {why}")

    def expire(self) -> None:
        """Members that have been silent for the session timeout are out."""
        for member in [*self.members]:
            silent_since = member.silent_since
            if silent_since is not None and trio.current_time() - silent_since > self._kafka.habits.session_secs:
                self.leave(member, "timed out")

    def _rebalance(self, why: str) -> None:
        self._kafka.tell(f"rebalance: {why}")
        self.to_give_up = {member.serial for member in self.members} if self._kafka.habits.eager else set()
        self.targets = {}
        if not self.members:
            return
        most = -(-len(self._kafka.logs) // len(self.members))
        load = dict.fromkeys((member.serial for member in self.members), 0)
        partitions = [*range(len(self._kafka.logs))]
        for partition in partitions:  # sticky, as far as it is fair
            owner = self.owners.get(partition)
            if owner is not None and load.get(owner.serial, most) < most:
                self.targets[partition] = owner
                load[owner.serial] += 1
        for partition in partitions:
            if partition not in self.targets:
                least = min(self.members, key=lambda member: load[member.serial])
                self.targets[partition] = least
                load[least.serial] += 1


class FakeMember:
    """Implements Source and Offsets. ``silent_since`` is set while its heartbeats do not arrive."""

    def __init__(
        self,
        kafka: FakeKafka,
        name: str,
        assignments: Assignments,
        parked: ParkedTraces | None = None,
        program: Callable[[], Program] = lambda: ASKS_NOTHING,
        prepare: Prepare | None = None,
    ) -> None:
        self._parked = parked
        self._prepare = prepare
        self._program = program
        self._scanners: dict[str, Scanner] = {}
        self.serial = next(kafka.serials)
        self.name = name
        self.dead = False  # killed: nothing that its cleanup does reaches the world
        self.silent_since: float | None = None
        self.positions: dict[int, int] = {}
        self.letters_read = 0  # of records not settled before
        self._settled_below: dict[int, int] = {}
        self.commits_ok = 0
        self.commits_failed = 0
        self._kafka = kafka
        self._assignments = assignments
        self._paused = False
        self._flush = 0  # records still in the client's hands when it was told to pause
        self._revoking = False
        self._commits: set[trio.CancelScope] = set()
        self._thread = trio.Lock()

    def __repr__(self) -> str:
        return f"<FakeMember {self.name} {self.positions}>"

    # -- faults

    def cut(self) -> None:
        """Its network goes; it knows nothing of it."""
        if self.silent_since is None:
            self.silent_since = trio.current_time()

    def mend(self) -> None:
        if not self.dead:
            self.silent_since = None

    def die(self) -> None:
        self.cut()
        self.dead = True

    def rewind(self, partition: int, offset: int) -> None:
        """The log as this member sees it goes back (a new leader without the newest records).

        The real edge then reads from the log's start, so that nothing that is held can be skipped.
        """
        if offset < self.positions.get(partition, 0):
            self.positions[partition] = offset
            self._settled_below[partition] = offset  # whatever stands there now may be new

    # -- Source

    async def poll(self) -> Polled:
        habits, chance = self._kafka.habits, self._kafka.chance
        async with self._thread:
            await trio.sleep(chance.uniform(0, habits.max_delay_secs))
            if not self._reaches():
                await trio.sleep(chance.uniform(0.1, habits.idle_wait_secs + 0.1))
                return Polled(wall_ms())
            await self._keep_membership()
            if not self._readable:
                await trio.sleep(chance.uniform(0.05, habits.idle_wait_secs))
            return self._fetch() if self._reaches() else Polled(wall_ms())

    async def pause(self) -> None:
        await trio.lowlevel.checkpoint()
        self._paused = True
        self._flush = self._kafka.chance.choice([0, 0, 5]) if self.positions else 0

    async def seek(self, positions: Mapping[int, int]) -> None:
        async with self._thread:
            starts = {partition.id: partition.start for partition in self._assignments}
            for id in positions.keys() & self.positions.keys():
                self.positions[id] = positions[id]
                self._settled_below[id] = starts[id]

    def finish(self) -> None:
        pass

    async def resume(self) -> None:
        await trio.lowlevel.checkpoint()
        self._paused = False

    # -- Offsets

    async def commit(self, commits: Mapping[int, Commit]) -> None:
        """A revocation waits for what the committer settles, and so ends the committer's wait for the thread."""
        try:
            if self._revoking:
                raise CannotCommit("a rebalance is under way")
            with trio.CancelScope() as scope:
                self._commits.add(scope)
                try:
                    async with self._thread:
                        await self._commit(commits)
                finally:
                    self._commits.discard(scope)
            if scope.cancelled_caught:
                raise CannotCommit("a rebalance came first")
            if not commits.keys() <= self.positions.keys():
                raise CannotCommit("partitions have gone to another member")
        except CannotCommit:
            self.commits_failed += 1
            raise
        self.commits_ok += 1

    async def leave(self) -> None:
        """Leave the group in good order, if the broker can be reached; partitions are revoked on the way."""
        async with self._thread:
            await trio.sleep(self._kafka.chance.uniform(0, self._kafka.habits.max_delay_secs))
            await self._revoke([*self.positions])
            while not self._reaches():
                await trio.sleep(0.1)
            if self in self._kafka.group.members:
                self._kafka.group.leave(self, "left")

    # --

    def _reaches(self) -> bool:
        return not self._kafka.down and self.silent_since is None

    @property
    def _readable(self) -> bool:
        logs = self._kafka.logs
        return not self._paused and any(logs[id].end > position for id, position in self.positions.items())

    async def _keep_membership(self) -> None:
        group = self._kafka.group
        group.expire()
        if self not in group.members:
            if self.positions:
                self._kafka.tell(f"{self.name} has lost {sorted(self.positions)}")
                self._assignments.lost([*self.positions])
                self.positions.clear()
            group.join(self)
            if self not in group.targets.values():
                self._assignments.assigned({})
        if self._kafka.habits.eager:
            if self.serial in group.to_give_up:
                await self._revoke([*self.positions])
                group.to_give_up.discard(self.serial)
            if group.to_give_up:
                return
        else:
            await self._revoke([id for id in self.positions if group.targets.get(id) is not self])
        await self._take([id for id, member in group.targets.items() if member is self and id not in group.owners])

    async def _revoke(self, ids: Sequence[int]) -> None:
        if not ids:
            return
        self._kafka.tell(f"{self.name} gives up {sorted(ids)}")
        self._revoking = True
        for scope in self._commits:
            scope.cancel()
        try:
            commits = await self._assignments.revoked(ids)
        finally:
            self._revoking = False
        try:
            await self._commit(commits)
        except CannotCommit as error:
            self._kafka.tell(f"{self.name} could not commit on revoke: {error}")
        for id in ids:
            self.positions.pop(id, None)
            if self._kafka.group.owners.get(id) is self:
                del self._kafka.group.owners[id]

    async def _take(self, ids: Iterable[int]) -> None:
        group = self._kafka.group
        if self not in group.members or self.silent_since is not None:
            return  # while it was giving up partitions it was put out
        starts = {id: self._kafka.start_of(id) for id in ids}
        if self._parked is not None:
            starts = self._parked.take_over(starts, lambda: None)
        if self._prepare is not None:
            await self._prepare(starts)
        for id, start in starts.items():
            group.owners[id] = self
            self.positions[id] = start.replay_from
            self._settled_below[id] = start.offset
        if starts:
            self._kafka.tell(f"{self.name} is assigned {starts}")
            for id, commit in self._assignments.assigned(starts).items():
                self._write(id, commit)

    def _fetch(self) -> Polled:
        habits, chance, now = self._kafka.habits, self._kafka.chance, wall_ms()
        room = chance.randint(1, habits.max_poll_records)
        if self._paused:
            room, self._flush = self._flush, 0
        entries = []
        for id in chance.sample([*self.positions], len(self.positions)):
            some = [*self._kafka.logs[id].after(self.positions[id], chance.randint(0, room) if room else 0)]
            room -= len(some)
            entries += [(id, entry) for entry in some]
            if some:
                self.positions[id] = some[-1].offset + 1
        lags = {id: self._kafka.logs[id].end - position for id, position in self.positions.items()}
        ends = {id: now for id, lag in lags.items() if lag <= 0 and not self._paused}
        letters = [letter for id, entry in entries for letter in self._letters(id, entry)]
        for id, entry in entries:
            self.letters_read += len([*self._letters(id, entry)]) * (entry.offset >= self._settled_below[id])
        return Polled(now, self._records(entries), letters, ends, lags)

    def _records(self, entries: Sequence[tuple[int, Entry]]) -> Records:
        """As the log has them, unless something is asked of the spans."""
        program = self._program()
        scanner = self._scanners.get(program.fingerprint)
        if scanner is None:
            scanner = self._scanners[program.fingerprint] = Scanner(program)
        records = scanner.records() if program.asks else Records()
        for id, entry in entries:
            records.add(id, entry.offset, entry.timestamp_ms)
            if program.asks:
                scanner.read(entry.value, Encoding.AUTO, records, [])
            else:
                for fragment in entry.scanned.fragments:
                    records.append(fragment)
        return records

    async def _commit(self, commits: Mapping[int, Commit]) -> None:
        habits, chance = self._kafka.habits, self._kafka.chance
        await trio.sleep(chance.uniform(0, habits.max_delay_secs))
        while habits.commit_hangs:
            await trio.sleep(0.5)
        if self.dead or not self._reaches():
            raise CannotCommit("no broker")
        if self not in self._kafka.group.members:
            raise CannotCommit("UNKNOWN_MEMBER_ID")
        if chance.random() < habits.commit_fails_rate:
            raise CannotCommit("COORDINATOR_LOAD_IN_PROGRESS")
        for id, commit in commits.items():
            if id not in self.positions:
                continue  # given up while this commit waited for the thread
            self._write(id, commit)
        if chance.random() < habits.commit_answer_lost_rate:
            raise CannotCommit("REQUEST_TIMED_OUT")

    def _write(self, id: int, commit: Commit) -> None:
        log = self._kafka.logs[id]
        log.committed, log.metadata = commit.offset, to_metadata(commit)
        self._kafka.on_commit(self, id, commit)

    def _letters(self, partition: int, entry: Entry) -> list[DeadLetter]:
        return [
            DeadLetter(
                error.reason.value, error.detail, error.payload, self._kafka.topic, partition, entry.offset,
                entry.timestamp_ms, entry.key, entry.headers,
            )
            for error in entry.scanned.scan_errors
        ]  # fmt: skip
