"""The input topic, as a member of the consumer group: Kafka for trio.

Every call into the client runs on a worker thread, one at a time (`CapacityLimiter(1)`); what the client calls back
comes from that thread to trio's and waits for the answer there.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Protocol, Self

import attrs
import structlog
import trio

from tss.core.errors import CannotCommit, CannotConnect
from tss.core.health import Health
from tss.core.measures import Meter
from tss.core.partition import Commit
from tss.core.record import Polled, Start
from tss.edges.kafka_errors import Connection
from tss.edges.kafka_member import Member
from tss.settings import Kafka

log = structlog.get_logger()

CLOSE_SECS = 5.0


class Assignments(Protocol):
    """Who keeps what is read. All three are called while a poll, or the closing, is under way."""

    def assigned(self, starts: Mapping[int, Start]) -> None:
        """These partitions are ours from now on; empty when the group has none for us."""

    async def revoked(self, ids: Sequence[int]) -> dict[int, Commit]:
        """These are to go to another member: returns what to commit for them before they do."""

    def lost(self, ids: Sequence[int]) -> None:
        """These are another member's already."""


class KafkaSource:
    """`Source` and `Offsets` of the tasks. Use `open`."""

    def __init__(self, kafka: Kafka, assignments: Assignments, meter: Meter, health: Health) -> None:
        self._kafka = kafka
        self._assignments = assignments
        self._meter = meter
        self._health = health
        self._connection = Connection(kafka.brokers, kafka.input_topic)
        self._one_at_a_time = trio.CapacityLimiter(1)
        self._assignment: dict[int, object] = {}  # by partition: what tells one assignment of it from the next
        self._revoking = False
        self._commits: set[trio.CancelScope] = set()  # waiting for their turn, or under way
        self._member: Member

    def __repr__(self) -> str:
        return f"<KafkaSource {self._connection} {self._member}>"

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        kafka: Kafka,
        client_id: str,
        assignments: Assignments,
        meter: Meter,
        health: Health,
        *,
        close_secs: float = CLOSE_SECS,
    ) -> AsyncIterator[Self]:
        """Join the group; leave it at the end, within `close_secs`. What the group assigns is heard of in `poll`.

        Raises CannotConnect for settings that the client refuses.
        """
        source = cls(kafka, assignments, meter, health)
        health.starting("kafka", "joining the consumer group")
        await source._join(client_id)
        try:
            yield source
        finally:
            await source._close(close_secs)

    async def poll(self) -> Polled:
        """What has come in, waiting 0.1 s; rebalances are settled inside. Raises CannotConnect."""
        try:
            # Not to be abandoned: what a poll has read must not get lost, and every wait in it is bounded.
            polled = await trio.to_thread.run_sync(self._member.poll, limiter=self._one_at_a_time)
        except CannotConnect as error:
            self._health.down("kafka", str(error))
            raise
        self._tell()
        return polled

    async def pause(self) -> None:
        """Stop fetching; `poll` keeps the membership alive."""
        await trio.to_thread.run_sync(self._member.pause, limiter=self._one_at_a_time)

    async def resume(self) -> None:
        """Go on from where the last poll ended."""
        await trio.to_thread.run_sync(self._member.resume, limiter=self._one_at_a_time)

    async def commit(self, commits: Mapping[int, Commit]) -> None:
        """Commit by partition. Raises CannotCommit when some could not be, CannotConnect when none ever will be.

        Waits for the poll under way. Two things may change meanwhile. A revocation waits for what is in flight, which
        waits for the committer, which waits here: so the revocation ends this wait, and commits by itself. And a
        partition may have gone, even gone and come back: its new owner may have committed more, so ours is dropped.
        """
        if self._revoking:
            raise CannotCommit("a rebalance is under way")
        bound = {id: (commit, self._assignment.get(id)) for id, commit in commits.items()}
        with trio.CancelScope() as scope:
            self._commits.add(scope)
            try:
                # Abandoned when the stop's time is over: the answer of a broker that hangs takes 10 s.
                await trio.to_thread.run_sync(
                    partial(self._commit, bound), limiter=self._one_at_a_time, abandon_on_cancel=True
                )
            finally:
                self._commits.discard(scope)
        if scope.cancelled_caught:
            raise CannotCommit("a rebalance came first")

    def _commit(self, bound: Mapping[int, tuple[Commit, object]]) -> None:
        ours = {
            id: commit
            for id, (commit, assignment) in bound.items()
            if assignment is not None and self._assignment.get(id) is assignment
        }
        if ours:
            self._member.commit(ours)
        if len(ours) < len(bound):
            raise CannotCommit(f"partitions {sorted(bound.keys() - ours.keys())} have gone to another member")

    async def _join(self, client_id: str) -> None:
        bell = _Bell(self._assigned, self._revoked, self._lost, self._tell)
        self._member = await trio.to_thread.run_sync(
            Member, self._kafka, client_id, bell, self._connection, limiter=self._one_at_a_time
        )

    async def _close(self, close_secs: float) -> None:
        # Shielded: leaving the group lets the others go on at once instead of after the session's end. Bounded, and
        # left to its thread after that: without a broker it can take for ever.
        with trio.move_on_after(close_secs, shield=True) as scope:
            try:
                await trio.to_thread.run_sync(self._member.close, limiter=self._one_at_a_time, abandon_on_cancel=True)
            except (CannotCommit, trio.RunFinishedError) as error:
                log.warning("the consumer group was not left in order", reason=str(error))
        if scope.cancelled_caught:
            log.warning("the consumer group was not left in time; its other members wait for the session's end")

    def _tell(self) -> None:
        self._connection.tell(self._meter, self._health, time.monotonic())

    # -- called by _Bell, on trio's thread

    def _assigned(self, starts: Mapping[int, Start]) -> None:
        for id in starts:
            self._assignment[id] = object()
        self._assignments.assigned(starts)

    async def _revoked(self, ids: Sequence[int]) -> dict[int, Commit]:
        self._revoking = True
        for scope in self._commits:
            scope.cancel()
        try:
            return await self._assignments.revoked(ids)
        finally:
            self._revoking = False
            self._forget(ids)

    def _lost(self, ids: Sequence[int]) -> None:
        self._assignments.lost(ids)
        self._forget(ids)

    def _forget(self, ids: Sequence[int]) -> None:
        for id in ids:
            self._assignment.pop(id, None)


@attrs.frozen
class _Bell:
    """`Group` of the member: from its thread to trio's, and back with the answer."""

    _assigned: Callable[[Mapping[int, Start]], None]
    _revoked: Callable[[Sequence[int]], Awaitable[dict[int, Commit]]]
    _lost: Callable[[Sequence[int]], None]
    _tell: Callable[[], None]

    def assigned(self, starts: Mapping[int, Start]) -> None:
        trio.from_thread.run_sync(self._assigned, starts)

    def revoked(self, ids: Sequence[int]) -> dict[int, Commit]:
        return trio.from_thread.run(self._revoked, ids)

    def lost(self, ids: Sequence[int]) -> None:
        trio.from_thread.run_sync(self._lost, ids)

    def breathe(self) -> None:
        trio.from_thread.check_cancelled()
        trio.from_thread.run_sync(self._tell)
