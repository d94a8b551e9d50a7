"""APM statistics of all traffic, kept and dropped, as a Datadog agent would make them if nothing were sampled.

A `Concentrator` counts the spans of each trace when it is decided: then it is whole, and which spans enter a service is
exact. What is counted is taken every ten seconds, and sent. After a restart Kafka's records are read again from the low
water, and what had been counted of them is counted again: at least once, as it is with agents that are restarted.
Spans that come after their trace was decided are counted when they come, whether the trace was kept or dropped.
"""

from typing import Protocol

from tss.core.formats.apm_stats.groups import GroupedStats, Name, Payload, StatsBody

try:
    from tss.core.formats.apm_stats.concentrator import Concentrator
except ImportError:  # there was no C compiler when this was installed
    from tss.core.formats.apm_stats.reference import Concentrator

__all__ = ["Concentrator", "GroupedStats", "Name", "Payload", "SpanObserver", "StatsBody"]


class SpanObserver(Protocol):
    """Sees all spans of each decided trace, once."""

    def add(self, trace_id: bytes, chunks: list[bytes], kept: bool) -> None:
        """Take the serialized TracesData that are together one trace, or what came late of one. Never raises."""
