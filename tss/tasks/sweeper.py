"""Owns the buffer: adds records in the order of their partition and passes on the traces that stream time closes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import attrs
import structlog
import trio

from tss.core import measures
from tss.core.buffer import Buffer
from tss.core.evaluation import observe_late_dropped
from tss.core.formats.apm_stats import SpanObserver
from tss.core.measures import Meter
from tss.core.throttle import LogThrottle
from tss.core.trace import Trace, weight
from tss.state.assignments import Run
from tss.state.keying import Keying
from tss.state.tallying import show_new
from tss.state.uncounted import Uncounted
from tss.tasks.consumer import Batch

RECORDS_AT_ONCE = 500  # some 2 ms of the event loop, ten times that where all is interpreted
TRACES_AT_ONCE = 500
BYTES_AT_ONCE = 2 << 20
ROOM_LOOK_SECS = 0.005
REMEMBERED_LOOK_SECS = 5.0  # between two looks at how far back decisions are remembered
AHEAD_MS = 10_000  # clocks that are set by NTP differ by less than a second

log = structlog.get_logger()


async def run(
    polled: trio.MemoryReceiveChannel[Batch],
    closed: trio.MemorySendChannel[list[Trace]],
    buffer: Buffer,
    meter: Meter,
    keying: Keying,
    observers: Sequence[SpanObserver] = (),
) -> None:
    """Until the channel ends. Traces that are still open then are not decided: their records stay in Kafka."""
    remembering, clocks, uncounted = _Remembering(buffer), _Clocks(), Uncounted(meter)
    with polled, closed:
        async for batch in polled:
            room = RECORDS_AT_ONCE
            for run in batch.runs:
                taken = run.first
                while taken < run.stop:
                    before, stop = taken, min(run.stop, taken + room)
                    taken = buffer.add_some(run.partition, run.records, before, stop, batch.wall_ms)
                    room -= taken - before
                    # Without the second condition, large records could close many times the bytes allowed (law 5).
                    if not room or buffer.closed_bytes > buffer.limits.closed_bytes:
                        await _show_late_dropped(buffer, observers, uncounted)
                        await _hand_on(closed, buffer, meter, keying)
                        room = RECORDS_AT_ONCE
                clocks.look(run, batch.wall_ms)
            for partition, wall_ms in batch.ends:
                buffer.reach(partition, wall_ms)
            buffer.relieve_ledgers()
            await _show_late_dropped(buffer, observers, uncounted)
            buffer.polled_bytes -= batch.size
            remembering.look()
            await _hand_on(closed, buffer, meter, keying)


async def _show_late_dropped(buffer: Buffer, observers: Sequence[SpanObserver], uncounted: Uncounted) -> None:
    """Show the late spans of dropped traces to the observers of all traffic (law 7). The current batch holds their bytes."""
    late = buffer.take_late_dropped()
    for piece in _late_pieces(late):
        observe_late_dropped(piece, observers, uncounted)
        await trio.lowlevel.checkpoint()


def _late_pieces(late: list[tuple[bytes, list[bytes]]]) -> Iterator[list[tuple[bytes, list[bytes]]]]:
    """In pieces of the size of a batch of closed traces, so that none blocks the event loop for longer."""
    piece: list[tuple[bytes, list[bytes]]] = []
    size = 0
    for each in late:
        piece.append(each)
        size += sum(map(len, each[1]))
        if len(piece) >= TRACES_AT_ONCE or size >= BYTES_AT_ONCE:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


@attrs.define
class _Remembering:
    """Warns if decisions are forgotten before late spans can have arrived."""

    buffer: Buffer
    _looked_at: float = -math.inf
    _telling: LogThrottle = attrs.field(factory=LogThrottle)

    def look(self) -> None:
        now = trio.current_time()
        if now - self._looked_at < REMEMBERED_LOOK_SECS:
            return
        self._looked_at = now
        if self.buffer.forgets_too_early() and self._telling.add(1, trio.current_time()):
            log.warning(
                "decisions are forgotten within the time that a trace waits after its root, so late spans may be decided anew: "
                "raise maxBufferBytes, or add replicas",
                reach_secs=round(self.buffer.reach_secs(), 1),
                kept=self.buffer.memory.kept,
                dropped=self.buffer.memory.dropped,
            )


@attrs.define
class _Clocks:
    """Warns if a record has moved a partition's stream time far ahead of the wall clock."""

    _telling: LogThrottle = attrs.field(factory=LogThrottle)

    def look(self, run: Run, wall_ms: int) -> None:
        """Call it after these records, read at this wall time, were added."""
        partition = run.partition
        ahead_ms = partition.time.ahead_ms(wall_ms)
        if ahead_ms < AHEAD_MS:
            return
        places = map(run.records.place, range(run.first, run.stop))
        newest = [offset for _, offset, timestamp_ms in places if timestamp_ms == partition.time.record_ms]
        if newest and self._telling.add(1, trio.current_time()):  # else it came in an earlier batch
            log.warning(
                "a record's timestamp is ahead of the clock, so traces of its partition close at the wrong time until the clock "
                "has reached it: correct the producer's clock, or set message.timestamp.type=LogAppendTime on the topic",
                partition=partition.id,
                offset=newest[0],
                ahead_secs=round(ahead_ms / 1000, 1),
            )


async def _hand_on(closed: trio.MemorySendChannel[list[Trace]], buffer: Buffer, meter: Meter, keying: Keying) -> None:
    """Pass on closed traces in pieces, while there is room for them. No record is added meanwhile."""
    await trio.lowlevel.checkpoint()
    show(buffer, meter)
    waiting = buffer.take()
    if split := sum([1 for trace in waiting if trace.further]):
        keying.split(split)
    held_back = weight(waiting)
    for piece in _pieces(waiting, held_back, min(BYTES_AT_ONCE, buffer.limits.closed_bytes)):
        await _room(buffer, held_back)  # traces that wait here count as closed too
        held_back -= weight(piece)
        await closed.send(piece)
    # Late fragments of a trace that waits for its decision take room too, though they do not pass through here.
    await _room(buffer, 0)


async def _room(buffer: Buffer, held_back: int) -> None:
    while buffer.closed_bytes - held_back > buffer.limits.closed_bytes:
        await trio.sleep(ROOM_LOOK_SECS)


def _pieces(traces: list[Trace], size: int, max_bytes: int) -> Iterator[list[Trace]]:
    if len(traces) <= TRACES_AT_ONCE and size <= max_bytes:
        if traces:
            yield traces
        return
    piece: list[Trace] = []
    size = 0
    for trace in traces:
        if piece and (len(piece) >= TRACES_AT_ONCE or size + trace.size > max_bytes):
            yield piece
            piece, size = [], 0
        piece.append(trace)
        size += trace.size
    if piece:
        yield piece


def show(buffer: Buffer, meter: Meter) -> None:
    """Count what the buffer did since this was last called."""
    counts = buffer.take_counts()
    for measure, amount in (
        (measures.RECORDS_READ, counts.records),
        (measures.RECORDS_REPLAYED, counts.replayed),
        (measures.TRACES_INGESTED, counts.traces),
        (measures.SPANS_INGESTED, counts.spans),
        (measures.ABSURD_TIMESTAMPS, counts.absurd),
        (measures.DUPLICATE_SPANS, counts.duplicate_spans),
        (measures.MEMORY_EVICTIONS, counts.evicted),
        (measures.TWO_PARTITIONS, counts.on_two_partitions),
        (measures.PACKED_TRACES, counts.packed_traces),
        (measures.PACKED_SAVED, counts.packed_saved_bytes),
        (measures.PARKED_GIVEN_UP, counts.given_up),
    ):
        if amount:
            meter.count(measure, amount)
    show_new(buffer.tally, meter)
    if counts.late_dropped_spans:
        meter.count(measures.LATE_SPANS, counts.late_dropped_spans, "drop")
