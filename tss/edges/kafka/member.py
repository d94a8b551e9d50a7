"""One member of the consumer group: everything that happens on the client's own thread.

librdkafka calls back (rebalances, errors, statistics, log lines) from inside `consume` and `close`, on the same thread.
A callback must not raise: confluent-kafka would lose the messages collected so far, or the exception. So exceptions of
callbacks are kept, and raised at the end of the call.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol

import attrs
import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from tss.core.conditions.program import ASKS_NOTHING, Program
from tss.core.errors import CannotCommit, CannotConnect, WrongSetting
from tss.core.otlp import Encoding
from tss.core.partition import Commit
from tss.core.polled import Polled, Sample
from tss.core.startposition import StartPosition
from tss.edges.kafka.connection import BrokerConnection
from tss.edges.kafka.ends import AskedEnds, PartitionEnds
from tss.edges.kafka.identity import TopicIdentity
from tss.edges.kafka.lookup import LOOKUP_SECS, OffsetLookup
from tss.edges.kafka.records import MessageReader, ReadBatch
from tss.edges.kafka_client.client_log import logger
from tss.edges.kafka_client.config import admin_config, client_config, is_incremental, unreadable_file, without_secrets
from tss.edges.kafka_client.errors import HEADLINE, cause_of, is_fatal, said
from tss.edges.kafka_client.offset_metadata import to_metadata
from tss.settings import Kafka

log = structlog.get_logger()

# `consume` waits until it has all records, or until the time is over. The time is the latency at low rates, the number
# the length of a batch: 1,000 records of 4 kB are 4 MB and 1 ms of scanning. With more records, the first ones leave the
# processor's cache again.
BATCH_RECORDS = 1_000
BATCH_SECS = 0.1
# A poll is also limited in bytes, measured after scanning, since one record may have a thousand traces. Only then is the
# size of records known, so the first batch is small, and the next ones adapt. Messages beyond the limit wait for the next
# poll. They come from a queue that is limited in bytes (see kafka_client/config).
FIRST_RECORDS = 50
BATCH_BYTES = 4 * 1024 * 1024
TOPIC_LOOK_SECS = 5.0  # between two requests while the topic is missing
LAG_LOOK_SECS = 5.0  # between two requests for the ends while paused; metrics are scraped every 15 s or so
UNREAD_TRIES = 5  # to fetch records with a wrong checksum, one try a poll
OUT_OF_RANGE = frozenset({"_AUTO_OFFSET_RESET", "OFFSET_OUT_OF_RANGE", "_LOG_TRUNCATION"})


class MemberListener(Protocol):
    """Hears of the member's partitions, on its thread."""

    def assigned(self, starts: Mapping[int, StartPosition]) -> dict[int, Commit]:
        """These partitions are assigned. Returns what to commit before anything is read."""

    def revoked(self, ids: Sequence[int]) -> dict[int, Commit]:
        """These partitions are being revoked. Returns what to commit before."""

    def lost(self, ids: Sequence[int]) -> None:
        """These partitions already belong to another member."""

    def identify(self, topic: str) -> None:
        """The id of the topic, which the brokers did not tell at the assignment."""

    def breathe(self) -> None:
        """Called several times a second during a long call. Raises when the call was cancelled."""


class Outbox(Protocol):
    """A destination that commits offsets in transactions. Called on the member's thread."""

    @property
    def held_bytes(self) -> int:
        """Bytes that it keeps of written records."""

    def is_member(self, membership: bytes) -> None:
        """Take in the consumer group's metadata of this replica; empty when it is no member."""

    def identify(self, topic: str) -> None:
        """The id of the input topic, which was unknown when its partitions were assigned."""

    def prepare(self) -> None:
        """End an open transaction of a former process, which would keep the offsets unstable. Raises nothing."""

    def read_back(self, starts: Mapping[int, StartPosition], breathe: Callable[[], None]) -> dict[int, StartPosition]:
        """The same starts, with the traces that the destination has from there on. Raises CannotConnect."""


class Takeover(Protocol):
    """Takes over the traces that earlier owners of a partition parked. Called on the member's thread."""

    def take_over(self, starts: Mapping[int, StartPosition], breathe: Callable[[], None]) -> dict[int, StartPosition]:
        """The same starts, with the parked traces, or at the floor where these are lost. Raises only what breathe raises."""


Hear = Callable[[CannotCommit | CannotConnect | None], None]


@attrs.define
class _Call:
    """What happened in one call of `consume`."""

    gone: set[int] = attrs.field(factory=set)  # revoked or lost partitions: messages collected before are not ours
    failure: BaseException | None = None


class Member:
    """A consumer of the group, used by one thread at a time. Raises CannotConnect after a fatal error."""

    def __init__(
        self,
        kafka: Kafka,
        client_id: str,
        listener: MemberListener,
        connection: BrokerConnection,
        program: Callable[[], Program] = lambda: ASKS_NOTHING,
        rules: Callable[[], Program | None] = lambda: None,
        outbox: Outbox | None = None,
        parked: Takeover | None = None,
        keeping: bool = False,
        poll_bytes: int = BATCH_BYTES,
    ) -> None:
        self._topic = kafka.input_topic
        self._poll_bytes = min(poll_bytes, BATCH_BYTES)
        self._waiting: list[
            Message
        ] = []  # in order, for the next poll; no newer message of these partitions was handed over
        self._program = program
        self._rules = rules
        # For each of the two programs half of a poll: so small limits have a small memory of answers.
        memo_bytes = self._poll_bytes // 2
        self._reader = MessageReader(kafka.input_topic, Encoding(kafka.encoding), program(), keeping, memo_bytes)
        self._reset = kafka.auto_offset_reset
        self._incremental = is_incremental(kafka)
        self._listener = listener
        self._connection = connection
        self._outbox = outbox
        self._parked = parked
        self._ends = PartitionEnds()
        self._batch_records = FIRST_RECORDS
        self._positions: dict[
            int, int
        ] = {}  # by assigned partition: the offset after the last record that was handed over
        self._unsettled: dict[
            int, int
        ] = {}  # by assigned partition: lower offsets are replayed, only to remember their decisions
        self._unread_tries: dict[int, int] = {}  # by assigned partition, while its next records cannot be read
        self._astray: set[int] = set()  # partitions whose position does not exist any more
        self._paused = False
        self._held: set[int] = set()  # partitions that `hold` paused
        self._unheard: dict[
            tuple[tuple[int, int], ...], list[Hear]
        ] = {}  # commits without an answer, by their partitions and offsets
        self._call = _Call()
        self._topic_partitions = 0  # unknown until the first statistics
        self._next_look = 0.0
        self._next_lag_look = 0.0
        self._client = self._connect(client_config(kafka, client_id))
        admin_client = partial(self._admin_client, kafka, client_id)
        self._asked_ends = AskedEnds(self._topic, admin_client)
        self._identity = TopicIdentity(self._topic, admin_client)
        self._lookup = OffsetLookup(
            self._client, self._topic, connection, listener.breathe, admin_client, self._identity
        )
        self._replaced = False  # the topic was made again: the next poll begins anew

    def __repr__(self) -> str:
        return f"<Member of {self._topic} positions {self._positions} paused {self._paused} astray {self._astray}>"

    def _admin_client(self, kafka: Kafka, client_id: str) -> AdminClient:
        return AdminClient(admin_config(kafka, client_id))

    def _connect(self, config: dict[str, object]) -> Consumer:
        if unreadable := unreadable_file(config):
            raise WrongSetting(f"{HEADLINE}: {unreadable}")
        callbacks = {
            "error_cb": self._on_error,
            "stats_cb": self._on_statistics,
            "on_commit": self._on_commit,
            "logger": logger(),
        }
        try:
            client = Consumer(config | callbacks)
            client.subscribe([self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)
        except KafkaException as error:
            reason = without_secrets(said(cause_of(error)), config)
            raise WrongSetting(f"{HEADLINE}: {reason}, check the kafka section") from None
        return client

    # -- calls

    def poll(self) -> Polled:
        """The records that have arrived."""
        self._call = _Call()
        if self._positions:
            self._look_at_identity()
        ready = self._has_ready()
        try:
            # Rebalances happen inside: waiting messages of revoked partitions are dropped in there.
            messages = self._client.consume(*((1, 0.0) if ready else (self._batch_records, BATCH_SECS)))
        except KafkaException as error:
            self._connection.note(cause_of(error))
            messages = []
        self._raise_failures()
        before = self._positions.copy()
        read = self._read(self._with_waiting(messages))
        self._go_on_where_possible()
        self._look_for_topic()
        self._raise_failures()
        self._tell_membership()
        self._batch_records = _next_batch(self._batch_records, read, self._poll_bytes)
        reached = self._ends.reached(self._positions)
        waiting = {
            message.partition() for message in self._waiting
        }  # for these partitions librdkafka has a later position
        ends = {  # of partitions from which nothing was read
            id: ms for id, ms in reached.items() if self._positions[id] == before.get(id) and id not in waiting
        }
        read_to = self._ends.read_to(ends)
        lags = self._lags_while_paused() if self._paused else self._ends.lags(self._positions)
        lags = {id: lag for id, lag in lags.items() if self._paused or id not in waiting}
        self._ends.clear()
        sample = Sample(read.sampled, read.unkeyed, self._topic_partitions)
        now_ms = time.time_ns() // 1_000_000
        waiting_bytes = sum([len(message.value() or b"") + len(message.key() or b"") for message in self._waiting])
        waiting_bytes += self._outbox.held_bytes if self._outbox else 0
        held = read.held_bytes, waiting_bytes, self._reader.remembered_bytes
        return Polled(now_ms, read.records, read.letters, ends, lags, read.headers, sample, read_to, *held)

    def _look_at_identity(self) -> None:
        """Begin anew if the topic was made again; pass on its id if it was unknown before."""
        known = self._identity.known
        if self._replaced or self._identity.has_changed():
            self._begin_anew()
            self._raise_failures()
        elif self._identity.known != known:
            self._listener.identify(self._identity.known)
            if self._outbox:
                self._outbox.identify(self._identity.known)

    def pause(self) -> None:
        """Stop fetching, also for partitions that are assigned later."""
        self._paused = True
        self._next_lag_look = 0.0
        self._asked_ends.forget()
        self._ends.begin(self._positions)
        if self._positions:
            self._client.pause(self._places(self._positions))

    def seek(self, positions: Mapping[int, int]) -> None:
        """Read these partitions from other positions, as far as they are still assigned."""
        ours = {id: offset for id, offset in positions.items() if id in self._positions}
        self._unsettled |= ours
        self._forget_unread(ours)
        if ours:
            self._move(ours)

    def resume(self) -> None:
        """Fetch again from the positions, except held partitions."""
        self._paused = False
        self._ends.begin(self._positions)
        places = {id: position for id, position in self._positions.items() if id not in self._held}
        if places:
            self._client.resume(self._places(places))

    def hold(self, ids: Collection[int]) -> None:
        """Stop fetching exactly these partitions."""
        now = {id: self._positions[id] for id in ids if id in self._positions and id not in self._held}
        over = {id: self._positions[id] for id in self._held.difference(ids)}
        self._held = self._held.intersection(ids) | now.keys()
        self._ends.begin({*now, *over})
        if now:
            self._client.pause(self._places(now))
        if over and not self._paused:
            self._client.resume(self._places(over))

    def commit_now(self, commits: Mapping[int, Commit]) -> None:
        """Commit, and wait for the answer without a limit. Raises CannotCommit, or CannotConnect after a fatal error."""
        try:
            answered = self._client.commit(offsets=self._to_commit(commits), asynchronous=False)
        except KafkaException as error:
            refusal = self._refusal(cause_of(error), [])
        else:
            refusal = self._refusal(None, answered or [])
        if refusal:
            raise refusal

    def commit_soon(self, commits: Mapping[int, Commit], hear: Hear, partitions_at_birth: int | None = None) -> None:
        """Send a commit. A later poll calls ``hear`` with the error, or with None."""
        places = self._to_commit(commits, partitions_at_birth)
        self._unheard.setdefault(_said(places), []).append(hear)
        try:
            self._client.commit(offsets=places, asynchronous=True)
        except KafkaException as error:
            self._on_commit(cause_of(error), places)

    def _to_commit(self, commits: Mapping[int, Commit], partitions: int | None = None) -> list[TopicPartition]:
        return [
            TopicPartition(self._topic, id, commit.offset, metadata=to_metadata(commit, partitions))
            for id, commit in commits.items()
        ]

    def _refusal(
        self, error: KafkaError | None, places: Sequence[TopicPartition]
    ) -> CannotCommit | CannotConnect | None:
        refused = {f"partition {place.partition}": place.error for place in places if place.error}
        if error is not None and not refused:
            refused = {"all partitions": error}
        for reason in refused.values():
            if is_fatal(reason):
                return self._connection.refusal(reason)
        if refused:
            return CannotCommit(", ".join(f"{which}: {said(reason)}" for which, reason in refused.items()))
        return None

    def close(self) -> None:
        """Leave the group, after the partitions are revoked."""
        self._call = _Call()
        self._client.close()
        if self._call.failure:
            raise self._call.failure

    # -- callbacks

    @contextmanager
    def _keeping(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:  # noqa: BLE001  # trio's Cancelled too: it is raised at the end of the call
            self._call.failure = self._call.failure or error

    def _on_error(self, error: KafkaError) -> None:
        with self._keeping():
            self._connection.note(error)

    def _on_commit(self, error: KafkaError | None, places: list[TopicPartition]) -> None:
        with self._keeping():
            key = _said(places)
            waiting = self._unheard.get(key, [])
            if waiting:  # answers have the order of the commits
                hear = waiting.pop(0)
                if not waiting:
                    del self._unheard[key]
                hear(self._refusal(error, places))

    def _on_statistics(self, text: str) -> None:
        with self._keeping():
            statistics = json.loads(text)
            now, age = time.time(), time.monotonic() - statistics["ts"] / 1e6
            # `ts` is the monotonic clock (measured on Linux). On other systems `time` is used, in whole seconds.
            emitted = now - age if 0 <= age < 600 else statistics["time"]
            partitions = statistics["topics"].get(self._topic, {}).get("partitions", {})
            self._topic_partitions = sum(1 for id in partitions if id != "-1")  # -1 is librdkafka's internal one
            leaders = {partitions[str(id)]["broker"] for id in self._positions if str(id) in partitions}
            self._connection.see(statistics, leaders, time.monotonic())
            if not self._paused:
                self._ends.see(self._positions, partitions, statistics["brokers"], int(emitted * 1000))

    def _on_assign(self, _client: Consumer, places: list[TopicPartition]) -> None:
        with self._keeping():
            ids = [place.partition for place in places]
            if ids and self._outbox is not None:
                self._outbox.prepare()
            starts = self._lookup.starts(ids, self._reset) if ids else {}
            if starts and self._outbox is not None:
                # After the lookup: now the offsets are stable, so earlier transactions have ended, or can only be aborted.
                starts = self._outbox.read_back(starts, self._listener.breathe)
            starts = (
                self._unparked(starts)
                if self._parked is None
                else self._parked.take_over(starts, self._listener.breathe)
            )
            self._unsettled |= {id: start.offset for id, start in starts.items()}
            self._forget_unread(starts)
            self._assign({id: start.replay_from for id, start in starts.items()})
            self._connection.join(has_partitions=bool(ids))
            commits = self._listener.assigned(starts)
            if commits:
                self.commit_soon(commits, _log_refusal, self._lookup.partitions_at_birth)

    def _unparked(self, starts: Mapping[int, StartPosition]) -> dict[int, StartPosition]:
        """The starts while parking is switched off: partitions with traces parked earlier begin at the floor."""
        for id, start in starts.items():
            if start.parked is not None and start.parked.floor < start.offset:
                log.warning(
                    "parking is off: the partition is read from where its oldest parked trace begins",
                    partition=id,
                    reason="off",
                )
        return {id: attrs.evolve(start.at_floor(), parked=None) for id, start in starts.items()}

    def _on_revoke(self, _client: Consumer, places: list[TopicPartition]) -> None:
        ids = self._known(places)
        with self._keeping():
            self._tell_membership()  # transactions under way may still commit, with the current generation
            commits = self._listener.revoked(ids) if ids else {}
            if commits:
                # Without waiting for the answer, since a broker may hang. Only the order matters: librdkafka sends the
                # commit before it tells the group that the revocation is done.
                self.commit_soon(commits, _log_refusal)
        self._unassign(places)

    def _on_lost(self, _client: Consumer, places: list[TopicPartition]) -> None:
        ids = self._known(places)
        self._connection.leave()
        with self._keeping():
            if self._outbox is not None:
                self._outbox.is_member(b"")
            if ids:
                self._listener.lost(ids)
        self._unassign(places)

    def _tell_membership(self) -> None:
        """Pass the group's metadata on. The outbox must not ask the client for it: the client lets in one thread at a
        time, and this thread may be in a callback that waits for a transaction."""
        if self._outbox is None:
            return
        id = self._client.memberid()
        membership = self._client.consumer_group_metadata()
        # Without a member id the brokers do not check who commits (KIP-447), and would fence nobody.
        self._outbox.is_member(membership if id and id.encode() in membership else b"")

    # -- assignments

    def _known(self, places: Iterable[TopicPartition]) -> list[int]:
        return [place.partition for place in places if place.partition in self._positions]

    def _places(self, positions: Mapping[int, int]) -> list[TopicPartition]:
        return [TopicPartition(self._topic, id, offset) for id, offset in positions.items()]

    def _assign(self, positions: Mapping[int, int]) -> None:
        self._positions |= positions
        self._ends.begin(positions)
        if self._incremental:
            self._drop_waiting(positions)
            self._client.incremental_assign(self._places(positions))
        else:
            self._waiting.clear()  # all partitions are fetched again from their positions
            self._client.assign(self._places(self._positions))
        paused = {id: at for id, at in self._positions.items() if self._paused or id in self._held}
        if paused:
            self._client.pause(self._places(paused))
        going = {id: at for id, at in positions.items() if id not in paused}
        if going:
            # librdkafka keeps a pause beyond the assignment (seen with 2.16). A partition that was revoked while paused,
            # and assigned again after the others were resumed, would never be fetched.
            self._client.resume(self._places(going))

    def _unassign(self, places: list[TopicPartition]) -> None:
        for place in places:
            self._call.gone.add(place.partition)
            self._astray.discard(place.partition)
            self._held.discard(place.partition)
            self._positions.pop(place.partition, None)
            self._unsettled.pop(place.partition, None)
        self._drop_waiting({place.partition for place in places})
        self._forget_unread([place.partition for place in places])
        self._ends.begin(place.partition for place in places)
        with self._keeping():
            if self._incremental:
                self._client.incremental_unassign(places)
            else:
                self._client.unassign()

    def _move(self, positions: Mapping[int, int]) -> None:
        """Read from other positions, by assigning again: `seek` is refused while a partition is not being fetched."""
        if self._incremental:
            self._client.incremental_unassign(self._places(positions))
        self._assign(positions)

    def _begin_anew(self) -> None:
        """The topic was deleted and made again: treat its partitions as revoked, and as assigned again."""
        self._replaced = False
        places = self._places(self._positions)
        if self._incremental:
            self._client.incremental_unassign(places)
        for place in places:
            self._held.discard(place.partition)
            del self._positions[place.partition]
        self._on_assign(self._client, places)

    # -- messages

    def _raise_failures(self) -> None:
        failure = self._call.failure or self._connection.refused
        if failure:
            raise failure

    def _read(self, messages: Sequence[Message]) -> ReadBatch:
        gone = self._call.gone
        self._reader.use(self._program(), self._rules())
        read = self._reader.read(messages, self._positions, gone, self._poll_bytes)
        left = messages[read.taken :]
        stale = read.stale.union(
            id for message in left if (id := message.partition()) in gone and id in self._positions
        )
        self._waiting += [message for message in left if message.partition() not in gone]
        for error, id in read.errors:
            self._on_message_error(error, id)
        for id in [id for id in self._unread_tries if not self._reader.is_unread(id)]:
            del self._unread_tries[id]
        for gap in read.gaps:
            # Replayed records were delivered before, so they are not lost.
            first = max(gap.first, self._unsettled.get(gap.partition, 0))
            if first < gap.after:
                self._connection.lose_unread(gap.partition, first, gap.after, gap.reason)
        if stale:
            self._move({id: self._positions[id] for id in stale})
        return read

    def _is_ready(self, message: Message) -> bool:
        return not self._paused and message.partition() not in self._held

    def _has_ready(self) -> bool:
        return any(self._is_ready(message) for message in self._waiting)

    def _with_waiting(self, messages: Sequence[Message]) -> Sequence[Message]:
        """The messages to read now: waiting ones first, then new ones. Those of paused or held partitions go on waiting."""
        if not self._waiting:
            return messages
        waiting = {message.partition() for message in self._waiting if not self._is_ready(message)}
        together = [*self._waiting, *messages]
        self._waiting = [message for message in together if message.partition() in waiting]
        return [message for message in together if message.partition() not in waiting]

    def _drop_waiting(self, ids: Collection[int]) -> None:
        """Drop waiting messages of partitions that are revoked, or read from other positions."""
        self._waiting = [message for message in self._waiting if message.partition() not in ids]

    def _lags_while_paused(self) -> dict[int, int]:
        """Lags by partition. While paused librdkafka fetches nothing and does not learn of new records, so the ends are
        asked every LAG_LOOK_SECS."""
        ends = self._asked_ends.heard()
        now = time.monotonic()
        if self._positions and now >= self._next_lag_look:
            self._next_lag_look = now + LAG_LOOK_SECS
            self._asked_ends.ask(self._positions)
        return {id: max(0, end - self._positions[id]) for id, end in ends.items() if id in self._positions}

    def _on_message_error(self, error: KafkaError, id: int | None) -> None:
        if error.name() in OUT_OF_RANGE and id in self._positions:
            self._astray.add(id)
        elif error.name() == "_MAX_POLL_EXCEEDED":
            # librdkafka then calls on_lost.
            log.warning(
                "Kafka was not polled for longer than max.poll.interval.ms: the group has taken the partitions",
                reason=said(error),
            )
        self._connection.note(error)

    def _go_on_where_possible(self) -> None:
        """Go on at the first record where a position does not exist any more (retention, or a new leader without the newest
        records). So no readable record is skipped."""
        if not self._astray:
            return
        if self._identity.has_changed(now=True):  # this poll's records are of the old topic, and are handed over first
            self._replaced = True
            self._astray.clear()
            return
        around = {id: self._around(id) for id in self._astray if self._reader.is_unread(id)}
        if around:
            self._move(around)
        ids = sorted(self._astray.difference(around))
        self._astray.clear()
        if not ids:
            return
        first = self._lookup.first(ids)
        for id in ids:
            if first[id] > self._positions[id]:
                # Replayed records were delivered before, so they are not lost.
                wanted = max(self._positions[id], self._unsettled[id])
                if first[id] > wanted:
                    self._connection.lose(id, wanted, first[id])
            else:
                log.warning(
                    "the partition ends before the position: it is read again from its first record", partition=id
                )
        self._unsettled |= {id: min(at, self._unsettled[id]) for id, at in first.items()}
        self._move(first)

    def _around(self, id: int) -> int:
        """The offset to read at after a batch with a wrong checksum. librdkafka (2.16) looks for the next batch in the wrong
        place of the answer, and then fetches at a random offset.

        The bytes may have changed on the network, so the batch is fetched UNREAD_TRIES times. Its number of offsets is
        unknown, so it is then skipped offset by offset, until a record can be read.
        """
        tries = self._unread_tries[id] = self._unread_tries.get(id, 0) + 1
        at = self._positions[id]
        if tries == 1:
            log.warning("records cannot be read: they are asked for again", partition=id, offset=at, tries=UNREAD_TRIES)
        return at + (tries > UNREAD_TRIES)

    def _forget_unread(self, ids: Iterable[int]) -> None:
        """These partitions are read from other positions now."""
        for id in ids:
            self._unread_tries.pop(id, None)
        self._reader.forget(ids)

    def _look_for_topic(self) -> None:
        """Check whether a missing topic exists by now. librdkafka reports only once that it is missing. It reports nothing
        when the topic appears, if other members own its partitions."""
        now = time.monotonic()
        if not self._connection.topic_missing or now < self._next_look:
            return
        self._next_look = now + TOPIC_LOOK_SECS
        try:
            topic = self._client.list_topics(self._topic, timeout=LOOKUP_SECS).topics[self._topic]
        except KafkaException as error:
            self._connection.note(cause_of(error))
        else:
            self._connection.topic_missing = not topic.partitions


def _said(places: Iterable[TopicPartition]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted((place.partition, place.offset) for place in places))


def _log_refusal(error: CannotCommit | CannotConnect | None) -> None:
    if error:
        log.warning(
            "offsets were not committed on a revocation: the next owner reads their records again", reason=str(error)
        )


def _next_batch(records: int, read: ReadBatch, poll_bytes: int) -> int:
    """The number of records to ask for next, from the mean size of those just read. It at most doubles each time."""
    if not len(read.records):
        return records
    # Messages also have keys and headers until they are read; the size of these is known for a sample.
    mean = max(1, read.held_bytes // len(read.records) + read.beside_bytes // max(1, read.looked))
    return max(1, min(BATCH_RECORDS, 2 * records, poll_bytes // mean))
