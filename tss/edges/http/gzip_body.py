"""Request bodies in gzip."""

from __future__ import annotations

from functools import partial

import trio
from isal import igzip

# Measured on OTLP of 460 B a span, one core: ISA-L's level 1 saves 82 % at 1.2 GB/s; zlib's level 1 saves 81 % at 260 MB/s, and
# its level 6 saves 84 % at 90 MB/s.
GZIP_LEVEL = 1
MIN_GZIP_BYTES = 1024  # a smaller body fits in one packet anyway
THREAD_BYTES = 1024 * 1024  # about 1 ms of compression; moving it to a thread and back costs a tenth of that


def compressed(body: bytes) -> bytes:
    """The body in gzip."""
    packed: bytes = igzip.compress(body, GZIP_LEVEL, mtime=0)
    return packed


async def compress(body: bytes, limiter: trio.CapacityLimiter | None = None) -> bytes:
    """The body in gzip; a long one is compressed in a thread, so that the event loop does not wait."""
    if len(body) < THREAD_BYTES:
        return compressed(body)
    return await trio.to_thread.run_sync(partial(compressed, body), limiter=limiter, abandon_on_cancel=True)
