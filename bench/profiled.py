"""The daemon under a sampling profiler: `python -m bench.profiled` takes the daemon's arguments.

A thread looks every millisecond where every other thread is, and charges that place with the CPU time that this thread
has used since the last look. So waiting costs nothing, and threads that take turns are charged for their own turns. What
C code does is charged to the line that called it; what a thread did just before it began to wait, often to the wait. The
looking itself costs about half more: compare shares, and take the sum from a run without it. It begins with SIGUSR1, so that the start is not in it, and at the end
of the daemon it writes what it saw into a file beside the settings.
"""

from __future__ import annotations

import gc
import json
import signal
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

RESULT = "profile.json"
LOOK_SECS = 0.001
# A look waits for the interpreter, and gets it where another thread lets go of it: of its own accord, as it does around
# I/O, or after this time. With the usual 5 ms most looks would fall on I/O.
SWITCH_SECS = 0.0001
SHOWN = 25

_Place = tuple[CodeType, int]


class Sampler:
    """CPU time by function and line, for all threads but its own."""

    def __init__(self) -> None:
        self.samples = 0
        self._own: defaultdict[_Place, int] = defaultdict(int)  # ns; the line is the one under way
        self._all: defaultdict[CodeType, int] = defaultdict(int)  # with what it called
        self._threads: defaultdict[str, int] = defaultdict(int)
        self._used: dict[int, int] = {}
        self._collecting_ns = 0
        self._collections = 0
        self._gc_began = 0
        self._cost_ns = 0
        self._began_ns = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, name="profiler", daemon=True)

    def start(self) -> None:
        sys.setswitchinterval(SWITCH_SECS)
        gc.callbacks.append(self._on_gc)
        self._began_ns = time.process_time_ns()
        self._thread.start()

    def stop(self) -> None:
        self._end.set()
        self._thread.join()
        gc.callbacks.remove(self._on_gc)

    def _on_gc(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._gc_began = time.thread_time_ns()
        else:
            self._collecting_ns += time.thread_time_ns() - self._gc_began
            self._collections += 1

    def _look(self) -> None:
        while not self._end.wait(LOOK_SECS):
            self.samples += 1
            frames = sys._current_frames()  # noqa: SLF001  # what profilers use
            for thread in threading.enumerate():
                frame = frames.get(thread.ident or 0)
                if frame is not None and thread is not self._thread and thread.native_id is not None:
                    self._charge(thread, thread.native_id, frame)
            self._cost_ns = time.thread_time_ns()

    def _charge(self, thread: threading.Thread, id: int, frame: FrameType) -> None:
        try:
            now = time.clock_gettime_ns(~id << 3 | 6)  # Linux: a thread's CPU clock, by its number
        except OSError:
            return  # it has just ended
        used = now - self._used.get(id, now)
        self._used[id] = now
        if not used:
            return
        self._threads[thread.name] += used
        self._own[frame.f_code, frame.f_lineno] += used
        seen: set[CodeType] = set()
        caller: FrameType | None = frame
        while caller is not None:
            if caller.f_code not in seen:
                seen.add(caller.f_code)
                self._all[caller.f_code] += used
            caller = caller.f_back

    def result(self) -> dict[str, Any]:
        """Times in ns."""
        own: defaultdict[CodeType, int] = defaultdict(int)
        lines: defaultdict[CodeType, dict[int, int]] = defaultdict(dict)
        for (code, line), used in self._own.items():
            own[code] += used
            lines[code][line] = used
        return {
            "samples": self.samples,
            "process": time.process_time_ns() - self._began_ns,
            "collecting": self._collecting_ns,
            "collections": self._collections,
            "profiler": self._cost_ns,
            "threads": dict(self._threads),
            "functions": [
                {"name": _name(code), "own": own[code], "all": used, "lines": lines[code]}
                for code, used in sorted(self._all.items(), key=lambda item: -own[item[0]])
            ],
        }


def _name(code: CodeType) -> str:
    path = Path(code.co_filename)
    return f"{path.parent.name}/{path.name}:{code.co_firstlineno} {code.co_qualname}"


def report(path: Path, records: int) -> str:
    """The functions that cost most by themselves, in microseconds a record."""
    seen = json.loads(path.read_text())
    by_python = sum(seen["threads"].values())

    def micros(ns: float) -> str:
        return f"{ns / 1000 / records:>8.2f}"

    lines = [
        f"{micros(seen['process'])} us a record in all, without the start; {seen['samples']} looks",
        *(f"{micros(ns)} thread {name}" for name, ns in sorted(seen["threads"].items(), key=lambda each: -each[1])),
        f"{micros(seen['profiler'])} profiler",
        f"{micros(seen['process'] - by_python - seen['profiler'])} librdkafka's threads",
        f"{micros(seen['collecting'])} of these in {seen['collections']} garbage collections",
        f"{'own':>8} {'all':>8}  function, and its most expensive lines",
    ]
    for function in seen["functions"][:SHOWN]:
        dearest = sorted(function["lines"].items(), key=lambda each: -each[1])[:4]
        shown = ", ".join(f"{line}: {ns / 1000 / records:.2f}" for line, ns in dearest)
        lines.append(f"{micros(function['own'])} {micros(function['all'])}  {function['name']}  ({shown})")
    return "\n".join(lines)


def main() -> int:
    """The daemon, watched."""
    from tss.__main__ import main as daemon  # noqa: PLC0415  # `report` does without

    result = Path(sys.argv[sys.argv.index("--config") + 1]).with_name(RESULT)
    sampler = Sampler()
    signal.signal(signal.SIGUSR1, lambda *_: sampler.start())
    code = daemon(sys.argv[1:])
    sampler.stop()
    result.write_text(json.dumps(sampler.result()))
    return code


if __name__ == "__main__":
    sys.exit(main())
