"""The limit of a trace's size in formats in which each span repeats its resource and scope (Datadog, Parquet).

A record of half a megabyte, with a resource of 400 kB and 2,000 small spans, would be 800 MB in such a format. It is
refused, because it would block or crash both the writer and the reader.
"""

from __future__ import annotations

# A trace may have MOST_BYTES, or MOST_TIMES as many bytes as its OTLP. Fifty thousand small spans with a resource of a
# kilobyte are within both. A larger trace would consist almost only of copies of one resource; Datadog's form of it takes a
# second of one processor for 20 MB.
MOST_BYTES = 64 * 1024 * 1024
MOST_TIMES = 32


class TooLarge(Exception):
    """A span is larger than the destination accepts, or a trace becomes far larger than its OTLP."""


def check(written_bytes: int, payload_bytes: int) -> None:
    """Raises TooLarge if ``written_bytes`` is too much for a trace of ``payload_bytes`` of OTLP."""
    if written_bytes > max(MOST_BYTES, MOST_TIMES * payload_bytes):
        raise TooLarge(
            f"its {payload_bytes:,} bytes of OTLP become {written_bytes:,} or more, as each span repeats what its resource"
            " and its scope say"
        )
