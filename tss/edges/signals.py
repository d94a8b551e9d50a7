"""The signals, and the deadline of a stop (law 9), which hold also when the event loop, stderr or the interpreter hang.

Every signal that is heard is blocked in all threads, and one thread alone waits for them: in C where there is a compiler
(``deadline.pyx``), else in Python. It starts the deadline by itself, and tells the event loop through a pipe. While a
library holds the interpreter the thread in Python hears nothing: then a small process of its own keeps the deadline.
"""

from __future__ import annotations

import faulthandler
import math
import os
import select
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import attrs
import trio

try:
    from tss.edges import deadline
except ImportError:  # no compiler
    deadline = None  # type: ignore[assignment]

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# A second one of these stops at once. Not SIGHUP: a terminal that closes, and systemd with SendSIGHUP, send it right
# after another.
HASTENS = (signal.SIGTERM, signal.SIGINT)
TELLS = signal.SIGUSR1
# By default each of these ends the process. They mean nothing here, so a mistaken one must not cost a stop without a
# commit. (SIGPIPE and SIGXFSZ are ignored by Python itself.)
IGNORED = (signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO)

# Without a compiler: between two looks at the signals that wait, by a thread of Python, and from outside.
LISTEN_SECS = 0.05
LOOK_SECS = 0.25

Words = Callable[[str], tuple[bytes, bytes]]  # a line of the log: what stands before its time, and after it


@attrs.frozen
class Ending:
    """How long a stop may take, and one that a second signal hastens; then the process ends with ``code``."""

    stop_secs: float
    at_once_secs: float
    code: int


class Signals:
    """Those that came, one after the other, for the event loop."""

    def __init__(self, told_fd: int) -> None:
        self._told_fd = told_fd

    def __aiter__(self) -> Signals:
        return self

    async def __anext__(self) -> signal.Signals:
        await trio.lowlevel.wait_readable(self._told_fd)
        return signal.Signals(os.read(self._told_fd, 1)[0])


def block(ending: Ending) -> bool:
    """From now on the signals wait for ``listen``. In the first thread, before there is any other: they inherit it.

    Whether the deadline will hold while a library holds the interpreter.
    """
    heard = _heard()
    signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    for number in heard:  # so that it is neither ignored nor, in process 1 of a container, without effect
        signal.signal(number, _never_called)
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    return deadline is not None or _watch_from_outside(ending)


def listen(ending: Ending, words: Words) -> Signals:
    """Hear the signals, for the rest of the process. To be called once.

    ``words`` makes the line that a forced end says, if stderr takes it.
    """
    heard = _heard()
    told_fd, tell_fd = os.pipe()
    os.set_blocking(tell_fd, False)
    if deadline is None:
        _watch_interpreted(heard, tell_fd, ending)
    else:
        late = words(
            f"not stopped within {ending.stop_secs:g} s; ended by force, Kafka still has what was not finished"
        )
        hastened = words(
            f"not stopped within {ending.at_once_secs:g} s of a second signal; ended by force, Kafka still has what was"
            " not finished"
        )
        first, second = (ending.stop_secs, *late), (ending.at_once_secs, *hastened)
        deadline.watch(heard, STOPS, HASTENS, tell_fd, ending.code, first, second)
    return Signals(told_fd)


def _heard() -> set[signal.Signals]:
    hears_terminal = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN  # nohup: it asks to outlive the terminal
    return {*STOPS, TELLS} - (set() if hears_terminal else {signal.SIGHUP})


def _never_called(number: int, _frame: object) -> None:
    """Stands where a default action stood: the signal is blocked, and the thread takes it."""


def _watch_interpreted(heard: set[signal.Signals], tell_fd: int, ending: Ending) -> None:
    """The same without a compiler, by a thread of Python. It hears nothing while another thread holds the interpreter;
    once it has heard, faulthandler's own thread keeps the deadline, which is C and needs nobody."""
    nowhere = os.memfd_create("tss-forced-end") if hasattr(os, "memfd_create") else os.open(os.devnull, os.O_WRONLY)

    def run() -> NoReturn:
        stops = 0
        while True:
            # Not by `sigwait` alone: it takes a signal before its thread has the interpreter, and nobody sees it waiting.
            waiting = signal.sigpending() & heard
            if not waiting:
                time.sleep(LISTEN_SECS)
                continue
            number = signal.Signals(min(waiting))
            if (number in STOPS and stops == 0) or (number in HASTENS and stops == 1):
                secs = ending.at_once_secs if stops else ending.stop_secs
                stops += 1
                # It writes what all threads do before it ends the process: not to stderr, which may be what hangs.
                faulthandler.dump_traceback_later(secs, exit=True, file=nowhere)
            signal.sigwait({number})  # takes it, now that the deadline runs
            with suppress(BlockingIOError):
                os.write(tell_fd, bytes([number]))

    threading.Thread(target=run, name="signals", daemon=True).start()


# The process that watches from outside, without a compiler -----------------------------------------------------------


def _watch_from_outside(ending: Ending) -> bool:
    """Start it; False where it would be no use: nobody in a container can kill its process 1, and elsewhere than on Linux
    nobody can see which signals wait."""
    watched = os.getpid()
    if watched == 1 or not _status(watched).exists():
        return False
    ended_fd, _ = os.pipe()  # its other end is open for as long as this process lives
    if os.fork() == 0:
        _watch(watched, ended_fd, ending)
    os.close(ended_fd)
    return True


def _watch(watched: int, ended_fd: int, ending: Ending) -> NoReturn:
    """Kill the process if a stop's signal waits there, and the time for it is over. It has no other files open: whoever
    reads the daemon's stderr waits for its end, and not for the end of this one."""
    try:
        os.dup2(ended_fd, 0)
        os.closerange(1, 1 << 16)
        overdue, before = math.inf, 0
        while not select.select([0], [], [], LOOK_SECS)[0]:
            # One that is there for one look only has been heard, and the deadline runs within the process.
            waiting, now = len(_waiting(watched)), time.monotonic()
            secs = (math.inf, ending.stop_secs, ending.at_once_secs)[min(waiting, before, 2)]
            overdue, before = min(overdue, now - LOOK_SECS + secs), waiting
            if now >= overdue:
                os.kill(watched, signal.SIGKILL)
    finally:
        os._exit(0)


def _waiting(watched: int) -> set[signal.Signals]:
    """The stops that this process was sent, and that no thread of it has taken."""
    found = [line.split()[1] for line in _status(watched).read_text().splitlines() if line.startswith("ShdPnd:")]
    return {number for number in STOPS if found and int(found[0], 16) >> (number - 1) & 1}


def _status(watched: int) -> Path:
    return Path(f"/proc/{watched}/status")
