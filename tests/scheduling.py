"""Trio's own choices from a seed: which of the tasks that can run goes first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import trio


@contextmanager
def scheduled_by(seed: int) -> Iterator[None]:
    """Within it trio runs tasks in an order that depends on the seed only. Trio keeps this for tests such as Hypothesis'."""
    choices: Any = trio._core._run
    before, state = choices._ALLOW_DETERMINISTIC_SCHEDULING, choices._r.getstate()
    choices._ALLOW_DETERMINISTIC_SCHEDULING = True
    choices._r.seed(seed)
    try:
        yield
    finally:
        choices._ALLOW_DETERMINISTIC_SCHEDULING = before
        choices._r.setstate(state)
