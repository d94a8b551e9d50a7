"""Which ruleset is in force from which second of a partition's log on: `Timeline`."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import attrs

MOST = 32
"""Entries that are kept. They stand beside each committed offset, which has room for 4096 bytes; one takes 33."""
ALWAYS = 0
"""The second of a first entry: the log has nothing before it."""
NEVER = 1 << 62
"""A second that no log reaches."""

Entry = tuple[int, str]
"""A second, and the fingerprint of the ruleset that decides the traces that close from then on."""


@attrs.frozen
class Timeline:
    """Entries with ascending seconds. Each is in force until the second of the next one."""

    entries: tuple[Entry, ...] = ()

    @property
    def last(self) -> str:
        """The fingerprint of the last entry; empty if there is none."""
        return self.entries[-1][1] if self.entries else ""

    def at(self, second: int) -> str:
        """The ruleset in force at this second; empty if it is not known any more."""
        place = bisect_right(self.entries, second, key=_second)
        return self.entries[place - 1][1] if place else ""

    def then(self, second: int, fingerprint: str) -> Timeline:
        """The same with one more entry, at this second or at the first one after the last entry."""
        if self.entries:
            second = max(second, self.entries[-1][0] + 1)
        return Timeline((*self.entries, (second, fingerprint))[-MOST:])

    def since(self, second: int) -> Timeline:
        """The same without the entries that were over before this second."""
        place = bisect_right(self.entries, second, key=_second)
        return Timeline(self.entries[place - 1 :]) if place > 1 else self

    def first_missing(self, known: Sequence[Entry]) -> int:
        """The second of the first entry that is not among these; NEVER if all are."""
        return min(
            (second for second, fingerprint in self.entries if (second, fingerprint) not in known), default=NEVER
        )


def _second(entry: Entry) -> int:
    return entry[0]
