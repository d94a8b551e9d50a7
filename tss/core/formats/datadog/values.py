"""Attribute values as Python objects and as text, and cut to the lengths that Datadog accepts."""

from __future__ import annotations

import base64
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Any, TypeVar

from google.protobuf.message import Message
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

MAX_SERVICE = MAX_NAME = MAX_TYPE = 100
MAX_RESOURCE = 5000
MAX_META_KEY = MAX_METRIC_KEY = 200
MAX_META_VALUE = 25_000
MAX_TAG = 200
MAX_NUMBER = 400  # characters; parsing takes quadratic time, and real numbers are shorter
UNNAMED = "unnamed_operation"  # the agent's name for an operation without a letter in its name

Entry = TypeVar("Entry", bound=Message)
Value = str | bool | int | float | list[Any] | dict[str, Any] | None


def _array(value: AnyValue) -> Value:
    return [plain(item) for item in value.array_value.values]


def _map(value: AnyValue) -> Value:
    return attributes(value.kvlist_value.values)


# By the field that is set. A field that a newer opentelemetry-proto adds is read as None until it has a line here.
_PLAIN: Mapping[str, Callable[[AnyValue], Value]] = {
    "string_value": lambda value: value.string_value,
    "int_value": lambda value: value.int_value,
    "bool_value": lambda value: value.bool_value,
    "double_value": lambda value: value.double_value,
    "bytes_value": lambda value: base64.b64encode(value.bytes_value).decode("ascii"),
    "array_value": _array,
    "kvlist_value": _map,
}


def plain(value: AnyValue) -> Value:
    """The value as a Python object; bytes as base64 text."""
    read = _PLAIN.get(value.WhichOneof("value") or "")
    return read(value) if read else None


def attributes(pairs: Iterable[KeyValue]) -> dict[str, Value]:
    """Attributes by key. OTLP forbids duplicate keys; if there are any, the first one counts, as in the agent."""
    found: dict[str, Value] = {}
    for pair in pairs:
        value = pair.value
        # Most values are strings, and handling them here saves two calls each.
        is_text = value.WhichOneof("value") == "string_value"
        found.setdefault(pair.key, value.string_value if is_text else plain(value))
    return found


def text(value: Value) -> str:
    """A value as the Collector's Datadog exporter writes it into a tag: other than `as_text`, arrays and maps as JSON."""
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return _number(value)
    return to_json(value)


def _number(value: float) -> str:
    """A number as JavaScript and Go's JSON write it: digits up to 1e21, and no `.0` after a whole number."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    written = repr(value).removesuffix(".0")
    if "e" not in written:
        return written
    if 1e-6 <= abs(value) < 1e21:
        return f"{Decimal(written):f}"
    return written.replace("e-0", "e-")


def to_json(value: object) -> str:
    """Compact JSON as Go writes it, with sorted keys. NaN and the infinities are strings, because JSON has no such numbers."""
    match value:
        case str():
            return quoted(value)
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case float():
            return _number(value) if math.isfinite(value) else quoted(_number(value))
        case list():
            return f"[{','.join(map(to_json, value))}]"
        case dict():
            return json_object((key, to_json(value[key])) for key in sorted(value))
    return str(value)


def json_object(members: Iterable[tuple[str, str]]) -> str:
    """A JSON object; the values are JSON already."""
    return f"{{{','.join([f'{quoted(key)}:{value}' for key, value in members])}}}"


def quoted(value: str) -> str:
    """A JSON string. Like Go, it escapes the line separators U+2028 and U+2029."""
    return encode_basestring(value).replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def json_array(entries: Iterable[Entry], write: Callable[[Entry, int], str]) -> str:
    """A JSON array of as many whole entries as fit into a tag: an array cut elsewhere would be invalid JSON.

    `write` returns an entry as JSON, with its texts cut to a number of characters. An entry that does not fit is tried
    again with shorter texts, so that a very long stack trace does not suppress the rest of an exception.
    """
    pieces: list[str] = []
    room = MAX_META_VALUE - len("[]")
    for entry in entries:
        whole = (room,) if entry.ByteSize() <= room else ()  # JSON is hardly ever shorter than protobuf
        for longest in (*whole, room // 2, room // 8):
            piece = write(entry, longest)
            if (length := len(piece.encode()) + len(",")) <= room:
                break
        else:
            break
        room -= length
        pieces.append(piece)
    return f"[{','.join(pieces)}]"


def shortened(tags: dict[str, str]) -> dict[str, str]:
    """Tags cut to the lengths that Datadog accepts. A cut text ends in three dots, as in the agent."""
    if not _may_be_long(tags, MAX_META_KEY) and not _may_be_long(tags.values(), MAX_META_VALUE):
        return tags
    return {
        dotted(key, MAX_META_KEY): value if _STRUCTURED.fullmatch(key) else dotted(value, MAX_META_VALUE)
        for key, value in tags.items()
    }


def shortened_keys(metrics: dict[str, float]) -> dict[str, float]:
    if not _may_be_long(metrics, MAX_METRIC_KEY):
        return metrics
    return {dotted(key, MAX_METRIC_KEY): value for key, value in metrics.items()}


def _may_be_long(words: Iterable[str], limit: int) -> bool:
    """Whether any word may exceed the limit in bytes. It is a quick check, false for most spans: a character has at most four
    bytes."""
    return max(map(len, words), default=0) * 4 > limit


_STRUCTURED = re.compile(r"_dd\..*\.(?:json|msgpack|protobuf)", re.DOTALL)  # useless if cut


def dotted(value: str, limit: int) -> str:
    short = cut(value, limit)
    return short if len(short) == len(value) else short + "..."


def cut(value: str, limit: int) -> str:
    """The beginning of a text: at most `limit` bytes of UTF-8, and only whole characters."""
    if len(value) * 4 <= limit or (value.isascii() and len(value) <= limit):
        return value
    return value[:limit].encode()[:limit].decode(errors="ignore")


_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
# Possessive, so that it never backtracks: else a status code of 25,000 digits and a letter takes 48 s.
_FRACTION = re.compile(r"[+-]?(?:\d++\.?+\d*+|\.\d++)(?:[eE][+-]?\d++)?+", re.ASCII)


def whole(word: str) -> int | None:
    """The integer that a text means; None for any other text, and if it does not fit into 64 bits."""
    if len(word) > MAX_NUMBER:
        return None
    if _WHOLE.fullmatch(word) and len(word) <= 20:
        found = int(word)
    elif _FRACTION.fullmatch(word) and (fraction := float(word)).is_integer():
        found = int(fraction)
    else:
        return None
    return found if -(2**63) <= found < 2**63 else None


def is_http_status(word: str) -> bool:
    """Whether Datadog accepts this text as an HTTP status in a tag."""
    return len(word) == 3 and word.isascii() and word.isdigit() and word[0] in "12345"


_NOT_IN_TAGS = re.compile(r"[^a-z0-9./:-]+")


def tag(value: str) -> str:
    """A tag's value as Datadog stores it: lower case letters, digits and `./:-`; one `_` replaces all characters between."""
    return _tag(value[:MAX_TAG])  # cut before it is cached, so that the cache has a limit in bytes (law 5)


@lru_cache(4096)
def _tag(value: str) -> str:
    if value.isascii():
        return _NOT_IN_TAGS.sub("_", value.lower()).removesuffix("_")
    made: list[str] = []
    room = 2 * MAX_TAG
    for letter in value:
        if room <= 0:
            break
        room -= len(letter.encode())
        kept = _in_tag(letter)
        if kept != "_" or made[-1:] != ["_"]:
            made.append(kept)
    return "".join(made).removesuffix("_")


def _in_tag(letter: str) -> str:
    """The letter in lower case if it is allowed in a tag (letters and digits of any script), else `_`.

    As in the agent, a letter stays in upper case if its lower case has another length in UTF-8.
    """
    category = unicodedata.category(letter)
    if category == "Lu" and len(letter.lower().encode()) == len(letter.encode()):
        return letter.lower()
    return letter if category[0] == "L" or category == "Nd" or letter in "./:-" else "_"


_NAME = re.compile(r"[A-Za-z](?:[A-Za-z0-9]|(?<!_)[._])*")
_BEFORE_NAME = re.compile(r"[^A-Za-z]+")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9.]+")
_AROUND_DOT = re.compile(r"_?\._?")


def metric_name(value: str) -> str:
    """An operation name in the form of a metric's name: `[A-Za-z0-9._]`, beginning with a letter."""
    return _metric_name(cut(value, MAX_NAME))


@lru_cache(4096)
def _metric_name(found: str) -> str:
    if before := _BEFORE_NAME.match(found):
        found = found[before.end() :]
    if not _NAME.fullmatch(found):
        found = _AROUND_DOT.sub(".", _NOT_IN_NAMES.sub("_", found))
    return found.removesuffix("_") or UNNAMED
