"""Traces that an observer of all spans (APM statistics, span metrics) could not count: counted and logged here."""

from __future__ import annotations

from collections import defaultdict

import attrs
import structlog
import trio

from tss.core import measures
from tss.core.formats.apm_stats import SpanObserver
from tss.core.measures import Meter
from tss.core.throttle import LogThrottle

log = structlog.get_logger()


@attrs.frozen
class Uncounted:
    """Call it with the observer that failed and its error. The trace is missing in the counts of that observer only."""

    meter: Meter
    _tellings: dict[str, LogThrottle] = attrs.field(factory=lambda: defaultdict(LogThrottle), init=False)

    def __call__(self, observer: SpanObserver, error: Exception) -> None:
        by = type(observer).__name__
        self.meter.count(measures.UNCOUNTED_TRACES, 1, by)
        if count := self._tellings[by].add(1, trio.current_time()):
            log.error(
                "traces could not be counted; APM statistics or span metrics lack them",
                by=by,
                count=count,
                reason=error,
                exc_info=error,
            )
