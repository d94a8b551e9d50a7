"""A dead letter as a line of JSON, for a file or for the daemon's log."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

from tss.core.deadletter import DeadLetter

# How each line begins, `#` being a digit. The reason is part of it: Go's slog begins its lines with a time, too.
BEGINS = b'{"time":"####-##-##T##:##:##.###+00:00","reason":"'


def as_object(letter: DeadLetter, now: datetime) -> dict[str, object]:
    """The object of the line. Bytes are base64, since a key or a header may hold any bytes."""
    moment = None if letter.timestamp_ms is None else _rfc3339(letter.timestamp_ms)
    return {
        "time": now.isoformat(timespec="milliseconds"),
        "reason": letter.reason,
        "detail": letter.detail,
        "topic": letter.topic or None,
        "partition": letter.partition,
        "offset": letter.offset,
        "timestamp": moment,
        "key": _base64(letter.key),
        "headers": [[name, _base64(value)] for name, value in letter.headers],
        "trace_id": letter.trace_id or None,
        "destination": letter.destination or None,
        "payload": _base64(letter.payload),
    }


def line(letter: DeadLetter, now: datetime) -> str:
    """The line, in ASCII, without its newline."""
    return json.dumps(as_object(letter, now), separators=(",", ":"))


def _base64(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode("ascii")


def _rfc3339(timestamp_ms: int) -> str | int:
    """The number itself if no calendar has this time: a record may bear any timestamp."""
    try:
        return datetime.fromtimestamp(timestamp_ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return timestamp_ms
