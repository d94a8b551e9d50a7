"""What a force rule is."""

from __future__ import annotations

import enum
from collections.abc import Iterable

import attrs

from tss.core.otlp.lookup import Ask, Location

POLICY = "force"
"""What routing and the metrics call all of them; a decision's policy is this, a colon, and the rule's name."""


class Action(enum.Enum):
    """What happens to a trace that a rule fits."""

    KEEP = "keep"
    DROP = "drop"


class Op(enum.Enum):
    """How an attribute is compared."""

    EQ = "eq"
    NEQ = "neq"
    CONTAINS = "contains"
    STARTS_WITH = "starts_with"
    ENDS_WITH = "ends_with"
    REGEX = "regex"
    IN = "in"
    EXISTS = "exists"
    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"


class Where(enum.Enum):
    """What of a span is looked at. The first two have a key, the attribute's."""

    RESOURCE = "resource"
    SPAN = "span"
    NAME = "name"
    KIND = "kind"
    STATUS = "status"


Scalar = str | bool | int | float
Wanted = Scalar | tuple[Scalar, ...]

KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")  # by OTLP's number, as are these
STATUSES = ("unset", "ok", "error")

_LOCATIONS = {
    Where.RESOURCE: Location.RESOURCE,
    Where.SPAN: Location.SPAN,
    Where.NAME: Location.NAME,
    Where.KIND: Location.KIND,
    Where.STATUS: Location.STATUS,
}


@attrs.frozen
class Matcher:
    """One condition on a span or its resource. ``value`` is a tuple for IN, a truth for EXISTS, a number for GT and its like."""

    where: Where
    key: str
    op: Op
    value: Wanted

    @property
    def ask(self) -> Ask:
        """What is to be looked up for it."""
        return Ask(_LOCATIONS[self.where], self.key)


@attrs.frozen
class Rule:
    """A trace fits when one of its spans, with its resource, fits all ``matchers``.

    ``created`` and ``expires`` are seconds since 1970; ``revision`` goes up with each change.
    """

    id: str
    name: str
    action: Action
    matchers: tuple[Matcher, ...]
    created: float
    expires: float
    description: str = ""
    enabled: bool = True
    priority: int = 0
    revision: int = 1

    @property
    def policy(self) -> str:
        """What a decision by this rule names as its policy."""
        return f"{POLICY}:{self.name}"

    def is_over(self, now: float) -> bool:
        """Whether its time has passed."""
        return self.expires <= now


def in_order(rules: Iterable[Rule]) -> list[Rule]:
    """The first that fits decides. Of equal priority one that keeps goes first, since what was dropped is gone for good;
    then the older one. The same on every replica."""
    return sorted(rules, key=_rank)


def _rank(rule: Rule) -> tuple[int, bool, float, str]:
    return -rule.priority, rule.action is not Action.KEEP, rule.created, rule.id
