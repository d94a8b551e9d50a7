"""Changes of the set of rules. Each takes the current rules and returns the new ones, or raises ChangeRefused.

If another replica has changed the rules meanwhile, the change is applied again to the newer rules. So a change holds only
the request, never a copy of the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

from tss.core.documents import LATEST_SECS
from tss.core.force.document import Draft, when
from tss.core.force.errors import NoSuchRule, RuleConflict, Stale, WrongRule
from tss.core.force.rule import Rule

Rules = Mapping[str, Rule]
"""Rules by id; none of them has expired."""

Change = Callable[[Rules], Rules]


@attrs.frozen
class Bounds:
    """The limits from the settings. ``default_secs`` is how long a rule lasts if the request gives no duration."""

    default_secs: float
    max_secs: float
    max_rules: int


def living(rules: Rules, now: float) -> Rules:
    """The rules that have not expired."""
    return {rule_id: rule for rule_id, rule in rules.items() if not rule.is_over(now)}


def add(draft: Draft, rule_id: str, bounds: Bounds, now: float) -> Change:
    """Add a rule."""

    def change(rules: Rules) -> Rules:
        if len(rules) >= bounds.max_rules:
            text = (
                f"there are {len(rules)} rules already, and forceSampling.maxRules is {bounds.max_rules}: remove a rule"
            )
            raise RuleConflict("maxRules", text)
        _is_free(draft.name, rules, "")
        created = round(now, 3)
        rule = Rule(rule_id, draft.name, draft.action, draft.matchers, created, _end(draft, bounds, now))
        rule = attrs.evolve(
            rule,
            description=draft.description,
            condition=draft.condition,
            enabled=draft.enabled,
            priority=draft.priority,
        )
        return {**rules, rule_id: rule}

    return change


def replace(draft: Draft, rule_id: str, bounds: Bounds, now: float, revision: int | None) -> Change:
    """Replace the rule of this id by the draft. Its expiry time stays if the draft gives neither duration nor expiry."""

    def change(rules: Rules) -> Rules:
        found = _found(rules, rule_id, revision)
        _is_free(draft.name, rules, rule_id)
        says_end = draft.duration_secs is not None or draft.expires is not None
        expires = _end(draft, bounds, now) if says_end else found.expires
        given = attrs.asdict(
            draft, recurse=False, filter=lambda field, _: field.name not in ("duration_secs", "expires")
        )
        return _changed(rules, found, expires=expires, **given)

    return change


def extend(rule_id: str, secs: float | None, bounds: Bounds, now: float, revision: int | None) -> Change:
    """Make the rule expire later, by `secs` or by the default duration."""

    def change(rules: Rules) -> Rules:
        found = _found(rules, rule_id, revision)
        later = bounds.default_secs if secs is None else secs
        return _changed(rules, found, expires=_bounded(found.expires + later, "durationSecs", bounds, now))

    return change


def switch(rule_id: str, enabled: bool, revision: int | None) -> Change:
    """Enable or disable the rule. Its expiry time does not change."""

    def change(rules: Rules) -> Rules:
        return _changed(rules, _found(rules, rule_id, revision), enabled=enabled)

    return change


def remove(rule_id: str, revision: int | None) -> Change:
    """Remove the rule of this id."""

    def change(rules: Rules) -> Rules:
        _found(rules, rule_id, revision)
        return {each: rule for each, rule in rules.items() if each != rule_id}

    return change


def _found(rules: Rules, rule_id: str, revision: int | None) -> Rule:
    if rule_id not in rules:
        raise NoSuchRule(rule_id)
    found = rules[rule_id]
    if revision is not None and found.revision != revision:
        raise Stale(revision, found.revision)
    return found


def _changed(rules: Rules, rule: Rule, **values: object) -> Rules:
    changed: Rule = attrs.evolve(rule, revision=rule.revision + 1, **values)  # type: ignore[arg-type]  # of its own fields
    return {**rules, rule.id: changed}


def _is_free(name: str, rules: Rules, but: str) -> None:
    """Raise RuleConflict if another rule has this name: decisions and metrics identify a rule by its name."""
    for rule in rules.values():
        if rule.name == name and rule.id != but:
            raise RuleConflict("name", f"the rule {rule.id} already has the name {name!r}: choose another name")


def _end(draft: Draft, bounds: Bounds, now: float) -> float:
    if draft.expires is not None:
        return _bounded(draft.expires, "expires", bounds, now)
    return _bounded(now + (draft.duration_secs or bounds.default_secs), "durationSecs", bounds, now)


def _bounded(expires: float, field: str, bounds: Bounds, now: float) -> float:
    latest = now + bounds.max_secs
    if expires <= now:
        raise WrongRule({field: "the rule would expire at once: choose a later time"})
    if expires > latest + 0.001:  # rounding may add this much
        text = (
            f"the rule would expire at {when(min(expires, LATEST_SECS))}; the latest time is {when(latest)}, because "
            f"forceSampling.maxDurationSecs is {bounds.max_secs:g}"
        )
        raise WrongRule({field: text})
    return round(expires, 3)
