"""The parts of a force rule, and the order in which rules are tried."""

from __future__ import annotations

import enum
from collections.abc import Iterable

import attrs

from tss.core.decision import FORCE


class Action(enum.Enum):
    """What happens to a trace that matches a rule."""

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
    """The part of a span that is compared. RESOURCE and SPAN need the key of an attribute."""

    RESOURCE = "resource"
    SPAN = "span"
    NAME = "name"
    KIND = "kind"
    STATUS = "status"


Scalar = str | bool | int | float
Wanted = Scalar | tuple[Scalar, ...]

KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")  # the index is OTLP's SpanKind
STATUSES = ("unset", "ok", "error")  # the index is OTLP's StatusCode


@attrs.frozen
class Matcher:
    """One condition on a span or its resource.

    ``value`` is a tuple for IN, a bool for EXISTS, and a number for GT, GTE, LT and LTE.
    """

    where: Where
    key: str
    op: Op
    value: Wanted


@attrs.frozen
class Rule:
    """A trace matches if one of its spans, with its resource, matches all ``matchers``; or if ``condition``, in OTTL, is true
    of one of its spans or of its root. A rule has one of the two.

    ``created`` and ``expires`` are seconds since 1970. Each change increases ``revision`` by one.
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
    condition: str = ""

    @property
    def policy(self) -> str:
        """The policy's name in a decision by this rule."""
        return f"{FORCE}:{self.name}"

    def is_over(self, now: float) -> bool:
        """Whether the rule has expired."""
        return self.expires <= now


def in_order(rules: Iterable[Rule]) -> list[Rule]:
    """The rules in the order in which they are tried: the first that matches decides. Every replica has the same order.

    Higher priority first. At equal priority, rules that keep go first, because a dropped trace cannot be recovered; then
    older rules.
    """
    return sorted(rules, key=_rank)


def _rank(rule: Rule) -> tuple[int, bool, float, str]:
    return -rule.priority, rule.action is not Action.KEEP, rule.created, rule.id
