"""Sends Datadog's APM statistics every ten seconds: the counts since the last time.

Datadog adds up the counts that it gets, so each request is sent until it is accepted, and new counts are taken from the
concentrator only then. Meanwhile the concentrator goes on counting, in bounded memory.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Protocol

import attrs
import structlog
import trio

from tss.core import measures
from tss.core.delivery import Accepted, Again, Misconfigured, Outcome, Rejected, Retrying, Undeliverable
from tss.core.evidence import Evidence, NextStep, Piece
from tss.core.formats.apm_stats import Concentrator, GroupedStats, StatsBody
from tss.core.measures import Meter
from tss.core.throttle import LogThrottle

log = structlog.get_logger()

INTERVAL_SECS = 10.0  # as the Datadog Agent; a bucket is as long
SENT = "sent"
MAX_HELD = (
    6  # requests that were refused and wait, a minute's; from then on the concentrator counts on, which is bounded
)


class ApmStatsBackend(Protocol):
    """The receiver of the statistics: Datadog's intake or an agent."""

    retrying: Retrying

    async def encode(self, found: Sequence[GroupedStats]) -> Sequence[StatsBody]:
        """The groups as requests."""

    async def send(self, part: StatsBody) -> Outcome:
        """Send one of them once. Never raises for what the world may do."""


@attrs.define
class ApmStatsSender:
    """Sends the counts of one concentrator to one backend."""

    concentrator: Concentrator
    backend: ApmStatsBackend
    meter: Meter
    chance: random.Random
    _taken: list[GroupedStats] = attrs.field(factory=list)  # from the concentrator, not encoded yet
    _waiting: list[Piece[StatsBody]] = attrs.field(factory=list)  # encoded, not sent yet
    _held: list[Piece[StatsBody]] = attrs.field(factory=list)  # refused, longest ago first
    _evidence: Evidence = attrs.field(factory=Evidence)
    _told: dict[measures.Measure, int] = attrs.field(factory=dict)
    _failing: LogThrottle = attrs.field(factory=LogThrottle)
    _losing: LogThrottle = attrs.field(factory=LogThrottle)

    def watch(self) -> None:
        """Show the gauges of the concentrator."""
        counter = self.concentrator
        self.meter.watch(measures.STATS_GROUPS, lambda: counter.groups)
        self.meter.watch(measures.STATS_BYTES, lambda: counter.held_bytes)

    def tell(self) -> None:
        """Add the concentrator's totals since the last call to the metrics."""
        totals = {
            measures.STATS_SPANS: self.concentrator.counted,
            measures.STATS_UNREADABLE: self.concentrator.unreadable,
            measures.STATS_OVERFLOW: self.concentrator.overflowed,
        }
        for measure, total in totals.items():
            self.meter.count(measure, total - self._told.get(measure, 0))
        self._told = totals

    def failed(self, outcome: Again | Misconfigured | Rejected | Undeliverable, *, lost: bool = False) -> None:
        """Count a failure, and log it from time to time."""
        self.meter.count(measures.STATS_PAYLOADS, 1, outcome.reason)
        if times := (self._losing if lost else self._failing).add(1, trio.current_time()):
            log.warning(
                "APM statistics were refused" if lost else "APM statistics were not taken; they are sent again",
                reason=outcome.reason, detail=outcome.detail, times=times,
            )  # fmt: skip

    async def flush(self) -> float:
        """Send the waiting requests, or else the new counts. Returns the wait before the next try; 0 if all is done.

        A refused request is held, and tried again after later ones. If later ones are taken, its data is refused; else the
        destination is down (core/evidence.py).
        """
        self.tell()
        if not self._waiting and len(self._held) < MAX_HELD:
            await self._take()
        again = [] if self._waiting and len(self._held) < MAX_HELD else self._held[:1]
        while self._waiting and len(self._held) < MAX_HELD:
            if wait_secs := await self._try(self._waiting[0]):
                return wait_secs
            del self._waiting[0]
        for piece in again or [each for each in self._held if self._evidence.has_witness(each)]:
            self._held.remove(piece)
            if wait_secs := await self._try(piece):
                self._held.append(piece)
                return wait_secs
        return 0

    async def _try(self, piece: Piece[StatsBody]) -> float:
        """Send it once. Returns the wait before it is tried again; 0 if it is taken, given up or held."""
        outcome = await self.backend.send(piece.items[0])
        match outcome:
            case Accepted():
                self._evidence.takes(piece)
                self.meter.count(measures.STATS_PAYLOADS, 1, SENT)
            case Undeliverable():
                self.failed(outcome, lost=True)
            case Rejected():
                now = trio.current_time()
                counts = self._evidence.refuses(piece, outcome, now)
                lost = self._evidence.next_step(piece, now, counts=counts, probes=None) is NextStep.GIVE_UP
                self.failed(outcome, lost=lost)
                if not lost:
                    self._held.append(piece)
            case Misconfigured():
                self.failed(outcome)
                return self.backend.retrying.probe_secs
            case Again():
                self.failed(outcome)
                return outcome.after_secs or 0.001
        return 0

    async def _take(self) -> None:
        self._taken = self._taken or self.concentrator.take(time.time_ns())
        if self._taken:
            self._waiting = [Piece([part]) for part in await self.backend.encode(self._taken)]
            self._taken = []


async def run(sending: ApmStatsSender, last_secs: float, done: trio.Event) -> None:
    """Until ``done``, and then once more, for at most ``last_secs`` (law 9)."""
    sending.meter.count(measures.STATS_PAYLOADS, 0, SENT)
    sending.watch()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_regularly, sending)
        await done.wait()
        nursery.cancel_scope.cancel()
    with trio.move_on_after(last_secs):
        if not await sending.flush():  # perhaps only the rest of a try that was cut off; then send the counts since
            await sending.flush()


async def _regularly(sending: ApmStatsSender) -> None:
    due = trio.current_time()
    tries = 0
    while True:
        due = max(due + INTERVAL_SECS, trio.current_time())
        await trio.sleep_until(due)
        while wait_secs := await sending.flush():
            sending.concentrator.tick(time.time_ns())
            await trio.sleep(max(wait_secs, _backoff_secs(sending, tries)))
            tries += 1
        tries = 0


def _backoff_secs(sending: ApmStatsSender, tries: int) -> float:
    retrying = sending.backend.retrying
    return sending.chance.uniform(0, retrying.most_secs(tries))
