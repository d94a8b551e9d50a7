"""A kept trace as records of the output topic, and back from such a record to what the topic has.

Key and value are the OpenTelemetry Collector's with `partition_traces_by_id`: the trace id as 32 lower-case hexadecimal
characters, and the serialized TracesData. The headers are ours. `tss-decision` says why the trace was kept, `tss-covers`
which records of the input topic its spans came in (docs/kafka-output.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate, pairwise

import attrs

from tss.core.decision import Decision, Reason, Verdict
from tss.core.otlp.wire import fields
from tss.core.output_traces import OutputTrace
from tss.edges.kafka_output.entry import Covers, Entry, RecordHeaders

COVERS, DECISION, PART = "tss-covers", "tss-decision", "tss-part"
TRACE_ID_BYTES = 16
MOST_OFFSETS = 1 << 63  # Kafka's are signed 64-bit numbers
OVERHEAD_BYTES = 256  # of a record beside value and headers: its key, lengths, and the batch around it


class RecordTooLarge(Exception):
    """A trace has a resource that no record of this topic can hold."""


@attrs.frozen
class ConsumedTopic:
    """A topic as one consumer group reads it. Several daemons may write to one output topic: each knows its own records
    by these names."""

    group: str
    topic: str
    topic_id: str = ""  # of the topic as it is now (KIP-516); empty where the brokers do not tell it


@attrs.frozen
class Output:
    """A kept trace, ready to be written."""

    trace_id: bytes
    payload: bytes = attrs.field(repr=lambda payload: f"{len(payload)} bytes")
    decision: Decision
    covers: Covers
    topic_id: str = ""  # of the input topic that has these offsets


def entry_of(output: Output, consumed: ConsumedTopic, max_bytes: int) -> Entry:
    """Encode it. Its records bear the time of the transaction. Raises RecordTooLarge."""
    return Entry(output.trace_id, output.covers, None, records(output, consumed, max_bytes))


def records(output: Output, consumed: ConsumedTopic, max_bytes: int) -> list[tuple[bytes, RecordHeaders]]:
    """Values with their headers, mostly one. A trace that is larger than a record may be is cut between its ResourceSpans.

    Raises RecordTooLarge when one ResourceSpans alone is larger.
    """
    headers = [(DECISION, _decision_json(output.decision)), (COVERS, _covers_json(consumed, output))]
    room = max_bytes - OVERHEAD_BYTES - sum(len(name) + len(value) for name, value in headers)
    if len(output.payload) <= room:
        return [(output.payload, headers)]
    pieces = [*_pieces(output.payload, room)]
    parts = [f"{number}/{len(pieces)}".encode() for number in range(1, len(pieces) + 1)]
    return [
        (piece, [*(headers if number == 0 else headers[:1]), (PART, part)])
        for number, (piece, part) in enumerate(zip(pieces, parts, strict=True))
    ]


def _pieces(payload: bytes, room: int) -> Iterator[bytes]:
    begin = 0
    for _, start, _, stop in fields(payload, 0, len(payload)):
        if stop - start > room:
            raise RecordTooLarge(
                f"one resource has {stop - start} bytes, and a record of the topic has room for {room}"
            )
        if stop - begin > room:
            yield payload[begin:start]
            begin = start
    yield payload[begin:]


def _decision_json(decision: Decision) -> bytes:
    values: dict[str, object] = {"policy": decision.policy, "reason": decision.reason.value, "rate": decision.rate}
    if decision.destinations is not None:  # late spans have to go there too
        values["to"] = decision.destinations
    if not decision.weighted:  # late spans get no weight either; versions that do not know it ignore it
        values["weighted"] = False
    return json.dumps(values, separators=(",", ":")).encode("ascii")


def _covers_json(consumed: ConsumedTopic, output: Output) -> bytes:
    """By partition the first offset, then the distance from each offset to the next, which takes a digit or two. The
    topic's id (KIP-516), if known, comes last; versions that do not know it ignore it."""
    offsets = {id: [known[0], *(b - a for a, b in pairwise(known))] for id, known in output.covers.items()}
    values: dict[str, object] = {"group": consumed.group, "topic": consumed.topic, "offsets": offsets}
    if output.topic_id:
        values["id"] = output.topic_id
    return json.dumps(values, separators=(",", ":")).encode("ascii")


def output_traces_of(
    key: bytes | None, headers: Mapping[str, bytes | None], consumed: ConsumedTopic
) -> tuple[bytes, dict[int, OutputTrace]] | None:
    """The trace id of a record and, by input partition, the part of the trace that it has.

    None for a record of another daemon, and for one of a deleted input topic of the same name. A record without a topic
    id is taken as one of the topic that exists.
    """
    if COVERS not in headers or DECISION not in headers:
        return None
    try:
        covers = json.loads(headers[COVERS] or b"")
        if (covers["group"], covers["topic"]) != (consumed.group, consumed.topic):
            return None
        if consumed.topic_id and covers.get("id", consumed.topic_id) != consumed.topic_id:
            return None
        values = json.loads(headers[DECISION] or b"")
        to = tuple(map(str, values["to"])) if "to" in values else None
        weighted = values.get("weighted") is not False
        rate = _rate(values["rate"])
        decision = Decision(
            Verdict.KEEP, str(values["policy"]), Reason.stored(str(values["reason"])), rate, to, weighted
        )
        offsets = {int(id): _offsets(known) for id, known in covers["offsets"].items()}
        return _trace_id(key), {id: OutputTrace(decision, known) for id, known in offsets.items() if known}
    # Another program's record. Deeply nested JSON raises RecursionError, and int(1e999) raises OverflowError.
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _rate(value: object) -> float:
    rate = float(value)  # type: ignore[arg-type]  # a wrong type raises TypeError, which the caller catches
    if not 0.0 < rate <= 1.0:
        raise ValueError(f"not a rate: {rate}")
    return rate


def _offsets(steps: Iterable[object]) -> list[int]:
    found = [*accumulate(map(int, steps))]  # type: ignore[arg-type]  # as above
    if not all(0 <= offset < MOST_OFFSETS for offset in found):
        raise ValueError("not offsets")
    return found


def _trace_id(key: bytes | None) -> bytes:
    found = bytes.fromhex((key or b"").decode("ascii"))
    if len(found) != TRACE_ID_BYTES:
        raise ValueError("not a trace id")
    return found
