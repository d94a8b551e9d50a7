"""Prepares kept traces for sending: removes duplicate spans, and compresses runs of similar spans."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import structlog
import trio

from tss.core import measures
from tss.core.buffer import Buffer
from tss.core.decision import Reason
from tss.core.measures import Meter
from tss.core.preparing import Preparation, Prepared
from tss.core.throttle import LogThrottle
from tss.core.trace import Trace

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
            # A trace on several partitions is sent unchanged: its spans must stay separate by partition.
            for piece in _pieces([trace for trace in traces if not trace.further]):
                work = partial(_prepare, preparation, [(trace.payload, _is_complete(trace)) for trace in piece])
                if sum(trace.payload_bytes for trace in piece) < THREAD_BYTES:
                    found, errors = work()
                else:
                    found, errors = await trio.to_thread.run_sync(work, limiter=limiter, abandon_on_cancel=True)
                _tell(errors, telling, meter)
                _show(found, sum(trace.held_spans for trace in piece), meter)
                for trace, each in zip(piece, found, strict=True):
                    await _rewrite(buffer, trace, each)
            await prepared.send(traces)


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


def _prepare(
    preparation: Preparation, payloads: Sequence[tuple[bytes, bool]]
) -> tuple[list[Prepared], list[Exception]]:
    """Each payload as it is to be sent, and the errors of those that could not be prepared."""
    found, errors = [], []
    for payload, complete in payloads:
        try:
            found.append(preparation.prepare(payload, complete=complete))
        except Exception as error:  # noqa: BLE001  # whatever the error is, it concerns this trace only
            errors.append(error)
            found.append(Prepared(payload))
    return found, errors


def _tell(errors: Sequence[Exception], telling: LogThrottle, meter: Meter) -> None:
    """Log once, and then from time to time: one producer may cause it in every trace."""
    meter.count(measures.TRACES_UNPREPARED, len(errors))
    if errors and (count := telling.add(len(errors), trio.current_time())):
        first = errors[0]
        log.error("traces could not be prepared and are sent unchanged", count=count, reason=first, exc_info=first)


async def _rewrite(buffer: Buffer, trace: Trace, prepared: Prepared) -> None:
    gone = prepared.duplicates + prepared.compressed_spans - prepared.groups
    if gone:  # groups have at least two spans, so every change removes a span
        buffer.rewrite(trace, prepared.payload, trace.held_spans - gone)
        await trio.lowlevel.checkpoint()  # a packed trace is packed again, which takes time


def _show(found: Sequence[Prepared], spans: int, meter: Meter) -> None:
    duplicates = sum(each.duplicates for each in found)
    compressed, groups = sum(each.compressed_spans for each in found), sum(each.groups for each in found)
    meter.count(measures.DUPLICATES_REMOVED, duplicates)
    meter.count(measures.COMPRESSED_SPANS, compressed)
    meter.count(measures.COMPRESSED_GROUPS, groups)
    meter.count(measures.COMPRESSION_SPANS_IN, spans - duplicates)
    meter.count(measures.COMPRESSION_SPANS_OUT, spans - duplicates - compressed + groups)
