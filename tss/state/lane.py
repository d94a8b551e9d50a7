"""The lane to one destination: the destination, whether it is down, and what is logged about it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Protocol

import attrs
import structlog
import trio

from tss.core import measures
from tss.core.deadletter import DeadLetter
from tss.core.delivery import Accepted, Again, Batching, Misconfigured, Outcome, Rejected, Retrying
from tss.core.health import Health, State
from tss.core.measures import Meter
from tss.core.throttle import LOG_SECS, LogThrottle
from tss.core.trace import Trace
from tss.state.deadletters import DeadLetters
from tss.state.standing import Standing

log = structlog.get_logger()


class Destination(Protocol):
    """A place that traces are sent to."""

    @property
    def name(self) -> str:
        """The exporter's name in the settings."""

    @property
    def batching(self) -> Batching:
        """The size of its batches, and how many it takes at a time."""

    @property
    def retrying(self) -> Retrying:
        """How soon it is tried again."""

    @property
    def comes_last(self) -> bool:
        """Whether it gets a trace only after all other destinations: its record says that they have the trace."""

    async def send(self, traces: Sequence[Trace]) -> Outcome:
        """Send the spans of these traces once. Never raises for network, server or data errors: they are outcomes."""

    async def knock(self) -> bool:
        """Whether it takes a request without any span; False if it cannot be asked in this way. Never raises."""

    def forget(self, traces: Sequence[Trace]) -> None:
        """These are never sent again, although the destination has not taken them."""


@attrs.define
class Breaker:
    """Open while the destination is down. Then it gets one batch at a time, as a probe, with growing backoff."""

    probes: int = 0  # that failed in a row
    probe_at: float = -math.inf

    @property
    def is_open(self) -> bool:
        return self.probes > 0

    def open(self, probe_at: float) -> None:
        """It is down: nothing is sent until ``probe_at``."""
        self.probes += 1
        self.probe_at = probe_at

    def close(self) -> None:
        """It works."""
        self.probes, self.probe_at = 0, -math.inf


@attrs.define
class Lane:
    """What a delivery needs. ``topic`` is where the traces came from."""

    topic: str
    destination: Destination
    dead_letters: DeadLetters
    health: Health
    meter: Meter
    chance: random.Random
    breaker: Breaker = attrs.field(factory=Breaker)
    standing: Standing = attrs.field(
        default=attrs.Factory(lambda lane: Standing(lane.destination.name), takes_self=True)
    )
    release: Callable[[], int] = lambda: 0
    """An operator asks to give up the traces that were refused and are held; returns their number. Set by `Delivering`."""
    dead_lettered: set[Trace] = attrs.field(factory=set, repr=False)
    """Traces that this destination refused, until the exporter has let go of them: they do not count as sampled."""
    _told: str = ""  # the reason last logged; empty while the destination works
    _told_at: float = -math.inf
    _given_up: LogThrottle = attrs.field(factory=LogThrottle)
    _refusals: LogThrottle = attrs.field(factory=LogThrottle)
    _remarks: LogThrottle = attrs.field(factory=LogThrottle)

    def works(self) -> None:
        """The destination has taken a batch."""
        self.breaker.close()
        self.health.up(f"exporter {self.destination.name}")
        if self._told:
            log.info(
                "destination takes batches again", destination=self.destination.name, **self.standing.particulars()
            )
            self._told, self._told_at = "", -math.inf
        self.standing.works()

    def stays_down(self, outcome: Again | Misconfigured | Rejected) -> None:
        """It is not only busy: from now on it gets single probes, with growing backoff."""
        wait_secs = self.wait_secs(outcome, self.destination.retrying.quick_tries + self.breaker.probes + 1)
        self.breaker.open(trio.current_time() + wait_secs)
        self.standing.is_down(wait_secs)
        self.health.down(f"exporter {self.destination.name}", f"{outcome.reason}: {outcome.detail}")
        self.fails(outcome, wait_secs)

    def wait_secs(self, outcome: Again | Misconfigured | Rejected, tries: int) -> float:
        """The wait before the next try, with full jitter. It is never shorter than the destination asked for."""
        retrying = self.destination.retrying
        if isinstance(outcome, Misconfigured):
            return retrying.probe_secs
        backoff = self.chance.uniform(0, retrying.most_secs(tries - 1))
        return backoff if outcome.after_secs is None else outcome.after_secs + backoff / 10

    def gives_up(self, traces: int, reason: str, detail: str) -> None:
        """It refuses these traces for good. Logged once, then from time to time with their number."""
        count = self._given_up.add(traces, trio.current_time())
        if count:
            log.error(
                "destination refuses traces; they were dead-lettered",
                destination=self.destination.name,
                traces=count,
                reason=reason,
                detail=detail,
            )

    def fails(self, outcome: Again | Misconfigured | Rejected, wait_secs: float) -> None:
        """It did not take a batch. Logged when the reason changes and from time to time, not for each try."""
        component = self.health.components.get(f"exporter {self.destination.name}")
        if component is not None and component.state is State.STARTING:
            self.health.starting(
                f"exporter {self.destination.name}", f"not taken yet: {outcome.reason}: {outcome.detail}"
            )
        now = trio.current_time()
        if outcome.reason == self._told and now - self._told_at < LOG_SECS:
            return
        self._told, self._told_at = outcome.reason, now
        log.warning(
            "destination did not take a batch; it is sent again until it does",
            destination=self.destination.name,
            reason=outcome.reason,
            detail=outcome.detail,
            **{"next_try_secs": round(wait_secs, 3), **self.standing.particulars()},
        )

    def remarks(self, remark: str) -> None:
        """It took a batch and answered with a message. Logged from time to time."""
        if times := self._remarks.add(1, trio.current_time()):
            log.warning(
                "destination took a batch with a remark", destination=self.destination.name, remark=remark, times=times
            )

    def refuses(self, outcome: Again | Misconfigured | Rejected, traces: int) -> None:
        """It refuses some traces while it takes others. Logged from time to time."""
        if times := self._refusals.add(1, trio.current_time()):
            log.warning(
                "destination refuses some traces again and again while it takes others; they are tried again in smaller "
                "batches, until it is clear which",
                destination=self.destination.name,
                reason=outcome.reason,
                detail=outcome.detail,
                traces=traces,
                times=times,
            )


async def send(lane: Lane, batch: Sequence[Trace]) -> Outcome:
    """Try once; count and show the outcome."""
    name = lane.destination.name
    began = trio.current_time()
    outcome = await lane.destination.send(batch)
    secs = trio.current_time() - began
    lane.meter.observe(measures.EXPORT_LATENCY, secs, name)
    lane.standing.tried(batch, outcome, secs)
    if isinstance(outcome, Again | Misconfigured | Rejected):
        lane.meter.count(measures.EXPORT_ERRORS, 1, name, outcome.reason)
    return outcome


async def account(lane: Lane, batch: Sequence[Trace], outcome: Accepted) -> None:
    """Count the spans that the destination took. If it rejected some, the batch is dead-lettered."""
    name = lane.destination.name
    spans = sum(trace.held_spans for trace in batch)
    lane.meter.count(measures.SPANS_EXPORTED, max(0, spans - outcome.rejected_spans), name)
    if outcome.message and not outcome.rejected_spans:
        lane.remarks(outcome.message)
    if outcome.rejected_spans:
        # The answer does not say which spans, and sending them again is forbidden (OTLP specification, Partial Success).
        lane.meter.count(measures.EXPORT_REJECTED, outcome.rejected_spans, name)
        detail = f"{outcome.rejected_spans} of the {spans} spans of this batch were rejected: {outcome.message}"
        await dead_letter(lane, batch, "partial_success", detail)


async def dead_letter(lane: Lane, batch: Sequence[Trace], reason: str, detail: str) -> None:
    """Write these traces to the dead letters."""
    lane.gives_up(len(batch), reason, detail)
    lane.dead_lettered.update(batch)
    await lane.dead_letters.put([letter(lane, trace, reason, detail) for trace in batch])


def letter(lane: Lane, trace: Trace, reason: str, detail: str) -> DeadLetter:
    """The trace as a dead letter."""
    # The first record that the trace holds. Its first offset may be a replayed record, unless the whole trace was parked.
    partition, offset = (trace.holds() or [(trace.home, trace.first_offset)])[0]
    return DeadLetter(
        reason,
        detail,
        trace.payload,
        topic=lane.topic,
        partition=partition.id,
        offset=offset,
        trace_id=trace.trace_id.hex(),
        destination=lane.destination.name,
    )
