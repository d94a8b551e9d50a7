"""A record or a trace that could not be handled: its bytes, and why."""

from __future__ import annotations

import attrs


@attrs.frozen
class DeadLetter:
    """The whole bytes, the reason and the origin, so that somebody can repair the data and send it again."""

    reason: str
    detail: str
    payload: bytes
    topic: str = ""
    partition: int | None = None
    offset: int | None = None
    timestamp_ms: int | None = None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    trace_id: str = ""  # hex; of a trace that a destination refused
    destination: str = ""  # the exporter that refused it
