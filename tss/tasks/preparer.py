"""Prepares kept traces for sending: removes duplicate spans, compresses runs of similar spans, and writes weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import attrs
import structlog
import trio

from tss.core import measures
from tss.core.buffer import Buffer
from tss.core.decision import Reason
from tss.core.measures import Meter
from tss.core.preparing import Preparation, Prepared, weigh
from tss.core.throttle import LogThrottle
from tss.core.trace import Trace
from tss.core.weights import REASONS, Weight

log = structlog.get_logger()

THREAD_BYTES = (
    256 * 1024
)  # some 5 ms if spans are compressed; larger work goes to a thread, to keep the event loop free
# No more spans are expected of a trace that was closed for one of these reasons and misses no parent.
WAITED = (Reason.ROOT_QUIET, Reason.DECISION_WAIT, Reason.ROOT_WAIT)
PLAIN_BYTES = 2 << 20  # unpacked at a time; packed it is an eighth of that


async def run(
    kept: trio.MemoryReceiveChannel[list[Trace]],
    prepared: trio.MemorySendChannel[list[Trace]],
    buffer: Buffer,
    preparation: Preparation,
    meter: Meter,
) -> None:
    """Until the channel ends. A trace that cannot be prepared is sent unchanged."""
    limiter, telling = trio.CapacityLimiter(1), LogThrottle()
    with kept, prepared:
        async for traces in kept:
            for piece in _pieces(traces):
                jobs = [_Job.of(trace, preparation, buffer) for trace in piece]
                work = partial(_prepare, preparation, jobs)
                if sum(trace.payload_bytes for trace in piece) < THREAD_BYTES:
                    found, errors = work()
                else:
                    found, errors = await trio.to_thread.run_sync(work, limiter=limiter, abandon_on_cancel=True)
                _tell(errors, telling, meter)
                _show(piece, found, meter)
                for trace, job, each in zip(piece, jobs, found, strict=True):
                    if any(new.payload is not old for new, old in zip(each, job.parts, strict=True)):
                        await _rewrite(buffer, trace, each)
            buffer.tally.sent(traces)
            await prepared.send(traces)


@attrs.frozen
class _Job:
    """What is needed of a trace to prepare it, also on another thread."""

    parts: Sequence[bytes]  # by partition
    complete: bool
    weight: Weight | None

    @classmethod
    def of(cls, trace: Trace, preparation: Preparation, buffer: Buffer) -> _Job:
        weight = None
        if preparation.weights and trace.decision is not None:
            weight = Weight.of(trace.decision, trace.trace_id, buffer.given_randomness(trace))
        return cls(trace.parts(), _is_complete(trace), weight)

    def work(self, preparation: Preparation) -> list[Prepared]:
        """Each part as it is to be sent."""
        if len(self.parts) == 1:
            return [preparation.prepare(self.parts[0], complete=self.complete, weight=self.weight)]
        # On several partitions: its spans must stay separate by partition, so it gets only its weight.
        plain = [Prepared(part) for part in self.parts]
        return plain if self.weight is None else [weigh(each, self.weight) for each in plain]


def _pieces(traces: Sequence[Trace]) -> Iterator[list[Trace]]:
    """Pieces small enough to be unpacked beside the memory limit."""
    piece: list[Trace] = []
    size = 0
    for trace in traces:
        if piece and size + trace.payload_bytes > PLAIN_BYTES:
            yield piece
            piece, size = [], 0
        piece.append(trace)
        size += trace.payload_bytes
    if piece:
        yield piece


def _is_complete(trace: Trace) -> bool:
    """Whether the payload has all spans of the trace. Spans that were settled before this start are not in it."""
    return trace.reason in WAITED and trace.is_complete() and not trace.late and trace.held_spans == trace.spans


def _prepare(preparation: Preparation, jobs: Sequence[_Job]) -> tuple[list[list[Prepared]], list[Exception]]:
    """The parts of each trace as they are to be sent, and the errors of those that could not be prepared."""
    found, errors = [], []
    for job in jobs:
        try:
            found.append(job.work(preparation))
        except Exception as error:  # noqa: BLE001  # whatever the error is, it concerns this trace only
            errors.append(error)
            found.append([Prepared(part) for part in job.parts])
    return found, errors


def _tell(errors: Sequence[Exception], telling: LogThrottle, meter: Meter) -> None:
    """Log once, and then from time to time: one producer may cause it in every trace."""
    meter.count(measures.TRACES_UNPREPARED, len(errors))
    if errors and (count := telling.add(len(errors), trio.current_time())):
        first = errors[0]
        log.error("traces could not be prepared and are sent unchanged", count=count, reason=first, exc_info=first)


async def _rewrite(buffer: Buffer, trace: Trace, parts: Sequence[Prepared]) -> None:
    takes_time = trace.is_packed()  # it is packed again
    if len(parts) > 1:
        buffer.rewrite_parts(trace, [each.payload for each in parts])
    else:
        [prepared] = parts
        gone = prepared.duplicates + prepared.compressed_spans - prepared.groups
        buffer.rewrite(trace, prepared.payload, trace.held_spans - gone)
    if takes_time:
        await trio.lowlevel.checkpoint()


def _show(traces: Sequence[Trace], found: Sequence[Sequence[Prepared]], meter: Meter) -> None:
    whole = [parts[0] for parts in found if len(parts) == 1]  # the others are neither searched nor compressed
    spans = sum(trace.held_spans for trace, parts in zip(traces, found, strict=True) if len(parts) == 1)
    duplicates = sum(each.duplicates for each in whole)
    compressed, groups = sum(each.compressed_spans for each in whole), sum(each.groups for each in whole)
    meter.count(measures.DUPLICATES_REMOVED, duplicates)
    meter.count(measures.COMPRESSED_SPANS, compressed)
    meter.count(measures.COMPRESSED_GROUPS, groups)
    meter.count(measures.COMPRESSION_SPANS_IN, spans - duplicates)
    meter.count(measures.COMPRESSION_SPANS_OUT, spans - duplicates - compressed + groups)
    for outcome, reason in REASONS.items():
        without = sum(each.outcomes[outcome] for parts in found for each in parts if each.outcomes)
        if without:
            meter.count(measures.SPANS_UNWEIGHTED, without, reason)
