"""Rules as JSON documents: of who asks for one, and of the store; in both the same names and forms."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import attrs

from tss.core.force.errors import WrongRule
from tss.core.force.matching import number
from tss.core.force.rule import KINDS, STATUSES, Action, Matcher, Op, Rule, Scalar, Wanted, Where
from tss.core.patterns import expression

MAX_NAME = 64
MAX_DESCRIPTION = 500
MAX_MATCHERS = 20
MAX_TEXT = 1024  # of a key or a value
MAX_PATTERN = 256
MAX_LISTED = 100
MAX_PRIORITY = 1000

_WORDS = {Where.KIND: KINDS, Where.STATUS: STATUSES}
_NUMERIC = (Op.GT, Op.GTE, Op.LT, Op.LTE)
T = TypeVar("T")


@attrs.frozen
class Draft:
    """What somebody wants a rule to be; None is what was not given."""

    name: str
    action: Action
    matchers: tuple[Matcher, ...]
    description: str = ""
    enabled: bool = True
    priority: int = 0
    duration_secs: float | None = None
    expires: float | None = None


class JsonFields:
    """Takes fields out of a JSON object, and notes what is wrong with each."""

    def __init__(self, document: object, errors: dict[str, str], at: str = "") -> None:
        self.errors = errors
        self._at = f"{at}." if at else ""
        self._left: dict[str, Any] = dict(document) if isinstance(document, dict) else {}
        if not isinstance(document, dict):
            self.errors[at or "body"] = "a JSON object is expected"

    def take(self, name: str, read: Callable[[Any], T], default: T) -> T:
        """The field, read; the default where it is absent or wrong."""
        given = self._left.pop(name, None)
        if given is None:
            return default
        try:
            return read(given)
        except ValueError as error:
            self.errors[self._at + name] = str(error)
            return default

    def need(self, name: str, read: Callable[[Any], T], allowed: str, default: T) -> T:
        """The same of a field that has to be there."""
        if self._left.get(name) is None:
            self._left.pop(name, None)
            self.errors.setdefault(self._at + name, f"is missing: {allowed} is expected")
            return default
        return self.take(name, read, default)

    def end(self, known: str) -> None:
        """Nothing else may be there: a field that is misspelt must not be passed over."""
        for name in self._left:
            self.errors[self._at + str(name)] = f"is not known; known are {known}"


def draft(document: object) -> Draft:
    """What a request asks for. Raises WrongRule."""
    errors: dict[str, str] = {}
    fields = JsonFields(document, errors)
    made = Draft(
        name=fields.need("name", _name, "a name", ""),
        action=fields.need("action", _action, "keep or drop", Action.KEEP),
        matchers=fields.need("matchers", lambda given: _matchers(given, errors), "a list of matchers", ()),
        description=fields.take("description", _text(MAX_DESCRIPTION), ""),
        enabled=fields.take("enabled", _truth, default=True),
        priority=fields.take("priority", _priority, 0),
        duration_secs=fields.take("durationSecs", _maybe(_duration), None),
        expires=fields.take("expires", _maybe(_moment), None),
    )
    for name in ("id", "created", "revision"):  # so that what was shown can be given back changed
        fields.take(name, str, "")
    fields.end("name, action, matchers, description, enabled, priority, durationSecs, expires")
    if made.duration_secs is not None and made.expires is not None:
        errors["durationSecs"] = "is given beside expires: one of the two is expected"
    if errors:
        raise WrongRule(errors)
    return made


def duration(document: object) -> float | None:
    """What a request to extend a rule says: ``durationSecs``, if anything. Raises WrongRule."""
    errors: dict[str, str] = {}
    fields = JsonFields(document, errors)
    found = fields.take("durationSecs", _maybe(_duration), None)
    fields.end("durationSecs")
    if errors:
        raise WrongRule(errors)
    return found


def stored(document: object) -> Rule:
    """A rule that `shown` has written. Raises WrongRule."""
    errors: dict[str, str] = {}
    fields = JsonFields(document, errors)
    rule = Rule(
        id=fields.need("id", _text(MAX_NAME), "an id", ""),
        name=fields.need("name", _name, "a name", ""),
        action=fields.need("action", _action, "keep or drop", Action.KEEP),
        matchers=fields.need("matchers", lambda given: _matchers(given, errors), "a list of matchers", ()),
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
    """When the rule in these bytes is over, whatever else they say; 0 where they do not tell."""
    try:
        return _moment(json.loads(document)["expires"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return 0.0


def shown(rule: Rule) -> dict[str, object]:
    """A rule as JSON has it."""
    return {
        "id": rule.id,
        "name": rule.name,
        "description": rule.description,
        "action": rule.action.value,
        "enabled": rule.enabled,
        "priority": rule.priority,
        "matchers": [_shown(matcher) for matcher in rule.matchers],
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
            raise ValueError(f"a text of {least or 'no'} to {most} characters is expected")
        if not given.isprintable():
            raise ValueError("line breaks and characters that cannot be seen are not allowed")
        return given

    return read


def _name(given: Any) -> str:
    name = _text(MAX_NAME, 1)(given)
    if name != name.strip():
        raise ValueError("spaces around it are not allowed")
    return name


def _truth(given: Any) -> bool:
    if given is True or given is False:
        return given
    raise ValueError("true or false is expected")


def _priority(given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or abs(given) > MAX_PRIORITY:
        raise ValueError(f"a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY} is expected")
    return given


def _revision(given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or not 0 < given < 2**63:
        raise ValueError("a whole number above 0 is expected")
    return given


def _maybe(read: Callable[[Any], float]) -> Callable[[Any], float | None]:
    """The same, where nothing is a value, too."""
    return read


def _duration(given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < math.inf:
        raise ValueError("a number of seconds above 0 is expected")
    return float(given)


def _moment(given: Any) -> float:
    try:
        found = datetime.fromisoformat(given)
        moment = found.timestamp() if found.tzinfo else _no_zone()
        when(moment)  # in UTC it may lie in the year 0 or 10000, which nobody could be shown
        return moment
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError('a time with its zone is expected, such as "2026-01-31T12:00:00Z"') from error


def _no_zone() -> float:
    raise ValueError


def _action(given: Any) -> Action:
    return _member(Action, given)


M = TypeVar("M", Action, Op, Where)


def _member(kind: type[M], given: Any) -> M:
    known = {str(member.value): member for member in kind}
    if not isinstance(given, str) or given not in known:
        raise ValueError(f"one of {', '.join(known)} is expected")
    return known[given]


# -- matchers


def _matchers(given: Any, errors: dict[str, str]) -> tuple[Matcher, ...]:
    if not isinstance(given, list) or not 0 < len(given) <= MAX_MATCHERS:
        raise ValueError(f"a list of 1 to {MAX_MATCHERS} matchers is expected")
    return tuple(matcher(each, errors, f"matchers[{place}]") for place, each in enumerate(given))


def matcher(document: object, errors: dict[str, str], at: str) -> Matcher:
    """One of them; what is wrong with it goes to ``errors``."""
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
            raise ValueError(f"a list of 1 to {MAX_LISTED} values is expected")
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
    if isinstance(given, int | float) and -(2**63) <= given < 2**64:  # not a number is in no range
        return given
    raise ValueError("a text, a number of 64 bits, true or false is expected")


def _numeric(value: Scalar) -> int | float:
    found = number(value)
    if found is None:
        raise ValueError("a number is expected")
    return found


def _known(where: Where, value: Scalar) -> Scalar:
    words = _WORDS.get(where)
    if words is not None and value not in words:
        raise ValueError(f"one of {', '.join(words)} is expected")
    return value


def _pattern(given: Any) -> str:
    pattern = _text(MAX_PATTERN, 1)(given)
    try:
        expression(pattern)
    except ValueError as error:
        raise ValueError(f"is no regular expression as RE2 reads it: {error}") from error
    return pattern
