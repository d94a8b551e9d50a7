"""The partitions that are assigned to this replica, and what happens in a rebalance."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

import attrs
import structlog
import trio

from tss.core import measures
from tss.core.buffer import Buffer
from tss.core.conditions.program import Program
from tss.core.errors import LawBroken
from tss.core.logfields import partition_fields
from tss.core.measures import Meter
from tss.core.otlp import Records
from tss.core.parked import Summary
from tss.core.partition import Commit, Partition
from tss.core.startposition import StartPosition
from tss.core.streamtime import NO_TIME
from tss.core.timeline import ALWAYS, NEVER, Timeline
from tss.state.rulesets import Rulesets

log = structlog.get_logger()

REVOKE_SECS = (
    10.0  # for exports in flight; the group waits max.poll.interval.ms (300 s) for a member that gives up partitions
)
LOOK_SECS = 0.02
LEARN_SECS = 5.0  # for the texts of earlier rulesets
CLOCKS_SECS = 5  # the clocks of two hosts differ by less


@attrs.frozen
class Run:
    """Records of one poll, all of one partition, with ascending offsets: from number ``first`` to before ``stop``."""

    partition: Partition
    records: Records
    first: int
    stop: int


class Assignments:
    """The assigned partitions. Kafka's client calls ``assigned``, ``revoked`` and ``lost`` inside a poll."""

    def __init__(
        self,
        topic: str,
        buffer: Buffer,
        meter: Meter,
        *,
        max_skew_ms: int,
        replay_secs: int,
        commits: bool,
        clock_ms: Callable[[], int] | None = None,
        wall_secs: Callable[[], float] = time.time,
        rulesets: Rulesets | None = None,
        rules: Callable[[], Program | None] = lambda: None,
    ) -> None:
        self.joined = False  # whether the group has assigned our partitions; there may be none for us
        self.settling = True  # False once the committer has ended: no trace in flight is settled any more
        self.trusted = True  # False when a task has died: its bookkeeping may be wrong, so nothing is committed
        self.parting: trio.MemorySendChannel[Mapping[int, int]] | None = (
            None  # receives the read positions of partitions that are revoked
        )
        self.tell_ended: Callable[[Iterable[Partition]], Awaitable[None]] | None = (
            None  # of the parker, to be called between the making of a commit and Kafka's taking it
        )
        self._topic = topic
        self._buffer = buffer
        self._meter = meter
        self._max_skew_ms = max_skew_ms
        self._replay_secs = replay_secs
        self._commit_allowed = commits  # False for rehearsals: the group's offsets stay as they are
        self._rules = rules  # the program of the force rules, as they are now
        self._rulesets = rulesets  # None: nothing is decided
        if rulesets is not None:
            rulesets.serve(lambda: self)
            rulesets.watch(lambda _change: self.change_rules())
        self.hurried = False  # the committer is to commit at once
        self.waiting: trio.CancelScope | None = None  # of the committer, until its next commit
        self._clock_ms = clock_ms  # of the output topic, if there is one: a commit says from which time on to read it
        self._wall_secs = wall_secs
        self._partitions: dict[int, Partition] = {}
        self._lost: list[Partition] = []  # to be read again
        self._due: dict[int, Partition] = {}  # the assignment of each commit that is under way
        self._read_to: dict[int, int] = {}  # the end offset of partitions that were read to their end
        self._waiting_bytes = 0  # held by the source, not yet read

    def __repr__(self) -> str:
        return f"<Assignments {sorted(self._partitions)}>"

    def __iter__(self) -> Iterator[Partition]:
        return iter(self._partitions.values())

    def __len__(self) -> int:
        return len(self._partitions)

    # -- called by the source

    async def learn(self, starts: Mapping[int, StartPosition]) -> None:
        """Look up the rulesets that decided the partitions before, within LEARN_SECS. Call it before ``assigned``."""
        if self._rulesets is not None:
            names = dict.fromkeys(fingerprint for start in starts.values() for _, fingerprint in start.rules)
            with trio.move_on_after(LEARN_SECS):
                await self._rulesets.learn(names)

    def assigned(self, starts: Mapping[int, StartPosition]) -> dict[int, Commit]:
        """These partitions are ours from now on, read from their start positions. A partition that is ours already comes
        again if its topic was deleted and made again.

        Returns the commits to make before anything is read: the start position of each partition without a committed offset.
        Without them, a crash before the first regular commit would start at the end again, and skip the records in between
        (law 1).
        """
        self.joined = True
        came = starts.keys() - self._partitions.keys()
        if came:
            self._meter.count(measures.REBALANCES, len(came), "assigned")
        commits = self._take_up(starts)
        if starts:
            told = {id: start.told() for id, start in starts.items()}
            log.info("partitions assigned", **partition_fields(starts, starts=told))
        return commits

    def _take_up(self, starts: Mapping[int, StartPosition]) -> dict[int, Commit]:
        """Read these partitions from their start positions, whether they are newly assigned or were ours already."""
        for id, start in starts.items():
            if start.anew:
                self._replace(id)
            committed = start.offset if start.committed else None
            partition = Partition(
                id,
                start.offset,
                self._max_skew_ms,
                committed=committed,
                replay_from=start.replay_from,
                replay_secs=self._replay_secs,
                delivered=dict(start.output_traces),
                since_ms=start.since_ms,
                shelf=start.shelf,
                end=start.end,
                topic=start.topic,
                rules=self._timeline(start),
                settled_second=self._settled_second(start),
            )
            if not start.rules:
                partition.committed_rules = ()  # so that the next commit names the ruleset
            partition.position = start.replay_from
            self._partitions[id] = partition
            self._read_to.pop(id, None)
            self._buffer.adopt(partition)
            programs = {} if self._rulesets is None else self._rulesets.programs
            summaries = self._under(programs, id, start.summaries)
            if self._buffer.take_over(partition, summaries, self._rules(), programs):
                self.reread(partition, "two_partitions")
            self._show_uncommitted(partition)
            self._meter.count(measures.RECORDS_LOST, 0, self._topic, str(id))  # an increase is seen from 0 on
        if self._rulesets is not None:
            self._rulesets.look()
        new = [id for id, start in starts.items() if not start.committed or start.shelf is not None]
        if self._rulesets is not None:
            new += [id for id, start in starts.items() if not start.rules and id not in new]
        return dict(self._commits(self._partitions[id] for id in new))

    def _timeline(self, start: StartPosition) -> Timeline:
        """As the earlier owner left it. If it left none, everything is decided by the current ruleset."""
        if self._rulesets is None or (start.rules and not start.anew):
            return Timeline(start.rules)
        return Timeline(((ALWAYS, self._rulesets.current.fingerprint),))

    def _settled_second(self, start: StartPosition) -> int:
        """An earlier owner may have closed traces by its wall clock, up to the time of this assignment."""
        had_owner = (start.committed or start.rules) and not start.anew
        return int(self._wall_secs()) + CLOCKS_SECS if had_owner else NO_TIME

    def change_rules(self) -> None:
        """Begin to decide by the current ruleset on each partition where another one is in force. An earlier owner may have
        decided what closes before the end that the partition had at its assignment, so the change comes after that."""
        if self._rulesets is None:
            return
        current, changed = self._rulesets.current.fingerprint, False
        commits = self._commit_allowed and self.trusted
        for partition in self:
            is_past = partition.horizon_ms >= 0 or partition.settled_second == NO_TIME
            if partition.rules.last != current and is_past:
                partition.change_rules(current, commits=commits)
                changed = True
        if changed:
            self._rulesets.look()
            if commits:
                self.hurried = True
                if self.waiting is not None:
                    self.waiting.cancel()

    @property
    def is_awaited(self) -> bool:
        """Whether decisions may wait for a commit."""
        return any(partition.ruled_to != NEVER for partition in self)

    def identify(self, topic: str) -> None:
        """The brokers now give the topic's id, which they did not give at the assignment."""
        log.info("the brokers now give the topic's id", topic=self._topic, topic_id=topic)
        for partition in self:
            partition.topic = topic

    def _replace(self, id: int) -> None:
        """The topic was deleted and made again."""
        self._meter.count(measures.REBALANCES, 1, "replaced")
        before = self._partitions.pop(id, None)
        if before is not None:
            self._buffer.replace(before)
            self._forget_gauges(id)
        self._buffer.forget_offsets(id)

    def _under(
        self, programs: Mapping[str, Program], id: int, summaries: Mapping[bytes, Summary]
    ) -> dict[bytes, Summary]:
        ours = {trace_id: summary.under(programs) for trace_id, summary in summaries.items()}
        unscanned = sum(summary.unscanned for summary in ours.values())
        if unscanned:
            self._meter.count(measures.UNLOOKED, unscanned)
            log.warning(
                "traces were parked under other settings of policies or exporters[].match, or by an older version; their spans are "
                "scanned again before they are decided",
                partition=id,
                traces=unscanned,
            )
        return ours

    async def revoked(self, ids: Sequence[int]) -> dict[int, Commit]:
        """These go to another member of the group. Returns the commits to make before they do.

        Open traces are forgotten at once. Traces on their way to a destination get REVOKE_SECS to arrive.
        """
        parting = {id: self._position(self._partitions[id]) for id in ids if id in self._partitions}
        going = self._forget(ids)
        if going:
            self._meter.count(measures.REBALANCES, len(going), "revoked")
            log.info("partitions revoked", **partition_fields(partition.id for partition in going))
        if self.parting is not None and going:
            with suppress(trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
                self.parting.send_nowait(parting)
        try:
            with trio.move_on_after(REVOKE_SECS):
                while self.settling and any(partition.in_flight for partition in going):
                    await trio.sleep(LOOK_SECS)
            commits = dict(self._commits(going))
            if self.tell_ended is not None and commits:
                await self.tell_ended(going)
            return commits
        finally:
            for partition in going:
                partition.gone = True

    def lost(self, ids: Sequence[int]) -> None:
        """These belong to another member already: no offset may be committed for them."""
        if gone := self._drop(ids):
            self._meter.count(measures.REBALANCES, len(gone), "lost")
            log.warning(
                "partitions lost: Kafka did not hear from this replica in time, so it may not commit their offsets; their next "
                "owner reads again from the last commit, and no span is lost",
                **partition_fields(partition.id for partition in gone),
            )

    def _drop(self, ids: Sequence[int]) -> list[Partition]:
        """From now on no trace of these is sent, and no offset committed."""
        gone = self._forget(ids)
        for partition in gone:
            partition.gone = True
        return gone

    # -- called by the parker

    def reread(self, partition: Partition, reason: str) -> None:
        """The parked traces of this partition are lost: it has to be read again, from the first record of the oldest of them."""
        shelf = partition.shelf
        if shelf is None or shelf.lost:
            return
        shelf.lost = reason
        if len(shelf):
            self._lost.append(partition)
        else:  # no trace is lost; a new shelf is begun once a commit has shown that the partition is still ours
            partition.shelf, partition.committed = None, None

    # -- called by the consumer

    def rewind(self) -> dict[int, int]:
        """Begin the partitions anew that have to be read again; returns from which offsets. The caller seeks there before the
        next poll.

        Their traces in flight may be delivered twice, unless this replica's memory prevents it.
        """
        lost, self._lost = self._lost, []
        moves: dict[int, int] = {}
        for partition in lost:
            if self._partitions.get(partition.id) is not partition or partition.shelf is None:
                continue
            floor, reason = partition.shelf.checkpoint(partition.ledger.low_water).floor, partition.shelf.lost
            # The new assignment needs the same replay as the old one, to know the dropped traces again.
            replay_from = min(floor, partition.commit().replay_from)
            log.warning(
                "parked traces are lost in Redis; the partition is read again from the first record of the oldest of them",
                partition=partition.id, offset=floor, replay_from=replay_from, reason=reason,
            )  # fmt: skip
            self._meter.count(measures.REREAD, 1, reason)
            self._drop([partition.id])
            # Not committed yet: the first commit from there on shows that the partition is still ours.
            rules = partition.rules.entries
            again = StartPosition(floor, replay_from, committed=False, topic=partition.topic, rules=rules)
            self._take_up({partition.id: again})
            self._partitions[partition.id].took(partition.committed_rules)
            moves[partition.id] = replay_from
        return moves

    def bind(self, records: Records) -> list[Run]:
        """The records in runs of one partition, each with the assignment that it was read under."""
        bound = []
        for id, first, stop in records.runs():
            partition = self._partitions.get(id)
            if partition is None:
                continue  # revoked inside the poll that read it
            _, offset, _ = records.place(first)
            if offset < partition.position:
                partition = self._rewound(partition, offset)
            partition.position = records.place(stop - 1)[1] + 1
            bound.append(Run(partition, records, first, stop))
        return bound

    def holds(self, size: int, waiting_bytes: int, remembered_bytes: int = 0) -> int:
        """Count the bytes of a batch until the sweeper has taken it, those that the source holds and has not read yet, and
        those of the answers that it remembers. Returns ``size``."""
        self._buffer.remembered_bytes = remembered_bytes
        self._buffer.polled_bytes += size + waiting_bytes - self._waiting_bytes
        self._waiting_bytes = waiting_bytes
        return size

    def bind_ends(self, ends: Mapping[int, int]) -> list[tuple[Partition, int]]:
        """Our partitions among those read to their end, with the wall time (ms) up to which they were."""
        return [(self._partitions[id], wall_ms) for id, wall_ms in ends.items() if id in self._partitions]

    def reach(self, read_to: Mapping[int, int]) -> None:
        """Partitions read to their end, with the end offset. It can lie above the last record: transaction markers and aborted
        records have offsets, and no reader gets them."""
        self._read_to |= {id: offset for id, offset in read_to.items() if id in self._partitions}

    def is_settled(self, id: int | None, offset: int | None) -> bool:
        """Whether a record is only replayed for the memory. If it cannot be read, it was dead-lettered the first time."""
        partition = self._partitions.get(-1 if id is None else id)
        return partition is not None and offset is not None and offset < partition.start

    def show_lags(self, lags: Mapping[int, int]) -> None:
        """Show the lag of each partition."""
        for id, lag in lags.items():
            if id in self._partitions:
                self._partitions[id].lag = lag
                self._meter.set(measures.CONSUMER_LAG, lag, self._topic, str(id))

    def positions(self) -> dict[int, int]:
        """The read position of each partition."""
        return {partition.id: self._position(partition) for partition in self}

    def _position(self, partition: Partition) -> int:
        return max(partition.position, self._read_to.get(partition.id, 0))

    # -- called by the keeper

    def needed(self) -> dict[int, int]:
        """The low water of each partition: the oldest offset that is still held."""
        return {partition.id: partition.ledger.low_water for partition in self}

    # -- called by the committer

    def due(self) -> dict[int, Commit]:
        """The commits that differ from the last one of their partition."""
        self.change_rules()
        commits = {id: commit for id, commit in self._commits(self) if self._is_new(self._partitions[id], commit)}
        self._due = {id: self._partitions[id] for id in commits}
        return commits

    async def before_commit(self, commits: Mapping[int, Commit]) -> None:
        """Await this before Kafka is given the commits that are due."""
        if self.tell_ended is not None:
            await self.tell_ended([self._partitions[id] for id in commits if id in self._partitions])

    @staticmethod
    def _is_new(partition: Partition, commit: Commit) -> bool:
        new = commit.offset, commit.parked, commit.rules
        return new != (partition.committed, partition.committed_place, partition.committed_rules)

    def committed(self, commits: Mapping[int, Commit]) -> None:
        """Kafka has taken these, which were due. A partition that was revoked and assigned again meanwhile is left out."""
        changed = False
        for id, commit in commits.items():
            partition = self._partitions.get(id)
            if partition is None or partition is not self._due.get(id):
                continue
            if _is_of(partition, commit):
                partition.committed, partition.committed_place = commit.offset, commit.parked
            if commit.rules != partition.committed_rules:
                partition.took(commit.rules)
                changed = True
        if changed and self._rulesets is not None:
            self._rulesets.look()

    def distrust(self) -> None:
        """A task has died: from now on nothing is committed."""
        self.trusted = False

    def _show_uncommitted(self, partition: Partition) -> None:
        """Gauges of the records that are not committed. They are read at each scrape: right after a commit the value is at its
        smallest, and not typical."""
        ledger = partition.ledger
        self._meter.watch(measures.UNCOMMITTED, lambda: ledger.uncommitted, self._topic, str(partition.id))
        self._meter.watch(measures.OLDEST_AGE, lambda: self._oldest_age_secs(partition), self._topic, str(partition.id))

    def _oldest_age_secs(self, partition: Partition) -> float:
        since = partition.oldest_secs()
        age = 0.0 if since is None else self._wall_secs() - since
        return 0.0 if age < 0 else age  # a NaN stays one

    def _commits(self, partitions: Iterable[Partition]) -> list[tuple[int, Commit]]:
        now_ms = self._clock_ms() if self._clock_ms else None
        commits = [(each.id, each.commit(now_ms)) for each in partitions]  # which also forgets traces below the commit
        return commits if self._commit_allowed and self.trusted else []

    def _forget(self, ids: Sequence[int]) -> list[Partition]:
        gone = [self._partitions.pop(id) for id in ids if id in self._partitions]
        for id in ids:
            self._read_to.pop(id, None)
        self._buffer.forget(gone)
        if gone and self._rulesets is not None:
            self._rulesets.look()
        for partition in gone:
            self._forget_gauges(partition.id)
        return gone

    def _forget_gauges(self, id: int) -> None:
        for gauge in (measures.CONSUMER_LAG, measures.UNCOMMITTED, measures.OLDEST_AGE):
            self._meter.forget(gauge, self._topic, str(id))

    def _rewound(self, partition: Partition, offset: int) -> Partition:
        """The partition went back to an earlier offset (a leader without the newest records, a reset): begin it anew.

        Raises LawBroken if the offset is above the low water: records in between would be forgotten and then committed. The
        process has to start again from the committed offsets. It has to do so too when traces go to an output topic.
        """
        if offset > partition.ledger.low_water:
            raise LawBroken(
                f"partition {partition.id} is read again from {offset}, above its low water {partition.ledger.low_water}: law 1 would break"
            )
        if self._clock_ms is not None:
            # Traces under way to the output topic would be written again. A start reads back what the topic has.
            raise LawBroken(
                f"partition {partition.id} is read again from {offset}: begin again, so that nothing is produced twice"
            )
        log.warning("partition read again from an earlier offset", partition=partition.id, offset=offset)
        self._drop([partition.id])
        rules = partition.rules.entries
        self._take_up({partition.id: StartPosition(offset, offset, committed=True, topic=partition.topic, rules=rules)})
        self._partitions[partition.id].took(partition.committed_rules)
        return self._partitions[partition.id]


def _is_of(partition: Partition, commit: Commit) -> bool:
    """Whether the commit was made with the shelf that the partition has now. Redis may have lost the other shelf."""
    if partition.shelf is None:
        return commit.parked is None
    return commit.parked is None or commit.parked.token == partition.shelf.token
