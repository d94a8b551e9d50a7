"""Keeps callers from waiting again and again for a dead-letter target that is away."""

from __future__ import annotations

import random
from collections.abc import Mapping

import structlog
import trio

from tss.core.delivery import Retrying
from tss.core.health import DEAD_LETTERS, Health

log = structlog.get_logger()

FIRST_PROBE_SECS = 5.0
MAX_PROBE_SECS = 60.0
TO_THE_LOG = "their file or topic does not take them, so they go to the log"


class DeadLetterBreaker:
    """A circuit breaker: open while the target is away. It lets one call through now and then, as a probe, and closes after
    the first probe that succeeds.

    The component is degraded meanwhile, and not down: letters go to the log, and the daemon stays ready.
    """

    def __init__(self, health: Health, chance: random.Random) -> None:
        self.is_open = False
        self._health = health
        self._chance = chance
        self._probes = 0
        self._probe_at = 0.0
        self._opened_at = 0.0

    def __repr__(self) -> str:
        return f"<DeadLetterBreaker {'open' if self.is_open else 'closed'}>"

    def takes_probe(self) -> bool:
        """Whether an open breaker lets this call through. The pause before the next probe grows with each one."""
        now = trio.current_time()
        if not self.is_open or now < self._probe_at:
            return False
        self._probes += 1
        self._pause(now)
        return True

    def fails(self, detail: str) -> None:
        """The target kept nothing, in all tries or in time."""
        if not self.is_open:
            self.is_open, self._opened_at = True, trio.current_time()
            self._probes = 0
            self._pause(self._opened_at)
            self._health.particulars[DEAD_LETTERS] = self._particulars
            log.warning(
                f"{DEAD_LETTERS}: {TO_THE_LOG}",
                reason=detail,
                next_try_secs=round(self._probe_at - self._opened_at, 3),
            )
        self._health.degraded(DEAD_LETTERS, f"{TO_THE_LOG}: {detail}")

    def works(self) -> None:
        """The target answered."""
        if self.is_open:
            self.is_open = False
            self._health.particulars.pop(DEAD_LETTERS, None)
            away_secs = round(trio.current_time() - self._opened_at, 3)
            log.info(f"{DEAD_LETTERS}: their file or topic takes them again", away_secs=away_secs)
        self._health.up(DEAD_LETTERS)

    def _pause(self, now: float) -> None:
        most_secs = Retrying(FIRST_PROBE_SECS, MAX_PROBE_SECS).most_secs(self._probes)
        # Replicas that lost the target at the same moment should not all probe it at the same moment.
        self._probe_at = now + most_secs * self._chance.uniform(0.8, 1.0)

    def _particulars(self) -> Mapping[str, object]:
        now = trio.current_time()
        return {
            "down_secs": round(now - self._opened_at, 3),
            "next_try_secs": round(max(0.0, self._probe_at - now), 3),
        }
