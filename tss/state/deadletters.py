"""Where the daemon keeps what it cannot handle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tss.core.deadletter import DeadLetter


class DeadLetters(Protocol):
    """The store of dead letters: a file, a topic, or the daemon's log."""

    async def put(self, letters: Sequence[DeadLetter]) -> None:
        """Keep them; returns once they are kept somewhere. Never raises."""
