"""Finished files: each name has the time at which the file was finished, so that names sort by age."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import attrs
import structlog

log = structlog.get_logger()

_FORM = "%Y%m%dT%H%M%S.%fZ"
_MOMENT = r"-(?P<moment>\d{8}T\d{6}\.\d{6}Z)"
_FURTHER = r"(-[0-9]+)?"  # if the clock was set back


@attrs.frozen
class FinishedFiles:
    """The finished files of one destination, `<stem>-<moment>[-<more>]<suffix>` in one folder, and how many of them to keep.

    Files with other names are never touched: rename a file to keep it. 0 means no limit.
    """

    folder: Path
    stem: str
    suffix: str
    max_files: int = 0
    max_age_secs: float = 0
    more: str = ""  # a regular expression for the part of a name after the moment

    @classmethod
    def beside(cls, path: Path, max_files: int, max_age_secs: float) -> FinishedFiles:
        """The finished files of a file that is rotated."""
        return cls(path.parent, path.stem, path.suffix, max_files, max_age_secs)

    def free_path(self, now: float, more: str = "") -> Path:
        """A path that no file has."""
        start = f"{self.stem}-{datetime.fromtimestamp(now, UTC).strftime(_FORM)}"
        path = self.folder / f"{start}{more}{self.suffix}"
        further = 1
        while path.exists():  # the clock was set back
            path = self.folder / f"{start}{more}-{further}{self.suffix}"
            further += 1
        return path

    def prune(self, now: float) -> None:
        """Delete the files that are too old or too many, the oldest first. A file that cannot be deleted is logged and left."""
        for path in self._surplus(now):
            try:
                path.unlink(missing_ok=True)  # another process may have deleted it
            except OSError as error:
                log.warning("old file not deleted", path=str(path), reason=error.strerror)
            else:
                log.info("old file deleted", path=str(path))

    def files(self) -> list[Path]:
        """All finished files, the oldest first."""
        return sorted(path for path in self.folder.iterdir() if self.has(path.name))

    def has(self, name: str) -> bool:
        """Whether this is the name of a finished file."""
        return self._moment(name) > 0

    def _surplus(self, now: float) -> Iterator[Path]:
        if not self.max_files and not self.max_age_secs:
            return
        files = self.files()
        for number, path in enumerate(files):
            too_many = self.max_files and len(files) - number > self.max_files
            if too_many or (self.max_age_secs and now - self._moment(path.name) > self.max_age_secs):
                yield path

    def _moment(self, name: str) -> float:
        """When the file was finished, in seconds since the epoch; 0 for another file's name."""
        found = re.fullmatch(re.escape(self.stem) + _MOMENT + self.more + _FURTHER + re.escape(self.suffix), name)
        try:
            return datetime.strptime(found["moment"], _FORM).replace(tzinfo=UTC).timestamp() if found else 0
        except ValueError:
            return 0


@attrs.frozen
class Rotation:
    """When a growing file is renamed and becomes a finished file. 0 means never.

    Both rules look at the file only, so that all processes that share it agree, also after a restart.
    """

    finished: FinishedFiles
    max_bytes: int = 0
    period_secs: float = 0  # a new file begins at each full multiple, in UTC

    def is_due(self, size: int, written: float, more: int, now: float) -> bool:
        """Whether to rotate a file of this size, last written at ``written``, before ``more`` bytes are appended."""
        too_large = self.max_bytes and size + more > self.max_bytes
        too_old = self.period_secs and written // self.period_secs < now // self.period_secs
        return bool(size and (too_large or too_old))

    def rename(self, path: Path, now: float) -> None:
        """Give the file its finished name. Called under the file's lock, so that no other process appends meanwhile.

        logrotate does not take the lock, and may have renamed the file already: then nothing is left to do.
        """
        with contextlib.suppress(FileNotFoundError):
            path.rename(self.finished.free_path(now))
