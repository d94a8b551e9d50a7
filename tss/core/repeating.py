"""How long a trace may become where each of its spans repeats what its resource and its scope say.

A Datadog span does, and so does a row of a table. A record of half a megabyte, with a resource of 400 kB and 2,000 small
spans, would be 800 MB there. It is refused, for it would hold up, or end, whoever writes it, and whoever reads it.
"""

from __future__ import annotations

# A trace may become so long, or so many times as long as it came. Fifty thousand small spans with a resource of a kilobyte
# are within both. Beyond, hardly anything but one resource is sent: at 20 MB in a second of one processor for Datadog.
MOST_BYTES = 64 * 1024 * 1024
MOST_TIMES = 32


class TooLarge(Exception):
    """A span is larger than what the destination takes, or a trace becomes far longer than it came."""


def check(written_bytes: int, payload_bytes: int) -> None:
    """Raises TooLarge for a trace of ``payload_bytes`` of OTLP that becomes so long."""
    if written_bytes > max(MOST_BYTES, MOST_TIMES * payload_bytes):
        raise TooLarge(
            f"its {payload_bytes:,} bytes of OTLP become {written_bytes:,} or more, as each span repeats what its resource"
            " and its scope say"
        )
