"""Numbers and durations as the Collector's Go code reads them."""

from __future__ import annotations

import math
import re
from fractions import Fraction

_UNITS = {
    "ns": 1,
    "us": 10**3,
    "\u00b5s": 10**3,
    "\u03bcs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([^0-9.]+)")
_MOST = 2**63 - 1


def duration_ns(text: str) -> int:
    """The nanoseconds of a duration such as "1h30m" or "-1.5s". Source: Go, `time.ParseDuration`.

    Raises ValueError with a reason.
    """
    sign, rest = (-1, text[1:]) if text[:1] == "-" else (1, text.removeprefix("+"))
    if rest == "0":
        return 0
    total, at = 0, 0
    while at < len(rest):
        part = _PART.match(rest, at)
        if part is None:
            raise ValueError("a unit is missing" if re.fullmatch(r"[0-9.]+", rest[at:]) else "this is not a duration")
        if part[2] not in _UNITS:
            raise ValueError(f"there is no unit {part[2]!r}; the units are ns, us, ms, s, m and h")
        total += int(Fraction(part[1]) * _UNITS[part[2]])
        at = part.end()
    if not rest:
        raise ValueError("this is empty")
    if total > _MOST + (sign < 0):
        raise ValueError("this is longer than 290 years")
    return sign * total


def whole(value: float) -> int:
    """A number as Go converts it to an int64: without its fraction. Out of range, and not a number: the least int64, as
    on amd64."""
    try:
        cut = int(value)
    except (OverflowError, ValueError):  # infinite, not a number
        return -(2**63)
    return cut if -(2**63) <= cut < 2**63 else -(2**63)


def wrapped(value: int, bits: int, *, signed: bool) -> int:
    """A number as Go stores it in fewer bits: the upper ones are cut off."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if signed and value >> (bits - 1) else value


def threshold64(percentage: float) -> int:
    """The highest FNV hash that `probabilistic` samples: (2**64 - 1) times the share, with 64 bits of precision.

    Source: the processor's `calculateThreshold`, which multiplies two `big.Float`.
    """
    ratio = percentage / 100
    if ratio <= 0:
        return 0
    if not math.isfinite(ratio) or ratio >= 1:
        return 2**64 - 1
    product = Fraction(2**64 - 1) * Fraction(ratio)
    shift = 64 - _bit_length(product)
    return int(_nearest(product * Fraction(2) ** shift) / Fraction(2) ** shift)


def _bit_length(value: Fraction) -> int:
    """The exponent e with 2**(e-1) <= value < 2**e."""
    guess = value.numerator.bit_length() - value.denominator.bit_length()
    return guess + 1 if value >= Fraction(2) ** guess else guess


def _nearest(value: Fraction) -> int:
    """The nearest whole number; of two, the even one. This is how Python rounds."""
    return round(value)
