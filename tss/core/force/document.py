"""Rules as JSON documents, in requests and in the store. Both use the same field names and formats."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import attrs

from tss.core.force.errors import WrongRule
from tss.core.force.matching import condition_statement, number
from tss.core.force.rule import KINDS, STATUSES, Action, Matcher, Op, Rule, Scalar, Wanted, Where
from tss.core.patterns import expression

MAX_NAME = 64
MAX_DESCRIPTION = 500
MAX_MATCHERS = 20
MAX_TEXT = 1024  # characters of a key or a value
MAX_PATTERN = 256
MAX_CONDITION = 4096
MAX_LISTED = 100
MAX_PRIORITY = 1000

_WORDS = {Where.KIND: KINDS, Where.STATUS: STATUSES}
_NUMERIC = (Op.GT, Op.GTE, Op.LT, Op.LTE)
T = TypeVar("T")


@attrs.frozen
class Draft:
    """A rule as a request asks for it. ``duration_secs`` and ``expires`` are None if the request does not give them."""

    name: str
    action: Action
    matchers: tuple[Matcher, ...]
    description: str = ""
    enabled: bool = True
    priority: int = 0
    duration_secs: float | None = None
    expires: float | None = None
    condition: str = ""


class JsonFields:
    """Takes fields out of a JSON object, and collects the errors by field name."""

    def __init__(self, document: object, errors: dict[str, str], at: str = "") -> None:
        self.errors = errors
        self._at = f"{at}." if at else ""
        self._left: dict[str, Any] = dict(document) if isinstance(document, dict) else {}
        if not isinstance(document, dict):
            self.errors[at or "body"] = "must be a JSON object"

    def take(self, name: str, read: Callable[[Any], T], default: T) -> T:
        """The value of a field; the default if the field is absent or invalid."""
        given = self._left.pop(name, None)
        if given is None:
            return default
        try:
            return read(given)
        except ValueError as error:
            self.errors[self._at + name] = str(error)
            return default

    def need(self, name: str, read: Callable[[Any], T], allowed: str, default: T) -> T:
        """The value of a required field; the default if it is absent or invalid."""
        if self._left.get(name) is None:
            self._left.pop(name, None)
            self.errors.setdefault(self._at + name, f"is missing: give {allowed}")
            return default
        return self.take(name, read, default)

    def end(self, known: str) -> None:
        """Report all fields that were not taken, so that a misspelt field is not ignored."""
        for name in self._left:
            self.errors[self._at + str(name)] = f"is not a known field; known fields: {known}"


def draft(document: object) -> Draft:
    """The rule that a request asks for. Raises WrongRule."""
    errors: dict[str, str] = {}
    fields = JsonFields(document, errors)
    condition, matchers = _what(fields, errors)
    made = Draft(
        name=fields.need("name", _name, "a name", ""),
        action=fields.need("action", _action, "keep or drop", Action.KEEP),
        matchers=matchers,
        condition=condition,
        description=fields.take("description", _text(MAX_DESCRIPTION), ""),
        enabled=fields.take("enabled", _truth, default=True),
        priority=fields.take("priority", _priority, 0),
        duration_secs=fields.take("durationSecs", _maybe(_duration), None),
        expires=fields.take("expires", _maybe(_moment), None),
    )
    for name in ("id", "created", "revision"):  # allowed, so that a client can send back a rule that it has read
        fields.take(name, str, "")
    fields.end("name, action, matchers, condition, description, enabled, priority, durationSecs, expires")
    if made.duration_secs is not None and made.expires is not None:
        errors["durationSecs"] = "is given together with expires: give only one of the two"
    if errors:
        raise WrongRule(errors)
    return made


def duration(document: object) -> float | None:
    """The ``durationSecs`` of a request to extend a rule; None if it gives none. Raises WrongRule."""
    errors: dict[str, str] = {}
    fields = JsonFields(document, errors)
    found = fields.take("durationSecs", _maybe(_duration), None)
    fields.end("durationSecs")
    if errors:
        raise WrongRule(errors)
    return found


def stored(document: object) -> Rule:
    """The rule from a stored document, as `shown` writes it. Raises WrongRule."""
    errors: dict[str, str] = {}
    fields = JsonFields(document, errors)
    condition, matchers = _what(fields, errors)
    rule = Rule(
        id=fields.need("id", _text(MAX_NAME), "an id", ""),
        name=fields.need("name", _name, "a name", ""),
        action=fields.need("action", _action, "keep or drop", Action.KEEP),
        matchers=matchers,
        condition=condition,
        created=fields.need("created", _moment, "a time", 0.0),
        expires=fields.need("expires", _moment, "a time", 0.0),
        description=fields.take("description", _text(MAX_DESCRIPTION), ""),
        enabled=fields.take("enabled", _truth, default=True),
        priority=fields.take("priority", _priority, 0),
        revision=fields.take("revision", _revision, 1),
    )
    fields.end("those of this version of tss")
    if errors:
        raise WrongRule(errors)
    return rule


def expiry(document: bytes) -> float:
    """When the stored rule expires, even if the rest of it is invalid; 0 if the expiry time cannot be read."""
    try:
        return _moment(json.loads(document)["expires"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return 0.0


def shown(rule: Rule) -> dict[str, object]:
    """A rule as a JSON object."""
    return {
        "id": rule.id,
        "name": rule.name,
        "description": rule.description,
        "action": rule.action.value,
        "enabled": rule.enabled,
        "priority": rule.priority,
        "matchers": [_shown(matcher) for matcher in rule.matchers],
        **({"condition": rule.condition} if rule.condition else {}),
        "created": when(rule.created),
        "expires": when(rule.expires),
        "revision": rule.revision,
    }


def when(moment: float) -> str:
    """A time as ISO 8601, in UTC."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _shown(matcher: Matcher) -> dict[str, object]:
    key = {"key": matcher.key} if matcher.key else {}
    value = [*matcher.value] if isinstance(matcher.value, tuple) else matcher.value
    return {"on": matcher.where.value, **key, "op": matcher.op.value, "value": value}


# -- fields


def _text(most: int, least: int = 0) -> Callable[[Any], str]:
    def read(given: Any) -> str:
        if not isinstance(given, str) or not least <= len(given) <= most:
            raise ValueError(f"must be a string of {least} to {most} characters")
        if not given.isprintable():
            raise ValueError("must not contain line breaks or invisible characters")
        return given

    return read


def _name(given: Any) -> str:
    name = _text(MAX_NAME, 1)(given)
    if name != name.strip():
        raise ValueError("must not begin or end with a space")
    return name


def _truth(given: Any) -> bool:
    if given is True or given is False:
        return given
    raise ValueError("must be true or false")


def _priority(given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or abs(given) > MAX_PRIORITY:
        raise ValueError(f"must be a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY}")
    return given


def _revision(given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or not 0 < given < 2**63:
        raise ValueError("must be a whole number above 0")
    return given


def _maybe(read: Callable[[Any], float]) -> Callable[[Any], float | None]:
    """The same function, typed for a field that may be absent."""
    return read


def _duration(given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < math.inf:
        raise ValueError("must be a number of seconds above 0")
    return float(given)


def _moment(given: Any) -> float:
    try:
        found = datetime.fromisoformat(given)
        moment = found.timestamp() if found.tzinfo else _no_zone()
        when(moment)  # raises if the time in UTC lies before the year 1 or after 9999
        return moment
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError('must be a time with a time zone, such as "2026-01-31T12:00:00Z"') from error


def _no_zone() -> float:
    raise ValueError


def _action(given: Any) -> Action:
    return _member(Action, given)


M = TypeVar("M", Action, Op, Where)


def _member(kind: type[M], given: Any) -> M:
    known = {str(member.value): member for member in kind}
    if not isinstance(given, str) or given not in known:
        raise ValueError(f"must be one of {', '.join(known)}")
    return known[given]


# -- matchers, and a condition in their place


def _what(fields: JsonFields, errors: dict[str, str]) -> tuple[str, tuple[Matcher, ...]]:
    """The condition, empty if there is none, and the matchers. A rule that shows a condition shows an empty list beside it."""
    condition = fields.take("condition", _condition, "")
    if not condition:
        if "condition" in errors:
            fields.take("matchers", _nothing, ())
            return "", ()
        allowed = "a list of matchers, or a condition"
        return "", fields.need("matchers", lambda given: _matchers(given, errors), allowed, ())
    if fields.take("matchers", _nothing, ()):
        errors["condition"] = "is given together with matchers: give only one of the two"
    return condition, ()


def _nothing(given: Any) -> tuple[Any, ...]:
    return tuple(given) if isinstance(given, list) else (given,)


def _condition(given: Any) -> str:
    text = _text(MAX_CONDITION, 1)(given)
    condition_statement(text)
    return text


def _matchers(given: Any, errors: dict[str, str]) -> tuple[Matcher, ...]:
    if not isinstance(given, list) or not 0 < len(given) <= MAX_MATCHERS:
        raise ValueError(f"must be a list of 1 to {MAX_MATCHERS} matchers")
    return tuple(matcher(each, errors, f"matchers[{place}]") for place, each in enumerate(given))


def matcher(document: object, errors: dict[str, str], at: str) -> Matcher:
    """One matcher. Its errors are added to ``errors``, under names that begin with ``at``."""
    fields = JsonFields(document, errors, at)
    where = fields.need("on", lambda on: _member(Where, on), ", ".join(each.value for each in Where), Where.SPAN)
    key = ""
    if where in (Where.RESOURCE, Where.SPAN):
        key = fields.need("key", _text(MAX_TEXT, 1), "the attribute's name", "")
    op = fields.need("op", lambda op: _member(Op, op), ", ".join(each.value for each in Op), Op.EXISTS)
    allowed = "a value"
    value: Wanted = True
    if op is Op.EXISTS:
        value = fields.take("value", _truth, default=True)
    else:
        value = fields.need("value", lambda given: _value(op, where, given), allowed, value)
    fields.end("on, key (of an attribute), op, value")
    return Matcher(where, key, op, value)


def _value(op: Op, where: Where, given: Any) -> Wanted:
    if op is Op.IN:
        if not isinstance(given, list) or not 0 < len(given) <= MAX_LISTED:
            raise ValueError(f"must be a list of 1 to {MAX_LISTED} values")
        return tuple(_known(where, _scalar(each)) for each in given)
    if op is Op.REGEX:
        return _pattern(given)
    value = _scalar(given)
    if op in _NUMERIC:
        return _numeric(value)
    return _known(where, value) if op in (Op.EQ, Op.NEQ) else value


def _scalar(given: Any) -> Scalar:
    if isinstance(given, str):
        return _text(MAX_TEXT)(given)
    if isinstance(given, bool):
        return given
    if isinstance(given, int | float) and -(2**63) <= given < 2**64:  # false for NaN
        return given
    raise ValueError("must be a string, a number of at most 64 bits, true or false")


def _numeric(value: Scalar) -> int | float:
    found = number(value)
    if found is None:
        raise ValueError("must be a number")
    return found


def _known(where: Where, value: Scalar) -> Scalar:
    words = _WORDS.get(where)
    if words is not None and value not in words:
        raise ValueError(f"must be one of {', '.join(words)}")
    return value


def _pattern(given: Any) -> str:
    pattern = _text(MAX_PATTERN, 1)(given)
    try:
        expression(pattern)
    except ValueError as error:
        raise ValueError(f"must be a regular expression in RE2 syntax: {error}") from error
    return pattern
