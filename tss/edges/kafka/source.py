"""The input topic for trio's tasks, read as a member of the consumer group.

Each call of the client runs on a worker thread, one at a time (`CapacityLimiter(1)`; in confluent-kafka 2.16 a second
call would wait anyway). The client's callbacks go from that thread to trio's, and wait there for the answer.
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

from tss.core.conditions.program import ASKS_NOTHING, Program
from tss.core.errors import CannotCommit, CannotConnect
from tss.core.health import Health
from tss.core.measures import Meter
from tss.core.partition import Commit
from tss.core.polled import Polled
from tss.core.startposition import StartPosition
from tss.edges.kafka.connection import BrokerConnection
from tss.edges.kafka.member import BATCH_BYTES, Member, Outbox, Takeover
from tss.settings import Kafka

log = structlog.get_logger()

CLOSE_SECS = 5.0
COMMIT_SECS = 5.0  # an answer takes milliseconds
UNHEARD_SECS = 60.0  # no further commit is sent for this long while one has no answer
POLLED_SECS = 0.5  # the source counts as polled when its last poll is not longer ago
STALLED_SECS = 2.0  # as before, while a commit waits: a paused consumer waits a second between two polls
LOOK_SECS = 0.2  # between two checks whether the source is still polled
TURN_SECS = 1.0  # that a poll waits for another call to end

Prepare = Callable[[Mapping[int, StartPosition]], Awaitable[None]]
Bound = Mapping[int, tuple[Commit, object]]  # each commit, with the assignment of its partition at that time


class RebalanceListener(Protocol):
    """Hears of the partitions. Called on trio's thread during a poll, or while closing."""

    def assigned(self, starts: Mapping[int, StartPosition]) -> dict[int, Commit]:
        """These partitions are assigned; empty when the group assigns none. Returns what to commit at once."""

    async def revoked(self, ids: Sequence[int]) -> dict[int, Commit]:
        """These partitions are being revoked. Returns what to commit for them before."""

    def lost(self, ids: Sequence[int]) -> None:
        """These partitions already belong to another member."""

    def identify(self, topic: str) -> None:
        """The id of the topic, which was unknown at the assignment."""


@attrs.define(eq=False)
class _Answer:
    """The answer to a commit."""

    event: trio.Event = attrs.field(factory=trio.Event)
    error: CannotCommit | CannotConnect | None = None


class KafkaSource:
    """`InputReader` and `Offsets` of the tasks. Use `open`."""

    def __init__(
        self,
        kafka: Kafka,
        listener: RebalanceListener,
        meter: Meter,
        health: Health,
        program: Callable[[], Program],
        rules: Callable[[], Program | None],
        outbox: Outbox | None,
        parked: Takeover | None,
        component: str,
        keeping: bool,
        poll_bytes: int,
        prepare: Prepare | None,
    ) -> None:
        self._kafka = kafka
        self._component = component
        self._keeping = keeping
        self._poll_bytes = poll_bytes
        self._prepare = prepare
        self._program = program
        self._rules = rules
        self._outbox = outbox
        self._parked = parked
        self._listener = listener
        self._meter = meter
        self._health = health
        self._connection = BrokerConnection(kafka.brokers, kafka.input_topic, kafka.group_protocol, component)
        self._one_at_a_time = trio.CapacityLimiter(1)
        self._assignment: dict[int, object] = {}  # by partition: a new object for each assignment
        self._revoking = False
        self._commits: set[trio.CancelScope] = set()  # of commits that wait for their turn, or for the answer
        self._unheard_since = -math.inf  # when the commit without an answer was sent
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
        program: Callable[[], Program] = lambda: ASKS_NOTHING,
        rules: Callable[[], Program | None] = lambda: None,
        outbox: Outbox | None = None,
        parked: Takeover | None = None,
        close_secs: float = CLOSE_SECS,
        component: str = "kafka",
        keeping: bool = False,
        poll_bytes: int = BATCH_BYTES,
        prepare: Prepare | None = None,
    ) -> AsyncIterator[Self]:
        """Join the group, and leave it at the end, within ``close_secs``. Partitions are assigned inside `poll`.

        ``program``: what the scan finds out about the spans of each record. ``rules``: the same for the force
        rules. Both may change at any time; the polling thread asks for them. ``outbox``: the destination that commits
        offsets too. ``parked``: takes over parked traces. ``component``: the name in /health. ``keeping``: whether a poll
        returns the records' headers. ``poll_bytes``: a poll ends with the record that reaches this size.
        ``prepare`` is called with the starts before the listener hears of an assignment.

        Raises CannotConnect for settings that the client refuses.
        """
        source = cls(
            kafka, listener, meter, health, program, rules, outbox, parked, component, keeping, poll_bytes, prepare
        )
        health.starting(component, "joining the consumer group")
        await source._join(client_id)
        try:
            yield source
        finally:
            await source._close(close_secs)

    async def poll(self) -> Polled:
        """The records that arrive within 0.1 s. Rebalances happen inside. Raises CannotConnect."""
        with trio.move_on_after(TURN_SECS) as turn:
            await self._one_at_a_time.acquire()
        if turn.cancelled_caught:  # librdkafka still tries an abandoned commit
            self._health.down(self._component, "a commit is without an answer")
            return Polled(time.time_ns() // 1_000_000)
        self._polling = True
        try:
            # Never abandoned: records that a poll has read must not be lost. Every wait in it is bounded.
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
        """Stop fetching. Polls go on, to keep the membership."""
        await trio.to_thread.run_sync(self._member.pause, limiter=self._one_at_a_time)

    async def resume(self) -> None:
        """Fetch again, from where the last poll ended."""
        await trio.to_thread.run_sync(self._member.resume, limiter=self._one_at_a_time)

    async def hold(self, ids: Collection[int]) -> None:
        """Stop fetching exactly these partitions. A revoked partition is no longer held."""
        await trio.to_thread.run_sync(self._member.hold, ids, limiter=self._one_at_a_time)

    async def seek(self, positions: Mapping[int, int]) -> None:
        """Read these partitions from other positions."""
        await trio.to_thread.run_sync(self._member.seek, positions, limiter=self._one_at_a_time)

    def finish(self) -> None:
        """There are no more polls: commits wait for their answers themselves."""
        self._finished = True

    async def commit(self, commits: Mapping[int, Commit]) -> None:
        """Commit by partition. Raises CannotCommit when a part failed, CannotConnect after a fatal error.

        It must not wait for a revocation. The revocation waits for batches under way, these wait for the committer, and
        the committer waits here. So a revocation ends this wait, and commits itself.
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
        """Send the commit; a poll brings its answer, so a broker that hangs does not stop the reading.

        False when the polls end first.
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
        """Commit while nobody polls, as at the end. Abandoned when cancelled, since librdkafka tries without end while a
        broker hangs."""
        self._unheard_since = trio.current_time()
        await trio.to_thread.run_sync(self._wait, bound, limiter=self._one_at_a_time, abandon_on_cancel=True)

    def _wait(self, bound: Bound) -> None:
        try:
            self._of_ours(self._member.commit_now, bound)
        finally:
            self._unheard_since = -math.inf

    def _of_ours(self, commit: Callable[[Mapping[int, Commit]], None], bound: Bound) -> None:
        """Commit only partitions whose assignment is still the same. For others, even if they were assigned again, another
        owner may have committed more."""
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
            self._program,
            self._rules,
            self._outbox,
            self._parked,
            self._keeping,
            self._poll_bytes,
            limiter=self._one_at_a_time,
        )

    async def _close(self, close_secs: float) -> None:
        # Shielded: after leaving, the other members go on at once, and not at the session's end. Bounded, then left to
        # its thread: without a broker it can take for ever.
        with trio.move_on_after(close_secs, shield=True) as scope:
            await trio.to_thread.run_sync(self._member.close, limiter=self._one_at_a_time, abandon_on_cancel=True)
        if scope.cancelled_caught:
            log.warning("the consumer group was not left in time: its other members wait for the session's end")

    def _tell(self) -> None:
        self._connection.tell(self._meter, self._health, time.monotonic())

    # -- called by _ListenerOnTrio, on trio's thread

    async def _assigned(self, starts: Mapping[int, StartPosition]) -> dict[int, Commit]:
        if self._prepare is not None:
            await self._prepare(starts)
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
    """`MemberListener` of the member: calls on its thread run on trio's, and return the answer."""

    _assigned: Callable[[Mapping[int, StartPosition]], Awaitable[dict[int, Commit]]]
    _revoked: Callable[[Sequence[int]], Awaitable[dict[int, Commit]]]
    _lost: Callable[[Sequence[int]], None]
    _identify: Callable[[str], None]
    _tell: Callable[[], None]

    def assigned(self, starts: Mapping[int, StartPosition]) -> dict[int, Commit]:
        return trio.from_thread.run(self._assigned, starts)

    def revoked(self, ids: Sequence[int]) -> dict[int, Commit]:
        return trio.from_thread.run(self._revoked, ids)

    def lost(self, ids: Sequence[int]) -> None:
        trio.from_thread.run_sync(self._lost, ids)

    def identify(self, topic: str) -> None:
        trio.from_thread.run_sync(self._identify, topic)

    def breathe(self) -> None:
        trio.from_thread.check_cancelled()
        trio.from_thread.run_sync(self._tell)
