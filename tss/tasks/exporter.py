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
from tss.tasks.astray import Astray
from tss.tasks.consumer import DeadLetters
from tss.tasks.sharing import ALONE, Memories
from tss.tasks.standing import Standing
from tss.tasks.telling import TELL_SECS, Telling

log = structlog.get_logger()

# A rate over a counter sees its first increase only if it was there before: these are shown as 0 from the start.
USUAL_REASONS = ("connect", "timeout", "network", "http_400", "http_401", "http_429", "http_500", "http_503")
DONE_BATCHES = 8  # delivered while Redis is told of those before, and told of together; after a crash they go again
REMEMBERED_AT_ONCE = 1_000  # some 100 kB, a few ms of a Redis
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

    @property
    def comes_last(self) -> bool:
        """Whether it may have a trace only when all others have it, for its record says that they do."""

    async def send(self, traces: Sequence[Trace]) -> Outcome:
        """Send the spans of these traces once. Never raises for what the world or the data may do."""


class Breaker:
    """Lets every batch through to a destination that works, and to one that is down one batch at a time, as a probe."""

    def __init__(self) -> None:
        self.closed_at = -math.inf  # when the destination last took something
        self.probes = 0  # that failed, one after the other
        self._probe_at = -math.inf
        self._is_open = self._probing = False
        self._changed = trio.Event()

    def __repr__(self) -> str:
        state = "closed" if not self._is_open else "probing" if self._probing else f"open until {self._probe_at:.1f}"
        return f"<Breaker {state}>"

    async def turn(self) -> None:
        """Wait until a batch may be tried. Whoever got a turn ends it by ``close`` or ``open``."""
        while self._is_open:
            if not self._probing and trio.current_time() >= self._probe_at:
                self._probing = True
                return
            with trio.move_on_at(math.inf if self._probing else self._probe_at):
                await self._changed.wait()

    def open(self, probe_at: float) -> None:
        """It is down: nothing goes to it until then."""
        self.probes += 1
        self._is_open, self._probing, self._probe_at = True, False, probe_at
        self._wake()

    def close(self) -> None:
        """It works."""
        self.closed_at = trio.current_time()
        if self._is_open:
            self._is_open = self._probing = False
            self.probes = 0
            self._wake()

    @property
    def is_open(self) -> bool:
        return self._is_open

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


@attrs.define
class Lane:
    """The way to one destination: what a delivery needs. ``topic`` is where the traces came from."""

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
    _told: str = ""  # the reason last logged, while there is trouble
    _told_at: float = -math.inf
    _aside: Telling = attrs.field(factory=Telling)

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

    def stays_down(self, outcome: Again | Misconfigured) -> None:
        """It is not just busy: from now on it gets single probes, ever more slowly."""
        wait_secs = _wait_secs(self, outcome, self.destination.retrying.quick_tries + self.breaker.probes + 1)
        self.breaker.open(trio.current_time() + wait_secs)
        self.standing.is_down(wait_secs)
        self.health.down(f"exporter {self.destination.name}", f"{outcome.reason}: {outcome.detail}")
        self.fails(outcome, wait_secs)

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
            **{"next_try_secs": round(wait_secs, 3), **self.standing.particulars()},
        )


async def run(
    kept: trio.MemoryReceiveChannel[list[Trace]],
    settled: trio.MemorySendChannel[list[Trace]],
    lanes: Sequence[Lane],
    meter: Meter,
    memories: Memories = ALONE,
) -> None:
    """Until the channel ends and everything taken from it is delivered.

    A destination that keeps the record of what has been delivered comes last: it gets what all others have taken.
    """
    first = [lane for lane in lanes if not lane.destination.comes_last]
    last = [lane for lane in lanes if lane.destination.comes_last]
    # Handed over without waiting in a queue: the lanes' own are enough.
    between_in, between_out = trio.open_memory_channel[list[Trace]](0)
    done_in, done_out = trio.open_memory_channel[list[Trace]](DONE_BATCHES)
    async with trio.open_nursery() as nursery:
        astray = Astray(frozenset(lane.destination.name for lane in lanes), meter)
        nursery.start_soon(_run_stage, kept, between_in, first, astray, name="exporter, first")
        nursery.start_soon(_run_stage, between_out, done_in, last, None, name="exporter, last")
        nursery.start_soon(_settle, done_out, settled, memories, meter)


async def _settle(
    done: trio.MemoryReceiveChannel[list[Trace]],
    settled: trio.MemorySendChannel[list[Trace]],
    memories: Memories,
    meter: Meter,
) -> None:
    """Hand on what every one of its destinations has, once it is remembered, and count it."""
    with done, settled:
        async for first in done:
            traces = _with_more(first, done)
            await memories.keep(traces)
            whole = [trace for trace in traces if not (trace.late or trace.put_aside)]
            unrouted = sum(_ways(trace) == () for trace in whole)
            meter.count(measures.TRACES_SAMPLED, len(whole) - unrouted)
            if unrouted:
                meter.count(measures.TRACES_UNROUTED, unrouted)
            await settled.send(traces)


def _with_more(traces: list[Trace], done: trio.MemoryReceiveChannel[list[Trace]]) -> list[Trace]:
    """These, and what came while those before were being remembered: one message for many."""
    while len(traces) < REMEMBERED_AT_ONCE:
        try:
            traces = traces + done.receive_nowait()
        except (trio.WouldBlock, trio.EndOfChannel):
            break
    return traces


def _ways(trace: Trace) -> Sequence[str] | None:
    """The names of the trace's destinations; None is all."""
    return trace.decision.destinations if trace.decision is not None else None


async def _run_stage(
    kept: trio.MemoryReceiveChannel[list[Trace]],
    done: trio.MemorySendChannel[list[Trace]],
    lanes: Sequence[Lane],
    astray: Astray | None,
) -> None:
    """Send each trace along its lanes among these; what all of them have taken is done."""
    with kept, done:
        async with trio.open_nursery() as nursery:
            ways: list[tuple[Standing, trio.MemorySendChannel[list[Trace]]]] = []
            for lane in lanes:
                way, end = trio.open_memory_channel[list[Trace]](LANE_BATCHES)
                _show(lane, way)
                nursery.start_soon(_run_lane, lane, end, done.clone(), name=f"exporter to {lane.destination.name}")
                ways.append((lane.standing, way))
            async for traces in kept:
                await _fan_out(traces, ways, done, astray)
            for _, way in ways:
                way.close()


def _show(lane: Lane, way: trio.MemorySendChannel[list[Trace]]) -> None:
    name = lane.destination.name
    lane.meter.watch(measures.CHANNEL_FILL, lambda: way.statistics().current_buffer_used, f"exporter_{name}")
    lane.meter.set(measures.CHANNEL_LIMIT, LANE_BATCHES, f"exporter_{name}")
    lane.health.particulars[f"exporter {name}"] = lane.standing.particulars
    lane.meter.count(measures.SPANS_EXPORTED, 0, name)
    for reason in USUAL_REASONS:
        lane.meter.count(measures.EXPORT_ERRORS, 0, name, reason)


async def _fan_out(
    traces: list[Trace],
    ways: Sequence[tuple[Standing, trio.MemorySendChannel[list[Trace]]]],
    done: trio.MemorySendChannel[list[Trace]],
    astray: Astray | None,
) -> None:
    """``astray`` looks at each trace once, in the first stage: what one stage does not have, the other may."""
    shares: dict[str, list[Trace]] = {standing.name: [] for standing, _ in ways}
    nowhere = []
    for trace in traces:
        chosen = _ways(trace)
        if chosen and astray is not None:
            astray.look(trace, chosen)
        taken = shares.keys() if chosen is None else [name for name in chosen if name in shares]
        trace.awaiting = len(taken)
        for name in taken:
            shares[name].append(trace)
        if not taken:
            nowhere.append(trace)
    for standing, way in ways:
        if shares[standing.name]:
            standing.waiting.update(shares[standing.name])
            await way.send(shares[standing.name])
    if nowhere:
        await done.send(nowhere)


async def _run_lane(
    lane: Lane,
    waiting: trio.MemoryReceiveChannel[list[Trace]],
    done: trio.MemorySendChannel[list[Trace]],
) -> None:
    """Gather batches and deliver a few of them at a time."""
    places = trio.Semaphore(lane.destination.batching.max_in_flight)
    gatherer = _Gatherer(lane.destination.batching, waiting)
    with waiting, done:
        async with trio.open_nursery() as nursery:
            while batch := await gatherer.gather():
                await places.acquire()
                nursery.start_soon(_deliver_and_pass_on, lane, batch, done, places)


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


async def _deliver_and_pass_on(
    lane: Lane, batch: Sequence[Trace], done: trio.MemorySendChannel[list[Trace]], places: trio.Semaphore
) -> None:
    try:
        await deliver(lane, batch)
        lane.standing.waiting.difference_update(batch)
        taken = []
        for trace in batch:
            trace.awaiting -= 1
            if not trace.awaiting:
                taken.append(trace)
        if taken:
            # Within its place: where the next stage is stuck, this one must not run ahead, for after a crash it would
            # send all that again.
            await done.send(taken)
    finally:
        places.release()


async def deliver(lane: Lane, batch: Sequence[Trace]) -> None:
    """Send until every trace is taken or put aside, for as long as that takes: meanwhile reading stops by itself."""
    quick_tries = lane.destination.retrying.quick_tries
    tries, alone, failed_at = 0, 0, -math.inf
    while True:
        await lane.breaker.turn()
        outcome = await _send(lane, batch)
        match outcome:
            case Accepted():
                await _accepted(lane, batch, outcome)
                return
            case Refused():
                await _refused(lane, batch, outcome)
                return
        tries += 1
        # A batch that goes wrong while others are taken between its tries must not stop those.
        alone = alone + 1 if lane.breaker.closed_at <= failed_at else 1
        failed_at = trio.current_time()
        if lane.breaker.is_open or alone > quick_tries or isinstance(outcome, Misconfigured):
            lane.stays_down(outcome)
        else:
            wait = _wait_secs(lane, outcome, tries)
            lane.fails(outcome, wait)
            await trio.sleep(wait)


def _wait_secs(lane: Lane, outcome: Again | Misconfigured, tries: int) -> float:
    """Before the next try: full jitter, and never before the time that the destination named."""
    retrying = lane.destination.retrying
    if isinstance(outcome, Misconfigured):
        return retrying.probe_secs
    backoff = lane.chance.uniform(0, min(retrying.max_secs, retrying.initial_secs * 2.0 ** min(tries - 1, 20)))
    return backoff if outcome.after_secs is None else outcome.after_secs + backoff / 10


async def _send(lane: Lane, batch: Sequence[Trace]) -> Outcome:
    """One try, counted and shown."""
    name = lane.destination.name
    began = trio.current_time()
    outcome = await lane.destination.send(batch)
    secs = trio.current_time() - began
    lane.meter.observe(measures.EXPORT_LATENCY, secs, name)
    lane.standing.tried(batch, outcome, secs)
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
    # Not the first that it knew of: that may only have been read again, unless all of it was parked.
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
