"""APM statistics of all traffic, kept and dropped, as a Datadog agent would make them if nothing were sampled.

A `Concentrator` counts the spans of each trace when it is decided: then it is whole, and which spans enter a service is
exact. What is counted is taken every ten seconds, and sent. After a restart Kafka's records are read again from the low
water, and what had been counted of them is counted again: at least once, as it is with agents that are restarted.
"""

from typing import Protocol

from tss.core.statistics.groups import Concentrator, Group, Name, Payload

__all__ = ["Concentrator", "Group", "Name", "Payload", "SpanObserver", "new_concentrator"]


class SpanObserver(Protocol):
    """Sees all spans of each decided trace, once."""

    def add(self, trace_id: bytes, chunks: list[bytes], kept: bool) -> None:  # noqa: FBT001  # a verdict, as it comes
        """Take the serialized TracesData that are together one trace, or what came late of one. Never raises."""


def new_concentrator(now_ns: int) -> Concentrator:
    """The compiled one, where there is one."""
    try:
        from tss.core.statistics.concentrator import Concentrator as Chosen  # noqa: PLC0415
    except ImportError:  # there was no C compiler when this was installed
        from tss.core.statistics.reference import Concentrator as Chosen  # noqa: PLC0415
    return Chosen(now_ns)
