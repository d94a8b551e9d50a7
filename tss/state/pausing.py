"""Reports that reading is paused, what it waits for, and when it goes on: in the log, in ``/health``, as metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import structlog
import trio

from tss.core import measures
from tss.core.health import DEAD_LETTERS, READING, Health, State
from tss.core.measures import Meter
from tss.core.throttle import LOG_SECS
from tss.state.standing import Standing

log = structlog.get_logger()


@attrs.define
class Pausing:
    """Call ``begins`` and ``ends`` in turn. A slow destination may pause reading every few seconds. Then some pauses are not
    logged, and the next line has the number of pauses since the last one."""

    health: Health
    meter: Meter
    destinations: Sequence[Standing] = ()
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
                "reading is paused, because the records that were read are not delivered fast enough",
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
        """What reading waits for."""
        letters = self.health.components.get(DEAD_LETTERS)
        if letters is not None and letters.state is State.DOWN:
            return "dead letters are not taken"
        down = [each.name for each in self.destinations if self._is_down(each)]
        if down:
            return f"{_named(down)} down"
        slow = self._slowest()
        return f"exporter {slow.name} is slow" if slow is not None else "deciding and preparing traces is slow"

    def particulars(self) -> Mapping[str, object]:
        """The current state, for ``/health``."""
        return {
            "paused_secs": round(trio.current_time() - self._since, 3),
            "waits_for": self.reason(),
            **self._waiting(),
        }

    def _waiting(self) -> Mapping[str, object]:
        slow = self._slowest()
        return {} if slow is None else slow.particulars()

    def _slowest(self) -> Standing | None:
        """The destination with the most waiting traces; one that is down goes before any that is up."""
        most = max(self.destinations, key=lambda each: (self._is_down(each), each.waiting_traces), default=None)
        return most if most is not None and (most.waiting_traces or self._is_down(most)) else None

    def _is_down(self, destination: Standing) -> bool:
        component = self.health.components.get(f"exporter {destination.name}")
        return component is not None and component.state is State.DOWN


def _named(names: Sequence[str]) -> str:
    return f"exporter {names[0]} is" if len(names) == 1 else f"exporters {', '.join(names)} are"
