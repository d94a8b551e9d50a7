"""A file beside the daemon with the history of its policies and their texts, for a daemon without Redis."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

import structlog
import trio

from tss.core.documents import Stored
from tss.core.errors import Away
from tss.core.policy_history import MAX_TEXT_BYTES, MOST_CHANGES
from tss.edges.unusable import UnusableFile

log = structlog.get_logger()

NAME = "policies.json"
MAX_FILE_BYTES = 64 * 1024 * 1024  # a larger one is a stranger's


class LocalState:
    """A store of documents (`state/documents`) and of texts (`state/rulesets`) for one daemon.

    Without a directory everything is lost with the process. Each change writes the whole file anew, beside the old one, and
    then replaces it.
    """

    def __init__(self, directory: str = "") -> None:
        """Raises UnusableFile if the directory cannot be written. A file that cannot be read is renamed to `policies.json.bad`."""
        self._path = Path(directory) / NAME if directory else None
        self._version = 0
        self._documents: dict[str, bytes] = {}
        self._texts: dict[str, str] = {}
        self._turn = trio.Lock()
        if self._path is not None:
            self._load(self._path)
            try:
                self._write(self._path, self._content())
            except OSError as error:
                raise UnusableFile(f"{directory} cannot be written: {error.strerror or error}") from error

    async def read(self) -> Stored:
        """The documents and their version."""
        await trio.lowlevel.checkpoint()
        return Stored(str(self._version or ""), dict(self._documents))

    async def swap(self, version: str, documents: Mapping[str, bytes], keep_secs: float) -> bool:
        """Replace the documents, if their version is still this one. Raises Away if the file cannot be written."""
        if version != str(self._version or ""):
            return False
        self._documents = dict(documents)
        self._version += 1
        await self._keep()
        return True

    async def listen(self, changed: Callable[[], None]) -> NoReturn:
        """Wait until cancelled."""
        await trio.sleep_forever()
        raise AssertionError("unreachable")

    async def get(self, fingerprint: str) -> str | None:
        """The text; None if it is not known."""
        await trio.lowlevel.checkpoint()
        return self._texts.get(fingerprint)

    async def put(self, fingerprint: str, text: str) -> None:
        """Store the text. Raises Away if the file cannot be written."""
        if self._texts.get(fingerprint) == text:
            await trio.lowlevel.checkpoint()
            return
        self._texts.pop(fingerprint, None)
        self._texts[fingerprint] = text
        while len(self._texts) > MOST_CHANGES:
            del self._texts[next(iter(self._texts))]
        await self._keep()

    async def _keep(self) -> None:
        if self._path is None:
            await trio.lowlevel.checkpoint()
            return
        try:
            async with self._turn:
                await trio.to_thread.run_sync(self._write, self._path, self._content())
        except OSError as error:
            raise Away(f"app.stateDir: {self._path} cannot be written: {error.strerror or error}") from error

    def _content(self) -> dict[str, object]:
        documents = {name: base64.b64encode(each).decode() for name, each in self._documents.items()}
        return {"version": self._version, "documents": documents, "texts": dict(self._texts)}

    def _write(self, path: Path, content: dict[str, object]) -> None:
        beside = path.with_name(f"{path.name}.new")
        with beside.open("wb") as file:
            file.write(json.dumps(content).encode())
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)

    def _load(self, path: Path) -> None:
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise ValueError("the file is too large")
            found = json.loads(path.read_bytes())
            documents = {str(name): base64.b64decode(each) for name, each in found["documents"].items()}
            texts = {str(name): str(each) for name, each in found["texts"].items() if len(str(each)) <= MAX_TEXT_BYTES}
            self._version, self._documents, self._texts = int(found["version"]), documents, texts
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            log.error(  # noqa: TRY400  # its reason is enough
                "the history of the policies cannot be read; it begins anew, and the old file is kept as policies.json.bad",
                file=str(path), reason=str(error),
            )  # fmt: skip
            try:
                path.replace(path.with_name(f"{NAME}.bad"))
            except OSError as beside:
                raise UnusableFile(f"{path} cannot be replaced: {beside.strerror or beside}") from beside
