"""Signals, and the deadline of a stop (law 9). Both work even if the event loop, stderr or the interpreter hangs.

All threads block the signals, and one thread waits for them: in C if there was a compiler (``deadline.pyx``), else in Python.
It starts the deadline, and tells the event loop through a pipe. While a library holds the interpreter lock, the Python thread
cannot run: then a small process outside keeps the deadline.
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

STOPS = (signal.SIGTERM, signal.SIGINT)  # a second one stops at once
TELLS = signal.SIGUSR1
RELOADS = signal.SIGHUP
# By default each of these ends the process. They have no meaning here, so a mistaken one must not end the daemon without its
# last commit. (Python ignores SIGPIPE and SIGXFSZ.)
IGNORED = (signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO)

# Without the compiled module: the pause between two looks at the pending signals, of the Python thread and of the process outside.
LISTEN_SECS = 0.05
LOOK_SECS = 0.25

_in_terminal = False  # whether the process was started in a terminal, and ends with it: set by `block`

Words = Callable[[str], tuple[bytes, bytes]]  # a line of the log: the bytes before its time, and after it


@attrs.frozen
class Ending:
    """How long a stop may take, and a stop after a second signal; after that the process ends with ``code``."""

    stop_secs: float
    at_once_secs: float
    code: int


class Signals:
    """The signals that arrived, one after the other, for the event loop.

    SIGHUP asks to reload the settings. But a terminal that closes sends it, too: then it asks for a stop, unless the daemon was
    started with nohup.
    """

    def __init__(self, told_fd: int, *, in_terminal: bool) -> None:
        self._told_fd = told_fd
        self._in_terminal = in_terminal
        self._is_stopping = False

    def __aiter__(self) -> Signals:
        return self

    async def __anext__(self) -> signal.Signals:
        while True:
            await trio.lowlevel.wait_readable(self._told_fd)
            number = signal.Signals(os.read(self._told_fd, 1)[0])
            if number == RELOADS and self._in_terminal and not _has_terminal():
                if (
                    not self._is_stopping
                ):  # this process may be told by several, and a second SIGTERM would stop at once
                    self._is_stopping = True
                    os.kill(os.getpid(), signal.SIGTERM)  # the deadline of the stop begins with the signal
                continue
            self._is_stopping = self._is_stopping or number in STOPS
            return number


def block(ending: Ending) -> bool:
    """Block the signals; they stay pending until ``listen``. Call it before there are threads, which inherit the mask.

    Returns whether the deadline works even while a library holds the interpreter lock.
    """
    global _in_terminal  # noqa: PLW0603  # of the process, like the signals
    heard = _heard()
    _in_terminal = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN and _has_terminal()
    signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    for (
        number
    ) in heard:  # else an ignored signal stays ignored, and process 1 of a container gets no signal without a handler
        signal.signal(number, _never_called)
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    return deadline is not None or _watch_from_outside(ending)


def listen(ending: Ending, words: Words) -> Signals:
    """Wait for the signals, for the rest of the process. Call it once.

    ``words`` makes the line that is written at a forced end, if stderr takes it.
    """
    heard = _heard()
    told_fd, tell_fd = os.pipe()
    os.set_blocking(tell_fd, False)
    if deadline is None:
        _watch_interpreted(heard, tell_fd, ending)
    else:
        late = words(
            f"not stopped within {ending.stop_secs:g} s; ended by force; unfinished records are still in Kafka and will be read again"
        )
        hastened = words(
            f"not stopped within {ending.at_once_secs:g} s of a second signal; ended by force; unfinished"
            " records are still in Kafka and will be read again"
        )
        first, second = (ending.stop_secs, *late), (ending.at_once_secs, *hastened)
        deadline.watch(heard, STOPS, tell_fd, ending.code, first, second)
    return Signals(told_fd, in_terminal=_in_terminal)


def _heard() -> set[signal.Signals]:
    return {*STOPS, TELLS, RELOADS}


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _never_called(number: int, _frame: object) -> None:
    """Replaces the default action. It never runs: the signal is blocked, and the thread takes it."""


def _watch_interpreted(heard: set[signal.Signals], tell_fd: int, ending: Ending) -> None:
    """Wait for the signals in a Python thread. It cannot run while another thread holds the interpreter lock. After the first
    signal, faulthandler's own thread keeps the deadline: it is written in C, and does not need the lock."""
    nowhere = os.memfd_create("tss-forced-end") if hasattr(os, "memfd_create") else os.open(os.devnull, os.O_WRONLY)

    def run() -> NoReturn:
        stops = 0
        while True:
            # Not `sigwait` alone: it takes a signal before its thread has the lock, and then the process outside cannot see it pending.
            waiting = signal.sigpending() & heard
            if not waiting:
                time.sleep(LISTEN_SECS)
                continue
            number = signal.Signals(min(waiting))
            if number in STOPS and stops < 2:
                secs = ending.at_once_secs if stops else ending.stop_secs
                stops += 1
                # It writes all tracebacks before it ends the process. Not to stderr, which may be the cause of the hang.
                faulthandler.dump_traceback_later(secs, exit=True, file=nowhere)
            signal.sigwait({number})  # takes the signal, now that the deadline runs
            with suppress(BlockingIOError):
                os.write(tell_fd, bytes([number]))

    threading.Thread(target=run, name="signals", daemon=True).start()


# The process outside, without the compiled module -----------------------------------------------------------


def _watch_from_outside(ending: Ending) -> bool:
    """Start it. False if it would be useless: no process in a container can kill process 1, and only Linux shows which signals
    are pending."""
    watched = os.getpid()
    if watched == 1 or not _status(watched).exists():
        return False
    ended_fd, _ = os.pipe()  # its other end stays open until this process ends
    if os.fork() == 0:
        _watch(watched, ended_fd, ending)
    os.close(ended_fd)
    return True


def _watch(watched: int, ended_fd: int, ending: Ending) -> NoReturn:
    """Kill the daemon if a stop signal is pending there for longer than a stop may take. This process has no other open files,
    so that a reader of the daemon's stderr waits only for the daemon's end."""
    try:
        os.dup2(ended_fd, 0)
        os.closerange(1, 1 << 16)
        overdue, before = math.inf, 0
        while not select.select([0], [], [], LOOK_SECS)[0]:
            # A signal that is gone at the next look was taken, and the deadline runs within the daemon.
            waiting, now = len(_waiting(watched)), time.monotonic()
            secs = (math.inf, ending.stop_secs, ending.at_once_secs)[min(waiting, before, 2)]
            overdue, before = min(overdue, now - LOOK_SECS + secs), waiting
            if now >= overdue:
                os.kill(watched, signal.SIGKILL)
    finally:
        os._exit(0)


def _waiting(watched: int) -> set[signal.Signals]:
    """The stop signals that were sent to the daemon, and that none of its threads has taken."""
    found = [line.split()[1] for line in _status(watched).read_text().splitlines() if line.startswith("ShdPnd:")]
    return {number for number in STOPS if found and int(found[0], 16) >> (number - 1) & 1}


def _status(watched: int) -> Path:
    return Path(f"/proc/{watched}/status")
