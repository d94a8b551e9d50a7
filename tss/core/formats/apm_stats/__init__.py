"""APM statistics of all traffic, kept and dropped, as a Datadog agent would compute them without sampling.

A `Concentrator` counts the spans of each trace when the trace is decided. The trace is complete then, so it is known which
spans are the entry of a service. The counts are taken and sent every ten seconds. After a restart Kafka's records are read
again from the low water mark, and their spans are counted again: counting is at least once, as with a restarted agent.
Late spans are counted when they arrive, whether their trace was kept or dropped.
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
        """Count the spans of one trace, or late spans of it. `chunks` are serialized TracesData. Never raises."""
