"""How long a topic keeps its records."""

from __future__ import annotations

import math

import attrs


@attrs.frozen
class Retention:
    """A topic's limits: infinite if it has no limit, NaN if the limit is unknown."""

    secs: float = math.nan
    bytes: float = math.nan  # of each partition
