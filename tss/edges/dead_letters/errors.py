"""Dead letters that a target did not keep."""

from __future__ import annotations

from collections.abc import Sequence

from tss.core.deadletter import DeadLetter


class NotKept(Exception):
    """A target did not keep these ``letters``; the message says why.

    ``for_good``: the target refuses these letters and no others (one may be too large). Trying again is useless, and the
    target itself is up.
    """

    def __init__(self, letters: Sequence[DeadLetter], detail: str, *, for_good: bool = False) -> None:
        super().__init__(detail)
        self.letters = letters
        self.for_good = for_good
