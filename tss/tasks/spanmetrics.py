"""Sends the span metrics by OTLP at intervals. They are cumulative: the next sending contains all that a failed one had."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Protocol

import attrs
import structlog
import trio

from tss.core import measures
from tss.core.delivery import Accepted, Again, Outcome, Retrying
from tss.core.measures import Meter
from tss.core.throttle import LogThrottle

log = structlog.get_logger()

TRIES = 3  # of one request, within one interval
RETRYING = Retrying(1.0, max_secs=4.0)
REQUEST_BYTES = 1024 * 1024  # before compression; gRPC gateways behind an endpoint take 4 MiB
OK, REJECTED = "ok", "rejected"


class SpanMetricsBackend(Protocol):
    """The receiver of the span metrics."""

    async def send(self, body: bytes) -> Outcome:
        """Send one serialized ExportMetricsServiceRequest once. Never raises for network or server errors."""


class SpanMetricsReport(Protocol):
    """The span metrics to send."""

    @property
    def spans(self) -> int:
        """How many spans have been counted."""

    def requests(self, now_ns: int) -> Iterator[bytes]:
        """Some series at a time. Several of these, concatenated, are one request."""

    def told(self, upto: int) -> None:
        """All counts up to this span have arrived."""


@attrs.define
class SpanMetricsSender:
    """Sends one report to one backend."""

    report: SpanMetricsReport
    backend: SpanMetricsBackend
    meter: Meter
    chance: random.Random
    _failing: LogThrottle = attrs.field(factory=LogThrottle)

    def fails(self, reason: str, detail: str) -> None:
        """Count a failure, and log it from time to time."""
        self.meter.count(measures.SPAN_METRICS_EXPORTS, 1, reason)
        times = self._failing.add(1, trio.current_time())
        if times:
            log.warning(
                "span metrics were not taken; the next sending contains them", reason=reason, detail=detail, times=times
            )


async def run(sending: SpanMetricsSender, interval_secs: float, last_secs: float, done: trio.Event) -> None:
    """Every ``interval_secs`` until ``done``, and then once more, for at most ``last_secs`` (law 9)."""
    sending.meter.count(measures.SPAN_METRICS_EXPORTS, 0, OK)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_regularly, sending, interval_secs)
        await done.wait()
        nursery.cancel_scope.cancel()
    with trio.move_on_after(last_secs):
        await send(sending)


async def _regularly(sending: SpanMetricsSender, interval_secs: float) -> None:
    while True:
        due = trio.current_time() + interval_secs
        await trio.sleep_until(due)
        with trio.move_on_after(interval_secs) as late:
            await send(sending)
        if late.cancelled_caught:
            sending.fails("timeout", "the sending took longer than one interval")


async def send(sending: SpanMetricsSender) -> None:
    """Send all series, in as many requests as needed. A failure ends it: the other requests would fail too."""
    upto = sending.report.spans
    rejected = ""
    for body in await _bodies(sending.report):
        outcome = await _try(sending, body)
        if not isinstance(outcome, Accepted):
            sending.fails(outcome.reason, outcome.detail)
            return
        if outcome.rejected_spans:
            rejected = outcome.message or "it does not say why"
    sending.report.told(upto)
    if rejected:
        sending.fails(REJECTED, rejected)
    else:
        sending.meter.count(measures.SPAN_METRICS_EXPORTS, 1, OK)


async def _bodies(report: SpanMetricsReport) -> list[bytes]:
    """The requests, none much larger than `REQUEST_BYTES`. Other tasks run while they are written."""
    bodies = []
    waiting = bytearray()
    for part in report.requests(time.time_ns()):
        if waiting and len(waiting) + len(part) > REQUEST_BYTES:
            bodies.append(bytes(waiting))
            waiting.clear()
        waiting += part
        await trio.lowlevel.checkpoint()
    return [*bodies, bytes(waiting)] if waiting else bodies


async def _try(sending: SpanMetricsSender, body: bytes) -> Outcome:
    """Try up to `TRIES` times, as long as the outcome says that another try may help."""
    for tries in range(1, TRIES):
        outcome = await sending.backend.send(body)
        if not isinstance(outcome, Again):
            return outcome
        await trio.sleep(outcome.after_secs or sending.chance.uniform(0, RETRYING.most_secs(tries)))
    return await sending.backend.send(body)
