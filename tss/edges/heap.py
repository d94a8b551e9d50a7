"""The C library's heap, which holds the spans. With another C library than glibc, these functions do nothing."""

from __future__ import annotations

import contextlib
import ctypes

_M_ARENA_MAX = -8  # mallopt(3)


def share_one_arena() -> None:
    """Use one arena for all threads. Call it before there are threads.

    One thread allocates spans, and another frees them. With glibc's default, an arena for each thread, a million held spans
    took a quarter more memory, and the same time.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Return free memory to the system (malloc_trim(3)). Without this call glibc returns it only at the heap's end, where one
    live byte keeps all the memory that a burst took."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
