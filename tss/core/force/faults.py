"""Why a change of the rules is refused; each is the answer to one request, and none of the daemon's own troubles."""

from __future__ import annotations

from collections.abc import Mapping

from tss.core.errors import TssError


class Refused(TssError):
    """A change that is not made."""


class WrongRule(Refused):
    """What was given does not make a rule: ``faults`` says of each field what is wrong with it."""

    def __init__(self, faults: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{field}: {fault}" for field, fault in faults.items()))
        self.faults = dict(faults)


class NoSuchRule(Refused):
    """There is no rule of this id, or not any more."""

    def __init__(self, rule_id: str) -> None:
        super().__init__(f"there is no rule with the id {rule_id!r}; it may have expired")


class Conflict(Refused):
    """The rule does not go together with those that are there; ``field`` is what would have to be another."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


class Stale(Refused):
    """Who asks for the change has seen an older revision of the rule."""

    def __init__(self, wanted: int, found: int) -> None:
        super().__init__(f"the rule has changed: it is at revision {found}, not {wanted}; read it again")
