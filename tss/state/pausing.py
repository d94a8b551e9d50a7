"""Says that reading is paused, for whom it waits, and when it goes on: in the log, in ``/health``, as metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import attrs
import structlog
import trio

from tss.core import measures
from tss.core.health import DEAD_LETTERS, READING, Health, State
from tss.core.measures import Meter
from tss.core.throttle import LOG_SECS

log = structlog.get_logger()


class Way(Protocol):
    """The way to one destination."""

    @property
    def name(self) -> str:
        """Of the destination."""

    @property
    def waiting_traces(self) -> int:
        """How many traces wait for it."""

    def particulars(self) -> Mapping[str, object]:
        """What an operator wants to know of it: what waits, and when the next try is."""


@attrs.define
class Pausing:
    """``begins`` and ``ends`` by turns. A slow destination may pause reading every few seconds: then not every pause has
    its lines, and the next that has says how many there were."""

    health: Health
    meter: Meter
    ways: Sequence[Way] = ()
    _since: float = 0.0
    _told_at: float = -LOG_SECS
    _untold: int = 0
    _is_told: bool = False

    def begins(self) -> None:
        """Reading is paused from now on."""
        now = trio.current_time()
        self._since = now
        self.meter.count(measures.PAUSES)
        self.meter.set(measures.PAUSED, 1)
        self.health.particulars[READING] = self.particulars
        self.health.degraded(READING, f"paused: {self.reason()}")
        self._untold += 1
        self._is_told = now - self._told_at >= LOG_SECS
        if self._is_told:
            log.warning(
                "reading is paused, since what was read is not taken fast enough",
                waits_for=self.reason(),
                pauses=self._untold,
                **self._waiting(),
            )
            self._told_at, self._untold = now, 0

    def ends(self) -> None:
        """Reading goes on."""
        self.meter.set(measures.PAUSED, 0)
        self.health.particulars.pop(READING, None)
        self.health.up(READING)
        if self._is_told:
            log.info("reading goes on", paused_secs=round(trio.current_time() - self._since, 3))

    def reason(self) -> str:
        """For whom reading waits."""
        letters = self.health.components.get(DEAD_LETTERS)
        if letters is not None and letters.state is State.DOWN:
            return "dead letters are not taken"
        down = [way.name for way in self.ways if self._is_down(way)]
        if down:
            return f"{_named(down)} down"
        slow = self._slowest()
        return f"exporter {slow.name} is slow" if slow is not None else "deciding and preparing traces is slow"

    def particulars(self) -> Mapping[str, object]:
        """For ``/health``: as it is now."""
        return {
            "paused_secs": round(trio.current_time() - self._since, 3),
            "waits_for": self.reason(),
            **self._waiting(),
        }

    def _waiting(self) -> Mapping[str, object]:
        slow = self._slowest()
        return {} if slow is None else slow.particulars()

    def _slowest(self) -> Way | None:
        """A destination that is down before one that is not, then the one that most waits for."""
        most = max(self.ways, key=lambda way: (self._is_down(way), way.waiting_traces), default=None)
        return most if most is not None and (most.waiting_traces or self._is_down(most)) else None

    def _is_down(self, way: Way) -> bool:
        component = self.health.components.get(f"exporter {way.name}")
        return component is not None and component.state is State.DOWN


def _named(names: Sequence[str]) -> str:
    return f"exporter {names[0]} is" if len(names) == 1 else f"exporters {', '.join(names)} are"
