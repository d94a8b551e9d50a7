"""Returns free memory to the system every 30 s, such as after a burst."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import trio

INTERVAL_SECS = 30.0  # it takes some milliseconds, on a thread; memory limits are judged by the peak, not by the second


async def run(give_back: Callable[[], None]) -> NoReturn:
    """Until cancelled. ``give_back`` may block: it runs on a thread."""
    while True:
        await trio.sleep(INTERVAL_SECS)
        await trio.to_thread.run_sync(give_back)
