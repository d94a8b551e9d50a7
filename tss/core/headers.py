"""The headers of a Kafka record."""

from __future__ import annotations

Headers = tuple[tuple[str, bytes | None], ...]

UNREADABLE_HEADERS = "tss-headers-unreadable"
"""The only header of a record whose own headers cannot be read. Its value is the reason. The topic still has the headers,
at the record's offset."""

HEADER_BYTES = 150  # the tuple of one header, and its name and value as objects


def headers_bytes(headers: Headers) -> int:
    """Their memory in bytes."""
    return sum([HEADER_BYTES + len(name) + len(value or b"") for name, value in headers])
