"""DDSketch of durations: which bin a value belongs to, and how bins are serialized.

The bounds of the bins are powers of gamma, so that a bin's representative is within 1 % of each value in the bin. Source:
"DDSketch" (VLDB 2019), and the message `DDSketch` (`ddsketch/pb/ddsketch.proto` of github.com/DataDog/sketches-go), which
`stats.proto` of the agent carries as bytes. The agent first truncates a duration to ten bits, which may move it by one
bin. It is not truncated here, so that the 1 % holds.
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
    """The bin of a duration in ns, which must not be 0."""
    return math.floor(math.log(duration_ns) * MULTIPLIER)


def value_of(number: int) -> float:
    """The representative of a bin, in ns."""
    return math.exp(number / MULTIPLIER) * (1 + ACCURACY)


def encode(bins: Mapping[int, int], zeros: int) -> bytes:
    """The serialized message DDSketch of counts by bin and of `zeros` durations of 0. Even an empty sketch has its mapping,
    as the agent's has."""
    pairs = b"".join([_pair(number, count) for number, count in sorted(bins.items()) if count])
    store = b"\x12" + _varint(len(pairs)) + pairs if pairs else b""
    return OPENING + store + (b"\x21" + struct.pack("<d", zeros) if zeros else b"")


def _pair(number: int, count: int) -> bytes:
    """An entry of `binCounts = 1`, a map from sint32 to double. The bins of durations are never negative."""
    key = b"\x08" + _varint(number << 1)
    return b"\x0a" + bytes([len(key) + 9]) + key + b"\x11" + struct.pack("<d", count)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
