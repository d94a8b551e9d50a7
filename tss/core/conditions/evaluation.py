"""Evaluates a checked condition: parts become closures over a view of one span. Source: pkg/ottl v1.4.1, `expression.go`,
`math.go`, `boolean_value.go`, and `ctxutil/`.

A closure raises Failed where pkg/ottl returns an error. `and`, `or` and `not` let it through, so an error settles them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tss.core.conditions.checked import (
    PARENT,
    AllOf,
    AnyOf,
    Applied,
    Asked,
    Compared,
    Computed,
    Entries,
    Expression,
    Fixed,
    Items,
    Known,
    Logic,
    Negated,
    Opposite,
    Reference,
    references,
)
from tss.core.conditions.checking import stored
from tss.core.conditions.comparing import compare
from tss.core.conditions.errors import Failed
from tss.core.conditions.formula import ERROR, FALSE, TRUE, Truth
from tss.core.conditions.functions import ASKED, CHECKS, LISTS, Takes
from tss.core.conditions.paths import Keys
from tss.core.conditions.values import MAX_INT, MIN_INT, AnyList, Duration, Texts, Time, Value, int64, is_list, kind
from tss.core.conditions.w3c import members

Get = Callable[[Any], Value]
"""The value of an expression for a view."""

Reach = Callable[[Reference], Get]
"""How the value of a path is read from a view: without conversion; of an attribute whose key is written out its value, of
other attributes the whole map."""


def decided(ask: Callable[[Any], bool], view: Any) -> Truth:
    """The answer for a view."""
    try:
        return TRUE if ask(view) else FALSE
    except Failed:
        return ERROR


def logic(node: Logic, reach: Reach) -> Callable[[Any], bool]:
    """The condition as a closure."""
    match node:
        case Fixed(value):
            return lambda _: value
        case AllOf(of):
            members = [logic(each, reach) for each in of]
            return lambda view: all(ask(view) for ask in members)
        case AnyOf(of):
            members = [logic(each, reach) for each in of]
            return lambda view: any(ask(view) for ask in members)
        case Opposite(inner):
            ask = logic(inner, reach)
            return lambda view: not ask(view)
        case Asked(call):
            return _asked(expression(call, reach))
        case Compared(operator, left, right):
            one, other = expression(left, reach), expression(right, reach)
            return lambda view: compare(operator, one(view), other(view))


def _asked(get: Get) -> Callable[[Any], bool]:
    def ask(view: Any) -> bool:
        value = get(view)
        if isinstance(value, bool):
            return value
        raise Failed(f"expected a bool, got {kind(value)}")

    return ask


def expression(node: Expression, reach: Reach) -> Get:
    """The value as a closure. What reads nothing of a span is computed once."""
    get = _expression(node, reach)
    if isinstance(node, Known) or next(references(node), None) is not None:
        return get
    try:
        value = get(None)
    except Failed as error:
        return _failing(str(error))
    return lambda _: value


def _failing(reason: str) -> Get:
    def get(_: Any) -> Value:
        raise Failed(reason)

    return get


def _expression(node: Expression, reach: Reach) -> Get:
    match node:
        case Known(value):
            return lambda _: value
        case Reference():
            return _reference(node, reach)
        case Applied():
            return _applied(node, reach)
        case Items(items):
            gets = [expression(item, reach) for item in items]
            return lambda view: AnyList(tuple(get(view) for get in gets))
        case Entries(entries):
            fill = {
                key: expression(item, reach) for key, item in entries
            }  # of a key that is given twice the last counts
            return lambda view: {key: stored(get(view)) for key, get in fill.items()}
        case Negated(of):
            return _negated(expression(of, reach))
        case Computed(operator, left, right):
            return _computed(operator, expression(left, reach), expression(right, reach))


# -- paths


def _reference(node: Reference, reach: Reach) -> Get:
    target, get = node.found.target, reach(node)
    convert = target.convert
    if target.keys is Keys.NONE or not node.keys:
        return lambda view: convert(get(view))
    keys = [expression(key, reach) for key in node.keys]
    if target.keys is Keys.ONE:
        return _of_trace_state(get, node.keys[0])
    if node.key is not None:
        return _walk(get, keys[1:]) if len(keys) > 1 else get
    return _dynamic(lambda view: convert(get(view)), keys)


def _dynamic(get: Get, keys: list[Get]) -> Get:
    """The value below keys of which the first, an attribute's, is not written out."""

    def first(view: Any) -> Value:
        found = get(view)
        return None if found is None else _below_map(found, keys[0](view))

    return _walk(first, keys[1:]) if len(keys) > 1 else first


def _walk(get: Get, keys: list[Get]) -> Get:
    """The value below these keys of an attribute; nil if the attribute or a map on the way does not have one."""

    def walk(view: Any) -> Value:
        value = get(view)
        if value is None:
            return None
        for key in keys:
            if isinstance(value, Mapping):
                name = key(view)
                found = _below_map(value, name)
                if found is None and name not in value:
                    return None
                value = found
            elif is_list(value):
                value = value[_inside(key(view), len(value))]
            else:
                raise Failed(f"{kind(value)} has no keys")
        return value

    return walk


def _below_map(value: Mapping[str, Value], name: Value) -> Value:
    if not isinstance(name, str):
        raise Failed(f"the key of a map has to be a string, not {kind(name)}")
    return value.get(name)


def _inside(at: Value, size: int) -> int:
    """An index that is inside of a list."""
    if not isinstance(at, int) or isinstance(at, bool):
        raise Failed(f"an index has to be an int, not {kind(at)}")
    if not 0 <= at < size:
        raise Failed(f"index {at} out of bounds")
    return at


def _of_trace_state(get: Get, key: Expression) -> Get:
    wanted = key.value if isinstance(key, Known) and isinstance(key.value, str) else None

    def read(view: Any) -> Value:
        value = get(view)
        found = None if value is None else members(value)
        if found is None:
            return None
        if wanted is None:
            raise Failed("the key of a trace state has to be written out")
        return found.get(wanted, "")

    return read


def _indexed(value: Value, key: Value) -> Value:
    """The value below a key after a call. Here a missing key is an error."""
    if isinstance(key, str):
        if not isinstance(value, Mapping):
            raise Failed(f"{kind(value)} has no keys")
        if key not in value:
            raise Failed(f"key {key!r} not found")
        return value[key]
    if isinstance(value, (AnyList, Texts)):
        value = value.items
    elif not is_list(value) and not isinstance(value, bytes):
        raise Failed(f"{kind(value)} has no index")
    return value[_inside(key, len(value))]


# -- calls


def _applied(node: Applied, reach: Reach) -> Get:
    run, keys = node.run, [expression(key, reach) for key in node.keys]
    # IsRootSpan takes no arguments, and reads the id of the parent.
    gets = [expression(PARENT, reach)] if node.function.name == "IsRootSpan" else _arguments(node, reach)
    if len(gets) == 1 and not keys:
        only = gets[0]
        return lambda view: run(only(view))

    def call(view: Any) -> Value:
        value = run(*[get(view) for get in gets])
        for key in keys:
            value = _indexed(value, key(view))
        return value

    return call


def _arguments(node: Applied, reach: Reach) -> list[Get]:
    return [
        _argument(parameter.takes, argument, reach)
        for parameter, argument in zip(node.function.parameters, node.arguments, strict=True)
    ]


def _argument(takes: Takes, argument: Expression | None, reach: Reach) -> Get:
    if argument is None:
        return lambda _: None
    if takes in LISTS and isinstance(argument, Items):
        items = [_argument(LISTS[takes], item, reach) for item in argument.items]
        return lambda view: (get(view) for get in items)
    get = expression(argument, reach)
    if takes in ASKED or takes not in CHECKS:
        return get
    check = CHECKS[takes]
    if isinstance(argument, Known):
        value = check(argument.value)
        return lambda _: value
    return lambda view: check(get(view))


# -- arithmetic


def _negated(get: Get) -> Get:
    def negate(view: Any) -> Value:
        value = get(view)
        if type(value) is int:
            return int64(-value)
        if type(value) is float:
            return -value
        raise Failed(f"{kind(value)} cannot be negative")

    return negate


def _computed(operator: str, left: Get, right: Get) -> Get:
    compute = _NUMBERS[operator]

    def calculate(view: Any) -> Value:
        one, other = left(view), right(view)
        first, second = type(one), type(other)
        if first is int and second is int:
            value = compute(one, other)
            return value if MIN_INT <= value <= MAX_INT else int64(value)
        if first in _FLOATS and second in _FLOATS:
            return compute(float(one), float(other))
        if first is Time or first is Duration:
            return _times(operator, one, other)
        raise Failed(f"{kind(one)} {operator} {kind(other)} cannot be computed")

    return calculate


_FLOATS = (int, float)


def _divided(one: Any, other: Any) -> Any:
    if other == 0:
        raise Failed("divided by 0")
    if isinstance(one, float):
        return one / other
    quotient = abs(one) // abs(other)  # Go truncates towards 0
    return quotient if (one < 0) == (other < 0) else -quotient


_NUMBERS: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": lambda one, other: one + other,
    "-": lambda one, other: one - other,
    "*": lambda one, other: one * other,
    "/": _divided,
}


def _times(operator: str, one: Time | Duration, other: Value) -> Value:
    if isinstance(other, Duration):
        ns = other.ns if operator == "+" else int64(-other.ns)
        if operator in {"+", "-"}:
            return one.plus(ns) if isinstance(one, Time) else Duration(int64(one.ns + ns))
    if isinstance(other, Time):
        if isinstance(one, Time) and operator == "-":
            return one.minus(other)
        if isinstance(one, Duration) and operator == "+":
            return other.plus(one.ns)
    raise Failed(f"{kind(one)} {operator} {kind(other)} cannot be computed")
