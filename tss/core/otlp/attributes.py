"""Attributes by key, as the counters and the scanner read them. If a key occurs twice, the first one counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.message import DecodeError

from tss.core.otlp import schema

Value = str | bool | int | float | bytes
"""A value of OTLP's AnyValue. Arrays and maps are their serialized message, which only shows that they are present."""

Attributes = Mapping[bytes, Value | None]
"""Values by key; None if an attribute has no value."""


def by_key(attributes: Iterable[bytes]) -> Attributes:
    """Serialized KeyValues by key. OTLP forbids duplicate keys; if there are any, the first counts, as in the Collector.

    A KeyValue that cannot be parsed is ignored. The value of an array or a map is its serialized message.
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
    """The value of a `schema.AnyValue`. U+FFFD replaces bytes that are not UTF-8."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    found: Value = getattr(value, kind)
    return found.decode("utf-8", "replace") if kind == "string_value" and isinstance(found, bytes) else found
