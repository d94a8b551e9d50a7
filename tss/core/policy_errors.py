"""Why changed policies are refused. The policies in force stay as they are."""

from __future__ import annotations

from collections.abc import Sequence

from tss.core.errors import TssError


class PoliciesRefused(TssError):
    """The change was not made."""


class WrongPolicies(PoliciesRefused):
    """The text does not say valid policies, or this daemon cannot use them. ``errors`` has a sentence for each error."""

    def __init__(self, errors: Sequence[str]) -> None:
        super().__init__("; ".join(errors))
        self.errors = list(errors)


class StalePolicies(PoliciesRefused):
    """The request is for an older revision of the policies."""

    def __init__(self, wanted: int, found: int) -> None:
        super().__init__(
            f"the policies have changed: they are at revision {found}, not {wanted}: read them again and repeat the change"
        )


class NoSuchRevision(PoliciesRefused):
    """The history does not know this revision, or its text is lost."""


class NotShared(PoliciesRefused):
    """Without Redis a request can only change one replica, and replicas of one group must have the same policies."""

    def __init__(self) -> None:
        super().__init__(
            "without Redis this would change one replica alone: change the settings file of all replicas, which they take up"
            " within seconds, or set redis.url (TSS_REDIS_URL) and restart"
        )
