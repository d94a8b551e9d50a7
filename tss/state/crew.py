"""All tasks of the daemon: once one of them has died, nothing is committed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import ParamSpec

import trio

from tss.core.errors import StoppedAtOnce

P = ParamSpec("P")


class Crew:
    """Notices the death of a task at once, before its channels or nurseries pass the news on.

    Every task counts, not only those whose bookkeeping a commit rests on. A task that died of a broken law, or because memory
    ran out, shows that the process is damaged. Reading again costs time; a wrong commit costs spans.
    """

    def __init__(self) -> None:
        self._distrust: Callable[[], None] | None = None
        self._dead = False
        self._working = 0
        self._idle = trio.Event()

    def __repr__(self) -> str:
        return f"<Crew {self._working} working>"

    def on_death(self, distrust: Callable[[], None]) -> None:
        """Call this when a task dies, or now if one has died already."""
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
        """Run a task that may go on after the last commit."""
        try:
            await run(*args, **more)
        except BaseException as error:
            if _is_death(error):
                self._dead = True
                if self._distrust is not None:
                    self._distrust()
            raise

    async def ended(self) -> None:
        """Wait until all tasks upstream of the committer have ended."""
        if self._working:
            await self._idle.wait()


def _is_death(error: BaseException) -> bool:
    """A cancelled task, or one stopped by a second signal, has ended in order. A nursery may wrap either in a group."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(_is_death, error.exceptions))
    return not isinstance(error, trio.Cancelled | StoppedAtOnce)
