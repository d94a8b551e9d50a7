"""What happens again and again is logged once, and then every 30 s with its count."""

from __future__ import annotations

import math

import attrs

LOG_SECS = 30.0


@attrs.define
class LogThrottle:
    """Counts events between two lines of the log."""

    _unlogged: int = 0
    _logged_at: float = -math.inf

    def add(self, count: int, now: float) -> int:
        """Count these events at ``now``, in seconds of one clock. Returns how many the line of now is about; 0: log nothing yet.

        A clock that goes back counts as a new start, so that no line is held back for hours.
        """
        self._unlogged += count
        if 0 <= now - self._logged_at < LOG_SECS:
            return 0
        logged, self._unlogged, self._logged_at = self._unlogged, 0, now
        return logged
