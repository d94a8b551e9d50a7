"""Why a change of the rules is refused; each is the answer to one request, and none of the daemon's own troubles."""

from __future__ import annotations

from collections.abc import Mapping

from tss.core.errors import TssError


class ChangeRefused(TssError):
    """A change that is not made."""


class WrongRule(ChangeRefused):
    """What was given does not make a rule: ``fields`` has the error of each wrong field by its name."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{field}: {error}" for field, error in errors.items()))
        self.fields = dict(errors)


class NoSuchRule(ChangeRefused):
    """There is no rule of this id, or not any more."""

    def __init__(self, rule_id: str) -> None:
        super().__init__(f"there is no rule with the id {rule_id!r}; it may have expired")


class Conflict(ChangeRefused):
    """The rule does not go together with those that are there; ``field`` is what would have to be another."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


class Stale(ChangeRefused):
    """Who asks for the change has seen an older revision of the rule."""

    def __init__(self, wanted: int, found: int) -> None:
        super().__init__(f"the rule has changed: it is at revision {found}, not {wanted}; read it again")
