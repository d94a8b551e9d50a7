"""Trains the dictionary for packing quiet traces, on a thread, once the packer has enough samples."""

from __future__ import annotations

from typing import NoReturn

import structlog
import trio

from tss.core import measures
from tss.core.measures import Meter
from tss.core.packing import Packer, train

log = structlog.get_logger()

LOOK_SECS = 0.2  # until there is a dictionary, packing costs five times as much and gains a third as much


async def run(packer: Packer, meter: Meter) -> NoReturn:
    """Until cancelled."""
    meter.watch(measures.DICTIONARY_VERSION, lambda: packer.dictionary.version)
    while True:
        await trio.sleep(LOOK_SECS)
        samples = packer.samples()
        if samples:
            trained = await trio.to_thread.run_sync(train, samples)
            packer.use(trained)
            if trained:
                log.info("dictionary for quiet traces trained", version=packer.dictionary.version)
