"""A file of lines to which several processes may append. Each line is whole or absent, even after a crash."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from tss.edges.files.rotation import Rotation
from tss.edges.unusable import UnusableFile

log = structlog.get_logger()

_BLOCK_BYTES = 64 * 1024
_DIGIT, _DIGITS = ord("#"), b"0123456789"

Clock = Callable[[], float]


class CannotOpen(UnusableFile):
    """An operator's error: a file that a setting names cannot be written. The message says which file, and why."""

    def __str__(self) -> str:
        return f"{self.filename}: cannot be opened for writing: {self.strerror}"


class LineFile:
    """Blocking: call it from a worker thread. It reads and changes the file only under the file's lock (flock).

    Nothing is remembered about the file between calls, since other replicas append to it, and our own rotation or logrotate's
    renames it. At the start and at each call, a file with foreign lines is refused: it is never changed, cut or renamed.
    """

    def __init__(
        self, path: str, *, begins: bytes, fsync: bool, rotation: Rotation | None = None, clock: Clock = time.time
    ) -> None:
        """Creates the file and its folder if they are missing. Raises CannotOpen, also for a file with foreign lines.

        ``begins``: how each line of ours begins; `#` stands for any digit. A line that begins differently is foreign.
        """
        self._path = Path(path)
        self._begins = begins
        self._fsync = fsync
        self._rotation = rotation
        self._clock = clock
        # Held during each call, so that `close` never closes the descriptor under a thread that hangs in a write.
        self._busy = threading.Lock()
        try:
            self._descriptor = self._open()
            with self._locked():
                self._repair()
        except OSError as error:
            raise CannotOpen(error.errno, error.strerror, path) from error

    def __repr__(self) -> str:
        return f"<LineFile {self._path} fsync {self._fsync}>"

    def append(self, lines: bytes) -> None:
        """Append lines, each with its newline: all of them to one file, or none of them and an OSError."""
        with self._busy:
            while not self._append_here(lines):
                pass  # the file was rotated; another process may have filled the next file meanwhile

    def _append_here(self, lines: bytes) -> bool:
        """Append to the file that has the name now. False if this file was rotated instead."""
        with self._locked():
            self._repair()
            found = os.fstat(self._descriptor)
            if self._rotation and self._rotation.is_due(found.st_size, found.st_mtime, len(lines), self._clock()):
                self._rotate(self._rotation)
                return False
            try:
                self._write(lines)
                if self._fsync:
                    os.fsync(self._descriptor)
            except OSError:
                with contextlib.suppress(OSError):  # if this fails too, the next append cuts the tail off
                    os.ftruncate(self._descriptor, found.st_size)
                raise
            return True

    def _rotate(self, rotation: Rotation) -> None:
        rotation.rename(self._path, self._clock())
        if self._fsync:
            sync_folder(self._path.absolute().parent)
        rotation.finished.prune(self._clock())

    def close(self) -> None:
        """Close the file. If a call hangs in it, only the end of the process closes it."""
        if self._busy.acquire(blocking=False):
            os.close(self._descriptor)

    def _open(self) -> int:
        folder = self._path.absolute().parent
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "not a regular file")
        if self._fsync:
            sync_folder(folder)
        return descriptor

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of the file that has the name now; after a rotation it is another file."""
        while True:
            held = self._descriptor
            fcntl.flock(held, fcntl.LOCK_EX)
            try:
                if not self._is_current():
                    self._descriptor = self._open()
                    continue
                yield
                return
            finally:
                if held == self._descriptor:
                    fcntl.flock(held, fcntl.LOCK_UN)
                else:
                    os.close(held)  # this releases its lock, too

    def _is_current(self) -> bool:
        try:
            named = self._path.stat()
        except FileNotFoundError:
            return False
        return os.path.samestat(named, os.fstat(self._descriptor))

    def _write(self, lines: bytes) -> None:
        rest = memoryview(lines)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def _repair(self) -> None:
        """Cut off a tail without a newline: a process was killed while it wrote it. Raises OSError if the first line or the
        tail is foreign."""
        size = os.fstat(self._descriptor).st_size
        whole = self._end_of_last_line(size)
        if size:
            self._claim(0, "first")
        if whole < size:
            self._claim(whole, "last")
            os.ftruncate(self._descriptor, whole)
            log.warning("torn last line cut off", path=str(self._path), bytes=size - whole)

    def _claim(self, start: int, which: str) -> None:
        """Raise OSError if the line at ``start`` is foreign. Of an incomplete line, the part that is there decides."""
        # After a power cut a tail may have its length but only zero bytes. A file of zero bytes alone may be anybody's.
        there = os.pread(self._descriptor, len(self._begins), start)
        found = there.rstrip(b"\0")
        if not _is_as(self._begins, found) or (there and not found and not start):
            expected = self._begins.decode("ascii")
            message = f"it is somebody else's file: its {which} line does not begin with {expected}"
            raise OSError(errno.EEXIST, message)

    def _end_of_last_line(self, size: int) -> int:
        if size and os.pread(self._descriptor, 1, size - 1) == b"\n":
            return size
        end = size
        while end:
            start = max(0, end - _BLOCK_BYTES)
            newline = os.pread(self._descriptor, end - start, start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
        return 0


def _is_as(pattern: bytes, found: bytes) -> bool:
    """Whether these bytes match the pattern, as far as they go."""
    return all(sign == byte or (sign == _DIGIT and byte in _DIGITS) for sign, byte in zip(pattern, found, strict=False))


def sync_folder(folder: Path) -> None:
    """Bring the names of the folder's files to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
