"""What happens again and again is told once, and then from time to time with how often."""

from __future__ import annotations

import math

import attrs
import trio

TELL_SECS = 30.0


@attrs.define
class Telling:
    """Counts what has not been told yet."""

    _untold: int = 0
    _told_at: float = -math.inf

    def add(self, count: int) -> int:
        """Count these; returns how many to tell of now, or 0 while the last telling is too fresh."""
        self._untold += count
        now = trio.current_time()
        if now - self._told_at < TELL_SECS:
            return 0
        told, self._untold, self._told_at = self._untold, 0, now
        return told
