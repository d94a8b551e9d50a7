"""Which partitions are ours, and what has to happen when one comes or goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

import structlog
import trio

from tss.core import measures
from tss.core.buffer import Buffer
from tss.core.errors import LawBroken
from tss.core.logfields import partition_fields
from tss.core.measures import Meter
from tss.core.otlp import NOTHING, Lookup
from tss.core.parked import Summary
from tss.core.partition import Commit, Partition
from tss.core.record import Record, runs
from tss.core.startposition import StartPosition

log = structlog.get_logger()

REVOKE_SECS = 10.0  # for exports in flight; a group waits max.poll.interval.ms (300 s) for a member that revokes
LOOK_SECS = 0.02


class Assignments:
    """The assigned partitions. The source calls ``assigned``, ``revoked`` and ``lost`` while a poll is under way."""

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
        lookup: Lookup = NOTHING,
    ) -> None:
        self.joined = False  # whether the group has given us our share, be it none
        self.settling = True  # False once the committer has ended: nothing in flight is settled any more
        self.trusted = True  # False when a task has died: what it left behind may be wrong, so nothing is committed
        self.parting: trio.MemorySendChannel[Mapping[int, int]] | None = None  # where positions go that end
        self._topic = topic
        self._buffer = buffer
        self._meter = meter
        self._max_skew_ms = max_skew_ms
        self._replay_secs = replay_secs
        self._commit_allowed = commits  # False for rehearsals: the group's offsets stay as they are
        self._lookup = lookup  # of what is read now; what is parked may be of another
        self._clock_ms = clock_ms  # of the output topic, where there is one: commits say since when it is to be read
        self._wall_secs = wall_secs
        self._partitions: dict[int, Partition] = {}
        self._lost: list[Partition] = []  # to be read again
        self._due: dict[int, Partition] = {}  # the assignments that what is being committed was made under
        self._read_to: dict[int, int] = {}  # the log's end of partitions that are, or were, read to it
        self._waiting_bytes = 0  # that the source holds

    def __repr__(self) -> str:
        return f"<Assignments {sorted(self._partitions)}>"

    def __iter__(self) -> Iterator[Partition]:
        return iter(self._partitions.values())

    def __len__(self) -> int:
        return len(self._partitions)

    # -- from the source

    def assigned(self, starts: Mapping[int, StartPosition]) -> dict[int, Commit]:
        """These partitions are ours from now on, read from where they say. One that is ours already comes again when
        its topic was deleted and made again.

        Returns what to commit before anything is read: where a partition without an offset is begun. A crash before
        the first regular commit would else begin at the end again, and pass over what had come meanwhile (law 1).
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
        """Read these partitions from where they say, whether they have come just now or were ours already."""
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
            )
            partition.position = start.replay_from
            self._partitions[id] = partition
            self._read_to.pop(id, None)
            self._buffer.adopt(partition)
            if self._buffer.take_over(partition, self._under_our_lookup(id, start.summaries)):
                self.reread(partition, "two_partitions")
            self._show_uncommitted(partition)
            self._meter.count(measures.RECORDS_LOST, 0, self._topic, str(id))  # an increase is seen from 0 on
        new = [id for id, start in starts.items() if not start.committed or start.shelf is not None]
        return dict(self._commits(self._partitions[id] for id in new))

    def identify(self, topic: str) -> None:
        """The brokers tell the id of the topic, which they did not when these partitions were assigned."""
        log.info("the brokers tell the id of the topic now", topic=self._topic, topic_id=topic)
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

    def _under_our_lookup(self, id: int, summaries: Mapping[bytes, Summary]) -> dict[bytes, Summary]:
        ours = {trace_id: summary.under(self._lookup) for trace_id, summary in summaries.items()}
        unlooked = sum(summary.unlooked for summary in ours.values())
        if unlooked:
            self._meter.count(measures.UNLOOKED, unlooked)
            log.warning(
                "traces were parked under other settings of exporters[].match, or by an older version: before they are "
                "decided, what they are matched by is looked up again in their spans",
                partition=id,
                traces=unlooked,
            )
        return ours

    async def revoked(self, ids: Sequence[int]) -> dict[int, Commit]:
        """These are to go to another member: returns what to commit for them before they do.

        Open traces are forgotten at once; what is on its way to a destination gets a bounded time to arrive.
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
            return dict(self._commits(going))
        finally:
            for partition in going:
                partition.gone = True

    def lost(self, ids: Sequence[int]) -> None:
        """These are another member's already: nothing may be committed for them."""
        if gone := self._drop(ids):
            self._meter.count(measures.REBALANCES, len(gone), "lost")
            log.warning(
                "partitions lost: Kafka did not hear from this replica in time, so nothing of them may be committed here; "
                "whoever gets them next reads again from the last commit, and nothing is lost",
                **partition_fields(partition.id for partition in gone),
            )

    def _drop(self, ids: Sequence[int]) -> list[Partition]:
        """Nothing of these is sent or committed any more."""
        gone = self._forget(ids)
        for partition in gone:
            partition.gone = True
        return gone

    # -- from the parker

    def reread(self, partition: Partition, reason: str) -> None:
        """What was parked of it is lost: it is to be read again from where the oldest of that begins."""
        shelf = partition.shelf
        if shelf is None or shelf.lost:
            return
        shelf.lost = reason
        if len(shelf):
            self._lost.append(partition)
        else:  # nothing to read again; a new shelf is begun once Kafka says that the partition is still ours
            partition.shelf, partition.committed = None, None

    # -- from the consumer

    def rewind(self) -> dict[int, int]:
        """Take up anew what is to be read again; returns from where. The source has to be moved before the next poll.

        What is in flight of it may arrive twice, except where this replica's memory knows better.
        """
        lost, self._lost = self._lost, []
        moves: dict[int, int] = {}
        for partition in lost:
            if self._partitions.get(partition.id) is not partition or partition.shelf is None:
                continue
            floor, reason = partition.shelf.checkpoint(partition.ledger.low_water).floor, partition.shelf.lost
            # Whoever comes next needs what this one could have replayed, be it for the memory of the dropped.
            replay_from = min(floor, partition.commit().replay_from)
            log.warning(
                "what was parked is lost: the partition is read again from where the oldest of that begins",
                partition=partition.id, offset=floor, replay_from=replay_from, reason=reason,
            )  # fmt: skip
            self._meter.count(measures.REREAD, 1, reason)
            self._drop([partition.id])
            # Not committed: what is read from there on has to be told to Kafka, whose answer says that it is still ours.
            again = StartPosition(floor, replay_from, committed=False, topic=partition.topic)
            self._take_up({partition.id: again})
            moves[partition.id] = replay_from
        return moves

    def bind(self, records: Sequence[Record]) -> list[tuple[Partition, list[Record]]]:
        """Runs of records of one partition, with the assignment that they were read under."""
        bound = []
        for run in runs(records):
            partition = self._partitions.get(run[0].partition)
            if partition is None:
                continue  # revoked inside the poll that read it
            if run[0].offset < partition.position:
                partition = self._rewound(partition, run[0].offset)
            partition.position = run[-1].offset + 1
            bound.append((partition, run))
        return bound

    def holds(self, size: int, waiting_bytes: int) -> int:
        """What was read takes so many bytes until the sweeper has taken it in; beside it the source holds some that it
        has not read yet."""
        self._buffer.polled_bytes += size + waiting_bytes - self._waiting_bytes
        self._waiting_bytes = waiting_bytes
        return size

    def bind_ends(self, ends: Mapping[int, int]) -> list[tuple[Partition, int]]:
        """Each partition read to its end, and up to when."""
        return [(self._partitions[id], wall_ms) for id, wall_ms in ends.items() if id in self._partitions]

    def reach(self, read_to: Mapping[int, int]) -> None:
        """Partitions at their end, and the offset that this is: above the last record's, there are only records that
        no reader gets, such as the markers of transactions and what was aborted."""
        self._read_to |= {id: offset for id, offset in read_to.items() if id in self._partitions}

    def is_settled(self, id: int | None, offset: int | None) -> bool:
        """Whether a record is read again only to remember: what is wrong with it was dealt with the first time."""
        partition = self._partitions.get(-1 if id is None else id)
        return partition is not None and offset is not None and offset < partition.start

    def show_lags(self, lags: Mapping[int, int]) -> None:
        """Show how far behind the read position is."""
        for id, lag in lags.items():
            if id in self._partitions:
                self._partitions[id].lag = lag
                self._meter.set(measures.CONSUMER_LAG, lag, self._topic, str(id))

    def positions(self) -> dict[int, int]:
        """Up to which offset there is nothing left to read, by partition."""
        return {partition.id: self._position(partition) for partition in self}

    def _position(self, partition: Partition) -> int:
        return max(partition.position, self._read_to.get(partition.id, 0))

    # -- from the keeper

    def needed(self) -> dict[int, int]:
        """The oldest offset that is not done with, by partition."""
        return {partition.id: partition.ledger.low_water for partition in self}

    # -- from the committer

    def due(self) -> dict[int, Commit]:
        """What has changed since it was last committed."""
        commits = {id: commit for id, commit in self._commits(self) if self._is_new(self._partitions[id], commit)}
        self._due = {id: self._partitions[id] for id in commits}
        return commits

    @staticmethod
    def _is_new(partition: Partition, commit: Commit) -> bool:
        return (commit.offset, commit.parked) != (partition.committed, partition.committed_place)

    def committed(self, commits: Mapping[int, Commit]) -> None:
        """Kafka has taken these, which were due. A partition that has gone and come back meanwhile is another."""
        for id, commit in commits.items():
            partition = self._partitions.get(id)
            if partition is not None and partition is self._due.get(id) and _is_of(partition, commit):
                partition.committed, partition.committed_place = commit.offset, commit.parked

    def distrust(self) -> None:
        """A task has died: nothing is committed any more."""
        self.trusted = False

    def _show_uncommitted(self, partition: Partition) -> None:
        """How much of the log waits for its commit, read when it is asked for: at a commit it is least, not typical."""
        ledger = partition.ledger
        self._meter.watch(measures.UNCOMMITTED, lambda: ledger.uncommitted, self._topic, str(partition.id))
        self._meter.watch(measures.OLDEST_AGE, lambda: self._oldest_age_secs(partition), self._topic, str(partition.id))

    def _oldest_age_secs(self, partition: Partition) -> float:
        since = partition.oldest_secs()
        age = 0.0 if since is None else self._wall_secs() - since
        return 0.0 if age < 0 else age  # a NaN stays one

    def _commits(self, partitions: Iterable[Partition]) -> list[tuple[int, Commit]]:
        now_ms = self._clock_ms() if self._clock_ms else None
        commits = [(each.id, each.commit(now_ms)) for each in partitions]  # which also forgets what is past
        return commits if self._commit_allowed and self.trusted else []

    def _forget(self, ids: Sequence[int]) -> list[Partition]:
        gone = [self._partitions.pop(id) for id in ids if id in self._partitions]
        for id in ids:
            self._read_to.pop(id, None)
        self._buffer.forget(gone)
        for partition in gone:
            self._forget_gauges(partition.id)
        return gone

    def _forget_gauges(self, id: int) -> None:
        for gauge in (measures.CONSUMER_LAG, measures.UNCOMMITTED, measures.OLDEST_AGE):
            self._meter.forget(gauge, self._topic, str(id))

    def _rewound(self, partition: Partition, offset: int) -> Partition:
        """The log went back (a leader elected without the newest records, a reset): take the partition up anew.

        Raises LawBroken when it went back less far than the oldest record that is held: what lies between would be
        forgotten and then committed, so the process has to begin again from what is committed. So it has whenever
        traces go to an output topic.
        """
        if offset > partition.ledger.low_water:
            raise LawBroken(
                f"partition {partition.id} is read again from {offset}, above its low water {partition.ledger.low_water}: law 1 would break"
            )
        if self._clock_ms is not None:
            # What is under way to the output topic now would go there again. A start reads back what it has.
            raise LawBroken(
                f"partition {partition.id} is read again from {offset}: begin again, so that nothing is produced twice"
            )
        log.warning("partition read again from an earlier offset", partition=partition.id, offset=offset)
        self._drop([partition.id])
        self._take_up({partition.id: StartPosition(offset, offset, committed=True, topic=partition.topic)})
        return self._partitions[partition.id]


def _is_of(partition: Partition, commit: Commit) -> bool:
    """Whether it was made with the shelf that the partition has now: Redis may have lost what it counts on."""
    if partition.shelf is None:
        return commit.parked is None
    return commit.parked is None or commit.parked.token == partition.shelf.token
