"""Fetches the parked spans of closed traces before they are decided. Only these traces wait for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import structlog
import trio

from tss.core import measures
from tss.core.errors import Away, Lost
from tss.core.parked import chain
from tss.core.partition import Partition
from tss.core.trace import Trace
from tss.state.assignments import Assignments
from tss.tasks.evaluator import Deciding
from tss.tasks.parker import Parking

log = structlog.get_logger()

AGAIN_SECS = 0.25  # while Redis is away a try costs nothing: the link fails at once
BATCH_TRACES = 100
BATCH_BYTES = 2 << 20  # as much as a batch of closed traces may have


async def run(
    lacking: trio.MemoryReceiveChannel[list[Trace]], parking: Parking, deciding: Deciding, assignments: Assignments
) -> None:
    """Until the channel ends. Traces that still wait then are left to the next owner, in Redis or else in Kafka."""
    waiting: list[Trace] = []
    ended = False
    with lacking, deciding:
        while not ended:
            with trio.move_on_after(AGAIN_SECS if waiting else math.inf):
                try:
                    waiting += await lacking.receive()
                except trio.EndOfChannel:
                    ended = True
            waiting = await _bring_back(waiting, parking, deciding, assignments)
            deciding.meter.set(measures.UNPARKING_WAITING, len(waiting))
        if waiting:
            log.info(
                "closed traces still wait for their spans from Redis; the next owner decides them", traces=len(waiting)
            )


async def _bring_back(
    waiting: Sequence[Trace], parking: Parking, deciding: Deciding, assignments: Assignments
) -> list[Trace]:
    """Returns the traces that still have to wait."""
    still: list[Trace] = []
    for home, traces in _by_home(waiting).items():
        for batch in _batches(traces):
            frames = await _fetch(home, batch, parking, assignments)
            if home.revoked:
                go_on = [trace for trace in batch if not deciding.buffer.withdraw(trace)]
            elif frames is None:
                still += batch
                continue
            else:
                go_on = _with_frames(home, batch, frames, deciding, assignments)
                still += [trace for trace in batch if trace.is_parked()]
            if go_on:
                # Recalled again: Redis may have been away when they closed.
                await deciding.decide(await deciding.memories.recall(go_on), deciding.enforcer())
    return still


async def _fetch(
    home: Partition, traces: Sequence[Trace], parking: Parking, assignments: Assignments
) -> dict[bytes, list[bytes]] | None:
    shelf = home.shelf
    if home.revoked or shelf is None or shelf.lost:
        return None
    try:
        return await parking.fetch(home.id, shelf.token, [trace.trace_id for trace in traces])
    except Away:
        return None
    except Lost:
        assignments.reread(home, "lost")
        return None


def _with_frames(
    home: Partition,
    traces: Sequence[Trace],
    frames: dict[bytes, list[bytes]],
    deciding: Deciding,
    assignments: Assignments,
) -> list[Trace]:
    whole: list[Trace] = []
    for trace in traces:
        try:
            found = chain(frames.get(trace.trace_id, []), trace.parked_to)
        except Lost:
            assignments.reread(home, "lost")
        else:
            deciding.buffer.come_back(trace, found)
            whole.append(trace)
    deciding.meter.count(measures.UNPARKINGS, len(whole))
    return whole


def _by_home(traces: Iterable[Trace]) -> dict[Partition, list[Trace]]:
    found: dict[Partition, list[Trace]] = {}
    for trace in traces:
        found.setdefault(trace.home, []).append(trace)
    return found


def _batches(traces: Sequence[Trace]) -> Iterator[list[Trace]]:
    batch: list[Trace] = []
    size = 0
    for trace in traces:
        if batch and (len(batch) >= BATCH_TRACES or size + trace.payload_bytes > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(trace)
        size += trace.payload_bytes
    if batch:
        yield batch
