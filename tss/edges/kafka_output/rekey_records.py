"""One trace's spans of one input record, as a record of the topic between the two stages (`kafka.rekey`).

Key and value are the OpenTelemetry Collector's with `partition_traces_by_id`, so that a Collector may write to the same
topic: the trace id as 32 lower-case hexadecimal characters, and a serialized TracesData. Headers and timestamp are those
of the input record. One more header, `tss-source`, has the group, topic, partition and offset of that record.
"""

from __future__ import annotations

from collections.abc import Mapping

from tss.core.decision import Decision, Reason, Verdict
from tss.core.headers import Headers
from tss.core.output_traces import OutputTrace
from tss.edges.kafka_output.entry import Entry, RecordHeaders
from tss.edges.kafka_output.output_records import ConsumedTopic

SOURCE = "tss-source"
_NO_DECISION = Decision(Verdict.KEEP, "", Reason.INACTIVE, 1.0)  # the second stage decides; nobody reads this one


def with_source(headers: Headers, consumed: ConsumedTopic, partition: int, offset: int) -> list[tuple[str, bytes]]:
    """The record's own headers, and `tss-source`. One that another rekeying stage wrote is replaced."""
    source = f"{consumed.group} {consumed.topic} {partition} {offset}".encode()
    kept = [(name, value) for name, value in headers if name != SOURCE]
    return [*kept, (SOURCE, source)]  # type: ignore[list-item]  # a header without a value stays without


def entry_of(
    trace_id: bytes, payload: bytes, partition: int, offset: int, stamp_ms: int, headers: RecordHeaders
) -> Entry:
    """One fragment as one record. ``headers`` are shared by all fragments of its record."""
    return Entry(trace_id, {partition: (offset,)}, stamp_ms, [(payload, headers)])


def output_traces_of(
    key: bytes | None, headers: Mapping[str, bytes | None], consumed: ConsumedTopic
) -> tuple[bytes, dict[int, OutputTrace]] | None:
    """The trace id, and the input record that its spans came in; None for a record of another stage or program."""
    try:
        group, topic, partition, offset = (headers[SOURCE] or b"").decode().rsplit(" ", 3)
        if (group, topic) != (consumed.group, consumed.topic):
            return None
        return bytes.fromhex((key or b"").decode("ascii")), {int(partition): OutputTrace(_NO_DECISION, [int(offset)])}
    except (KeyError, ValueError):  # another program's header or key
        return None
