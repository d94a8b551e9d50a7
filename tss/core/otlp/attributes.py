"""Attributes as the counters and the scanner read them: by key, the first of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.message import DecodeError

from tss.core.otlp import schema
from tss.core.otlp.lookup import Value

Attributes = Mapping[bytes, Value | None]
"""By key; None for what is there without a value."""


def by_key(attributes: Iterable[bytes]) -> Attributes:
    """Serialized KeyValues by key. OTLP forbids a key twice; where it is, the first counts, as in the Collector's map.

    What cannot be parsed is no attribute. Arrays and maps are the bytes of their message.
    """
    found: dict[bytes, Value | None] = {}
    for attribute in attributes:
        try:
            pair = schema.KeyValue.FromString(attribute)
        except DecodeError:
            continue
        found.setdefault(pair.key, _value(pair.value))
    return found


def value_of(attribute: bytes) -> Value | None:
    """The value of one serialized KeyValue."""
    return next(iter(by_key((attribute,)).values()), None)


def _value(value: Any) -> Value | None:
    """Of a `schema.AnyValue`; text that is not UTF-8 has U+FFFD in it."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    found: Value = getattr(value, kind)
    return found.decode("utf-8", "replace") if kind == "string_value" and isinstance(found, bytes) else found
