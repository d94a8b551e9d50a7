"""What tasks need of a store of documents that all replicas share, and of its announcements."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NoReturn, Protocol

import trio

from tss.core.documents import Stored


class DocumentStore(Protocol):
    """The store of some documents for all replicas. Every call raises Away if it does not answer."""

    async def read(self) -> Stored:
        """The documents and their version."""

    async def swap(self, version: str, documents: Mapping[str, bytes], keep_secs: float) -> bool:
        """Replace the documents, if their version is still this one; else return False. All listeners hear of it."""

    async def listen(self, changed: Callable[[], None]) -> NoReturn:
        """Until cancelled, call ``changed`` in this event loop after each change, and when a change may have been missed."""


class Heard:
    """An event that resets itself once somebody has waited for it."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def set(self) -> None:
        """Something has happened."""
        self._event.set()

    async def wait(self) -> None:
        """Return once something has happened since the last call."""
        await self._event.wait()
        self._event = trio.Event()
