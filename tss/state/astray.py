"""Spans that were to go to an exporter that is no longer in the settings: counted, and logged with its name."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import attrs
import structlog
import trio

from tss.core import measures
from tss.core.measures import Meter
from tss.core.throttle import LogThrottle
from tss.core.trace import Trace

log = structlog.get_logger()

MOST_NAMES = 10  # in a log line: anybody who can write to Redis can invent names


@attrs.define
class Astray:
    """Late spans go to the destinations that the decision names. It may have been made under other settings."""

    known: frozenset[str]  # the exporters' names
    meter: Meter
    _names: dict[str, None] = attrs.field(factory=dict, init=False)  # not logged yet
    _telling: LogThrottle = attrs.field(factory=LogThrottle, init=False)

    def look(self, trace: Trace, chosen: Sequence[str]) -> None:
        """``chosen``: the exporters that the trace is to go to."""
        missing = [name for name in chosen if name not in self.known]
        if not missing:
            return
        self.meter.count(measures.SPANS_ASTRAY, trace.held_spans)
        if len(self._names) < MOST_NAMES:
            self._names |= dict.fromkeys(missing)
        if count := self._telling.add(trace.held_spans, trio.current_time()):
            log.warning(
                "spans were decided to go to exporters that are no longer in the settings; they are not sent there",
                exporters=[*islice(self._names, MOST_NAMES)],
                spans=count,
                check="whether exporters[].name was changed, or the exporter removed",
            )
            self._names.clear()
