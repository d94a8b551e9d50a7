"""OTTL's comparison of two values."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def compare(sign: str, left: object, right: object) -> bool:
    """Whether `left sign right` holds. Two numbers compare as numbers, and so do two texts, booleans or bytes.

    Values of different types are unequal and have no order. Source: pkg/ottl, `compare.go` (v1.4.1).
    """
    if _kind(left) is _kind(right) is not None:
        return _ORDERS[sign](left, right)
    return sign == "!="


def _kind(value: object) -> type | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float
    return type(value)
