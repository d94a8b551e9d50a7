"""`when` of a policy: an OTTL condition as a text, or a mapping of short forms.

The keys of one mapping hold together: `service`, `route`, `status` and `attribute` for one and the same span, `latency` and
`spans` for the trace. `any`, `all` and `not` join conditions of the whole trace: each may be met by another span.
Each comparison of a short form is written as OTTL and read as OTTL, so that both mean the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import TypeVar, cast

from attrs import frozen

from tss.core.conditions.errors import ConditionError
from tss.core.conditions.formula import All, Any, Formula, OfSpans
from tss.core.conditions.language import parse
from tss.core.conditions.of_trace import statement
from tss.core.conditions.splitting import formula_of
from tss.core.conditions.statement import MOST, Asked, Denied, Every, Number, Some, Statement, Within, every
from tss.core.patterns import whole
from tss.settings.errors import InvalidSetting, InvalidValue, did_you_mean, nearest, shape
from tss.settings.kinds import bounds
from tss.settings.kinds.kind import FILLED, collect, list_of, refused
from tss.settings.kinds.texts import read_text

T = TypeVar("T")

MAX_DEPTH = 8  # of any, all and not: nobody reads more
MAX_PARTS = 20_000  # of one condition
MAX_LETTERS = 1000  # of a key or a value: as a glob or with escapes it becomes several times as long
_MOST_INT = (1 << 63) - 1
MAX_ENTRIES = 1000  # in one list: far more than anybody writes, and a bound for the time that a span takes

WHEN = "an OTTL condition as a text, or a mapping of short forms"
_MAPPING = "a mapping of short forms"
_TEXTS = "a text or a list of texts"
_VALUES = "a text, a number, true or false, or a list of these"
_STATUS = {"unset": 0, "ok": 1, "error": 2}


@frozen
class When:
    """A condition: `plain` as the file has it, `statement` as the policies answer it."""

    plain: object
    statement: Statement


def read_when(raw: object, depth: int = 0) -> When:
    """A condition. Raises InvalidValue."""
    match raw:
        case str() if raw.strip():
            return When(raw, _ottl(raw))
        case dict():
            if not depth and _has_more_than(MAX_PARTS, raw):
                found = f"more than {MAX_PARTS:,} keys and values"
                raise InvalidValue(InvalidSetting("", found, f"up to {MAX_PARTS:,}", "an alias counts each time"))
            return When(raw, _mapping(raw, depth))
    hint = "for several conditions write a mapping with any: [...] or all: [...]" if isinstance(raw, list) else ""
    if raw is None or isinstance(raw, bool | str):
        hint = "leave out `when` if the policy is for all traces"
    raise InvalidValue(InvalidSetting("", "an empty text" if raw == "" else shape(raw), WHEN, hint))


def _has_more_than(most: int, raw: object) -> bool:
    """Whether a value has more parts. YAML's aliases can make a short text endless, so they are not all counted."""
    parts, found = [raw], 0
    while parts and found <= most:
        part = parts.pop()
        found += 1
        if isinstance(part, dict):
            parts += part.values()
        elif isinstance(part, list):
            parts += part[: most + 1]
    return found > most


# ---- mappings


def _mapping(raw: Mapping[object, object], depth: int) -> Statement:
    if not raw:
        allowed = f"{_MAPPING}: at least one of {', '.join(KEYS)}"
        raise InvalidValue(
            InvalidSetting("", "an empty mapping", allowed, "without `when` the policy is for all traces")
        )
    if depth > MAX_DEPTH:
        raise InvalidValue(InvalidSetting("", "a mapping", f"at most {MAX_DEPTH} of any, all and not in one another"))
    parts = collect((f".{name}", value, partial(_key, name, depth)) for name, value in raw.items())
    of_span = [part.formula for part in parts if isinstance(part, _OfSpan)]
    statements = [part for part in parts if not isinstance(part, _OfSpan)]
    if of_span:
        statements.insert(0, Asked(OfSpans(_all_of(of_span))))
    return every(*statements)


@frozen
class _OfSpan:
    """What has to hold for a span. The parts of one mapping have to hold for the same span."""

    formula: Formula


def _key(name: object, depth: int, raw: object) -> _OfSpan | Statement:
    """One short form."""
    if name in _SPAN_FORMS:
        return _OfSpan(_SPAN_FORMS[cast(str, name)](raw))
    if name in _TRACE_FORMS:
        return _TRACE_FORMS[cast(str, name)](raw)
    if name in _JOINING:
        return _JOINING[cast(str, name)](raw, depth + 1)
    meant = nearest(str(name), KEYS)
    hint = (
        did_you_mean(meant) or _ALIASES.get(str(name), "") or f"for an attribute write attribute: {{{name!s:.80}: ...}}"
    )
    raise InvalidValue(InvalidSetting("", "an unknown key", ", ".join(KEYS), hint))


_ALIASES = {
    "duration": "did you mean latency?",
    "error": "did you mean status: error?",
    "errors": "did you mean status: error?",
    "tags": "did you mean attribute?",
    "name": "write it as OTTL: when: 'name == \"...\"'",
    "kind": "write it as OTTL: when: 'kind == SPAN_KIND_SERVER'",
    "or": "did you mean any?",
    "and": "did you mean all?",
    "operation": "write it as OTTL: when: 'name == \"...\"'",
    "ottl": "write the condition as the text of when",
    "condition": "write the condition as the text of when",
}


def _each(raw: object, read: Callable[[object], T], allowed: str) -> list[T]:
    """One value or a list of values. The empty list is refused: nothing would match."""
    if not isinstance(raw, list):
        return [read(raw)]
    if not 0 < len(raw) <= MAX_ENTRIES:
        found = f"{len(raw):,} entries" if raw else "an empty list"
        raise InvalidValue(InvalidSetting("", found, f"{allowed}; 1 to {MAX_ENTRIES:,} entries"))
    return collect((f"[{place}]", entry, read) for place, entry in enumerate(raw))


def _status(raw: object) -> Formula:
    return _any_of(_each(raw, _one_status, "error, ok or unset, or a list of these"))


def _one_status(raw: object) -> Formula:
    allowed = "error, ok or unset"
    if not isinstance(raw, str):
        meant = {code: name for name, code in _STATUS.items()}.get(raw, "") if isinstance(raw, int) else ""
        hint = did_you_mean(meant) if not isinstance(raw, bool) else ""
        if isinstance(raw, int) and 100 <= raw < 600:
            hint = f"for the status of HTTP write attribute: {{http.response.status_code: {raw}}}"
        raise refused(raw, allowed, hint)
    if raw.lower() not in _STATUS:
        raise refused(raw, allowed, did_you_mean(nearest(raw.lower().removeprefix("status_code_"), _STATUS)))
    return _compared(f"status.code == {_STATUS[raw.lower()]}")


def _of_path(path: str, raw: object) -> Formula:
    return _any_of(_each(raw, partial(_is, path), _TEXTS))


def _is(path: str, raw: object) -> Formula:
    text = read_text(raw, "text, not empty")
    if not text.strip():
        raise refused(raw, "text, not empty")
    return _equals(path, text)


def _equals(path: str, text: str) -> Formula:
    """A comparison with a text, or with a glob if it has `*` or `?`."""
    _check_length(text)
    if text.startswith(("!", "=")):  # meant as an operator, and as a value it would match nothing
        raise refused(
            text,
            "a value or a glob",
            f"for other values write not: {{...}}; for a text that begins with {text[0]} write OTTL",
        )
    if "*" in text or "?" in text:
        return _compared(f"IsMatch({path}, {_quoted(_glob(text))})")
    return _compared(f"{path} == {_quoted(text)}")


def _check_length(text: str) -> None:
    if len(text) > MAX_LETTERS:
        raise InvalidValue(InvalidSetting("", f"a text of {len(text):,} letters", f"up to {MAX_LETTERS:,} letters"))


def _attribute(raw: object) -> Formula:
    allowed = f"a mapping of attributes to values: {_VALUES}"
    if not isinstance(raw, dict):
        raise InvalidValue(InvalidSetting("", shape(raw), allowed, "such as attribute: {tenant: acme}"))
    if not raw:
        raise InvalidValue(InvalidSetting("", "an empty mapping", allowed))
    return _all_of(collect((f".{key}", value, partial(_one_attribute, key)) for key, value in raw.items()))


def _one_attribute(key: object, raw: object) -> Formula:
    if not isinstance(key, str) or not key:
        raise InvalidValue(InvalidSetting("", f"the key {key!r}", "an attribute's key as a text", "put it in quotes"))
    _check_length(key)
    return _any_of(_each(raw, partial(_has_value, key), _VALUES))


def _has_value(key: str, raw: object) -> Formula:
    """The attribute of the span, or of its resource, has this value."""
    quoted = _quoted(key)
    return _any_of([_value_is(f"{place}attributes[{quoted}]", key, raw) for place in ("", "resource.")])


def _value_is(path: str, key: str, raw: object) -> Formula:
    match raw:
        case bool():
            return _compared(f"{path} == {str(raw).lower()}")
        case int() | float():
            return _compared(f"{path} == {_number(raw)}")
        case str() if bounds.looks_like_bounds(raw):
            return _all_of([_compared(f"{path} {each.operator} {_number(each.plain)}") for each in bounds.numbers(raw)])
        case str():
            return _equals(path, read_text(raw, "a text"))
        case None:
            hint = f"for a missing attribute write OTTL: when: 'attributes[{_quoted(key)}] == nil'"
            raise refused(raw, _VALUES, hint)
    raise InvalidValue(InvalidSetting("", shape(raw), _VALUES))


def _latency(raw: object) -> Statement:
    return _within(Number.DURATION_NS, bounds.durations(raw))


def _spans(raw: object) -> Statement:
    return _within(Number.SPANS, bounds.counts(raw))


def _within(number: Number, found: tuple[bounds.Bound, ...]) -> Statement:
    low, high = bounds.within(found)
    return Within(number, max(low or 0, 0), MOST if high is None else min(high, MOST))


def _joined(join: Callable[[tuple[Statement, ...]], Statement], raw: object, depth: int) -> Statement:
    allowed = "a list of conditions, each an OTTL text or a mapping of short forms"
    if not isinstance(raw, list):
        hint = "put it into a list: [...]" if isinstance(raw, str | dict) else ""
        raise InvalidValue(InvalidSetting("", shape(raw), allowed, hint))
    return join(tuple(_each(raw, partial(_statement, depth), allowed)))


def _statement(depth: int, raw: object) -> Statement:
    return read_when(raw, depth).statement


def _not(raw: object, depth: int) -> Statement:
    if isinstance(raw, list):
        hint = "write not: {any: [...]}" if raw else ""
        raise InvalidValue(InvalidSetting("", "a list", f"one condition: {WHEN}", hint))
    return Denied(_statement(depth, raw))


_SPAN_FORMS: Mapping[str, Callable[[object], Formula]] = {
    "status": _status,
    "service": partial(_of_path, 'resource.attributes["service.name"]'),
    "route": partial(_of_path, 'attributes["http.route"]'),
    "attribute": _attribute,
}
_TRACE_FORMS: Mapping[str, Callable[[object], Statement]] = {"latency": _latency, "spans": _spans}
_JOINING: Mapping[str, Callable[[object, int], Statement]] = {
    "any": partial(_joined, Some),
    "all": partial(_joined, Every),
    "not": _not,
}
KEYS = (*_SPAN_FORMS, *_TRACE_FORMS, *_JOINING)


# ---- JSON Schema

_SCALAR: Mapping[str, object] = {"type": ["string", "number", "boolean"]}


def _one_or_list(entry: Mapping[str, object]) -> dict[str, object]:
    return {"anyOf": [entry, list_of(entry, MAX_ENTRIES, 1)]}


def _schema(depth: int) -> dict[str, object]:
    """Of a condition. Inside of `depth` joins it only says: a text or a mapping."""
    if not depth:
        return {"type": ["string", "object"]}
    inner = _schema(depth - 1)
    # A schema cannot ignore case, so it lists the usual spellings.
    words = [spelled for word in _STATUS for spelled in (word, word.upper(), word.capitalize())]
    bounds_text = {"type": "string", "pattern": "^ *[<>]"}
    properties = {
        "status": _one_or_list({"type": "string", "enum": words}),
        "service": _one_or_list(FILLED),
        "route": _one_or_list(FILLED),
        "attribute": {"type": "object", "additionalProperties": _one_or_list(_SCALAR), "minProperties": 1},
        "latency": bounds_text,
        "spans": bounds_text,
        "any": list_of(inner, MAX_ENTRIES, 1),
        "all": list_of(inner, MAX_ENTRIES, 1),
        "not": inner,
    }
    mapping = {"type": "object", "properties": properties, "additionalProperties": False, "minProperties": 1}
    return {"anyOf": [FILLED, mapping]}


WHEN_SCHEMA: Mapping[str, object] = _schema(2)


# ---- OTTL


def _glob(text: str) -> str:
    """The regular expression of a glob, in which a dot also matches line breaks."""
    return f"(?s:{whole(text)})"


def _quoted(text: str) -> str:
    escapes = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escapes}"'


def _number(number: float) -> str:
    """Without an exponent, because OTTL has none for whole numbers."""
    if isinstance(number, int) and abs(number) > _MOST_INT:  # OTTL cannot write the least one of 64 bits
        raise refused(number, f"a whole number from -{_MOST_INT} to {_MOST_INT}")
    if not math.isfinite(number):
        raise refused(number, "a finite number")
    if isinstance(number, int):
        return str(number)
    written = format(Decimal(repr(number)), "f")
    return written if "." in written else f"{written}.0"


def _any_of(formulas: list[Formula]) -> Formula:
    return formulas[0] if len(formulas) == 1 else Any(tuple(formulas))


def _all_of(formulas: list[Formula]) -> Formula:
    return formulas[0] if len(formulas) == 1 else All(tuple(formulas))


def _compared(text: str) -> Formula:
    """The formula of an OTTL comparison about a span. Raises InvalidValue."""
    try:
        return formula_of(parse(text).logic)
    except ConditionError as error:  # a text that no condition can hold
        raise InvalidValue(_told(error, text)) from None


def _ottl(text: str) -> Statement:
    """The statement of an OTTL condition. Raises InvalidValue."""
    try:
        return statement(text)
    except ConditionError as error:
        raise InvalidValue(_told(error, text), *(_told(each, text, "") for each in error.further)) from None


def _told(error: ConditionError, text: str, meant: str | None = None) -> InvalidSetting:
    """The error's `found X, expected Y; hint` and its place in the condition. ``meant``: in place of what the text as a whole
    may be meant as."""
    line = f"line {error.line}, " if "\n" in text.strip() else ""
    found, _, rest = error.message.partition(", expected ")
    expected, _, hint = rest.partition("; ")
    place = f"at {line}column {error.column}"
    hint = (_hint(text) if meant is None else meant) or hint
    return InvalidSetting("", f"{found.removeprefix('found ')} {place}", expected or "an OTTL condition", hint)


def _hint(text: str) -> str:
    """For texts that are meant as something else."""
    word = text.strip()
    if word.lower() in _STATUS:
        return f"did you mean the short form {{status: {word.lower()}}}?"
    if status := re.search(r"(?i)\bstatus *={1,2} *\"?(unset|ok|error)\b", word):
        name = status[1].lower()
        return f"did you mean status.code == STATUS_CODE_{name.upper()}, or the short form {{status: {name}}}?"
    key = word.partition(":")[0].strip().strip("{ ")
    if key in KEYS and word != key:
        return "short forms are a mapping: write it without quotes, as in when: {status: error}"
    if re.search(r"[<>=] *[0-9.]+(ns|us|ms|s|m|h)\b", text):
        return 'as OTTL a duration is a call: Duration("5s"); of the whole trace write trace.duration_ms, or latency as a short form'
    return ""
