"""Brings kept traces to every destination, each at its own pace, and lets go of them when all have taken them."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Sequence
from typing import Protocol

import attrs
import structlog
import trio

from tss.core import measures
from tss.core.delivery import Accepted, Again, Batching, Misconfigured, Outcome, Refused, Retrying
from tss.core.health import Health
from tss.core.measures import Meter
from tss.core.record import DeadLetter
from tss.core.trace import Trace
from tss.tasks.consumer import DeadLetters
from tss.tasks.telling import TELL_SECS, Telling

log = structlog.get_logger()

# A rate over a counter sees its first increase only if it was there before: these are shown as 0 from the start.
USUAL_REASONS = ("connect", "timeout", "network", "http_400", "http_401", "http_429", "http_500", "http_503")
LANE_BATCHES = 2  # a lane gathers from the second while the first is under way; more would only hide a slow destination


class Destination(Protocol):
    """Somewhere traces are sent."""

    @property
    def name(self) -> str:
        """The exporter's name in the settings."""

    @property
    def batching(self) -> Batching:
        """How it likes its batches."""

    @property
    def retrying(self) -> Retrying:
        """How it likes to be tried again."""

    async def send(self, traces: Sequence[Trace]) -> Outcome:
        """Send the spans of these traces once. Never raises for what the world or the data may do."""


@attrs.define
class Lane:
    """The way to one destination: what a delivery needs. ``topic`` is where the traces came from."""

    topic: str
    destination: Destination
    dead_letters: DeadLetters
    health: Health
    meter: Meter
    chance: random.Random
    _told: str = ""  # the reason last logged, while there is trouble
    _told_at: float = -math.inf
    _aside: Telling = attrs.field(factory=Telling)

    def works(self) -> None:
        """The destination has taken a batch."""
        self.health.up(f"exporter {self.destination.name}")
        if self._told:
            log.info("destination takes batches again", destination=self.destination.name)
            self._told, self._told_at = "", -math.inf

    def gives_up(self, traces: int, reason: str, detail: str) -> None:
        """It refuses these for good; said once, and then from time to time with their number."""
        count = self._aside.add(traces)
        if count:
            log.error(
                "destination refuses traces; they were put aside among the dead letters",
                destination=self.destination.name,
                traces=count,
                reason=reason,
                detail=detail,
            )

    def fails(self, outcome: Again | Misconfigured, wait_secs: float) -> None:
        """It has not; said when the reason changes and from time to time, not for each try of each batch."""
        now = trio.current_time()
        if outcome.reason == self._told and now - self._told_at < TELL_SECS:
            return
        self._told, self._told_at = outcome.reason, now
        log.warning(
            "destination did not take a batch; it is sent again until it does",
            destination=self.destination.name,
            reason=outcome.reason,
            detail=outcome.detail,
            wait_secs=round(wait_secs, 3),
        )


async def run(
    kept: trio.MemoryReceiveChannel[list[Trace]],
    settled: trio.MemorySendChannel[list[Trace]],
    lanes: Sequence[Lane],
) -> None:
    """Until the channel ends and everything taken from it is delivered."""
    with kept, settled:
        async with trio.open_nursery() as nursery:
            ways: list[trio.MemorySendChannel[list[Trace]]] = []
            after = settled
            for lane in sorted(lanes, key=_is_last, reverse=True):
                way, end = trio.open_memory_channel[list[Trace]](LANE_BATCHES)
                name = lane.destination.name
                lane.meter.watch(measures.CHANNEL_FILL, _fill(way), f"exporter_{name}")
                lane.meter.set(measures.CHANNEL_LIMIT, LANE_BATCHES, f"exporter_{name}")
                lane.meter.count(measures.SPANS_EXPORTED, 0, name)
                for reason in USUAL_REASONS:
                    lane.meter.count(measures.EXPORT_ERRORS, 0, name, reason)
                nursery.start_soon(_run_lane, lane, end, after.clone(), name=f"exporter to {name}")
                if _is_last(lane) and len(lanes) > 1:
                    after = way
                else:
                    ways.append(way)
            if after is not settled:
                after.close()  # each lane has a clone
            async for traces in kept:
                for trace in traces:
                    trace.awaiting = len(ways)
                for way in ways:
                    await way.send(traces)
            for way in ways:
                way.close()


def _is_last(lane: Lane) -> bool:
    return bool(getattr(lane.destination, "last", False))


def _fill(channel: trio.MemorySendChannel[list[Trace]]) -> measures.Reading:
    return lambda: channel.statistics().current_buffer_used


async def _run_lane(
    lane: Lane,
    waiting: trio.MemoryReceiveChannel[list[Trace]],
    settled: trio.MemorySendChannel[list[Trace]],
) -> None:
    """Gather batches and deliver a few of them at a time."""
    places = trio.Semaphore(lane.destination.batching.max_in_flight)
    gatherer = _Gatherer(lane.destination.batching, waiting)
    with waiting, settled:
        async with trio.open_nursery() as nursery:
            while batch := await gatherer.gather():
                await places.acquire()
                nursery.start_soon(_deliver_and_settle, lane, batch, settled, places)


class _Gatherer:
    """Makes batches as a destination likes them of what comes along the channel."""

    def __init__(self, batching: Batching, waiting: trio.MemoryReceiveChannel[list[Trace]]) -> None:
        self._batching = batching
        self._waiting = waiting
        self._traces: deque[Trace] = deque()

    async def gather(self) -> list[Trace]:
        """The next batch; empty when there will be no more."""
        batch: list[Trace] = []
        size = 0
        until = math.inf
        while True:
            while self._traces:
                trace = self._traces[0]
                if len(batch) >= self._batching.max_traces or (
                    batch and size + trace.payload_bytes > self._batching.max_bytes
                ):
                    return batch
                if not batch:
                    until = trio.current_time() + self._batching.linger_secs
                batch.append(self._traces.popleft())
                size += trace.payload_bytes
            if not await self._more(until):
                return batch

    async def _more(self, until: float) -> bool:
        """Wait for the next traces; False when time is up or the channel has ended."""
        with trio.move_on_at(until):
            try:
                self._traces.extend(await self._waiting.receive())
            except trio.EndOfChannel:
                return False
            return True
        return False


async def _deliver_and_settle(
    lane: Lane, batch: Sequence[Trace], settled: trio.MemorySendChannel[list[Trace]], places: trio.Semaphore
) -> None:
    try:
        await deliver(lane, batch)
    finally:
        places.release()
    done = []
    for trace in batch:
        trace.awaiting -= 1
        if trace.awaiting <= 0:  # below it after the last lane, which comes behind the others
            done.append(trace)
    if done:
        lane.meter.count(measures.TRACES_SAMPLED, sum(not (trace.late or trace.put_aside) for trace in done))
        await settled.send(done)


async def deliver(lane: Lane, batch: Sequence[Trace]) -> None:
    """Send until every trace is taken or put aside, for as long as that takes: meanwhile reading stops by itself."""
    destination, retrying = lane.destination, lane.destination.retrying
    tries = 0
    while True:
        outcome = await _send(lane, batch)
        match outcome:
            case Accepted():
                await _accepted(lane, batch, outcome)
                return
            case Refused():
                await _refused(lane, batch, outcome)
                return
            case Again():
                backoff = lane.chance.uniform(0, _ceiling_secs(retrying, tries))
                wait = backoff if outcome.after_secs is None else outcome.after_secs + backoff / 10
            case Misconfigured():
                wait = retrying.probe_secs
                tries = retrying.quick_tries
        tries += 1
        if tries > retrying.quick_tries:
            lane.health.down(f"exporter {destination.name}", f"{outcome.reason}: {outcome.detail}")
        lane.fails(outcome, wait)
        await trio.sleep(wait)


def _ceiling_secs(retrying: Retrying, tries: int) -> float:
    return min(retrying.max_secs, retrying.initial_secs * 2.0 ** min(tries, 20))


async def _send(lane: Lane, batch: Sequence[Trace]) -> Outcome:
    """One try, counted and shown."""
    name = lane.destination.name
    began = trio.current_time()
    outcome = await lane.destination.send(batch)
    lane.meter.observe(measures.EXPORT_LATENCY, trio.current_time() - began, name)
    if isinstance(outcome, Accepted | Refused):  # a refusal is an answer too: the destination is there
        lane.works()
    else:
        lane.meter.count(measures.EXPORT_ERRORS, 1, name, outcome.reason)
    return outcome


async def _accepted(lane: Lane, batch: Sequence[Trace], outcome: Accepted) -> None:
    name = lane.destination.name
    spans = sum(trace.held_spans for trace in batch)
    lane.meter.count(measures.SPANS_EXPORTED, max(0, spans - outcome.rejected_spans), name)
    if outcome.message and not outcome.rejected_spans:
        log.warning("destination took a batch with a remark", destination=name, remark=outcome.message)
    if outcome.rejected_spans:
        # It does not say which spans, and sending them again is forbidden (OTLP specification, Partial Success).
        lane.meter.count(measures.EXPORT_REJECTED, outcome.rejected_spans, name)
        detail = f"{outcome.rejected_spans} of the {spans} spans of this batch were rejected: {outcome.message}"
        await _put_aside(lane, batch, "partial_success", detail)


async def _refused(lane: Lane, batch: Sequence[Trace], outcome: Refused) -> None:
    """Find the traces that are refused by sending halves; only those are put aside."""
    if len(batch) > 1:
        middle = len(batch) // 2
        await deliver(lane, batch[:middle])
        await deliver(lane, batch[middle:])
    else:
        await _put_aside(lane, batch, outcome.reason, outcome.detail)


async def _put_aside(lane: Lane, batch: Sequence[Trace], reason: str, detail: str) -> None:
    lane.gives_up(len(batch), reason, detail)
    for trace in batch:
        trace.put_aside = True
    await lane.dead_letters.put([_letter(lane, trace, reason, detail) for trace in batch])


def _letter(lane: Lane, trace: Trace, reason: str, detail: str) -> DeadLetter:
    partition, offset = trace.holds()[0]  # not the first that it knew of: that may only have been read again
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
