"""Values of OTLP's AnyValue as Python values, for conditions.

An array is a list, a map a dict, in which the first of two equal keys counts. U+FFFD replaces bytes that are not UTF-8. A part
that cannot be parsed has no value. The scanner has checked how deep values are nested.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.message import DecodeError

from tss.core.conditions.formula import Found
from tss.core.otlp import schema


def decoded(value: Any) -> Found:
    """The value of a `schema.AnyValue`; None if it has none."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    found = getattr(value, kind)
    if kind == "string_value":
        return text(found)
    if kind == "array_value":
        return array(found)
    if kind == "kvlist_value":
        return mapping(found)
    plain: Found = found
    return plain


def array(content: bytes) -> Found:
    """The list in a serialized ArrayValue; None if it cannot be parsed."""
    try:
        return [_value(each) for each in schema.ArrayValue.FromString(content).values]
    except DecodeError:
        return None


def mapping(content: bytes) -> Found:
    """The dict in a serialized KeyValueList; None if it cannot be parsed."""
    try:
        return by_text(first_values(schema.KeyValueList.FromString(content).values))
    except DecodeError:
        return None


def first_values(attributes: Iterable[bytes]) -> dict[bytes, Any]:
    """The `schema.AnyValue` of each key in serialized KeyValues. The first of two equal keys counts, even without a value. A
    KeyValue that cannot be parsed is ignored."""
    found: dict[bytes, Any] = {}
    for attribute in attributes:
        try:
            pair = schema.KeyValue.FromString(attribute)
        except DecodeError:
            continue
        found.setdefault(pair.key, pair.value)
    return found


def by_text(values: dict[bytes, Any]) -> dict[str, Found]:
    """The same with keys and values decoded."""
    found: dict[str, Found] = {}
    for key, value in values.items():
        found.setdefault(text(key), decoded(value))
    return found


def text(found: bytes) -> str:
    """A text. U+FFFD replaces bytes that are not UTF-8."""
    return found.decode("utf-8", "replace")


def _value(serialized: bytes) -> Found:
    try:
        return decoded(schema.AnyValue.FromString(serialized))
    except DecodeError:
        return None
