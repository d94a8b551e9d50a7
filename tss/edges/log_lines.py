"""Writes log lines to stderr in a thread of its own: logging never waits, even if the reader of stderr hangs."""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import TextIO

# The queue while stderr takes nothing: enough for a quarter of an hour of a daemon with errors, and small beside its buffer.
MAX_LINES = 4096
MAX_BYTES = 1024 * 1024
WRITE_BYTES = 64 * 1024  # of one write at most, unless one line is longer
RETRY_SECS = 0.1  # for a descriptor that another process has made non-blocking


class Lines:
    """A bounded queue, and one thread that writes its lines. Lines that do not fit are dropped and counted."""

    def __init__(self, stream: TextIO, *, max_lines: int = MAX_LINES, max_bytes: int = MAX_BYTES) -> None:
        self.stream = stream
        self.dropped = 0
        self.tell: Callable[[int], None] | None = (
            None  # called with the number of dropped lines once stderr takes lines again
        )
        self.count: Callable[[int], None] | None = None  # called with each number of dropped lines, at once
        self._max_lines, self._max_bytes = max_lines, max_bytes
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._writing = self._closed = False
        self._untold = 0
        # Reentrant: the garbage collector may run while it is held, and a destructor may log.
        self._changed = threading.Condition(threading.RLock())
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        waiting = f"{len(self._waiting)} waiting, {self.dropped} dropped"
        return f"<lines to {getattr(self.stream, 'name', self.stream)}: {waiting}>"

    def write(self, line: str) -> None:
        """Add a line to the queue, or drop it. Never waits."""
        data = f"{line}\n".encode("utf-8", "backslashreplace")
        with self._changed:
            if len(self._waiting) >= self._max_lines or self._waiting_bytes + len(data) > self._max_bytes:
                self._drop(1)
                return
            self._waiting.append(data)
            self._waiting_bytes += len(data)
            self._changed.notify_all()

    debug = info = warning = error = critical = write  # structlog calls these

    def flush(self, secs: float) -> bool:
        """Wait up to ``secs`` until all lines are written; returns whether they are."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._writing, secs)

    def close(self) -> None:
        """End the thread once it has written the queue."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _drop(self, lines: int) -> None:
        self.dropped += lines
        if self.count is not None:
            self.count(lines)
        self._untold += lines

    def _run(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                batch = self._take()
                self._writing = True
            lost = len(batch) - self._put(batch)
            with self._changed:
                untold = 0 if lost else self._untold
                self._untold -= untold
                if lost:
                    self._drop(lost)
            if untold and self.tell is not None:
                self.tell(untold)

    def _take(self) -> list[bytes]:
        batch = [self._waiting.popleft()]
        size = len(batch[0])
        while self._waiting and size + len(self._waiting[0]) <= WRITE_BYTES:
            batch.append(self._waiting.popleft())
            size += len(batch[-1])
        self._waiting_bytes -= size
        return batch

    def _put(self, batch: list[bytes]) -> int:
        """Write these lines at once; returns how many were written. A log that cannot be written must not stop the daemon."""
        data = b"".join(batch)
        try:
            number = self.stream.fileno()
        except (OSError, ValueError):  # no file, but what stands for one; or closed
            number = -1
        try:
            if number < 0:
                self.stream.write(data.decode())
                self.stream.flush()
            else:
                _write_all(number, data)
        except (OSError, ValueError):
            return 0
        return len(batch)


def _write_all(number: int, data: bytes) -> None:
    # Not through the stream: its lock would be held during a write that hangs, and block every other print.
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(number, left) :]
        except BlockingIOError:
            select.select([], [number], [], RETRY_SECS)
