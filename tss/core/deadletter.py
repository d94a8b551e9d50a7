"""A record or a trace that could not be handled: its bytes, and why."""

from __future__ import annotations

import attrs


@attrs.frozen
class DeadLetter:
    """Bytes that could not be handled, why, and where they came from; whole, so that it can be mended and sent again."""

    reason: str
    detail: str
    payload: bytes
    topic: str = ""
    partition: int | None = None
    offset: int | None = None
    timestamp_ms: int | None = None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    trace_id: str = ""  # hex, of a refused trace
    destination: str = ""  # the exporter that refused it
