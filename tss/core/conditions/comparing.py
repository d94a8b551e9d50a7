"""How two values compare. Source: pkg/ottl v1.4.1, `compare.go`.

Equal types compare; an int and a float compare as floats; everything else is unequal and has no order. nil is equal to nil
only. Bytes without any are nil: so Go's empty slice reads.
"""

from __future__ import annotations

import operator as operators
from collections.abc import Callable, Mapping
from typing import Any

from tss.core.conditions.errors import Failed
from tss.core.conditions.values import (
    AnyList,
    Duration,
    Opaque,
    SpanId,
    Texts,
    Time,
    TraceId,
    Value,
    is_list,
    raw,
)

OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "==": operators.eq,
    "!=": operators.ne,
    "<": operators.lt,
    "<=": operators.le,
    ">": operators.gt,
    ">=": operators.ge,
}
FLIPPED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
"""The operator that says the same with the sides exchanged."""

_BOTH_NIL = {"==", "<=", ">="}
_ORDERED = (bool, bytes, Duration, Time)
_EQUAL_ONLY = (TraceId, SpanId, Opaque)


def compare(operator: str, left: Value, right: Value) -> bool:
    """Whether `left operator right` holds. Raises Failed for two results of Split, where Go's code would crash."""
    if left is None or left == b"":
        return operator in _BOTH_NIL if right is None or right == b"" else operator == "!="
    if right is None or right == b"":
        return operator == "!="
    one, other = type(left), type(right)
    if one is str and other is str:
        return _texts(operator, left, right)
    if (one is int or one is float) and (other is int or other is float):
        if one is not other:
            left, right = float(left), float(right)
        return bool(OPERATORS[operator](left, right))
    if one is other and one in _ORDERED:
        return bool(OPERATORS[operator](left, right))
    if one is Texts and other is Texts:
        raise Failed("two results of Split cannot be compared")
    if one is other and one in _EQUAL_ONLY:
        return operator == ("==" if left == right else "!=")
    if operator not in {"==", "!="}:
        return False
    return _same_inside(left, right) == (operator == "==")


def _texts(operator: str, left: str, right: str) -> bool:
    if operator in {"==", "!="} or (left.isascii() and right.isascii()):
        return bool(OPERATORS[operator](left, right))
    return bool(OPERATORS[operator](raw(left), raw(right)))  # by bytes, which differs for surrogates only


def _same_inside(left: Value, right: Value) -> bool:
    """Whether two lists or two maps are equal; other values of two types never are."""
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return _stored_equal(left, right)
    if isinstance(left, AnyList) or isinstance(right, AnyList):
        return _deep_equal(as_raw(left), as_raw(right))
    return is_list(left) and is_list(right) and _stored_equal(left, right)


def _stored_equal(left: Value, right: Value) -> bool:
    """pdata's Equal: the types have to be the same everywhere."""
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return len(left) == len(right) and all(
            key in right and _stored_equal(value, right[key]) for key, value in left.items()
        )
    if is_list(left) and is_list(right):
        return len(left) == len(right) and all(map(_stored_equal, left, right))
    return type(left) is type(right) and bool(left == right)


def as_raw(value: Value) -> Value:
    """pdata's AsRaw of a list: its lists and maps become Go's []any and map[string]any. Other values as they are."""
    return AnyList(tuple(map(_raw_item, value))) if is_list(value) else value


class _RawMap(dict[str, Any]):
    """Go's map[string]any, which pdata's Map is not."""


def _raw_item(value: Value) -> Value:
    if is_list(value):
        return AnyList(tuple(map(_raw_item, value)))
    if isinstance(value, Mapping):
        return _RawMap({key: _raw_item(item) for key, item in value.items()})
    return value


def _deep_equal(left: Value, right: Value) -> bool:
    """Go's reflect.DeepEqual for what a list can hold."""
    if isinstance(left, AnyList) and isinstance(right, AnyList):
        return len(left.items) == len(right.items) and all(map(_deep_equal, left.items, right.items))
    if isinstance(left, _RawMap) or isinstance(right, _RawMap):
        return (
            type(left) is type(right)
            and left.keys() == right.keys()
            and all(_deep_equal(value, right[key]) for key, value in left.items())
        )
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return _stored_equal(left, right)
    if is_list(left) and is_list(right):
        return _stored_equal(left, right)
    return type(left) is type(right) and bool(left == right)
