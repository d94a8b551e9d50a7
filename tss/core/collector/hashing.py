"""The hash by which `probabilistic` chooses traces: FNV-1a of 64 bits, over the salt and the trace id.

Source: the processor's `probabilistic.go`, Go's `hash/fnv`.
"""

from __future__ import annotations

START = 0xCBF29CE484222325
"""The hash of nothing."""
_PRIME = 0x100000001B3
_MASK = 2**64 - 1


def fnv(state: int, data: bytes) -> int:
    """The hash after these bytes; ``state`` is the hash of the bytes before them, START if there are none."""
    for byte in data:
        state = ((state ^ byte) * _PRIME) & _MASK
    return state
