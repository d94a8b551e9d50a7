"""Child processes, and what they have used: from /proc, so that whatever runs in them is counted, native threads too."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from attrs import frozen

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_SECS = 300.0
_TICKS = os.sysconf("SC_CLK_TCK")


class BenchFailed(Exception):
    """The benchmark says nothing, and why."""


@frozen
class Child:
    """A process of ours, with its output in a file."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    @contextmanager
    def running(cls, name: str, arguments: Sequence[str], directory: Path) -> Iterator[Self]:
        """``python -m`` something, killed when the block is left."""
        log = directory / f"{name}.log"
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TSS_")}
        command = [sys.executable, "-m", *arguments]
        with log.open("wb") as out:
            process = subprocess.Popen(  # our own
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT, env=environment
            )
        try:
            yield cls(name, process, log)
        finally:
            process.kill()
            process.wait()

    def wait_until(self, done: Callable[[], bool], what: str, look_secs: float = 0.05) -> None:
        """Look until it is so. Raises BenchFailed when the child ends or it takes too long."""
        deadline = time.monotonic() + PATIENCE_SECS
        while not done():
            if self.process.poll() is not None:
                raise BenchFailed(f"{self.name} ended with {self.process.returncode} before {what}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise BenchFailed(f"{self.name}: not {what} within {PATIENCE_SECS:g} s:\n{self.tail()}")
            time.sleep(look_secs)

    def has_said(self, words: str) -> bool:
        """Whether a line of its output begins so."""
        return any(line.startswith(words) for line in self.log.read_text(errors="replace").splitlines())

    def tail(self) -> str:
        """The last it said."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])

    def cpu_secs(self) -> float:
        """User and system time of all its threads, the ended ones included; to 10 ms."""
        fields = self._proc("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def peak_bytes(self) -> int:
        """The most that was resident at any time."""
        line = next(line for line in self._proc("status").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024

    def _proc(self, name: str) -> str:
        return Path(f"/proc/{self.process.pid}/{name}").read_text()
