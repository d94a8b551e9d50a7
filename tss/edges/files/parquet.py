"""Kept traces as Parquet files. One can be read when it is complete, so each batch becomes one, and then it is there."""

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
from typing import Protocol

import structlog
import trio

from tss.core.delivery import Accepted, Again, Batching, Outcome, Retrying, Undeliverable
from tss.core.errors import WrongSetting
from tss.core.repeating import TooLarge
from tss.core.trace import Trace
from tss.edges.files.lines import CannotOpen, sync_folder
from tss.edges.files.rotation import Series
from tss.settings import ParquetExporter

log = structlog.get_logger()

STEM, SUFFIX = "traces", ".parquet"
_WRITER = r"-[^/]+-[0-9]+-[0-9]{6,}"  # host, process, number: see `_put`
# A batch is written in seconds. What is this old is of a process that died; should it be of one whose disk hangs, its
# rename fails, and the batch is written again.
TORN_SECS = 600.0


class Encoder(Protocol):
    """`parquet_table.to_parquet`, which is only there with pyarrow."""

    def __call__(self, traces: Sequence[Trace], *, raw: bool) -> memoryview: ...


class ParquetFolder:
    """Makes one file of each batch, under a name that sorts by time and that no other process uses."""

    def __init__(
        self,
        settings: ParquetExporter,
        encode: Encoder,
        limiter: trio.CapacityLimiter,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = settings.name
        self.comes_last = False
        self.batching = Batching(
            settings.batch_size, settings.batch_timeout_secs, settings.max_in_flight, settings.batch_bytes
        )
        self.retrying = Retrying(1.0)  # a full disk is not emptied in less
        self._folder = Path(settings.path)
        self._series = Series(self._folder, STEM, SUFFIX, settings.max_files, settings.max_age_secs, _WRITER)
        self._raw = settings.raw
        self._encode = encode
        self._limiter = limiter
        self._clock = clock
        self._numbers = count(1)
        self._writer = f"-{socket.gethostname()}-{os.getpid()}"

    def __repr__(self) -> str:
        return f"<ParquetFolder {self.name} at {self._folder}>"

    async def send(self, traces: Sequence[Trace]) -> Outcome:
        """One file of all these, on the disk with its name when this returns."""
        # Abandoned when cancelled, for a disk may hang for good, and stopping is bounded.
        work = partial(self._write, traces)
        return await trio.to_thread.run_sync(work, limiter=self._limiter, abandon_on_cancel=True)

    async def knock(self) -> bool:
        """There is nobody to ask without data: a full disk takes nothing and an empty write."""
        return False

    def forget(self, traces: Sequence[Trace]) -> None:
        """Nothing is remembered of any."""

    def prepare(self) -> None:
        """Make the folder and try to write there. Raises CannotOpen."""
        trial = self._folder / f".trial{self._writer}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            trial.touch()
            trial.unlink()
        except FileExistsError as error:
            raise CannotOpen(error.errno, "is a file, and has to be a folder", str(self._folder)) from error
        except OSError as error:
            raise CannotOpen(error.errno, error.strerror, str(self._folder)) from error
        self._tidy()

    def _write(self, traces: Sequence[Trace]) -> Outcome:
        try:
            content = self._encode(traces, raw=self._raw)
        except TooLarge as error:
            return Undeliverable("too_large", str(error))
        except Exception as error:  # noqa: BLE001  # whatever is wrong with these bytes, it is theirs alone
            return Undeliverable("unencodable", f"{type(error).__name__}: {error}"[:400])
        try:
            self._put(content)
        except OSError as error:
            return Again("disk", f"{self._folder}: {error.strerror}")
        self._tidy()
        return Accepted()

    def _put(self, content: memoryview) -> None:
        """Whole and on the disk before it has its name, and the name on the disk before anybody is told (law 1)."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._series.free_path(self._clock(), f"{self._writer}-{next(self._numbers):06}")
        torn = path.with_name(f".{path.name}.tmp")  # readers of Parquet pass over names with a dot in front
        try:
            with torn.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            torn.rename(path)
            sync_folder(self._folder)
        except OSError:
            with contextlib.suppress(OSError):
                torn.unlink(missing_ok=True)
            raise

    def _tidy(self) -> None:
        """Delete what a crash left behind, and what the settings let go. Never the batch's trouble."""
        try:
            for path in self._folder.glob(f".{STEM}-*{SUFFIX}.tmp"):
                if not self._series.has(path.name[1 : -len(".tmp")]):
                    continue  # somebody else's
                with contextlib.suppress(FileNotFoundError):  # another process has just finished it
                    self._delete_torn(path)
            self._series.prune(self._clock())
        except OSError as error:
            log.warning("folder not tidied", path=str(self._folder), reason=error.strerror)

    def _delete_torn(self, path: Path) -> None:
        if self._clock() - path.stat().st_mtime > TORN_SECS:
            path.unlink()
            log.warning("torn file of a crash deleted", path=str(path))


@asynccontextmanager
async def open_parquet(settings: ParquetExporter) -> AsyncIterator[ParquetFolder]:
    """Raises CannotOpen (an OSError), or WrongSetting without pyarrow."""
    limiter = trio.CapacityLimiter(1)
    folder = ParquetFolder(settings, encoder(settings.name), limiter)
    await trio.to_thread.run_sync(folder.prepare, limiter=limiter, abandon_on_cancel=True)
    yield folder


def encoder(name: str) -> Encoder:
    try:
        # Nobody else should pay its 40 MB, or need it.
        from tss.edges.files.parquet_table import to_parquet  # noqa: PLC0415
    except ImportError as error:
        missing = (
            f"exporters, {name}: type parquet needs pyarrow ({error}): pip install 'tail-sampling-selector[parquet]'"
        )
        raise WrongSetting(missing) from error
    return to_parquet
