"""Keeps who needs a helper from waiting for it again and again while it is away."""

from __future__ import annotations

import random
from collections.abc import Mapping

import structlog
import trio

from tss.core.health import Health

log = structlog.get_logger()

FIRST_PROBE_SECS = 5.0
MAX_PROBE_SECS = 60.0


class Breaker:
    """Open while the helper is away. Now and then it lets one call through, a probe; the first that goes well shuts it.

    The component is degraded meanwhile, not down: the daemon does without, and stays ready.
    """

    def __init__(self, component: str, instead: str, health: Health, chance: random.Random) -> None:
        """``instead`` is what is done without the helper, for people."""
        self.is_open = False
        self._component, self._instead = component, instead
        self._health = health
        self._chance = chance
        self._wait_secs = FIRST_PROBE_SECS
        self._probe_at = 0.0
        self._opened_at = 0.0

    def __repr__(self) -> str:
        return f"<Breaker of {self._component} {'open' if self.is_open else 'shut'}>"

    def takes_probe(self) -> bool:
        """Whether an open one lets this call through. The next one is let through only after a pause that grows."""
        now = trio.current_time()
        if not self.is_open or now < self._probe_at:
            return False
        self._wait_secs = min(2 * self._wait_secs, MAX_PROBE_SECS)
        self._pause(now)
        return True

    def fails(self, detail: str) -> None:
        """The helper did not do what it was asked to, as often as is worth trying, or in time."""
        if not self.is_open:
            self.is_open, self._opened_at = True, trio.current_time()
            self._wait_secs = FIRST_PROBE_SECS
            self._pause(self._opened_at)
            self._health.particulars[self._component] = self._particulars
            log.warning(
                f"{self._component}: {self._instead}",
                reason=detail,
                next_try_secs=round(self._probe_at - self._opened_at, 3),
            )
        self._health.degraded(self._component, f"{self._instead}: {detail}")

    def works(self) -> None:
        """The helper did it."""
        if self.is_open:
            self.is_open = False
            self._health.particulars.pop(self._component, None)
            away_secs = round(trio.current_time() - self._opened_at, 3)
            log.info(f"{self._component}: their place takes them again", away_secs=away_secs)
        self._health.up(self._component)

    def _pause(self, now: float) -> None:
        # Replicas that lost one helper at one moment do not all come back at one.
        self._probe_at = now + self._wait_secs * self._chance.uniform(0.8, 1.0)

    def _particulars(self) -> Mapping[str, object]:
        now = trio.current_time()
        return {
            "down_secs": round(now - self._opened_at, 3),
            "next_try_secs": round(max(0.0, self._probe_at - now), 3),
        }
