"""Closing order for several workers: who received a batch first decides it first."""

from __future__ import annotations

from typing import TypeVar, final

import attrs
import trio

T = TypeVar("T")


@final
@attrs.frozen
class Turn:
    """A worker's place in the order."""

    _before: trio.Event
    _own: trio.Event

    async def come(self) -> None:
        """Wait until those before it are over."""
        await self._before.wait()

    def over(self) -> None:
        """The next one may come. It goes on at this task's next checkpoint at the earliest."""
        self._own.set()


@final
class Turns:
    """The workers receive one at a time, and come in the order in which they received. Between these they may wait."""

    def __init__(self) -> None:
        self._receiving = trio.Lock()  # several that wait for a channel wake in any order
        self._last = trio.Event()
        self._last.set()

    def __repr__(self) -> str:
        return f"<Turns, {'free' if self._last.is_set() else 'taken'}>"

    async def receive(self, channel: trio.MemoryReceiveChannel[T]) -> tuple[T, Turn]:
        """The next value, and its turn. Raises trio.EndOfChannel."""
        async with self._receiving:
            found = await channel.receive()
            before, self._last = self._last, trio.Event()
        return found, Turn(before, self._last)
