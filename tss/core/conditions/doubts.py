"""What in a condition can never hold, and how to write what is probably meant: comparisons of two types, calls that always fail.

Such a condition is allowed, because pkg/ottl allows it.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator

from tss.core.conditions import evaluation
from tss.core.conditions.checked import (
    AllOf,
    AnyOf,
    Applied,
    Asked,
    Compared,
    Computed,
    Expression,
    Fixed,
    Known,
    Logic,
    Opposite,
    Reference,
    references,
)
from tss.core.conditions.errors import Failed
from tss.core.conditions.language import from_view
from tss.core.conditions.of_trace import read
from tss.core.conditions.paths import Keys, Of
from tss.core.conditions.values import Duration


class _Type(enum.Enum):
    TEXT = "a text"
    NUMBER = "a number"
    TRUTH = "true or false"
    DURATION = "a duration"
    TIME = "a time"
    TRACE_ID = "a trace id"
    SPAN_ID = "a span id"
    STATUS = "a status with a code and a message"


_PATHS = {
    **dict.fromkeys(("start_time", "end_time", "time"), _Type.TIME),
    **dict.fromkeys(("span_id", "parent_span_id"), _Type.SPAN_ID),
    **dict.fromkeys(("name", "trace_state", "status.message", "schema_url", "version"), _Type.TEXT),
    **dict.fromkeys(("trace_id.string", "span_id.string", "parent_span_id.string"), _Type.TEXT),
    **dict.fromkeys(("kind.string", "kind.deprecated_string"), _Type.TEXT),
    **dict.fromkeys(("kind", "status.code", "flags"), _Type.NUMBER),
    **dict.fromkeys(("start_time_unix_nano", "end_time_unix_nano", "time_unix_nano"), _Type.NUMBER),
    **dict.fromkeys(("dropped_attributes_count", "dropped_events_count", "dropped_links_count"), _Type.NUMBER),
    "trace_id": _Type.TRACE_ID,
    "duration": _Type.DURATION,
    "status": _Type.STATUS,
}
_CALLS = {
    **dict.fromkeys(
        ("Concat", "ConvertCase", "Hex", "MD5", "SHA1", "SHA256", "SHA512", "String", "Substring"), _Type.TEXT
    ),
    **dict.fromkeys(("ToLowerCase", "ToUpperCase", "Trim", "TrimPrefix", "TrimSuffix"), _Type.TEXT),
    **dict.fromkeys(
        ("Day", "Double", "FNV", "Hour", "Hours", "Index", "Int", "Len", "Minute", "Minutes"), _Type.NUMBER
    ),
    **dict.fromkeys(("Microseconds", "Milliseconds", "Nanoseconds", "Second", "Seconds", "Month"), _Type.NUMBER),
    **dict.fromkeys(("Nanosecond", "ParseInt", "UnixMicro", "UnixMilli", "UnixNano", "UnixSeconds"), _Type.NUMBER),
    **dict.fromkeys(("Weekday", "Year"), _Type.NUMBER),
    **dict.fromkeys(("Unix", "TruncateTime"), _Type.TIME),
    "Duration": _Type.DURATION,
    "SpanID": _Type.SPAN_ID,
    "TraceID": _Type.TRACE_ID,
}
_CONTEXT = re.compile(r'("(?:[^"\\]|\\.)*"?)|\bspan\.')
_SPELLED = {
    "kind.string": 'is one of "Unspecified", "Internal", "Server", "Client", "Producer", "Consumer"',
    "kind.deprecated_string": 'is a text such as "SPAN_KIND_SERVER"',
    "trace_id.string": "has 32 small hexadecimal digits",
    "span_id.string": "has 16 small hexadecimal digits",
    "parent_span_id.string": "has 16 small hexadecimal digits",
}


def doubts(text: str) -> list[str]:
    """A sentence for each part that never holds, or always fails. Raises ConditionError."""
    return list(dict.fromkeys(map(_without_context, _of(read(text).logic))))


def _without_context(sentence: str) -> str:
    """Without the `span.` that canonical texts have before each path, but for those in quotes."""
    return _CONTEXT.sub(lambda found: found[1] or "", sentence)


def _of(node: Logic) -> Iterator[str]:
    match node:
        case AllOf(of) | AnyOf(of):
            for each in of:
                yield from _of(each)
        case Opposite(inner):
            yield from _of(inner)
        case Compared():
            yield from _of_comparison(node)
        case Asked(call):
            fails = [*_failing(call)]
            yield from fails
            if not fails and next(references(call), None) is None:
                yield f"`{call.told}` reads nothing of a span: write a path without quotes"
        case Fixed():
            pass


def _of_comparison(node: Compared) -> Iterator[str]:
    fails = [*_failing(node.left), *_failing(node.right)]
    yield from fails
    why = "" if fails else _why(node)
    if why:
        yield f"`{node.told}` {'always' if node.operator == '!=' else 'never'} holds: {why}"


def _why(node: Compared) -> str:
    """Why a comparison has always the same answer, and what to write; nothing if it is not sure."""
    for this, other in ((node.left, node.right), (node.right, node.left)):
        if isinstance(this, Reference) and isinstance(other, Known) and isinstance(other.value, str):
            spelled = _SPELLED.get(_name(this))
            is_empty = not other.value and _name(this).startswith("kind.")  # so reads a kind that OTLP does not name
            if (
                spelled
                and not is_empty
                and node.operator in {"==", "!="}
                and this.found.target.back(other.value) is None
            ):
                return f"{this.told} {spelled}"
    left, right = _type(node.left), _type(node.right)
    if left is None or right is None or left is right:
        return ""
    remedy = _remedy(node.left, left, right) or _remedy(node.right, right, left)
    return f"{node.left.told} is {left.value}, and {node.right.told} is {right.value}" + (
        f"; {remedy}" if remedy else ""
    )


def _remedy(side: Expression, own: _Type, other: _Type) -> str:
    """What to write in place of this side or of the other one."""
    if isinstance(side, Known):
        return ""
    name = _name(side) if isinstance(side, Reference) else ""
    if name in _BY_PATH:
        return _BY_PATH[name]
    if own is _Type.TIME and other is _Type.NUMBER:
        return f"for a number write {side.told}_unix_nano" if name else "for a number write UnixNano(...)"
    if own in {_Type.TRACE_ID, _Type.SPAN_ID} and other is _Type.TEXT and name:
        return f"for a text write {side.told}.string"
    if own is _Type.STATUS:
        return f"write {side.told}.code == STATUS_CODE_ERROR"
    return _BY_TYPES.get((own, other), 'write a duration as Duration("5s")' if own is _Type.DURATION else "")


_BY_PATH = {
    "kind": "write one of its names without quotes, such as SPAN_KIND_SERVER",
    "status.code": "write one of its names without quotes, such as STATUS_CODE_ERROR",
    "duration_ms": "write a number of milliseconds, such as 2000",
    "parent_span_id": "for spans without a parent write IsRootSpan()",
}
_BY_TYPES = {
    (_Type.NUMBER, _Type.TEXT): "write the number without quotes",
    (_Type.TEXT, _Type.NUMBER): "write the text in quotes",
}


def _name(path: Reference) -> str:
    """A path without its context: `root.span.status.code` is `status.code`."""
    parts = path.found.told.split(".")
    while parts and parts[0] in {"root", "trace", "span", "spanevent", "resource", "scope"}:
        parts.pop(0)
    return ".".join(parts)


def _type(node: Expression) -> _Type | None:
    """The type that a value always has; None if it can have several, or it is of no matter."""
    match node:
        case Known(value):
            return _type_of_literal(value)
        case Reference(found):
            if found.of is Of.TRACE:
                return _Type.NUMBER
            return None if found.target.keys is Keys.MAP else _PATHS.get(_name(node))
        case Applied(function, _, _, keys):
            return None if keys else _CALLS.get(function.name)
        case Computed(operator, left, right):
            return _type_of_sum(operator, _type(left), _type(right))
    return None


def _type_of_literal(value: object) -> _Type | None:
    match value:
        case bool():
            return _Type.TRUTH
        case str():
            return _Type.TEXT
        case int() | float():
            return _Type.NUMBER
        case Duration():
            return _Type.DURATION
    return None


def _type_of_sum(operator: str, left: _Type | None, right: _Type | None) -> _Type | None:
    if left is _Type.TIME and right is _Type.TIME:
        return _Type.DURATION if operator == "-" else None
    if left is right and left in {_Type.NUMBER, _Type.DURATION}:
        return left
    return _Type.TIME if {left, right} == {_Type.TIME, _Type.DURATION} else None


def _failing(node: Expression) -> Iterator[str]:
    """What fails in a value, whatever the span."""
    if isinstance(node, Applied) and node.function.name != "IsRootSpan" and next(references(node), None) is None:
        try:
            evaluation.expression(node, from_view)(None)
        except Failed as error:
            yield f"`{node.told}` always fails ({error}), and a condition that fails does not hold"
        return
    match node:
        case Applied(_, arguments):
            parts = [each for each in arguments if each is not None]
        case Computed(_, left, right):
            parts = [left, right]
        case _:
            return
    for part in parts:
        yield from _failing(part)
