"""Dead letters: the store for them, and how a reader of the input keeps one without losing its place in the consumer group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import attrs
import structlog
import trio

from tss.core import measures
from tss.core.deadletter import DeadLetter
from tss.core.measures import Meter
from tss.core.throttle import LogThrottle

log = structlog.get_logger()

PATIENCE_SECS = 1.0  # most letters are kept within milliseconds; after a second reading pauses, and polls go on


class DeadLetters(Protocol):
    """The store of dead letters: a file, a topic, or the daemon's log."""

    async def put(self, letters: Sequence[DeadLetter]) -> None:
        """Keep them; returns once they are kept somewhere. Never raises."""


class PausableReader(Protocol):
    """A reader of the input, while it waits for its dead letters to be kept."""

    async def pause(self) -> None:
        """Stop fetching. Pauses nest: one ``resume`` belongs to each."""

    async def resume(self) -> None:
        """Undo one ``pause``."""

    async def poll(self) -> None:
        """Poll once, for the sake of the consumer group, and keep what the poll still returned for later."""


@attrs.define
class InputDeadLetters:
    """Counts, keeps and logs what a reader of the input cannot handle."""

    dead_letters: DeadLetters
    meter: Meter
    message: str  # of the log line
    check: str  # what an operator should look at
    _throttle: LogThrottle = attrs.field(factory=LogThrottle)

    async def keep(self, letters: Sequence[DeadLetter], reader: PausableReader) -> None:
        """Return once these are kept, for as long as that takes.

        No offset of their records may be committed before. Polls go on meanwhile: after max.poll.interval.ms without one,
        the group would give the partitions to another member, which would then wait in the same way.
        """
        for letter in letters:
            self.meter.count(measures.UNREADABLE, 1, letter.reason)
        kept = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._put, letters, kept.set)
            with trio.move_on_after(PATIENCE_SECS):
                await kept.wait()
            if not kept.is_set():
                await reader.pause()
                while not kept.is_set():
                    await reader.poll()
                await reader.resume()
        self._log(letters)

    async def _put(self, letters: Sequence[DeadLetter], then: Callable[[], None]) -> None:
        await self.dead_letters.put(letters)
        then()

    def _log(self, letters: Sequence[DeadLetter]) -> None:
        """Once, and then from time to time: of a topic with the wrong encoding every record is a dead letter."""
        if count := self._throttle.add(len(letters), trio.current_time()):
            first = letters[0]
            log.warning(
                self.message,
                count=count,
                reason=first.reason,
                detail=first.detail,
                topic=first.topic,
                partition=first.partition,
                offset=first.offset,
                check=self.check,
            )
