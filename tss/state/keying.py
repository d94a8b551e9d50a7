"""Notices that the input topic is not keyed by trace id, and says what to do about it.

Without such keys, the spans of one trace lie on several partitions. Several replicas then decide about parts of the trace (law
2). A single replica decides once, but the trace waits for the slowest of its partitions.
"""

from __future__ import annotations

import math

import structlog
import trio

from tss.core import measures
from tss.core.health import Health
from tss.core.measures import Meter
from tss.core.polled import Sample
from tss.core.throttle import LogThrottle

log = structlog.get_logger()

COMPONENT = "keying"
CALM_SECS = 60.0  # after so long without another unkeyed record or split trace, the component is up again
ADVICE = "set partition_traces_by_id in the Collector's kafka exporter, or enable kafka.rekey"
ADVICE_REKEYED = "others write to kafka.rekey.topic too: they have to key by trace id, with kafka.rekey.partitioner"
SAME_PARTITIONER = "all producers of the topic have to use one partitioner; or enable kafka.rekey"


class Keying:
    """Whether the topic is keyed by trace id, as far as its records were looked at."""

    def __init__(self, meter: Meter, health: Health, *, rekeyed: bool) -> None:
        self._meter = meter
        self._health = health
        self._rekeyed = rekeyed
        self._seen_at = -math.inf  # the last unkeyed record or split trace
        self._unkeyed_at = -math.inf  # the last unkeyed record
        self._degraded = False
        self._telling = LogThrottle()

    def __repr__(self) -> str:
        return f"<Keying {'degraded' if self._degraded else 'well'}>"

    def sampled(self, sample: Sample) -> None:
        """Look at the sample of one poll. In a topic with one partition, keys do not matter."""
        if sample.unkeyed and sample.partitions > 1:
            self._meter.count(measures.UNKEYED, sample.unkeyed)
            self._unkeyed_at = trio.current_time()
            advice = ADVICE_REKEYED if self._rekeyed else ADVICE
            self._wrong(sample.unkeyed, "records are not keyed by trace id", advice)
        elif self._degraded and trio.current_time() - self._seen_at >= CALM_SECS:
            self._degraded = False
            self._health.up(COMPONENT)
            log.info("the topic is keyed by trace id again", calm_secs=CALM_SECS)

    def split(self, traces: int) -> None:
        """This number of traces was found on two partitions."""
        self._meter.count(measures.SPLIT_TRACES, traces)
        if trio.current_time() - self._unkeyed_at < CALM_SECS:  # the unkeyed records explain it, and are logged
            self._seen_at = trio.current_time()
            return
        advice = ADVICE_REKEYED if self._rekeyed else SAME_PARTITIONER
        self._wrong(traces, "traces are spread over several partitions", advice)

    def _wrong(self, count: int, what: str, advice: str) -> None:
        self._seen_at = trio.current_time()
        self._degraded = True
        self._health.degraded(COMPONENT, f"{what}: {advice}")
        if told := self._telling.add(count, trio.current_time()):
            log.warning(what, seen=told, advice=advice)
