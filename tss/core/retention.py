"""How long a topic keeps its records."""

from __future__ import annotations

import math

import attrs


@attrs.frozen
class Retention:
    """A topic's limits: infinite where it has none, NaN where they are not known."""

    secs: float = math.nan
    bytes: float = math.nan  # of each partition
