"""`sampling.policies`: which traces are kept or dropped, each policy with a name, a rate and a condition."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import cast

from attrs import field, frozen

from tss.core.conditions.statement import ALWAYS, Statement
from tss.settings.errors import InvalidSetting, InvalidValue, did_you_mean, nearest, shape, shown
from tss.settings.kinds.conditions import KEYS, WHEN_SCHEMA, When, read_when
from tss.settings.kinds.kind import FILLED, Kind, collect, list_of, refused
from tss.settings.kinds.numbers import rate
from tss.settings.kinds.texts import choice, read_text

MAX_POLICIES = 200  # each is a value of a metric's label, and is asked about each trace
MAX_NAME = 64  # letters of a label
MODES = ("active", "shadow")
RESERVED = ("none", "force")
"""Policies that decisions name without any such setting: no policy applied, a force rule decided."""

_POLICY = "a mapping of name, keep or drop, when, mode"
_POLICIES = f"a list of policies, each {_POLICY}"
_NAME = f"a name: a text of up to {MAX_NAME} letters, other than {' and '.join(RESERVED)}, without a colon"


@frozen(kw_only=True)
class PolicySetting:
    """One policy. `keep` is its rate; None: it drops. `when` is as the file has it; None: it is for all traces."""

    name: str
    keep: float | None
    when: object = None
    shadow: bool = False
    statement: Statement = field(default=ALWAYS, eq=False, repr=False)

    def plain(self) -> object:
        """The value as YAML has it."""
        says: dict[str, object] = {"drop": True}
        if self.keep is not None:
            says = {"keep": int(self.keep) if self.keep.is_integer() else self.keep}
        when = {} if self.when is None else {"when": self.when}
        return {"name": self.name, **says, **when, **({"mode": "shadow"} if self.shadow else {})}


def _read_name(raw: object) -> str:
    name = read_text(raw, _NAME)
    if len(name) > MAX_NAME:
        raise InvalidValue(InvalidSetting("", f"{shown(name)}, which has {len(name):,} letters", _NAME))
    if not name.strip() or name in RESERVED or ":" in name:
        raise refused(raw, _NAME)
    if name != name.strip():
        raise refused(raw, _NAME, "remove the space at its end" if name[0] != " " else "remove the space before it")
    return name


def _read_drop(raw: object) -> bool:
    if raw is not True:
        hint = "write drop: true"
        if raw is False:
            hint = "leave drop out; keep says the rate of what is kept"
        elif isinstance(raw, int | float) and 0 < raw < 1:
            hint = f"to drop this share of the traces, keep the rest: keep: {1 - raw:.12g}"
        raise refused(raw, "true", hint)
    return True


_FRACTION = re.compile(r"([0-9]{1,9}) *(?:/|in|of|out of) *([1-9][0-9]{0,8})")


def _read_keep(raw: object) -> float:
    try:
        return rate.read(raw)
    except InvalidValue:
        if raw is True or (isinstance(raw, str) and raw.lower() in {"all", "always", "everything"}):
            raise refused(raw, rate.allowed, "write keep: 1 to keep all") from None
        if raw is None:
            raise refused(raw, rate.allowed, "write keep: 1 to keep all") from None
        if isinstance(raw, str) and (fraction := _FRACTION.fullmatch(raw.strip())):
            share = int(fraction[1]) / int(fraction[2])
            raise refused(raw, rate.allowed, f"write {share:.12g}") from None
        if raw is False or (isinstance(raw, str) and raw.lower() in {"none", "never", "nothing"}):
            raise refused(raw, rate.allowed, "write drop: true in place of keep") from None
        raise


_MODE = choice(*MODES)
_MODES_MEANT = dict.fromkeys(("dry-run", "dryrun", "test", "observe", "monitor"), "shadow")


def _read_mode(raw: object) -> str:
    if isinstance(raw, str) and raw.lower() in _MODES_MEANT:
        raise refused(raw, _MODE.allowed, did_you_mean(_MODES_MEANT[raw.lower()]))
    return _MODE.read(raw)


_READERS: Mapping[str, Callable[[object], object]] = {
    "name": _read_name,
    "keep": _read_keep,
    "drop": _read_drop,
    "when": read_when,
    "mode": _read_mode,
}
_INSTEAD = {
    "shadow": "write mode: shadow",
    "dryRun": "write mode: shadow",
    "unless": "write when: {not: ...}",
    "enabled": "remove a policy that is off, or write mode: shadow",
    "type": "the Collector's policies go below sampling.otelTailSampling; `tss import otel` translates them",
}
_MEANT = {
    "rate": "keep",
    "sampleRate": "keep",
    "probability": "keep",
    "if": "when",
    "condition": "when",
    "match": "when",
}


def _meant(name: object) -> str:
    """The key that is probably meant, or ""."""
    return nearest(str(name), _READERS) or _MEANT.get(str(name), "")


def _read_key(name: object, raw: object) -> tuple[object, object]:
    if name in _READERS:
        return name, _READERS[str(name)](raw)
    hint = _INSTEAD.get(str(name), "") or did_you_mean(_meant(name))
    if not hint and isinstance(raw, dict) and raw.keys() & {"keep", "drop"}:
        hint = f"the name is a key of its own: {{name: {name!s:.64}, ...}}"
    if not hint and name in KEYS:
        hint = f"put it below when: when: {{{name}: ...}}"
    raise InvalidValue(InvalidSetting("", "an unknown key", ", ".join(_READERS), hint))


def _read_policy(raw: object) -> PolicySetting:
    if not isinstance(raw, dict):
        hint = "write {name: ..., keep: ...}" if isinstance(raw, str) else ""
        raise InvalidValue(InvalidSetting("", shape(raw), _POLICY, hint))
    given = {name: value for name, value in raw.items() if value is not None or name in _NEVER_EMPTY}
    if "type" in given:  # a Collector's policy: all its keys are of another form
        given = {"type": given["type"]}
    errors = [*_missing(given)] if "type" not in given else []
    found: dict[object, object] = {}
    try:
        found = dict(collect((f".{name}", value, partial(_read_key, name)) for name, value in given.items()))
    except InvalidValue as invalid:
        errors += invalid.errors
    if errors:
        raise InvalidValue(*errors)
    when = found.get("when")
    return PolicySetting(
        name=str(found["name"]),
        keep=cast(float | None, found.get("keep")),
        when=when.plain if isinstance(when, When) else None,
        shadow=found.get("mode") == "shadow",
        statement=when.statement if isinstance(when, When) else ALWAYS,
    )


# With nothing after the colon most keys have their default. These say too much about what is kept: they must have a value.
_NEVER_EMPTY = frozenset({"keep", "drop", "when"})


def _missing(given: Mapping[object, object]) -> Iterator[InvalidSetting]:
    if "name" not in given and not any(nearest(str(name), ["name"]) for name in given):
        yield InvalidSetting(".name", "nothing", _NAME)
    if "keep" in given and given.get("drop"):
        allowed = "one of the two: keep with a rate, or drop: true"
        yield InvalidSetting("", "keep and drop", allowed, "remove one of the two")
    elif not given.keys() & {"keep", "drop"} and not any(_meant(name) in {"keep", "drop"} for name in given):
        yield InvalidSetting("", "neither keep nor drop", "keep with a rate such as 0.1 or 10%, or drop: true")


def _read_policies(raw: object) -> tuple[PolicySetting, ...]:
    if not isinstance(raw, list):
        hint = "put a dash before each policy" if isinstance(raw, dict) else ""
        raise InvalidValue(InvalidSetting("", shape(raw), _POLICIES, hint))
    if len(raw) > MAX_POLICIES:
        raise InvalidValue(InvalidSetting("", f"{len(raw):,} policies", f"at most {MAX_POLICIES} policies"))
    found = tuple(collect((f"[{place}]", entry, _read_policy) for place, entry in enumerate(raw)))
    first: dict[str, int] = {}
    for place, policy in enumerate(found):
        if first.setdefault(policy.name, place) != place:
            allowed = f"another name than that of policy [{first[policy.name]}]"
            raise refused(policy.name, allowed, "decisions and metrics tell policies by their names", f"[{place}].name")
    return found


_POLICY_SCHEMA: Mapping[str, object] = {
    "type": "object",
    "properties": {
        "name": {**FILLED, "maxLength": MAX_NAME, "not": {"enum": [*RESERVED]}},
        "keep": rate.schema,
        "drop": {"const": True},
        "when": WHEN_SCHEMA,
        "mode": {"anyOf": [_MODE.schema, {"type": "null"}]},
    },
    "required": ["name"],
    "oneOf": [{"required": ["keep"]}, {"required": ["drop"]}],
    "additionalProperties": False,
}
policies = Kind(_POLICIES, _read_policies, schema=list_of(_POLICY_SCHEMA, MAX_POLICIES))
