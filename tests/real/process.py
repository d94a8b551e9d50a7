"""A server of the tests' own: a process that can be stopped, killed, frozen and started again where it was."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import IO, ClassVar, Self

READY_SECS = 60.0
STOP_SECS = 20.0


class ServerProcess(ABC):
    """One process in a directory of its own, ended by its own pid when the `with` block is left."""

    name: ClassVar[str]

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    def __repr__(self) -> str:
        return f"<{self.name} in {self.directory}, pid {self._process.pid if self._process else None}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def _refusal(self) -> Exception | None:
        """Why it does not answer yet; None once it does."""

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._log = self._log_file.open("ab")
        self._process = subprocess.Popen(
            self._command(), stdout=self._log, stderr=subprocess.STDOUT, cwd=self.directory, start_new_session=True
        )
        # `with` does not end it when this process is killed, by a time limit for instance. Then the guard's input ends.
        guard = ["sh", "-c", f"read _; kill -9 {self._process.pid}"]
        self._guard = subprocess.Popen(guard, stdin=subprocess.PIPE, start_new_session=True)
        try:
            self._wait_until_ready()
        except BaseException:
            self.kill()
            raise

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECS
        while True:
            assert self._process is not None
            if self._process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {self._process.returncode}:\n{self.tail()}")
            error = self._refusal()
            if error is None:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} not ready: {error}\n{self.tail()}") from error
            time.sleep(0.05)

    def stop(self) -> None:
        """End it in good order (SIGTERM)."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once (SIGKILL); nothing happens when it is not running."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Let it hang: connections stay, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen one go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, number)

    def _end(self, number: signal.Signals) -> None:
        if self._guard is not None:  # first: its pid must not be another's by then
            self._guard.kill()
            self._guard.communicate()
            self._guard = None
        self._signal(signal.SIGCONT)
        self._signal(number)
        if self._process is not None:
            try:
                self._process.wait(STOP_SECS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._log is not None:
            self._log.close()

    @property
    def _log_file(self) -> Path:
        return self.directory / f"{self.name}.log"

    def tail(self) -> str:
        """The last lines of its log."""
        return "\n".join(self._log_file.read_text(errors="replace").splitlines()[-30:])
