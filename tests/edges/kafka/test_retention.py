"""What a topic's settings say of how long its records stay."""

from __future__ import annotations

import math

import pytest

from tss.core.retention import Retention
from tss.edges.kafka.retention import retention_of


@pytest.mark.parametrize(("config", "kept"), [
    ({"retention.ms": "86400000", "retention.bytes": "-1"}, (86_400, math.inf)),
    ({"retention.ms": "-1", "retention.bytes": "1000", "cleanup.policy": "delete"}, (math.inf, 1000)),
    ({"retention.ms": "5000", "retention.bytes": "-1", "cleanup.policy": "compact,delete"}, (5, math.inf)),
    ({"retention.ms": "5000", "retention.bytes": "9", "cleanup.policy": "compact"}, (math.inf, math.inf)),
])  # fmt: skip
def test_the_limits_are_those_that_delete(config: dict[str, str], kept: tuple[float, float]) -> None:
    assert retention_of(config) == Retention(*kept)


@pytest.mark.parametrize("config", [{}, {"retention.ms": None}, {"retention.ms": "soon", "retention.bytes": ""}])
def test_what_a_broker_does_not_tell_is_not_known(config: dict[str, str | None]) -> None:
    found = retention_of(config)
    assert math.isnan(found.secs) and math.isnan(found.bytes)
