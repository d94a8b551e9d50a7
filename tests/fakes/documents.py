"""A store of documents in memory, with moods; it passes the same contract as Redis."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NoReturn

import trio

from tss.core.documents import Stored
from tss.core.errors import Away


class FakeDocuments:
    """One for all replicas of a test. ``away``: nothing answers; ``deaf``: nobody hears of a change."""

    def __init__(self) -> None:
        self.stored = Stored("", {})
        self.away = False
        self.deaf = False
        self.reads = 0
        self._changes = 0
        self._listeners: list[Callable[[], None]] = []

    async def read(self) -> Stored:
        await self._answer()
        self.reads += 1
        return self.stored

    async def swap(self, version: str, documents: Mapping[str, bytes], keep_secs: float) -> bool:
        await self._answer()
        if version != self.stored.version:
            return False
        assert keep_secs > 0
        self._changes += 1
        self.stored = Stored(str(self._changes), dict(documents))
        if not self.deaf:
            self.tell()
        return True

    async def listen(self, changed: Callable[[], None]) -> NoReturn:
        self._listeners.append(changed)
        changed()
        try:
            await trio.sleep_forever()
        finally:
            self._listeners.remove(changed)
        raise AssertionError

    def tell(self) -> None:
        for changed in self._listeners:
            changed()

    async def _answer(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.away:
            raise Away("Redis connection timeout")
