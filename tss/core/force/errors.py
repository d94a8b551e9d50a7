"""Why a change of the rules is refused. Each error is the answer to one request, not a failure of the daemon."""

from __future__ import annotations

from collections.abc import Mapping

from tss.core.errors import TssError


class ChangeRefused(TssError):
    """The change was not made."""


class WrongRule(ChangeRefused):
    """The request does not describe a valid rule. ``fields`` has the error of each invalid field, by field name."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{field}: {error}" for field, error in errors.items()))
        self.fields = dict(errors)


class NoSuchRule(ChangeRefused):
    """There is no rule with this id, or it has expired."""

    def __init__(self, rule_id: str) -> None:
        super().__init__(f"there is no rule with the id {rule_id!r}: it may have expired")


class RuleConflict(ChangeRefused):
    """The rule conflicts with the existing rules. ``field`` is the field, or the setting, to change."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


class Stale(ChangeRefused):
    """The request is based on an older revision of the rule."""

    def __init__(self, wanted: int, found: int) -> None:
        super().__init__(
            f"the rule has changed: it is at revision {found}, not {wanted}: read it again and repeat the change"
        )
