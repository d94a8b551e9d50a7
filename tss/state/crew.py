"""All tasks of the daemon: once one of them has died, nothing is committed any more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import ParamSpec

import trio

from tss.core.errors import StoppedAtOnce

P = ParamSpec("P")


class Crew:
    """Knows the moment one of them dies, before its channels or nurseries tell anybody else.

    That is so for every task, not only for those that keep the books of a commit: one that died of a broken law, or of
    memory that ran out, says that the process is not what it was. Reading again costs time, a wrong commit costs spans.
    """

    def __init__(self) -> None:
        self._distrust: Callable[[], None] | None = None
        self._dead = False
        self._working = 0
        self._idle = trio.Event()

    def __repr__(self) -> str:
        return f"<Crew {self._working} working>"

    def on_death(self, distrust: Callable[[], None]) -> None:
        """Have this called when one dies, or now if one has."""
        self._distrust = distrust
        if self._dead:
            distrust()

    def start(
        self, nursery: trio.Nursery, name: str, run: Callable[P, Awaitable[object]], /, *args: P.args, **more: P.kwargs
    ) -> None:
        """Start a task that may go on after the last commit."""
        nursery.start_soon(partial(self.watch, run, *args, **more), name=name)

    def work(
        self, nursery: trio.Nursery, name: str, run: Callable[P, Awaitable[object]], /, *args: P.args, **more: P.kwargs
    ) -> None:
        """Start a task upstream of the committer, which waits for its end."""
        self._working += 1
        nursery.start_soon(self._work, partial(run, *args, **more), name=name)

    async def _work(self, run: Callable[[], Awaitable[object]]) -> None:
        try:
            await self.watch(run)
        finally:
            self._working -= 1
            if not self._working:
                self._idle.set()

    async def watch(self, run: Callable[..., Awaitable[object]], *args: object, **more: object) -> None:
        """Run one that may go on after the last commit."""
        try:
            await run(*args, **more)
        except BaseException as error:
            if _is_death(error):
                self._dead = True
                if self._distrust is not None:
                    self._distrust()
            raise

    async def ended(self) -> None:
        """Wait until all who work upstream have ended."""
        if self._working:
            await self._idle.wait()


def _is_death(error: BaseException) -> bool:
    """Being cancelled is an orderly end; also by a nursery that was, which wraps it in a group. So is a second signal."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(_is_death, error.exceptions))
    return not isinstance(error, trio.Cancelled | StoppedAtOnce)
