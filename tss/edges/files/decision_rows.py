"""Rows of decisions as lines of JSON in a file, or as Parquet files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import trio

from tss.core.decision_rows import BEGINS, LineWriter, Row
from tss.core.delivery import Accepted, Again, Batching, Outcome
from tss.core.errors import WrongSetting
from tss.core.names import Names
from tss.edges.files.lines import LineFile
from tss.edges.files.otlp_json import rotation
from tss.edges.files.parquet import Encode, ParquetFolder
from tss.settings import DecisionsExporter, ParquetExporter

STEM = "decisions"


class DecisionLines:
    """Appends to one file, to which other replicas may append as well."""

    def __init__(
        self, settings: DecisionsExporter, file: LineFile, writer: LineWriter, limiter: trio.CapacityLimiter
    ) -> None:
        self.name = settings.name
        self.batching = Batching(settings.batch_size, settings.linger_secs, 1)
        self._path = settings.path
        self._file = file
        self._writer = writer
        self._limiter = limiter

    async def send(self, rows: Sequence[Row]) -> Outcome:
        """Append all the lines, or none."""
        # Abandoned when cancelled: a disk may hang for good, and a stop must not wait for it (law 9).
        work = partial(self._append, rows)
        return await trio.to_thread.run_sync(work, limiter=self._limiter, abandon_on_cancel=True)

    def _append(self, rows: Sequence[Row]) -> Outcome:
        lines = self._writer.lines(rows)
        try:
            self._file.append("\n".join([*lines, ""]).encode("utf-8", "replace"))
        except OSError as error:
            return Again("disk", f"{self._path}: {error.strerror}")
        return Accepted()


@asynccontextmanager
async def open_lines(settings: DecisionsExporter, names: Names) -> AsyncIterator[DecisionLines]:
    """Raises CannotOpen (an OSError)."""
    limiter = trio.CapacityLimiter(1)
    opening = partial(LineFile, settings.path, begins=BEGINS, fsync=False, rotation=rotation(settings))
    file = await trio.to_thread.run_sync(opening, limiter=limiter, abandon_on_cancel=True)
    try:
        yield DecisionLines(settings, file, LineWriter(names), limiter)
    finally:
        file.close()


@asynccontextmanager
async def open_tables(settings: DecisionsExporter, names: Names) -> AsyncIterator[ParquetFolder]:
    """Raises CannotOpen (an OSError), or WrongSetting without pyarrow."""
    limiter = trio.CapacityLimiter(1)
    like = ParquetExporter(
        name=settings.name,
        path=settings.path,
        batch_size=settings.batch_size,
        batch_timeout_secs=settings.linger_secs,
        max_files=settings.max_files,
        max_age_secs=settings.max_age_secs,
    )
    folder = ParquetFolder(like, encoder(settings, names), limiter, stem=STEM)
    await trio.to_thread.run_sync(folder.prepare, limiter=limiter, abandon_on_cancel=True)
    yield folder


def encoder(settings: DecisionsExporter, names: Names) -> Encode:
    """The function that makes a file's bytes of a batch. Raises WrongSetting without pyarrow."""
    try:
        from tss.edges.files.decision_table import to_parquet  # noqa: PLC0415  # pyarrow takes 40 MB
    except ImportError as error:
        missing = f"exporters, {settings.name}: via parquet needs pyarrow ({error}): pip install 'tail-sampling-selector[parquet]'"
        raise WrongSetting(missing) from error
    return partial(to_parquet, names=names)
