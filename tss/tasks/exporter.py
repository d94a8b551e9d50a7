"""Sends kept traces to their destinations, each at its own pace, and passes on those that all of them have taken."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import trio

from tss.core import measures
from tss.core.delivery import Batching
from tss.core.measures import Meter
from tss.core.trace import Trace
from tss.state.astray import Astray
from tss.state.lane import Lane
from tss.state.sharing import ALONE, Memories
from tss.state.standing import Standing
from tss.tasks.delivering import Delivering

# A rate sees the first increase of a counter only if the counter was there before, so these start at 0.
USUAL_REASONS = ("connect", "timeout", "network", "http_400", "http_401", "http_429", "http_500", "http_503")
DONE_BATCHES = 8  # delivered while earlier ones are written to Redis, then written together; sent again after a crash
REMEMBERED_AT_ONCE = 1_000  # some 100 kB, a few ms of a Redis
LANE_BATCHES = 2  # one under way, one to gather from; more would only hide a slow destination


async def run(
    kept: trio.MemoryReceiveChannel[list[Trace]],
    settled: trio.MemorySendChannel[list[Trace]],
    lanes: Sequence[Lane],
    meter: Meter,
    memories: Memories = ALONE,
) -> None:
    """Until the channel ends and every trace from it is delivered or dead-lettered.

    The output topic comes last, because its records say that all other destinations have the trace.
    """
    first = [lane for lane in lanes if not lane.destination.comes_last]
    last = [lane for lane in lanes if lane.destination.comes_last]
    # Without a buffer: the lanes have their own.
    between_in, between_out = trio.open_memory_channel[list[Trace]](0)
    done_in, done_out = trio.open_memory_channel[list[Trace]](DONE_BATCHES)
    async with trio.open_nursery() as nursery:
        astray = Astray(frozenset(lane.destination.name for lane in lanes), meter)
        nursery.start_soon(_run_stage, kept, between_in, first, astray, name="exporter, first")
        nursery.start_soon(_run_stage, between_out, done_in, last, None, name="exporter, last")
        nursery.start_soon(_settle, done_out, settled, lanes, memories, meter)


async def _settle(
    done: trio.MemoryReceiveChannel[list[Trace]],
    settled: trio.MemorySendChannel[list[Trace]],
    lanes: Sequence[Lane],
    memories: Memories,
    meter: Meter,
) -> None:
    """Pass on the traces that all their destinations have taken, once they are remembered, and count them."""
    with done, settled:
        async for first in done:
            traces = _with_more(first, done)
            await memories.keep(traces)
            refused = _take_dead_lettered(traces, lanes)
            whole = [trace for trace in traces if not trace.late and trace not in refused]
            unrouted = sum(_ways(trace) == () for trace in whole)
            meter.count(measures.TRACES_SAMPLED, len(whole) - unrouted)
            if unrouted:
                meter.count(measures.TRACES_UNROUTED, unrouted)
            await settled.send(traces)


def _take_dead_lettered(traces: list[Trace], lanes: Sequence[Lane]) -> set[Trace]:
    """The traces among these that some destination refused. Their lanes forget them."""
    refused: set[Trace] = set()
    for lane in lanes:
        if lane.dead_lettered:
            theirs = lane.dead_lettered.intersection(traces)
            lane.dead_lettered -= theirs
            refused |= theirs
    return refused


def _with_more(traces: list[Trace], done: trio.MemoryReceiveChannel[list[Trace]]) -> list[Trace]:
    """These, and those delivered while earlier ones were written: one message for many."""
    while len(traces) < REMEMBERED_AT_ONCE:
        try:
            traces = traces + done.receive_nowait()
        except (trio.WouldBlock, trio.EndOfChannel):
            break
    return traces


def _ways(trace: Trace) -> Sequence[str] | None:
    """The names of the trace's destinations; None means all."""
    return trace.decision.destinations if trace.decision is not None else None


async def _run_stage(
    kept: trio.MemoryReceiveChannel[list[Trace]],
    done: trio.MemorySendChannel[list[Trace]],
    lanes: Sequence[Lane],
    astray: Astray | None,
) -> None:
    """Send each trace to those of these lanes that it is routed to. Once all of them have it, it is done."""
    awaiting: dict[Trace, int] = {}
    with kept, done:
        async with trio.open_nursery() as nursery:
            ways: list[tuple[Standing, trio.MemorySendChannel[list[Trace]]]] = []
            for lane in lanes:
                way, end = trio.open_memory_channel[list[Trace]](LANE_BATCHES)
                _show(lane, way)
                nursery.start_soon(
                    _run_lane, lane, end, done.clone(), awaiting, name=f"exporter to {lane.destination.name}"
                )
                ways.append((lane.standing, way))
            async for traces in kept:
                await _fan_out(traces, ways, done, awaiting, astray)
            for _, way in ways:
                way.close()


def _show(lane: Lane, way: trio.MemorySendChannel[list[Trace]]) -> None:
    name = lane.destination.name
    lane.meter.watch(measures.CHANNEL_FILL, lambda: way.statistics().current_buffer_used, f"exporter_{name}")
    lane.meter.set(measures.CHANNEL_LIMIT, LANE_BATCHES, f"exporter_{name}")
    lane.health.particulars[f"exporter {name}"] = lane.standing.particulars
    lane.meter.watch(measures.EXPORTER_DOWN, lambda: lane.standing.down_secs, name)
    lane.meter.count(measures.SPANS_EXPORTED, 0, name)
    for reason in USUAL_REASONS:
        lane.meter.count(measures.EXPORT_ERRORS, 0, name, reason)


async def _fan_out(
    traces: list[Trace],
    ways: Sequence[tuple[Standing, trio.MemorySendChannel[list[Trace]]]],
    done: trio.MemorySendChannel[list[Trace]],
    awaiting: dict[Trace, int],
    astray: Astray | None,
) -> None:
    """Give each trace to its lanes.

    ``awaiting`` says how many destinations of this stage have not taken a trace yet, where that is more than one: with
    a single destination nothing is noted. ``astray`` is given in the first stage only, so that it sees each trace once.
    """
    shares: dict[str, list[Trace]] = {standing.name: [] for standing, _ in ways}
    nowhere = []
    for trace in traces:
        chosen = _ways(trace)
        if chosen and astray is not None:
            astray.look(trace, chosen)
        taken = shares.keys() if chosen is None else [name for name in chosen if name in shares]
        if len(taken) > 1:
            awaiting[trace] = len(taken)
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
    awaiting: dict[Trace, int],
) -> None:
    """Gather batches and deliver them."""

    async def pass_on(batch: list[Trace]) -> None:
        lane.standing.waiting.difference_update(batch)
        taken = []
        for trace in batch:
            left = awaiting.pop(trace, 1) - 1
            if left > 1:
                awaiting[trace] = left
            elif not left:
                taken.append(trace)
        if taken:
            await done.send(taken)

    with waiting, done:
        await Delivering(lane, pass_on).run(_Gatherer(lane.destination.batching, waiting).gather)


class _Gatherer:
    """Makes batches of the size that a destination wants."""

    def __init__(self, batching: Batching, waiting: trio.MemoryReceiveChannel[list[Trace]]) -> None:
        self._batching = batching
        self._waiting = waiting
        self._traces: deque[Trace] = deque()

    async def gather(self) -> list[Trace]:
        """The next batch; empty once the channel has ended."""
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
