"""Dead letters in a file, one JSON object a line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from tss.core.deadletter import DeadLetter
from tss.core.formats.dead_letter import BEGINS, line
from tss.edges.files.lines import LineFile


def utc_now() -> datetime:
    """The time, for the lines."""
    return datetime.now(UTC)


class DeadLetterFile:
    """Blocking: call it from one thread at a time."""

    name = "file"

    def __init__(self, path: str, clock: Callable[[], datetime] = utc_now) -> None:
        """Raises CannotOpen (an OSError)."""
        self._clock = clock
        self._path = path
        self._file = LineFile(path, begins=BEGINS, fsync=True)

    def keep(self, letters: Sequence[DeadLetter]) -> None:
        """All letters are on the disk when this returns. Raises OSError, with the file's name, if none is."""
        now = self._clock()
        lines = "".join(line(letter, now) + "\n" for letter in letters)
        try:
            self._file.append(lines.encode("ascii"))
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._path) from error

    def close(self) -> None:
        """Close the file, unless a call hangs in it."""
        self._file.close()
