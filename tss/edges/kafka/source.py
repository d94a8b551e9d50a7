"""The input topic, as a member of the consumer group: Kafka for trio.

Every call into the client runs on a worker thread, one at a time (`CapacityLimiter(1)`; confluent-kafka 2.16 would make
a second one wait anyway). What the client calls back comes from that thread to trio's and waits for the answer there.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Protocol, Self

import attrs
import structlog
import trio

from tss.core.errors import CannotCommit, CannotConnect
from tss.core.health import Health
from tss.core.measures import Meter
from tss.core.otlp import NOTHING, Lookup
from tss.core.partition import Commit
from tss.core.polled import Polled
from tss.core.startposition import StartPosition
from tss.edges.kafka.connection import BrokerConnection
from tss.edges.kafka.member import BATCH_BYTES, Member, Outbox, Takeover
from tss.settings import Kafka

log = structlog.get_logger()

CLOSE_SECS = 5.0
COMMIT_SECS = 5.0  # an answer takes milliseconds
UNHEARD_SECS = 60.0  # a broker that hangs gets no further commit for this long, unless it answers the one before
POLLED_SECS = 0.5  # the source is being polled when the last poll is no longer ago
STALLED_SECS = 2.0  # the reader, held back, waits a second between two polls
LOOK_SECS = 0.2
TURN_SECS = 1.0

Bound = Mapping[int, tuple[Commit, object]]  # each commit with the assignment that it was made under


class RebalanceListener(Protocol):
    """Who keeps what is read. All are called while a poll, or the closing, is under way."""

    def assigned(self, starts: Mapping[int, StartPosition]) -> dict[int, Commit]:
        """These partitions are ours from now on; empty when the group has none for us. Returns what to commit at once."""

    async def revoked(self, ids: Sequence[int]) -> dict[int, Commit]:
        """These are to go to another member: returns what to commit for them before they do."""

    def lost(self, ids: Sequence[int]) -> None:
        """These are another member's already."""

    def identify(self, topic: str) -> None:
        """The id of the topic, where it was not known at the assignment."""


@attrs.define(eq=False)
class _Answer:
    """The answer to a commit."""

    event: trio.Event = attrs.field(factory=trio.Event)
    error: CannotCommit | CannotConnect | None = None


class KafkaSource:
    """`Source` and `Offsets` of the tasks. Use `open`."""

    def __init__(
        self,
        kafka: Kafka,
        listener: RebalanceListener,
        meter: Meter,
        health: Health,
        lookup: Lookup,
        outbox: Outbox | None,
        parked: Takeover | None,
        component: str,
        keeping: bool,
        poll_bytes: int,
    ) -> None:
        self._kafka = kafka
        self._component = component
        self._keeping = keeping
        self._poll_bytes = poll_bytes
        self._lookup = lookup
        self._outbox = outbox
        self._parked = parked
        self._listener = listener
        self._meter = meter
        self._health = health
        self._connection = BrokerConnection(kafka.brokers, kafka.input_topic, kafka.group_protocol, component)
        self._one_at_a_time = trio.CapacityLimiter(1)
        self._assignment: dict[int, object] = {}  # by partition: what tells one assignment of it from the next
        self._revoking = False
        self._commits: set[trio.CancelScope] = set()  # that wait, for their turn or for the answer
        self._unheard_since = -math.inf  # when the commit was sent that has no answer yet
        self._polling = False
        self._finished = False
        self._polled_at = -math.inf
        self._member: Member

    def __repr__(self) -> str:
        return f"<KafkaSource {self._connection} {self._member}>"

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        kafka: Kafka,
        client_id: str,
        listener: RebalanceListener,
        meter: Meter,
        health: Health,
        *,
        lookup: Lookup = NOTHING,
        outbox: Outbox | None = None,
        parked: Takeover | None = None,
        close_secs: float = CLOSE_SECS,
        component: str = "kafka",
        keeping: bool = False,
        poll_bytes: int = BATCH_BYTES,
    ) -> AsyncIterator[Self]:
        """Join the group; leave it at the end, within `close_secs`. What the group assigns is heard of in `poll`.
        ``lookup`` is what the scan has to find of each record, ``outbox`` the destination that commits offsets too,
        ``parked`` what earlier owners have parked, ``component`` the name in /health; with ``keeping`` a poll gives the
        records' headers, too. It ends with the record that makes it hold ``poll_bytes``.

        Raises CannotConnect for settings that the client refuses.
        """
        source = cls(kafka, listener, meter, health, lookup, outbox, parked, component, keeping, poll_bytes)
        health.starting(component, "joining the consumer group")
        await source._join(client_id)
        try:
            yield source
        finally:
            await source._close(close_secs)

    async def poll(self) -> Polled:
        """What has come in, waiting 0.1 s; rebalances are settled inside. Raises CannotConnect."""
        with trio.move_on_after(TURN_SECS) as turn:
            await self._one_at_a_time.acquire()
        if turn.cancelled_caught:  # a commit that was not waited for any more is still tried by librdkafka
            self._health.down(self._component, "a commit is without an answer")
            return Polled(time.time_ns() // 1_000_000)
        self._polling = True
        try:
            # Not to be abandoned: what a poll has read must not get lost, and every wait in it is bounded.
            polled = await trio.to_thread.run_sync(self._member.poll)
        except CannotConnect as error:
            self._health.down(self._component, str(error))
            raise
        finally:
            self._one_at_a_time.release()
            self._polling, self._polled_at = False, trio.current_time()
        self._tell()
        return polled

    async def pause(self) -> None:
        """Stop fetching; `poll` keeps the membership alive."""
        await trio.to_thread.run_sync(self._member.pause, limiter=self._one_at_a_time)

    async def resume(self) -> None:
        """Go on from where the last poll ended."""
        await trio.to_thread.run_sync(self._member.resume, limiter=self._one_at_a_time)

    async def hold(self, ids: Collection[int]) -> None:
        """Stop fetching these partitions, and go on with all others; forgotten of a partition when it goes."""
        await trio.to_thread.run_sync(self._member.hold, ids, limiter=self._one_at_a_time)

    async def seek(self, positions: Mapping[int, int]) -> None:
        """Read these partitions on from elsewhere."""
        await trio.to_thread.run_sync(self._member.seek, positions, limiter=self._one_at_a_time)

    def finish(self) -> None:
        """There will be no more polls, so a commit need not wait for one to hear its answer."""
        self._finished = True

    async def commit(self, commits: Mapping[int, Commit]) -> None:
        """Commit by partition. Raises CannotCommit when some could not be, CannotConnect when none ever will be.

        Must not wait for a revocation: that waits for what is in flight, which waits for the committer, which waits
        here. So a revocation ends this wait, and commits by itself.
        """
        if self._revoking:
            raise CannotCommit("a rebalance is under way")
        if not self._finished and trio.current_time() - self._unheard_since < UNHEARD_SECS:
            raise CannotCommit("the commit before is still without an answer")
        bound = {id: (commit, self._assignment.get(id)) for id, commit in commits.items()}
        with trio.move_on_after(COMMIT_SECS) as scope:
            self._commits.add(scope)
            try:
                if not self._is_polled(POLLED_SECS) or not await self._commit_and_hear(bound):
                    await self._commit_and_wait(bound)
            finally:
                self._commits.discard(scope)
        if scope.cancelled_caught:
            raise CannotCommit(f"no answer in {COMMIT_SECS:g} s, or a rebalance came first")

    async def _commit_and_hear(self, bound: Bound) -> bool:
        """While there are polls: the answer comes through one, so a broker that hangs does not stop reading.

        False when the polls have ended first.
        """
        answer = _Answer()
        send = partial(self._member.commit_soon, hear=partial(_ring, self._hear, answer))
        await trio.to_thread.run_sync(self._of_ours, send, bound, limiter=self._one_at_a_time)
        if not answer.event.is_set():
            self._unheard_since = trio.current_time()
        while not answer.event.is_set():
            if not self._is_polled(STALLED_SECS):
                return False
            with trio.move_on_after(LOOK_SECS):
                await answer.event.wait()
        if answer.error:
            raise answer.error
        return True

    async def _commit_and_wait(self, bound: Bound) -> None:
        """When nobody polls, as for the last commit. May be abandoned: librdkafka tries again, without end, while a
        broker hangs."""
        self._unheard_since = trio.current_time()
        await trio.to_thread.run_sync(self._wait, bound, limiter=self._one_at_a_time, abandon_on_cancel=True)

    def _wait(self, bound: Bound) -> None:
        try:
            self._of_ours(self._member.commit_now, bound)
        finally:
            self._unheard_since = -math.inf

    def _of_ours(self, commit: Callable[[Mapping[int, Commit]], None], bound: Bound) -> None:
        """Of a partition that has gone, even gone and come back, the new owner may have committed more: not ours."""
        ours = {
            id: one
            for id, (one, assignment) in bound.items()
            if assignment is not None and self._assignment.get(id) is assignment
        }
        if ours:
            commit(ours)
        if len(ours) < len(bound):
            raise CannotCommit(f"partitions {sorted(bound.keys() - ours.keys())} are not ours any more")

    def _hear(self, answer: _Answer, error: CannotCommit | CannotConnect | None) -> None:
        self._unheard_since = -math.inf
        answer.error = error
        answer.event.set()

    def _is_polled(self, within_secs: float) -> bool:
        return not self._finished and (self._polling or trio.current_time() - self._polled_at < within_secs)

    async def _join(self, client_id: str) -> None:
        listener = _ListenerOnTrio(self._assigned, self._revoked, self._lost, self._listener.identify, self._tell)
        self._member = await trio.to_thread.run_sync(
            Member,
            self._kafka,
            client_id,
            listener,
            self._connection,
            self._lookup,
            self._outbox,
            self._parked,
            self._keeping,
            self._poll_bytes,
            limiter=self._one_at_a_time,
        )

    async def _close(self, close_secs: float) -> None:
        # Shielded: leaving the group lets the others go on at once instead of after the session's end. Bounded, and
        # left to its thread after that: without a broker it can take for ever.
        with trio.move_on_after(close_secs, shield=True) as scope:
            await trio.to_thread.run_sync(self._member.close, limiter=self._one_at_a_time, abandon_on_cancel=True)
        if scope.cancelled_caught:
            log.warning("the consumer group was not left in time; its other members wait for the session's end")

    def _tell(self) -> None:
        self._connection.tell(self._meter, self._health, time.monotonic())

    # -- called by _ListenerOnTrio, on trio's thread

    def _assigned(self, starts: Mapping[int, StartPosition]) -> dict[int, Commit]:
        for id in starts:
            self._assignment[id] = object()
        return self._listener.assigned(starts)

    async def _revoked(self, ids: Sequence[int]) -> dict[int, Commit]:
        self._revoking = True
        for scope in self._commits:
            scope.cancel()
        try:
            return await self._listener.revoked(ids)
        finally:
            self._revoking = False
            self._forget(ids)

    def _lost(self, ids: Sequence[int]) -> None:
        self._listener.lost(ids)
        self._forget(ids)

    def _forget(self, ids: Sequence[int]) -> None:
        for id in ids:
            self._assignment.pop(id, None)


def _ring(
    hear: Callable[[_Answer, CannotCommit | CannotConnect | None], None],
    answer: _Answer,
    error: CannotCommit | CannotConnect | None,
) -> None:
    trio.from_thread.run_sync(hear, answer, error)


@attrs.frozen
class _ListenerOnTrio:
    """`MemberListener` of the member: from its thread to trio's, and back with the answer."""

    _assigned: Callable[[Mapping[int, StartPosition]], dict[int, Commit]]
    _revoked: Callable[[Sequence[int]], Awaitable[dict[int, Commit]]]
    _lost: Callable[[Sequence[int]], None]
    _identify: Callable[[str], None]
    _tell: Callable[[], None]

    def assigned(self, starts: Mapping[int, StartPosition]) -> dict[int, Commit]:
        return trio.from_thread.run_sync(self._assigned, starts)

    def revoked(self, ids: Sequence[int]) -> dict[int, Commit]:
        return trio.from_thread.run(self._revoked, ids)

    def lost(self, ids: Sequence[int]) -> None:
        trio.from_thread.run_sync(self._lost, ids)

    def identify(self, topic: str) -> None:
        trio.from_thread.run_sync(self._identify, topic)

    def breathe(self) -> None:
        trio.from_thread.check_cancelled()
        trio.from_thread.run_sync(self._tell)
