"""The values that a condition computes with, and their conversions.

A value is None (nil), str, bool, int (64 bits), float, bytes, a mapping or a sequence as records have them (pdata's Map and
Slice), or one of the classes here. A text may hold half a character (`Substring` cuts at bytes): it then has a lone surrogate
for each stray byte, as Python's "surrogateescape" writes it. Source: pkg/ottl v1.4.1, `expression.go`.
"""

from __future__ import annotations

import base64
import json
import math
import re
import struct
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, final

import attrs

from tss.core.conditions.errors import Failed

MIN_INT, MAX_INT = -(1 << 63), (1 << 63) - 1
SECOND = 1_000_000_000  # ns
_YEAR_1 = 62_135_596_800  # seconds from the year 1 to 1970


def int64(value: int) -> int:
    """A whole number as an int64, which wraps around as Go's do."""
    return value if MIN_INT <= value <= MAX_INT else (value - MIN_INT) % (1 << 64) + MIN_INT


def saturated(value: int) -> int:
    """The int64 that is nearest."""
    return min(max(value, MIN_INT), MAX_INT)


@final
@attrs.frozen(order=True)
class Duration:
    """Go's time.Duration, in ns."""

    ns: int


@final
@attrs.frozen(order=True)
class Time:
    """Go's time.Time in UTC: seconds since the year 1, and ns in that second."""

    seconds: int
    ns: int

    @classmethod
    def at(cls, unix_ns: int) -> Time:
        """The time at these ns since 1970."""
        return cls(unix_ns // SECOND + _YEAR_1, unix_ns % SECOND)

    @classmethod
    def unix(cls, seconds: int, ns: int) -> Time:
        """Go's time.Unix: the seconds wrap around."""
        return cls(int64(int64(seconds + ns // SECOND) + _YEAR_1), ns % SECOND)

    @property
    def unix_seconds(self) -> int:
        """Seconds since 1970, rounded down."""
        return int64(self.seconds - _YEAR_1)

    @property
    def total_ns(self) -> int:
        """ns since the year 1."""
        return self.seconds * SECOND + self.ns

    def plus(self, ns: int) -> Time:
        """The time that many ns later."""
        total = self.total_ns + ns
        return Time(int64(total // SECOND), total % SECOND)

    def minus(self, other: Time) -> Duration:
        """The time since another one, as far as 64 bits reach."""
        return Duration(saturated(self.total_ns - other.total_ns))


@final
@attrs.frozen
class TraceId:
    """A trace id: 16 bytes. It is equal to trace ids only, and has no order."""

    value: bytes


@final
@attrs.frozen
class SpanId:
    """A span id: 8 bytes. It is equal to span ids only, and has no order."""

    value: bytes


@final
@attrs.frozen
class AnyList:
    """A list that the condition writes out, or that a function makes: Go's []any, which pdata's Slice is not."""

    items: tuple[Any, ...]


@final
@attrs.frozen
class Texts:
    """A list that Split makes: Go's []string, which is equal to nothing."""

    items: tuple[str, ...]


@final
@attrs.frozen
class Opaque:
    """All events, all links or the status of a span: there is nothing to ask but how many, and whether it is nil."""

    name: str
    size: int | None


Value = Any
"""Any of these."""


def is_list(value: Value) -> bool:
    """Whether a value is pdata's Slice."""
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def kind(value: Value) -> str:
    """The name of a value's type in messages."""
    if value is None:
        return "nil"
    if is_list(value) or isinstance(value, (AnyList, Texts)):
        return "a list"
    if isinstance(value, Mapping):
        return "a map"
    names = {str: "a string", bool: "a bool", int: "an int", float: "a float", bytes: "bytes"}
    return names.get(type(value), type(value).__name__)


# -- typed getters: the value as it is, or an error


def text(value: Value) -> str:
    """Go's StringGetter."""
    if isinstance(value, str):
        return value
    raise Failed(f"expected a string, got {kind(value)}")


def whole(value: Value) -> int:
    """Go's IntGetter."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise Failed(f"expected an int, got {kind(value)}")


def real(value: Value) -> float:
    """Go's FloatGetter."""
    if isinstance(value, float):
        return value
    raise Failed(f"expected a float, got {kind(value)}")


def truth(value: Value) -> bool:
    """Go's BoolGetter."""
    if isinstance(value, bool):
        return value
    raise Failed(f"expected a bool, got {kind(value)}")


def mapping(value: Value) -> Mapping[str, Value]:
    """Go's PMapGetter."""
    if isinstance(value, Mapping):
        return value
    raise Failed(f"expected a map, got {kind(value)}")


def sequence(value: Value) -> Sequence[Value]:
    """Go's PSliceGetter: the items as pdata holds them."""
    if isinstance(value, AnyList):
        return [as_stored(item) for item in value.items]
    if isinstance(value, Texts):
        return value.items
    if is_list(value):
        found: Sequence[Value] = value
        return found
    raise Failed(f"expected a list, got {kind(value)}")


def time(value: Value) -> Time:
    """Go's TimeGetter."""
    if isinstance(value, Time):
        return value
    raise Failed(f"expected a time, got {kind(value)}")


def duration(value: Value) -> Duration:
    """Go's DurationGetter."""
    if isinstance(value, Duration):
        return value
    raise Failed(f"expected a duration, got {kind(value)}")


def as_stored(value: Value) -> Value:
    """A value as pdata stores it (FromRaw). What it cannot store is an error."""
    if isinstance(value, AnyList):
        return [as_stored(item) for item in value.items]
    if value is None or isinstance(value, (str, bool, int, float, bytes)):
        return value
    raise Failed(f"a list or map cannot hold {kind(value)}")


# -- "like" getters: the value converted; None stays None


def text_like(value: Value) -> str | None:
    """Go's StringLikeGetter."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    return json_of(value)


_INT = re.compile(r"[+-]?[0-9]+")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]+)?")
_HEX_FLOAT = re.compile(r"[+-]?0x(?:[0-9a-f]+(?:\.[0-9a-f]*)?|\.[0-9a-f]+)p[+-]?[0-9]+")
_NAMED = {"inf": math.inf, "infinity": math.inf, "nan": math.nan}


def parsed_int(value: str, base: int = 10) -> int:
    """Go's strconv.ParseInt, with a base of 10."""
    if _INT.fullmatch(value) and len(value) <= 4096 and MIN_INT <= (found := int(value, base)) <= MAX_INT:
        return found
    raise Failed(f"not an int: {value[:40]!r}")


def parsed_float(value: str) -> float:
    """Go's strconv.ParseFloat for 64 bits."""
    lower = value.lower() if value.isascii() else ""
    plain = lower.replace("_", "") if _underscores_fit(lower) else ""
    unsigned = lower[1:] if lower[:1] in {"+", "-"} and lower else lower
    if unsigned in _NAMED and not (unsigned == "nan" and unsigned != lower):
        return -_NAMED[unsigned] if lower[0] == "-" else _NAMED[unsigned]
    try:
        if _FLOAT.fullmatch(plain):
            found = float(plain)
        elif _HEX_FLOAT.fullmatch(plain):
            found = float.fromhex(plain)
        else:
            raise Failed(f"not a number: {value[:40]!r}")
    except OverflowError:
        found = math.inf
    if math.isinf(found):
        raise Failed(f"out of range: {value[:40]!r}")
    return found


def _underscores_fit(lower: str) -> bool:
    """Go allows an underscore between two digits, and after `0x`."""
    if "_" not in lower:
        return True
    body = lower.lstrip("+-") if lower[:1] in {"+", "-"} else lower
    is_hex = body.startswith("0x")
    saw, body = ("0", body[2:]) if body[:2] in {"0x", "0b", "0o"} else ("^", body)
    for letter in body:
        if letter.isdigit() or (is_hex and letter in "abcdef"):
            saw = "0"
        elif letter == "_":
            if saw != "0":
                return False
            saw = "_"
        elif saw == "_":
            return False
        else:
            saw = "!"
    return saw != "_"


def float_like(value: Value) -> float | None:
    """Go's FloatLikeGetter."""
    if value is None or isinstance(value, float):
        return value
    if isinstance(value, int):  # or a bool
        return float(value)
    if isinstance(value, str):
        return parsed_float(value)
    raise Failed(f"expected a number, got {kind(value)}")


def truncated(value: float) -> int:
    """Go's int64(float64) on amd64: towards 0; what has no place in 64 bits is the least int64."""
    if math.isnan(value) or not -(2.0**63) <= value < 2.0**63:
        return MIN_INT
    return int(value)


def int_like(value: Value) -> int | None:
    """Go's IntLikeGetter."""
    if value is None:
        return None
    if isinstance(value, int):  # or a bool
        return int(value)
    if isinstance(value, float):
        return truncated(value)
    if isinstance(value, str):
        return parsed_int(value)
    raise Failed(f"expected a number, got {kind(value)}")


_TRUE, _FALSE = {"1", "t", "T", "TRUE", "true", "True"}, {"0", "f", "F", "FALSE", "false", "False"}


def bool_like(value: Value) -> bool | None:
    """Go's BoolLikeGetter."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return value != 0
    if isinstance(value, str):
        if value in _TRUE or value in _FALSE:
            return value in _TRUE
        raise Failed(f"not a bool: {value[:40]!r}")
    raise Failed(f"expected a bool, got {kind(value)}")


def raw(value: str) -> bytes:
    """A text's bytes."""
    return value.encode("utf-8", "surrogateescape")


def cut(value: bytes) -> str:
    """The text of bytes, which may begin or end inside a character."""
    return value.decode("utf-8", "surrogateescape")


def bytes_like(value: Value) -> bytes:
    """Go's ByteSliceLikeGetter; of nil there are no bytes."""
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return raw(value)
    if isinstance(value, bool):
        return b"\x01" if value else b"\x00"
    if isinstance(value, int):
        return struct.pack(">q", value)
    if isinstance(value, float):
        return struct.pack(">d", value)
    raise Failed(f"expected bytes, got {kind(value)}")


# -- JSON, as goccy/go-json writes it


def json_of(value: Value) -> str:
    """A value as JSON, with keys in order and <, > and & escaped. NaN and infinity are errors."""
    if isinstance(value, Time):
        return f'"{rfc3339(value)}"'
    if isinstance(value, Duration):
        return str(value.ns)
    if isinstance(value, (TraceId, SpanId)):
        return json.dumps(list(value.value), separators=(",", ":"))
    if isinstance(value, Opaque):
        return "{}"
    return _json(value)


def _json(value: Value) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return float_text(value)
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, bytes):
        return f'"{base64.b64encode(value).decode()}"' if value else "null"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_quoted(key)}:{_json(value[key])}" for key in sorted(value, key=raw)) + "}"
    if isinstance(value, (AnyList, Texts)):
        return f"[{','.join(_json_inside(item) for item in value.items)}]"
    if is_list(value):
        return f"[{','.join(map(_json, value))}]"
    return json_of(value)


def _json_inside(value: Value) -> str:
    """An item of a list that is written out. pdata's own maps and lists have nothing that Go's JSON would show."""
    return "{}" if isinstance(value, Mapping) or is_list(value) else _json(value)


_ESCAPED = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_TO_ESCAPE = re.compile("[<>&\u2028\u2029]")
STRAY = re.compile("[\udc80-\udcff]")
"""A byte of half a character."""


def _quoted(value: str) -> str:
    quoted = json.dumps(value, ensure_ascii=False)
    quoted = quoted.replace("\\b", "\\u0008").replace("\\f", "\\u000c") if "\\" in quoted else quoted
    return STRAY.sub("\\\\ufffd", _TO_ESCAPE.sub(lambda found: _ESCAPED[found[0]], quoted))


def float_text(value: float) -> str:
    """The shortest decimal form of a float, with an exponent below 1e-6 and from 1e21 on."""
    if math.isnan(value) or math.isinf(value):
        raise Failed("JSON has no such number")
    if value == 0 or 1e-6 <= abs(value) < 1e21:  # where Go's JSON changes the form
        return _positional(value)
    return repr(value)  # Python writes these as Go does: 1e-07, 1.5e+21


def _positional(value: float) -> str:
    found = format(Decimal(repr(value)), "f")
    return found.rstrip("0").rstrip(".") if "." in found else found


def civil(at: Time) -> tuple[int, int, int]:
    """Year, month and day of a time, in the Gregorian calendar also before it."""
    days = at.seconds // 86_400 + 306  # since the 1st of March of the year 0
    era, day_of_era = divmod(days, 146_097)
    year_of_era = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted + 2) // 5 + 1
    month = shifted + 3 if shifted < 10 else shifted - 9
    return year_of_era + era * 400 + (1 if month <= 2 else 0), month, day


def rfc3339(at: Time) -> str:
    """Go's RFC3339Nano, in UTC. A year that does not have four digits is an error."""
    year, month, day = civil(at)
    if not 0 <= year <= 9999:
        raise Failed("a year outside of 0 to 9999")
    second = at.seconds % 86_400
    part = f".{at.ns:09d}".rstrip("0") if at.ns else ""
    clock = f"{second // 3600:02d}:{second % 3600 // 60:02d}:{second % 60:02d}"
    return f"{year:04d}-{month:02d}-{day:02d}T{clock}{part}Z"
