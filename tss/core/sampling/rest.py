"""All other traces."""

from __future__ import annotations

import attrs

from tss.core.trace import Trace


@attrs.frozen
class Rest:
    """Asks ``default_rate`` for every trace."""

    default_rate: float
    name: str = "default"

    def rate(self, trace: Trace) -> float | None:
        """See Policy."""
        return self.default_rate
