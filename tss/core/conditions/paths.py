"""What a path may name. Source: pkg/ottl v1.4.1, `contexts/` (ottlspan, ottlspanevent, ottlresource, ottlscope)."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any, final

import attrs

from tss.core.conditions.errors import Failed, nearest, shown
from tss.core.conditions.formula import Place
from tss.core.conditions.tree import At, Path
from tss.core.conditions.values import MAX_INT, MIN_INT, SECOND, Duration, Opaque, SpanId, Time, TraceId, Value, int64


class Context(enum.Enum):
    """What a condition is asked of. Its value is the name that paths may begin with."""

    SPAN = "span"
    SPAN_EVENT = "spanevent"


class Of(enum.Enum):
    """Whose value a path is. A comparison has paths of one of them only."""

    SPAN = "the span"
    ROOT = "the root"
    TRACE = "the trace"


class Keys(enum.Enum):
    """Which keys may follow a path."""

    NONE = "none"
    ONE = "one"  # a trace state's
    MAP = "map"


Convert = Callable[[Any], Value]


def _same(value: Value) -> Value:
    return value


def _plain(value: Value) -> Value:
    return value if isinstance(value, (str, int, float, bytes)) else None


def _optional(convert: Convert) -> Convert:
    """Without a root its fields are missing: None stays None."""
    return lambda value: None if value is None else convert(value)


def _trace_id(value: bytes) -> TraceId:
    return TraceId(value.rjust(16, b"\0") if len(value) < 16 else value)


def _span_id(value: bytes) -> SpanId:
    return SpanId(value.rjust(8, b"\0") if len(value) < 8 else value)


_KINDS = ("Unspecified", "Internal", "Server", "Client", "Producer", "Consumer")


def _kind(value: int) -> str:
    return _KINDS[value] if 0 <= value < len(_KINDS) else ""


def _kind_in_capitals(value: int) -> str:
    name = _kind(value)
    return f"SPAN_KIND_{name.upper()}" if name else ""


def _kind_back(convert: Convert) -> Convert:
    numbers = {convert(number): number for number in range(len(_KINDS))}
    return lambda value: numbers.get(value) if isinstance(value, str) else None


def _fails(_: object) -> Value:
    raise Failed("the Collector gives no event_index to a sampling policy")


@final
@attrs.frozen
class Target:
    """What a path without its context stands for: a field (formula.Field's name), and how its value is read.

    Without a name it is the same for every span, and `convert` of None. `back` gives the field's value for a value of the
    path, None if there is none; only equality survives it unless `has_order`.
    """

    name: str
    convert: Convert = _same
    keys: Keys = Keys.NONE
    back: Convert = _plain
    has_order: bool = True


_ATTRIBUTES = {
    "attributes": Target("attributes", keys=Keys.MAP),
    "dropped_attributes_count": Target("dropped_attributes_count"),
}
_NAMED = {"name": Target("name")}
_SCHEMA = {"schema_url": Target("schema_url")}


def _time_back(value: Value) -> int | None:
    ns = (value.unix_seconds * SECOND + value.ns) if isinstance(value, Time) else None
    return ns if ns is not None and MIN_INT <= ns <= MAX_INT else None


def _times(*names: str) -> dict[str, Target]:
    found = {}
    for name in names:
        found[f"{name}_unix_nano"] = Target(f"{name}_unix_nano", _optional(int64))
        as_time = _optional(lambda value: Time.at(int64(value)))
        found[name] = Target(f"{name}_unix_nano", as_time, back=_time_back)
    return found


def _ids(name: str, convert: Convert, size: int) -> dict[str, Target]:
    kind = type(convert(b""))

    def from_text(value: Value) -> bytes | None:
        is_id = isinstance(value, str) and len(value) == 2 * size and set(value) <= set("0123456789abcdef")
        return bytes.fromhex(value) if is_id else None

    as_text = _optional(lambda value: convert(value).value.hex())
    return {
        name: Target(
            name,
            _optional(convert),
            back=lambda value: value.value if isinstance(value, kind) else None,
            has_order=False,
        ),
        f"{name}.string": Target(name, as_text, back=from_text, has_order=False),
    }


def _whole(name: str) -> dict[str, Target]:
    return {name: Target(name, lambda value: Opaque(name, len(value) if value is not None else 0))}


TARGETS: Mapping[Place, Mapping[str, Target]] = {
    Place.SPAN: {
        **_ids("trace_id", _trace_id, 16),
        **_ids("span_id", _span_id, 8),
        **_ids("parent_span_id", _span_id, 8),
        "trace_state": Target("trace_state", keys=Keys.ONE),
        **_NAMED,
        "kind": Target("kind"),
        "kind.string": Target("kind", _optional(_kind), back=_kind_back(_kind), has_order=False),
        "kind.deprecated_string": Target(
            "kind", _optional(_kind_in_capitals), back=_kind_back(_kind_in_capitals), has_order=False
        ),
        **_times("start_time", "end_time"),
        **_ATTRIBUTES,
        **_whole("events"),
        "dropped_events_count": Target("dropped_events_count"),
        **_whole("links"),
        "dropped_links_count": Target("dropped_links_count"),
        "status": Target("", lambda _: Opaque("status", None)),
        "status.code": Target("status.code"),
        "status.message": Target("status.message"),
        "flags": Target("flags"),
    },
    Place.EVENT: {
        **_times("time"),
        **_NAMED,
        **_ATTRIBUTES,
        "event_index": Target("", _fails),
    },
    Place.RESOURCE: {**_ATTRIBUTES, **_SCHEMA},
    Place.SCOPE: {**_NAMED, "version": Target("version"), **_ATTRIBUTES, **_SCHEMA},
}
_CACHE = Target("", lambda _: {}, Keys.MAP)  # the condition's own memory, which nothing fills
_DURATION = Target(
    "duration", _optional(Duration), back=lambda value: value.ns if isinstance(value, Duration) else None
)  # ours: end_time - start_time
TRACE = ("duration_ms", "spans", "errors")
"""Ours: numbers of the whole trace. `duration_ms` is a float."""

SYMBOLS: Mapping[str, int] = {
    **{f"SPAN_KIND_{name.upper()}": number for number, name in enumerate(_KINDS)},
    "STATUS_CODE_UNSET": 0,
    "STATUS_CODE_OK": 1,
    "STATUS_CODE_ERROR": 2,
}
"""The enums' names."""

_PLACES = {
    "span": Place.SPAN,
    "spanevent": Place.EVENT,
    "resource": Place.RESOURCE,
    "scope": Place.SCOPE,
    "instrumentation_scope": Place.SCOPE,
}
_NAMES = {Place.SPAN: "a span", Place.EVENT: "an event", Place.RESOURCE: "a resource", Place.SCOPE: "a scope"}


_OF_RESOURCES = frozenset({
    "cloud", "container", "deployment", "faas", "host", "k8s", "os", "process", "service", "telemetry",
})  # fmt: skip
"""First words of attributes that resources have. Source: semantic conventions 1.37, resource."""


@final
@attrs.frozen
class Found:
    """What a path was found to name. `told` is its canonical text without keys."""

    of: Of
    place: Place
    target: Target
    told: str
    sections: int  # of the path, which have no keys except the last


def resolve(path: Path, context: Context, *, ours: bool) -> Found:
    """What a path names. Raises ConditionError if it is nothing, or has keys where none can be."""
    names = [section.name for section in path.sections]
    has_context = len(names) > 1 and not path.sections[0].keys
    first = names[0] if has_context else ""
    if ours and first == "trace":
        found = _of_trace(path, names[1:])
    elif ours and first == "root":
        found = _of_root(path, names[1:])
    elif first == "otelcol":
        raise path.at.error(
            f"found {shown(path.text)}, expected a path of the record: nothing is known of its sender here"
        )
    elif first in _PLACES and (first != "spanevent" or context is Context.SPAN_EVENT):
        found = _in(path, Of.SPAN, _PLACES[first], names[1:], first, ours=ours, own=first == context.value)
    else:
        found = _in(path, Of.SPAN, _PLACES[context.value], names, context.value, ours=ours, own=True)
    _check_keys(path, found)
    return found


def _in(path: Path, of: Of, place: Place, names: list[str], prefix: str, *, ours: bool, own: bool) -> Found:
    targets = TARGETS[place]
    for size in (2, 1):
        text = ".".join(names[:size])
        target = targets.get(text)
        if target is None and own and text == "cache" and of is Of.SPAN:
            target = _CACHE
        if target is None and ours and text == "duration" and place is Place.SPAN:
            target = _DURATION
        if target is not None and len(names) >= size:
            if len(names) > size:
                raise _too_long(path, len(path.sections) - len(names) + size, names[size])
            root = "root." if of is Of.ROOT else ""
            prefix = {"instrumentation_scope": "scope"}.get(prefix, prefix)
            return Found(of, place, target, f"{root}{prefix}.{text}" if prefix else f"{root}{text}", len(path.sections))
    raise _unknown(path, place, names, ours=ours)


def _unknown(path: Path, place: Place, names: list[str], *, ours: bool) -> Exception:
    first = len(path.sections) - len(names)
    before, text = "".join(f"{section.name}." for section in path.sections[:first]), ".".join(names)
    known = {each: each for each in TARGETS[place]}
    if ours and place is Place.SPAN:
        known["duration"] = "duration"
    contexts = [context for context, its in _PLACES.items() if its is not Place.EVENT or place is Place.EVENT]
    contexts += ["root", "trace"] if ours else []
    if len(names) > 1 and names[0] not in {each.partition(".")[0] for each in known}:
        of_resource = names[0] in _OF_RESOURCES and place is not Place.RESOURCE
        meant = f'{before}{"resource." if of_resource else ""}attributes["{text}"]'
        hint = (not before and nearest(names[0], contexts)) or f"; did you mean `{meant}`?"
    else:
        hint = (nearest(text, known) or nearest(names[0], known)).replace("`", f"`{before}", 1)
    if names[0] in {"event", "events"} and len(names) > 1 and place is Place.SPAN:
        hint = f"; events are asked one by one: spanevent.{'.'.join(names[1:])}"
    elif len(names) == 1 and not before:
        hint = (
            _hint_for_word(text, ours=ours)
            or hint
            or f'; an attribute is `attributes["{text}"]`, and a text is in quotes'
        )
    if names[0] == "duration" and place is Place.SPAN:
        hint = '; did you mean `end_time - start_time > Duration("1s")`?'
    return path.at.error(f"found {shown(path.text)}, expected a path of {_NAMES[place]}{hint}")


def _hint_for_word(word: str, *, ours: bool) -> str:
    """What is probably meant by a word that is no path."""
    meant = _WORDS.get(word, "") or (_OURS.get(word, "") if ours else "")
    return f"; did you mean `{meant}`?" if meant else ""


_WORDS = {
    **dict.fromkeys(("null", "none"), "nil"),
    **{word: f"SPAN_KIND_{word.upper()}" for word in ("internal", "server", "client", "producer", "consumer")},
    **{word: f"STATUS_CODE_{word.upper()}" for word in ("unset", "ok", "error")},
    **dict.fromkeys(("service", "resource"), 'resource.attributes["service.name"]'),
    "route": 'attributes["http.route"]',
}
_OURS = {"latency": "trace.duration_ms", "spans": "trace.spans", "errors": "trace.errors"}


def _too_long(path: Path, section: int, name: str) -> Exception:
    at = path.sections[section].at
    before = path.sections[section - 1].name
    rest = ".".join(each.name for each in path.sections[section:])
    hint = f'; did you mean `{before}["{rest}"]`?' if before == "attributes" else ""
    if before == "events":
        hint = f"; events are asked one by one: spanevent.{rest}"
    return at.error(f"found `.{name}`, expected nothing after `{before}`{hint}")


def _check_keys(path: Path, found: Found) -> None:
    *before, last = path.sections
    for section in before:
        if section.keys:
            raise _no_keys(section.keys[0].at, section.name)
    if last.keys and found.target.keys is Keys.NONE:
        raise _no_keys(last.keys[0].at, last.name)
    if found.target.keys is Keys.ONE and len(last.keys) > 1:
        raise last.keys[1].at.error("found a second key, expected one key after `trace_state`")


def _no_keys(at: At, name: str) -> Exception:
    hint = "; events are asked one by one, with a condition on `spanevent`" if name == "events" else ""
    return at.error(f"found a key, expected none after `{name}`{hint}")


def _of_root(path: Path, names: list[str]) -> Found:
    if len(names) > 1 and names[0] in {"resource", "scope", "instrumentation_scope"}:
        return _in(path, Of.ROOT, _PLACES[names[0]], names[1:], names[0], ours=True, own=False)
    return _in(path, Of.ROOT, Place.SPAN, names, "", ours=True, own=False)


def _of_trace(path: Path, names: list[str]) -> Found:
    if names[0] not in TRACE:
        known = ", ".join(f"`trace.{name}`" for name in TRACE)
        meant = nearest(path.text, [f"trace.{name}" for name in TRACE], most=0.8)
        raise path.at.error(f"found {shown(path.text)}, expected one of {known}{meant}")
    if len(names) > 1:
        raise _too_long(path, 2, names[1])
    return Found(Of.TRACE, Place.SPAN, Target(names[0]), f"trace.{names[0]}", len(path.sections))
