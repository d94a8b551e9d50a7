"""Attribute values: as plain Python, as text, and cut to what Datadog takes."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

MAX_SERVICE = MAX_NAME = MAX_TYPE = 100
MAX_RESOURCE = 5000
MAX_META_KEY = MAX_METRIC_KEY = 200
MAX_META_VALUE = 25_000
MAX_TAG = 200

Value = str | bool | int | float | list[Any] | dict[str, Any] | None


def _array(value: AnyValue) -> Value:
    return [plain(item) for item in value.array_value.values]


def _map(value: AnyValue) -> Value:
    return {item.key: plain(item.value) for item in value.kvlist_value.values}


# By the member of the oneof. What a newer opentelemetry-proto adds reads as nothing until it has a line here.
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
    """A value as Python has it; bytes as base64."""
    read = _PLAIN.get(value.WhichOneof("value") or "")
    return read(value) if read else None


def attributes(pairs: Iterable[KeyValue]) -> dict[str, Value]:
    """Attributes by key. OTLP forbids a key twice; where it is, the first counts, as in the agent."""
    found: dict[str, Value] = {}
    for pair in pairs:
        found.setdefault(pair.key, plain(pair.value))
    return found


def text(value: Value) -> str:
    """A value as the Collector writes it into a tag."""
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer() and abs(value) < 1e21:
            return str(int(value))
        case int() | float():
            return str(value)
    return to_json(value)


def to_json(value: object) -> str:
    """Compact JSON."""
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), separators=(",", ":"), ensure_ascii=False)


def _finite(value: object) -> object:
    """JSON knows no infinity: in their place stands the word."""
    match value:
        case float() if not math.isfinite(value):
            return str(value)
        case list():
            return [_finite(item) for item in value]
        case dict():
            return {key: _finite(item) for key, item in value.items()}
    return value


def json_array(entries: Iterable[object]) -> str:
    """A JSON array of as many whole entries as a tag may hold: cut anywhere else it could not be read."""
    pieces: list[str] = []
    room = MAX_META_VALUE - len("[]")
    for entry in entries:
        piece = to_json(entry)
        room -= len(piece.encode()) + len(",")
        if room < 0:
            break
        pieces.append(piece)
    return f"[{','.join(pieces)}]"


def cut(value: str, limit: int) -> str:
    """At most so many bytes of UTF-8, no character in halves."""
    if len(value) * 4 <= limit or (value.isascii() and len(value) <= limit):
        return value
    return value.encode()[:limit].decode(errors="ignore")


_NOT_IN_TAGS = re.compile(r"(?:[^\w./:-]|_)+")


@lru_cache(4096)
def tag(value: str) -> str:
    """A tag's value as Datadog stores it: lower case; letters, digits and `_./:-`."""
    return cut(_NOT_IN_TAGS.sub("_", cut(value, 2 * MAX_TAG).lower()).removesuffix("_"), MAX_TAG)
