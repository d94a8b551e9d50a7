"""Writes the rows of decisions to one place. While that place does not take them, rows are lost and counted: reading goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import structlog
import trio

from tss.core import measures
from tss.core.decision_rows import Row, RowQueue
from tss.core.delivery import Accepted, Batching, Outcome, Undeliverable
from tss.core.health import Health
from tss.core.measures import Meter
from tss.core.throttle import LogThrottle

log = structlog.get_logger()

LOOK_SECS = 0.05  # the queue has room for more than comes in this time
FIRST_PAUSE_SECS = 1.0
LONGEST_PAUSE_SECS = 30.0


class RowDestination(Protocol):
    """Where the rows go."""

    name: str
    batching: Batching

    async def send(self, rows: Sequence[Row]) -> Outcome:
        """Write all these rows, or none. Never raises for what the world may do."""


class Writing:
    """One place, and its queue."""

    def __init__(self, queue: RowQueue, to: RowDestination, meter: Meter, health: Health) -> None:
        self._queue = queue
        self._to = to
        self._meter = meter
        self._health = health
        self._component = f"exporter {to.name}"
        self._telling = LogThrottle()
        self._in_hand: list[Row] = []

    def start(self) -> None:
        """Show its metrics and its state."""
        self._health.starting(self._component)
        for outcome in ("written", "lost"):
            self._meter.count(measures.DECISION_ROWS, 0, self._to.name, outcome)

    def is_due(self, waited_secs: float) -> bool:
        """Whether a batch is to be written now."""
        waiting = len(self._queue)
        return waiting >= self._to.batching.max_traces or (waiting > 0 and waited_secs >= self._to.batching.linger_secs)

    async def flush(self) -> bool:
        """Write what waits. Returns whether it worked; if not, the batch is kept for another try."""
        while True:
            self.tell_lost()
            batch = self._in_hand or self._queue.take(self._to.batching.max_traces)
            if not batch:
                return True
            self._in_hand = batch
            outcome = await self._to.send(batch)
            if isinstance(outcome, Accepted):
                self._settle("written")
                self._health.up(self._component)
                continue
            self._failed(f"{outcome.reason}: {outcome.detail}")
            if not isinstance(outcome, Undeliverable):
                return False
            self._settle("lost")

    def tell_lost(self) -> None:
        """Count the rows for which there was no room."""
        if lost := self._queue.take_lost():
            self._meter.count(measures.DECISION_ROWS, lost, self._to.name, "lost")

    def give_up(self) -> None:
        """Count all that waits as lost."""
        self._in_hand += self._queue.take(len(self._queue))
        self._settle("lost")

    def _settle(self, outcome: str) -> None:
        self._meter.count(measures.DECISION_ROWS, len(self._in_hand), self._to.name, outcome)
        self._queue.done(self._in_hand)
        self._in_hand = []

    def _failed(self, reason: str) -> None:
        self._health.degraded(self._component, f"{reason}; rows of decisions are lost until it works again")
        if times := self._telling.add(1, trio.current_time()):
            log.warning(
                "rows of decisions cannot be written; when their memory is full, more are lost", exporter=self._to.name,
                reason=reason, times=times,
            )  # fmt: skip


async def run(writing: Writing, last_secs: float, done: trio.Event) -> None:
    """Until ``done``, and then once more, for at most ``last_secs`` (law 9)."""
    writing.start()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_regularly, writing)
        await done.wait()
        nursery.cancel_scope.cancel()
    with trio.move_on_after(last_secs):
        await writing.flush()
    writing.tell_lost()
    writing.give_up()


async def _regularly(writing: Writing) -> None:
    began = trio.current_time()
    pause_secs = FIRST_PAUSE_SECS
    while True:
        await trio.sleep(LOOK_SECS)
        writing.tell_lost()
        if not writing.is_due(trio.current_time() - began):
            continue
        while not await writing.flush():
            await _pause(writing, pause_secs)
            pause_secs = min(2 * pause_secs, LONGEST_PAUSE_SECS)
        began, pause_secs = trio.current_time(), FIRST_PAUSE_SECS


async def _pause(writing: Writing, secs: float) -> None:
    """Wait for the next try. The rows that are lost meanwhile are counted every second."""
    until = trio.current_time() + secs
    while (left := until - trio.current_time()) > 0:
        await trio.sleep(min(1.0, left))
        writing.tell_lost()
