"""Files that are finished: each has the moment in its name, so that names sort by time and say what is old."""

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
_FURTHER = r"(-[0-9]+)?"  # where the clock was set back


@attrs.frozen
class Series:
    """The finished files of one destination, `<stem>-<moment>[-<more>]<suffix>` in one folder, and how many of them stay.

    No other file is ever touched: whoever puts another word into a name keeps the file. A number of 0 is no limit.
    """

    folder: Path
    stem: str
    suffix: str
    max_files: int = 0
    max_age_secs: float = 0
    more: str = ""  # an expression for what names have after the moment

    @classmethod
    def beside(cls, path: Path, max_files: int, max_age_secs: float) -> Series:
        """Those that a file becomes."""
        return cls(path.parent, path.stem, path.suffix, max_files, max_age_secs)

    def free_path(self, now: float, more: str = "") -> Path:
        """A name that no file has."""
        start = f"{self.stem}-{datetime.fromtimestamp(now, UTC).strftime(_FORM)}"
        path = self.folder / f"{start}{more}{self.suffix}"
        further = 1
        while path.exists():  # the clock was set back
            path = self.folder / f"{start}{more}-{further}{self.suffix}"
            further += 1
        return path

    def prune(self, now: float) -> None:
        """Delete what is too old or too many, the oldest first. What cannot be deleted is told and left."""
        for path in self._surplus(now):
            try:
                path.unlink(missing_ok=True)  # another process prunes, too
            except OSError as error:
                log.warning("old file not deleted", path=str(path), reason=error.strerror)
            else:
                log.info("old file deleted", path=str(path))

    def files(self) -> list[Path]:
        """All of them, the oldest first."""
        return sorted(path for path in self.folder.iterdir() if self.has(path.name))

    def has(self, name: str) -> bool:
        """Whether such a name is one of these."""
        return self._moment(name) > 0

    def _surplus(self, now: float) -> Iterator[Path]:
        if not self.max_files and not self.max_age_secs:
            return
        files = self.files()
        for place, path in enumerate(files):
            too_many = self.max_files and len(files) - place > self.max_files
            if too_many or (self.max_age_secs and now - self._moment(path.name) > self.max_age_secs):
                yield path

    def _moment(self, name: str) -> float:
        """When it was finished, in seconds since the epoch; 0 for what is none of these."""
        found = re.fullmatch(re.escape(self.stem) + _MOMENT + self.more + _FURTHER + re.escape(self.suffix), name)
        try:
            return datetime.strptime(found["moment"], _FORM).replace(tzinfo=UTC).timestamp() if found else 0
        except ValueError:
            return 0


@attrs.frozen
class Rotation:
    """When a file that grows is put away under a name of the series. A number of 0 is never.

    Both rules are read off the file itself, so that processes which share it agree, also after a restart.
    """

    series: Series
    max_bytes: int = 0
    period_secs: float = 0  # a new file at each full multiple of it, in UTC

    def is_due(self, size: int, written: float, more: int, now: float) -> bool:
        """Whether a file of this size, last written then, should go before so many bytes more are added."""
        too_large = self.max_bytes and size + more > self.max_bytes
        too_old = self.period_secs and written // self.period_secs < now // self.period_secs
        return bool(size and (too_large or too_old))

    def put_away(self, path: Path, now: float) -> None:
        """Give the file its finished name. Under the file's lock: whoever holds a name's next file comes after this.

        Somebody outside (logrotate) knows no lock, and may have been quicker: then it has been put away already.
        """
        with contextlib.suppress(FileNotFoundError):
            path.rename(self.series.free_path(now))
