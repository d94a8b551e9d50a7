"""Where the daemon's CPU time goes, by `perf`: by thread, by library and by function, compiled ones included.

`perf record -e cpu-clock` looks at the processor from outside, so a function is charged with what it used itself. A
sampler within the interpreter cannot do that: it gets its turn only when compiled code has returned, and charges that
to the Python function which comes next. Python functions are named where the interpreter tells perf of them (3.12 and
newer, `-X perf`); with 3.11 they are all `_PyEval_EvalFrameDefault`.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.processes import BenchFailed, Child

LOOKS_A_SECOND = 1999  # no multiple of anything that a daemon does at intervals
LEAST_PERCENT = 0.5
PYTHON = (sys.executable, *(("-X", "perf") if sys.version_info >= (3, 12) else ()), "-m")
FOUND = "perf.data"
HOW_TO_GET = "no `perf` on the path; on Debian: apt-get install linux-perf"


@contextmanager
def watching(child: Child) -> Iterator[Path]:
    """`perf` looks at the child until the block is left; the file with what it saw is complete then."""
    if shutil.which("perf") is None:
        raise BenchFailed(HOW_TO_GET)
    found = child.log.with_name(FOUND)
    command = ["perf", "record", "--quiet", "-e", "cpu-clock", "-F", str(LOOKS_A_SECOND), "-o", str(found)]
    with Child.running("perf", [*command, "-p", str(child.process.pid)], found.parent) as perf:
        perf.wait_until(found.exists, "recording")
        yield found
        perf.process.send_signal(signal.SIGINT)
        if perf.process.wait(60) not in (0, -signal.SIGINT, 130):
            raise BenchFailed(f"perf ended with {perf.process.returncode}:\n{perf.tail()}")


def report(found: Path, micros_per_record: float) -> str:
    """Shares of the samples by thread, by library and by function, as microseconds a record."""
    parts = [f"{micros_per_record:.2f} us a record in all; a share below {LEAST_PERCENT} % is left out"]
    for title, keys in (("thread", "comm"), ("library", "dso"), ("function", "dso,symbol")):
        parts += ["", f"{'us':>8} {'share':>7}  {title}"]
        for percent, name in _shares(found, keys):
            parts.append(f"{percent / 100 * micros_per_record:>8.2f} {percent:>6.1f}%  {name}")
    return "\n".join(parts)


def _shares(found: Path, keys: str) -> Iterator[tuple[float, str]]:
    command = ["perf", "report", "--stdio", "--quiet", "-i", str(found), "--sort", keys]
    command += ["--percent-limit", str(LEAST_PERCENT), "--field-separator", "\t"]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    if said.returncode:
        raise BenchFailed(f"perf report: {said.stderr.strip()}")
    for line in said.stdout.splitlines():
        percent, _, name = line.strip().partition("\t")
        if name and not line.startswith("#"):
            columns = [part.strip(" -") for part in name.split("\t")]  # perf fills columns that it has no words for
            yield float(percent.strip().rstrip("%")), "  ".join(columns).rstrip()
