"""The tasks whose bookkeeping a commit rests on: whether all of them ended in order is known before the last one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import trio


class Start(Protocol):
    """As a nursery's ``start_soon``."""

    def __call__(self, run: Callable[..., Awaitable[object]], *args: object, name: str) -> None:
        """Start it, and wait for nothing."""


class Crew:
    """``distrust`` is called the moment one of them dies, before its channels or nurseries tell anybody else."""

    def __init__(self, distrust: Callable[[], None]) -> None:
        self._distrust = distrust
        self._working = 0
        self._idle = trio.Event()

    def __repr__(self) -> str:
        return f"<Crew {self._working} working>"

    def start_in(self, nursery: trio.Nursery) -> Start:
        """For those who work upstream of the committer: it waits for their end."""

        def start(run: Callable[..., Awaitable[object]], *args: object, name: str) -> None:
            self._working += 1
            nursery.start_soon(self._work, run, args, name=name)

        return start

    async def _work(self, run: Callable[..., Awaitable[object]], args: tuple[object, ...]) -> None:
        try:
            await self.watch(run, *args)
        finally:
            self._working -= 1
            if not self._working:
                self._idle.set()

    async def watch(self, run: Callable[..., Awaitable[object]], *args: object) -> None:
        """Run one that may go on after the last commit."""
        try:
            await run(*args)
        except BaseException as error:
            if _is_death(error):
                self._distrust()
            raise

    async def ended(self) -> None:
        """Wait until all who work upstream have ended."""
        if self._working:
            await self._idle.wait()


def _is_death(error: BaseException) -> bool:
    """Being cancelled is an orderly end; also by a nursery that was, which wraps it in a group."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(_is_death, error.exceptions))
    return not isinstance(error, trio.Cancelled)
