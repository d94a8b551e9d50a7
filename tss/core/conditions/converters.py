"""What the functions of a condition compute. Each takes its converted arguments, and raises Failed where pkg/ottl's returns
an error. Source: pkg/ottl v1.4.1, `ottlfuncs/`.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from tss.core.conditions.comparing import as_raw, compare
from tss.core.conditions.errors import Failed
from tss.core.conditions.values import (
    SECOND,
    STRAY,
    AnyList,
    Duration,
    Opaque,
    SpanId,
    Texts,
    Time,
    TraceId,
    Value,
    civil,
    cut,
    int64,
    is_list,
    kind,
    mapping,
    raw,
    real,
    sequence,
    text,
    truth,
    whole,
)
from tss.core.patterns import expression, finder

_HOUR, _MINUTE = 3600 * SECOND, 60 * SECOND
_DYNAMIC_PATTERNS = 64  # compiled ones of patterns that come from records
_GO_SPACES = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
_DAY_SECONDS = 86_400


# -- kinds of values


def is_kind(getter: Callable[[Value], Any]) -> Callable[[Value], bool]:
    """Whether a value is what a typed getter takes."""

    def asked(value: Value) -> bool:
        try:
            getter(value)
        except Failed:
            return False
        return True

    return asked


is_text, is_whole, is_real, is_truth, is_map = map(is_kind, (text, whole, real, truth, mapping))


def is_any_list(value: Value) -> bool:
    """Of all kinds."""
    return (
        is_list(value) or isinstance(value, (AnyList, Texts)) or (isinstance(value, Opaque) and value.size is not None)
    )


def is_empty(value: Value) -> bool:
    """Nothing, or the zero of a type."""
    if value is None:
        return True
    if isinstance(value, float):
        return value == 0
    if isinstance(value, (bool, int)):
        return not value
    if isinstance(value, Duration):
        return value.ns == 0
    if isinstance(value, (TraceId, SpanId)):
        return not any(value.value)
    if isinstance(value, (AnyList, Texts)):
        return not value.items
    return not isinstance(value, (Opaque, Time)) and len(value) == 0


def length(value: Value) -> int:
    """In bytes of a text, else in items."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(raw(value))
    if isinstance(value, (AnyList, Texts)):
        return len(value.items)
    if isinstance(value, Opaque) and value.size is not None:
        return value.size
    if isinstance(value, (bytes, Mapping)) or is_list(value):
        return len(value)
    raise Failed(f"Len takes no {kind(value)}")


# -- texts


def concat(values: Iterable[str | None], delimiter: str) -> str:
    """nil is written out."""
    joined = delimiter.join("<nil>" if value is None else value for value in values)
    return cut(raw(joined))  # two halves of a character become one


def substring(value: str, start: int, size: int, whole_letters: bool | None) -> str:
    """By bytes. Past the end is an error, and so is a size of 0."""
    found = raw(value)
    if start < 0 or size <= 0 or start > len(found) or size > len(found) - start:
        raise Failed("Substring: start and length must be inside of the text")
    end = start + size
    if whole_letters:
        while start < len(found) and found[start] & 0xC0 == 0x80:
            start += 1
        while start < end < len(found) and found[end] & 0xC0 == 0x80:
            end -= 1
        end = max(start, end)
    return cut(found[start:end])


def split(value: str, delimiter: str) -> Texts:
    """Without a delimiter: each character."""
    if not delimiter:
        return Texts(tuple(value))
    return Texts(tuple(map(cut, raw(value).split(raw(delimiter)))))


def has_prefix(value: str, prefix: str) -> bool:
    return raw(value).startswith(raw(prefix))


def has_suffix(value: str, suffix: str) -> bool:
    return raw(value).endswith(raw(suffix))


def trim(value: str, letters: str | None) -> str:
    return value.strip(" " if letters is None else letters)


def trim_prefix(value: str, prefix: str) -> str:
    return cut(raw(value).removeprefix(raw(prefix)))


def trim_suffix(value: str, suffix: str) -> str:
    return cut(raw(value).removesuffix(raw(suffix)))


def _lower_letter(letter: str) -> str:
    lower = letter.lower()
    return lower if len(lower) == 1 else lower[0] if letter == "\u0130" else letter


def _upper_letter(letter: str) -> str:
    for found in (letter.upper(), letter.title()):
        if len(found) == 1:
            return found
    return letter


def lower(value: str) -> str:
    """Letter by letter, as Go does."""
    return value.lower() if value.isascii() else "".join(map(_lower_letter, value))


def upper(value: str) -> str:
    """Letter by letter, as Go does."""
    return value.upper() if value.isascii() else "".join(map(_upper_letter, value))


def index(target: Value, value: Value) -> int:
    """The place of a text in a text (in bytes), or of an item in a list; -1 if it is not there."""
    if isinstance(target, str):
        if not isinstance(value, str):
            raise Failed("Index: a text holds texts only")
        return raw(target).find(raw(value))
    for place, item in enumerate(sequence(target)):
        if compare("==", as_raw(item) if is_list(item) else item, value):
            return place
    return -1


def contains_value(items: Sequence[Value], item: Value) -> bool:
    return any(compare("==", each, item) for each in items)


# -- regular expressions


_GROUP = re.compile(r"\(\?P?<(\w+)>")


@lru_cache(_DYNAMIC_PATTERNS)
def _compiled(pattern: str) -> Any:
    return expression(pattern)


def _expression(pattern: str) -> Any:
    try:
        return _compiled(readable(pattern))
    except ValueError as error:
        raise Failed(f"not a regular expression: {error}") from error


def readable(value: str) -> str:
    """A text for RE2, which wants UTF-8: each byte of half a character becomes U+FFFD."""
    return value if value.isascii() else STRAY.sub("\ufffd", value)


def matcher(pattern: str | None) -> Callable[[str | None, str], bool]:
    """IsMatch with a known pattern, or with one that comes with each span. Raises ValueError."""
    if pattern is None:
        return lambda value, each: value is not None and finder(_expression(each))(readable(value))
    finds = finder(expression(pattern))
    return lambda value, _: value is not None and finds(readable(value))


def _with_groups(pattern: str) -> Any:
    names = _GROUP.findall(pattern)
    if len(set(names)) < len(names):
        raise ValueError("two groups have the same name")
    return expression(pattern)


def _groups(pattern: str) -> Any:
    try:
        return _with_groups(readable(pattern))
    except ValueError as error:
        raise Failed(f"not a regular expression: {error}") from error


def extractor(fixed: str | None) -> Callable[[str, str], Mapping[str, str]]:
    """ExtractPatterns with a known pattern or not. Raises ValueError."""
    known = None if fixed is None else _with_groups(fixed)

    def extract(value: str, each: str) -> Mapping[str, str]:
        pattern = _groups(each) if known is None else known
        if not pattern.groupindex:
            raise Failed("ExtractPatterns: the expression has no named group")
        match = pattern.search(readable(value))
        return {} if match is None else {name: match.group(name) or "" for name in pattern.groupindex}

    return extract


# -- conversions


def parse_int(value: str, base: int) -> int:
    """Go's strconv.ParseInt. Base 0: as the prefix says."""
    body = value[1:] if value[:1] in {"+", "-"} and value else value
    digits, radix = body.lower(), base
    if base == 0:
        radix = {"0x": 16, "0b": 2, "0o": 8}.get(digits[:2], 8 if digits[:1] == "0" and len(digits) > 1 else 10)
        had_prefix = digits[:2] in {"0x", "0b", "0o"}
        digits = digits[2:] if had_prefix else digits
        if "_" in digits:
            inner = digits[1:] if had_prefix and digits[:1] == "_" else digits
            if "__" in inner or not inner or inner[0] == "_" or inner[-1] == "_":
                raise Failed("ParseInt: a wrong underscore")
            digits = inner.replace("_", "")
    if not 2 <= radix <= 36 or not digits or len(digits) > 4096 or not set(digits) <= set(_DIGITS[:radix]):
        raise Failed("ParseInt: not an int of that base")
    found = int(digits, radix) * (-1 if value[0] == "-" else 1)
    if found != int64(found):
        raise Failed("ParseInt: more than 64 bits")
    return found


_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _finite(number: str) -> float:
    found = float(number)
    if math.isinf(found):
        raise ValueError(number)
    return found


def parse_json(value: str) -> Value:
    """Numbers become floats. Only objects and arrays are taken."""
    try:
        found = json.loads(value, strict=False, parse_int=_finite, parse_float=_finite, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Failed("ParseJSON: not JSON") from error
    if not isinstance(found, (dict, list)):
        raise Failed("ParseJSON: neither an object nor an array")
    return _whole_letters(found) if "\\u" in value else found


def _whole_letters(value: Value) -> Value:
    """Half of a surrogate pair in an escape becomes U+FFFD."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_whole_letters(key): _whole_letters(item) for key, item in value.items()}
    return list(map(_whole_letters, value)) if isinstance(value, list) else value


def key_values(delimiter: str | None, pairs: str | None) -> Callable[..., Mapping[str, str]]:
    """ParseKeyValue with its delimiters. Raises ValueError."""
    between = "=" if delimiter is None else delimiter
    after = " " if pairs is None else pairs
    if not between or not after:
        raise ValueError("a delimiter cannot be empty")
    if between == after:
        raise ValueError("the two delimiters cannot be equal")

    def parse(value: str, *_: object) -> Mapping[str, str]:
        if not value:
            raise Failed("ParseKeyValue: an empty text")
        found = {}
        for pair in _pairs(value, after):
            key, equal, its = pair.partition(between)
            if not equal:
                raise Failed("ParseKeyValue: a pair without its delimiter")
            found[key.strip(_GO_SPACES)] = its.strip(_GO_SPACES)
        return found

    return parse


def _pairs(value: str, after: str) -> list[str]:
    """The pieces between delimiters that are not in quotes; the quotes are left out. Source: `parseutils/parser.go`."""
    found, current, quote, escaped, at = list[str](), list[str](), "", False, 0
    while at < len(value):
        letter = value[at]
        if not quote and value.startswith(after, at):
            if current:
                found.append("".join(current))
            current = []
            at += len(after)
            continue
        at += 1
        if escaped:
            escaped = False
        elif not quote and letter in "\"'":
            quote = letter
            continue
        elif letter == quote:
            quote = ""
            continue
        else:
            escaped = letter == "\\"
        current.append(letter)
    if quote:
        raise Failed("ParseKeyValue: a quote without its end")
    return [*found, "".join(current)] if current else found


def _id_reader(size: int, make: Callable[[bytes], Value]) -> Callable[[bytes], Value]:
    def read(value: bytes) -> Value:
        if len(value) == size:
            return make(value)
        if len(value) != 2 * size:
            raise Failed(f"an id has {size} bytes, or {2 * size} hexadecimal digits")
        digits = value.decode("latin-1").lower()
        if not set(digits) <= set("0123456789abcdef"):
            raise Failed("an id has hexadecimal digits only")
        return make(bytes.fromhex(digits))

    return read


trace_id, span_id = _id_reader(16, TraceId), _id_reader(8, SpanId)


def is_no_id(value: SpanId | None) -> bool:
    """Whether an id is all zero."""
    return value is None or not any(value.value)


# -- times


_UNITS = {
    "ns": 1, "us": 1000, "µs": 1000, "μs": 1000, "ms": 1_000_000, "s": SECOND, "m": _MINUTE, "h": _HOUR,
}  # fmt: skip
_NUMBER = "0123456789."


def parse_duration(value: str) -> Duration:
    """Go's time.ParseDuration: `1h30m`, `-1.5s`, `0`."""
    sign, rest = (-1, value[1:]) if value[:1] == "-" else (1, value.removeprefix("+"))
    if rest == "0":
        return Duration(0)
    total, at = 0, 0
    while at < len(rest) or not rest:
        begin = at
        while at < len(rest) and rest[at] in _NUMBER:
            at += 1
        number = rest[begin:at]
        begin = at
        while at < len(rest) and rest[at] not in _NUMBER:
            at += 1
        total += _part(number, rest[begin:at])
    found = sign * total
    if found != int64(found):
        raise Failed("Duration: more than 64 bits")
    return Duration(found)


def _part(number: str, unit: str) -> int:
    before, dot, after = number.partition(".")
    if unit not in _UNITS or not (before or after) or "." in after:
        raise Failed("Duration: expected numbers with units, as in 1h30m")
    if len(before) > 4096 or (found := int(before or "0") * _UNITS[unit]) > 1 << 63:
        raise Failed("Duration: more than 64 bits")
    if not dot or not after:
        return found
    fraction, scale = 0, 1.0
    for digit in after:  # as many digits as fit in 63 bits, as Go does
        if fraction > ((1 << 63) - 1) // 10 or fraction * 10 + int(digit) > 1 << 63:
            break
        fraction = fraction * 10 + int(digit)
        scale *= 10
    found += int(float(fraction) * (float(_UNITS[unit]) / scale))
    if found > 1 << 63:
        raise Failed("Duration: more than 64 bits")
    return found


def _divided(value: int, by: int) -> int:
    """Truncated towards 0."""
    return value // by if value >= 0 else -(-value // by)


def in_unit(unit: int) -> Callable[[Duration], float]:
    """A duration in a unit, as a float."""

    def convert(value: Duration) -> float:
        full = _divided(value.ns, unit)
        return float(full) + float(value.ns - full * unit) / float(unit)

    return convert


hours, minutes, seconds = map(in_unit, (_HOUR, _MINUTE, SECOND))


def full_units(unit: int) -> Callable[[Duration], int]:
    """A duration in whole units."""
    return lambda value: _divided(value.ns, unit)


def truncate_time(value: Time, to: Duration) -> Time:
    return value if to.ns <= 0 else value.plus(-(value.total_ns % to.ns))


def unix(at: int, ns: int | None) -> Time:
    return Time.unix(at, ns or 0)


def since_1970(each_second: int) -> Callable[[Time], int]:
    """Whole units since 1970."""
    return lambda value: int64(value.unix_seconds * each_second + value.ns // (SECOND // each_second))


def year(value: Time) -> int:
    return civil(value)[0]


def month(value: Time) -> int:
    return civil(value)[1]


def day(value: Time) -> int:
    return civil(value)[2]


def weekday(value: Time) -> int:
    """0 is Sunday."""
    return (value.seconds // _DAY_SECONDS + 1) % 7


def hour(value: Time) -> int:
    return value.seconds % _DAY_SECONDS // 3600


def minute(value: Time) -> int:
    return value.seconds % 3600 // 60


def second(value: Time) -> int:
    return value.seconds % 60


def nanosecond(value: Time) -> int:
    return value.ns


# -- others


def fnv(value: str) -> int:
    """FNV-1a of 64 bits, as an int64."""
    found = 0xCBF29CE484222325
    for byte in raw(value):
        found = (found ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return int64(found)


def digest(name: str) -> Callable[[str], str]:
    """A hash in hexadecimal digits."""
    return lambda value: hashlib.new(name, raw(value), usedforsecurity=False).hexdigest()


def luhn(value: str | None) -> bool:
    """Whether the last digit is the check digit of the others."""
    if value is None:
        raise Failed("IsValidLuhn: nil")
    digits = raw(value.replace(" ", ""))
    if not digits:
        return False
    total = 0
    for place, byte in enumerate(reversed(digits)):
        digit = byte - 0x30
        if not 0 <= digit <= 9:
            raise Failed("IsValidLuhn: not a number")
        doubled = digit * 2 if place % 2 else digit
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0


_Network = tuple[int, int, int]
"""Bits of an address, the network's bits, and how many of them count."""


def _address(value: str) -> tuple[int, int] | None:
    """The bits of an IP address, and their number: 32 also for an IPv4 address inside of an IPv6 one."""
    if "%" in value:
        return None
    try:
        found = ipaddress.ip_address(value)
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        return int(found.ipv4_mapped), 32
    return int(found), found.max_prefixlen


def is_address(value: str) -> bool:
    """Whether a text is an IP address."""
    return _address(value) is not None


def network(value: str) -> _Network:
    """A network in CIDR notation. Raises Failed."""
    address, slash, bits = value.partition("/")
    found = _address(address)
    if not slash or found is None or not bits.isascii() or not bits.isdigit() or len(bits) > 4:
        raise Failed(f"IsInCIDR: not a network: {value[:60]!r}")
    size, number = int(bits), found[0]
    most = 128 if ":" in address else 32
    if size > most:
        raise Failed(f"IsInCIDR: not a network: {value[:60]!r}")
    width = found[1]
    if most > width:  # an IPv4 network inside of IPv6
        if size < 96:
            return 128, (0xFFFF << 32 | number) >> (128 - size) << (128 - size), size
        size -= 96
    return width, number >> (width - size) << (width - size), size


def is_in_cidr(value: str, networks: Sequence[_Network]) -> bool:
    """Whether an address is in any of these networks; no address is in none."""
    found = _address(value)
    if found is None:
        return False
    number, width = found
    return any(width == of and number >> (of - size) == its >> (of - size) for of, its, size in networks)
