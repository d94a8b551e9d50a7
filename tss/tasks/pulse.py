"""Measures stalls of the event loop: asks to be woken ten times a second, and measures how late it is woken."""

from __future__ import annotations

from typing import NoReturn

import structlog
import trio

from tss.core import measures
from tss.core.measures import Meter

log = structlog.get_logger()

BEAT_SECS = 0.1
ALARM_SECS = 1.0  # probes and heartbeats survive several such stalls; one is still worth a log line


async def run(meter: Meter) -> NoReturn:
    """Until cancelled."""
    while True:
        due = trio.current_time() + BEAT_SECS
        await trio.sleep_until(due)
        stall = max(0.0, trio.current_time() - due)
        meter.observe(measures.LOOP_STALL, stall)
        if stall >= ALARM_SECS:
            log.warning("the event loop stood still", secs=round(stall, 3))
