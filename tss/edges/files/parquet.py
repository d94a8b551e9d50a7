"""Kept traces as Parquet files. A Parquet file can be read only once it is complete, so each batch becomes a file."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import structlog
import trio

from tss.core.delivery import Accepted, Again, Batching, Outcome, Retrying, Undeliverable
from tss.core.errors import WrongSetting
from tss.core.repeating import TooLarge
from tss.core.trace import Trace
from tss.edges.files.lines import CannotOpen, sync_folder
from tss.edges.files.rotation import FinishedFiles
from tss.settings import ParquetExporter

log = structlog.get_logger()

STEM, SUFFIX = "traces", ".parquet"
_WRITER = r"-[^/]+-[0-9]+-[0-9]{6,}"  # host, process, number: see `_put`
# A batch is written in seconds, so an unfinished file of this age was left by a crash. If its process is alive and its disk
# hangs, deleting the file makes its rename fail, and the batch is written again.
UNFINISHED_SECS = 600.0


Encode = Callable[[Sequence[Any]], memoryview]  # of traces, or of rows of decisions


class ParquetFolder:
    """Writes each batch to a file of its own. Names sort by time, and no other process uses the same name."""

    def __init__(
        self,
        settings: ParquetExporter,
        encode: Encode,
        limiter: trio.CapacityLimiter,
        clock: Callable[[], float] = time.time,
        stem: str = STEM,
    ) -> None:
        self.name = settings.name
        self.comes_last = False
        self.batching = Batching(
            settings.batch_size, settings.batch_timeout_secs, settings.max_in_flight, settings.batch_bytes
        )
        self.retrying = Retrying(1.0)  # nobody empties a full disk in less
        self._folder = Path(settings.path)
        self._finished = FinishedFiles(self._folder, stem, SUFFIX, settings.max_files, settings.max_age_secs, _WRITER)
        self._stem = stem
        self._encode = encode
        self._limiter = limiter
        self._clock = clock
        self._numbers = count(1)
        self._writer = f"-{socket.gethostname()}-{os.getpid()}"

    def __repr__(self) -> str:
        return f"<ParquetFolder {self.name} at {self._folder}>"

    async def send(self, traces: Sequence[Any]) -> Outcome:
        """One file of all these traces, or of these rows. It is on the disk, with its name, when this returns."""
        # Abandoned when cancelled: a disk may hang for good, and a stop must not wait for it (law 9).
        work = partial(self._write, traces)
        return await trio.to_thread.run_sync(work, limiter=self._limiter, abandon_on_cancel=True)

    async def knock(self) -> bool:
        """False: an empty write tells nothing, since even a full disk takes it."""
        return False

    def forget(self, traces: Sequence[Trace]) -> None:
        """Nothing to do: nothing is remembered about a trace."""

    def prepare(self) -> None:
        """Create the folder and try to write to it. Raises CannotOpen."""
        trial = self._folder / f".trial{self._writer}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            trial.touch()
            trial.unlink()
        except FileExistsError as error:
            raise CannotOpen(error.errno, "it is a file, but must be a folder", str(self._folder)) from error
        except OSError as error:
            raise CannotOpen(error.errno, error.strerror, str(self._folder)) from error
        self._tidy()

    def _write(self, traces: Sequence[Any]) -> Outcome:
        try:
            content = self._encode(traces)
        except TooLarge as error:
            return Undeliverable("too_large", str(error))
        except Exception as error:  # noqa: BLE001  # any error concerns only these bytes
            return Undeliverable("unencodable", f"{type(error).__name__}: {error}"[:400])
        try:
            self._put(content)
        except OSError as error:
            return Again("disk", f"{self._folder}: {error.strerror}")
        self._tidy()
        return Accepted()

    def _put(self, content: memoryview) -> None:
        """The file gets its name only when its content is on the disk; this returns only when its name is, too (law 1)."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._finished.free_path(self._clock(), f"{self._writer}-{next(self._numbers):06}")
        unfinished = path.with_name(f".{path.name}.tmp")  # readers of Parquet skip names that begin with a dot
        try:
            with unfinished.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(path)
            sync_folder(self._folder)
        except OSError:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise

    def _tidy(self) -> None:
        """Delete unfinished files of a crash, and finished files as the settings say. An error here does not fail the batch."""
        try:
            for path in self._folder.glob(f".{self._stem}-*{SUFFIX}.tmp"):
                if not self._finished.has(path.name[1 : -len(".tmp")]):
                    continue  # not a file of ours
                with contextlib.suppress(FileNotFoundError):  # another process has just finished it
                    self._delete_unfinished(path)
            self._finished.prune(self._clock())
        except OSError as error:
            log.warning(
                "old or unfinished files could not be deleted: check the rights on the folder",
                path=str(self._folder),
                reason=error.strerror,
            )

    def _delete_unfinished(self, path: Path) -> None:
        if self._clock() - path.stat().st_mtime > UNFINISHED_SECS:
            path.unlink()
            log.warning(
                "deleted an unfinished file that a crash left; its traces are read again from Kafka", path=str(path)
            )


@asynccontextmanager
async def open_parquet(settings: ParquetExporter) -> AsyncIterator[ParquetFolder]:
    """Raises CannotOpen (an OSError), or WrongSetting without pyarrow."""
    limiter = trio.CapacityLimiter(1)
    folder = ParquetFolder(settings, encoder(settings), limiter)
    await trio.to_thread.run_sync(folder.prepare, limiter=limiter, abandon_on_cancel=True)
    yield folder


def encoder(settings: ParquetExporter) -> Encode:
    """The function that makes a file's bytes of a batch. Raises WrongSetting without pyarrow."""
    try:
        # Imported here: pyarrow takes 40 MB, and only this exporter needs it.
        from tss.edges.files.parquet_table import to_parquet  # noqa: PLC0415
    except ImportError as error:
        missing = f"exporters, {settings.name}: type parquet needs pyarrow ({error}): pip install 'tail-sampling-selector[parquet]'"
        raise WrongSetting(missing) from error
    return partial(to_parquet, raw=settings.raw)
