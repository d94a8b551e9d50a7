"""The C library's heap, where spans are held. Does nothing where it is another library than glibc."""

from __future__ import annotations

import contextlib
import ctypes

_M_ARENA_MAX = -8  # mallopt(3)


def share_one_arena() -> None:
    """To be called before there are threads.

    Spans are allocated on the thread that reads and freed on another: with an arena for each thread, as glibc has it, a
    million held spans took a quarter more memory, and no less time.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Return what is free to the system (malloc_trim(3)): of itself glibc does so at the heap's end only, and one live
    byte there keeps what a burst has taken."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
