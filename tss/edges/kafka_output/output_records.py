"""A kept trace as records of the output topic, and what such a record tells whoever has to know of it later.

Key and value are the OpenTelemetry Collector's with `partition_traces_by_id`: the trace id as 32 lower-case hexadecimal
characters, and the serialized TracesData. The headers are ours: `tss-decision` is why it was kept, `tss-covers` which
records of the input topic it was made of.
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
OVERHEAD_BYTES = 256  # of a record beside value and headers: the key, the headers' names, lengths, batch


class RecordTooLarge(Exception):
    """No record of this topic can hold it."""


@attrs.frozen
class ConsumedTopic:
    """Who reads what: of several daemons that write to one topic, each minds its own records."""

    group: str
    topic: str
    topic_id: str = ""  # that the topic has now; empty where the brokers do not tell it


@attrs.frozen
class Output:
    """A kept trace, ready to be written."""

    trace_id: bytes
    payload: bytes = attrs.field(repr=lambda payload: f"{len(payload)} bytes")
    decision: Decision
    covers: Covers
    topic_id: str = ""  # of the input topic that the offsets are of


def entry_of(output: Output, consumed: ConsumedTopic, max_bytes: int) -> Entry:
    """Encode it. Its records bear the time of the transaction. Raises RecordTooLarge."""
    return Entry(output.trace_id, output.covers, None, records(output, consumed, max_bytes))


def records(output: Output, consumed: ConsumedTopic, max_bytes: int) -> list[tuple[bytes, RecordHeaders]]:
    """Values with their headers: mostly one. What is larger than a record may be is cut between its ResourceSpans.

    Raises RecordTooLarge when one of these alone is.
    """
    headers = [(DECISION, _told(output.decision)), (COVERS, _covered(consumed, output))]
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


def _told(decision: Decision) -> bytes:
    told: dict[str, object] = {"policy": decision.policy, "reason": decision.reason.value, "rate": decision.rate}
    if decision.destinations is not None:  # what comes late of it has to go there too
        told["to"] = decision.destinations
    return json.dumps(told, separators=(",", ":")).encode("ascii")


def _covered(consumed: ConsumedTopic, output: Output) -> bytes:
    """Of each partition the first offset, and then the distance from one to the next: a digit or two each. Last the id
    of the topic (KIP-516), if it is known: a version that does not know of it passes over it."""
    offsets = {id: [known[0], *(b - a for a, b in pairwise(known))] for id, known in output.covers.items()}
    told: dict[str, object] = {"group": consumed.group, "topic": consumed.topic, "offsets": offsets}
    if output.topic_id:
        told["id"] = output.topic_id
    return json.dumps(told, separators=(",", ":")).encode("ascii")


def delivered_of(
    key: bytes | None, headers: Mapping[str, bytes | None], consumed: ConsumedTopic
) -> tuple[bytes, dict[int, OutputTrace]] | None:
    """The trace id, and by partition what a record says that the topic has of it; None when it is not one of ours,
    or of an input topic of the same name that was deleted. A record that does not say its topic's id is believed."""
    if COVERS not in headers or DECISION not in headers:
        return None
    try:
        covers = json.loads(headers[COVERS] or b"")
        if (covers["group"], covers["topic"]) != (consumed.group, consumed.topic):
            return None
        if consumed.topic_id and covers.get("id", consumed.topic_id) != consumed.topic_id:
            return None
        told = json.loads(headers[DECISION] or b"")
        to = tuple(map(str, told["to"])) if "to" in told else None
        decision = Decision(Verdict.KEEP, str(told["policy"]), Reason(told["reason"]), _rate(told["rate"]), to)
        offsets = {int(id): _offsets(known) for id, known in covers["offsets"].items()}
        return _trace_id(key), {id: OutputTrace(decision, known) for id, known in offsets.items() if known}
    # Somebody else's, whatever it is. Deeply nested JSON ends in a RecursionError, 1e999 as an int in an OverflowError.
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _rate(value: object) -> float:
    rate = float(value)  # type: ignore[arg-type]  # a TypeError says so
    if not 0.0 < rate <= 1.0:
        raise ValueError(f"no rate: {rate}")
    return rate


def _offsets(steps: Iterable[object]) -> list[int]:
    found = [*accumulate(map(int, steps))]  # type: ignore[arg-type]  # as above
    if not all(0 <= offset < MOST_OFFSETS for offset in found):
        raise ValueError("no offsets")
    return found


def _trace_id(key: bytes | None) -> bytes:
    found = bytes.fromhex((key or b"").decode("ascii"))
    if len(found) != TRACE_ID_BYTES:
        raise ValueError("no trace id")
    return found
