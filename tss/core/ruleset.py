"""A ruleset: everything that decides traces, as one object that never changes."""

from __future__ import annotations

from hashlib import sha256

import attrs

from tss.core.combining import Sampler


@attrs.frozen(eq=False)
class Ruleset:
    """The policies of a ``sampling`` section, made ready. Changed policies are another ruleset.

    Equal settings have one ``fingerprint``, however they are written. ``text`` is the section's content as JSON: it can be
    stored, shown, compared, and read again to the same set.
    """

    fingerprint: str
    text: str = attrs.field(repr=False)
    sampler: Sampler = attrs.field(repr=False)

    def __attrs_post_init__(self) -> None:
        self.sampler.ruleset = self.fingerprint


def fingerprint_of(meaning: str) -> str:
    """16 hex digits for what a ruleset means, written as one text."""
    return sha256(meaning.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@attrs.frozen
class Change:
    """A ruleset came into use. Each change increases ``revision`` by one.

    ``at`` is in seconds since 1970. ``who`` is empty if nobody is known. ``source``: `start`, `file`, `signal`, `api`, `redis`
    or `rollback`.
    """

    fingerprint: str
    revision: int
    at: float
    who: str = ""
    source: str = "start"
