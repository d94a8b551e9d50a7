"""Child processes, and what they have used: from /proc, so that whatever runs in them is counted, native threads too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from attrs import frozen

ROOT = Path(__file__).resolve().parents[1]
PYTHON = (sys.executable, "-m")
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
    def running(cls, name: str, command: Sequence[str], directory: Path, place: Path = ROOT) -> Iterator[Self]:
        """Started in ``place``. Killed when the block is left, and all below it."""
        log = directory / f"{name}.log"
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TSS_")}
        with log.open("wb") as out:
            process = subprocess.Popen(  # our own
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd=place, env=environment
            )
        child = cls(name, process, log)
        try:
            yield child
        finally:
            for pid in child.tree() if process.poll() is None else ():
                os.kill(pid, signal.SIGKILL)
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
        """User and system time of the whole tree, of all threads and ended processes in it; to 10 ms."""
        return sum(map(_ticks, self.tree())) / _TICKS

    def peak_bytes(self) -> int:
        """The most that was resident at any time; of a tree, the sum of what each had at its own time."""
        return sum(_status_bytes(pid, "VmHWM") for pid in self.tree())

    def resident_bytes(self) -> int:
        return sum(_status_bytes(pid, "VmRSS") for pid in self.tree())

    def tree(self) -> list[int]:
        """The process and those below it."""
        pids = [self.process.pid]
        for pid in pids:  # grows while we walk it
            with suppress(FileNotFoundError, ProcessLookupError):  # a process that has just ended
                for task in Path(f"/proc/{pid}/task").iterdir():
                    with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
                        pids.extend(int(child) for child in (task / "children").read_text().split())
        return pids


def _ticks(pid: int) -> int:
    """Its user and system time, and that of its ended children; 0 when it has just ended, for then its parent has it."""
    with suppress(FileNotFoundError, ProcessLookupError):
        # From the third field on: the second, the name, may have blanks in it.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15]))
    return 0


def _status_bytes(pid: int, name: str) -> int:
    """A figure of its memory; 0 when it has just ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):  # a zombie has none
                return int(line.split()[1]) * 1024
    return 0
