"""Kept traces as lines of OTLP JSON, one trace a line."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from tss.core.delivery import Accepted, Again, Batching, Outcome, Retrying, Undeliverable
from tss.core.otlp import to_json_line
from tss.core.trace import Trace
from tss.edges.files.lines import LineFile
from tss.edges.files.rotation import FinishedFiles, Rotation
from tss.settings import DecisionsExporter, FileExporter

BEGINS = b'{"resourceSpans":'  # each line of `to_json_line`, since a kept trace has spans


class OtlpJsonFile:
    """Appends to one file, to which other replicas may append as well."""

    def __init__(self, settings: FileExporter, file: LineFile, limiter: trio.CapacityLimiter) -> None:
        self.name = settings.name
        self.comes_last = False
        self.batching = Batching(settings.batch_size, settings.batch_timeout_secs, settings.max_in_flight)
        self.retrying = Retrying(1.0)  # nobody empties a full disk in less
        self._path = settings.path
        self._file = file
        self._limiter = limiter

    def __repr__(self) -> str:
        return f"<OtlpJsonFile {self.name} at {self._path}>"

    async def send(self, traces: Sequence[Trace]) -> Outcome:
        """Append all the lines, or none."""
        # Abandoned when cancelled: a disk may hang for good, and a stop must not wait for it (law 9).
        work = partial(self._append, traces)
        return await trio.to_thread.run_sync(work, limiter=self._limiter, abandon_on_cancel=True)

    async def knock(self) -> bool:
        """False: an empty write tells nothing, since even a full disk takes it."""
        return False

    def forget(self, traces: Sequence[Trace]) -> None:
        """Nothing to do: nothing is remembered about a trace."""

    def _append(self, traces: Sequence[Trace]) -> Outcome:
        try:
            lines = b"".join(to_json_line(trace.payload) for trace in traces)
        except Exception as error:  # noqa: BLE001  # any error concerns only these bytes
            return Undeliverable("unencodable", f"{type(error).__name__}: {error}"[:400])
        try:
            self._file.append(lines)
        except OSError as error:
            return Again("disk", f"{self._path}: {error.strerror}")
        return Accepted()


@asynccontextmanager
async def open_file(settings: FileExporter) -> AsyncIterator[OtlpJsonFile]:
    """Raises CannotOpen (an OSError)."""
    limiter = trio.CapacityLimiter(1)
    opening = partial(LineFile, settings.path, begins=BEGINS, fsync=settings.fsync, rotation=rotation(settings))
    file = await trio.to_thread.run_sync(opening, limiter=limiter, abandon_on_cancel=True)
    try:
        yield OtlpJsonFile(settings, file, limiter)
    finally:
        file.close()


def rotation(settings: FileExporter | DecisionsExporter) -> Rotation | None:
    """When the file is rotated; None: never."""
    if not settings.rotate_bytes and not settings.rotate_secs:
        return None
    finished = FinishedFiles.beside(Path(settings.path), settings.max_files, settings.max_age_secs)
    return Rotation(finished, settings.rotate_bytes, settings.rotate_secs)
