"""Messages to records and dead letters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from confluent_kafka import Message

from tss.core.otlp import Encoding, scan
from tss.core.record import DeadLetter, Record

NO_TIMESTAMP_MS = -1

Located = tuple[int, int, Message]  # partition, offset, message


def to_records(messages: Iterable[Located], topic: str, encoding: Encoding) -> tuple[list[Record], list[DeadLetter]]:
    """A record for each message, with the fragments that could be read, and a letter for each thing that could not."""
    records, letters = [], []
    for partition, offset, message in messages:
        found = scan(message.value(), encoding)
        kind, timestamp = message.timestamp()
        timestamp_ms = timestamp if kind else NO_TIMESTAMP_MS
        records.append(Record(partition, offset, timestamp_ms, found.fragments))
        for fault in found.faults:
            letter = DeadLetter(
                reason=fault.reason.value,
                detail=fault.detail,
                payload=fault.payload,
                topic=topic,
                partition=partition,
                offset=offset,
                timestamp_ms=timestamp_ms,
                key=_bytes(message.key()),
                headers=_headers(message),
            )
            letters.append(letter)
    return records, letters


def _bytes(key: str | bytes | None) -> bytes | None:
    return key.encode() if isinstance(key, str) else key


def _headers(message: Message) -> tuple[tuple[str, bytes | None], ...]:
    return tuple(cast(list[tuple[str, bytes | None]], message.headers() or []))
