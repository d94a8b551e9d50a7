"""DDSketch of durations: how a value finds its bin, and how bins are written.

Bins are by powers of gamma, so that the value that stands for a bin is within 1 % of each that fell into it. Source:
"DDSketch" (VLDB 2019), and the message `DDSketch` of the agent's payloads (`shared/reference/wire-protocols.md` 1.d).
The agent cuts a duration to ten bits first, which may move it by one bin; here it stays whole, for the 1 % to hold.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping

ACCURACY = 0.01
GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
MULTIPLIER = 1 / math.log(GAMMA)

OPENING = b"\x0a\x09\x09" + struct.pack("<d", GAMMA)  # mapping = 1 {gamma = 1}; no offset, logarithmic


def bin_of(duration_ns: int) -> int:
    """The bin of a duration that is not 0."""
    return math.floor(math.log(duration_ns) * MULTIPLIER)


def value_of(number: int) -> float:
    """What stands for all values of a bin, in ns."""
    return math.exp(number / MULTIPLIER) * (1 + ACCURACY)


def encode(bins: Mapping[int, int], zeros: int) -> bytes:
    """The message DDSketch. Without a value too it says its mapping, as the agent's does."""
    pairs = b"".join([_pair(number, count) for number, count in sorted(bins.items()) if count])
    store = b"\x12" + _varint(len(pairs)) + pairs if pairs else b""
    return OPENING + store + (b"\x21" + struct.pack("<d", zeros) if zeros else b"")


def _pair(number: int, count: int) -> bytes:
    """An entry of binCounts = 1: a map from sint32 to double; bins of durations are not negative."""
    key = b"\x08" + _varint(number << 1)
    return b"\x0a" + bytes([len(key) + 9]) + key + b"\x11" + struct.pack("<d", count)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
