"""Law 9 where the daemon cannot help itself: its loop, its stderr or the whole interpreter hang, and it ends in time.

No broker is needed: the daemon waits for one, and that is enough of a life.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest
import yaml

from tests.real.brokers import ROOT
from tests.real.daemon import settings, until

STOP_SECS = 3.0  # shutdownTimeoutSecs
LONG_STOP_SECS = 60.0  # where it must be the second signal that ends it
AT_ONCE_SECS = 1.0
MARGIN_SECS = 3.0  # for a machine that is busy; what hangs does so for an hour

# A daemon in which something hangs from the moment a file appears.
HANGS = {
    # A thread that keeps the interpreter: PyDLL does not let go of it, and no thread of Python runs any more.
    "interpreter": """
import ctypes, signal, threading, time
def hang():
    while not hold.exists():
        time.sleep(0.01)
    held.touch()
    ctypes.PyDLL(None).sleep(3600)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # as any thread of the daemon's inherits it
threading.Thread(target=hang, daemon=True).start()
""",
    # The event loop: a task that never comes back.
    "loop": """
import time, trio
from tss.tasks import pulse
async def hang(meter):
    while not hold.exists():
        await trio.sleep(0.01)
    held.touch()
    time.sleep(3600)
pulse.run = hang
""",
    # Nothing: it believes that it is the first process of a container.
    "first": """
import os
os.getpid = lambda: 1
""",
    # Nothing but what a second signal has to break off.
    "shutdown": """
import trio
from tss.daemon import supervisor
async def hang(*_, **__):
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            held.touch()
            await trio.sleep_forever()
supervisor.select = hang
""",
}
START = """
import sys
from pathlib import Path
hold, held = Path("hold"), Path("held")
{interpreted}
{hang}
from tss.__main__ import main
sys.exit(main(["--config", "tss.yaml"]))
"""


class Hung:
    """A daemon of which something hangs as soon as it is told to."""

    def __init__(
        self, directory: Path, hang: str, port: int, stderr: int, stop_secs: float, *, interpreted: bool
    ) -> None:
        self.directory = directory
        self.port = port
        config = settings("127.0.0.1:9", "nowhere", app={"shutdownTimeoutSecs": stop_secs})
        config["exporters"] = [{"name": "file", "type": "file", "path": "kept.jsonl"}]
        config["observability"] |= {"healthPort": port, "metricsPort": 0}
        (directory / "tss.yaml").write_text(yaml.safe_dump(config))
        code = START.format(
            interpreted="from tests.interpreted import interpret; interpret()" if interpreted else "", hang=HANGS[hang]
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            cwd=directory,
            env={name: text for name, text in os.environ.items() if not name.startswith("TSS_")}
            | {"PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )

    def wait_until_alive(self) -> None:
        until(self._answers, 60, "no answer from /health/live")

    def _answers(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/health/live")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            assert self.process.poll() is None, f"ended with {self.process.returncode}"
            return False
        finally:
            connection.close()

    def hang(self) -> None:
        (self.directory / "hold").touch()
        until((self.directory / "held").exists, 30, "it does not hang")
        time.sleep(0.1)  # from the file to the call that hangs: no sign of it can be given from there

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def ends_within(self, secs: float) -> float:
        began = time.monotonic()
        try:
            self.process.wait(secs)
        except subprocess.TimeoutExpired:
            pytest.fail(f"law 9: not ended within {secs:g} s")
        return time.monotonic() - began


@contextmanager
def hung(
    directory: Path, hang: str, stderr: int, stop_secs: float = STOP_SECS, *, interpreted: bool = False
) -> Iterator[Hung]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    daemon = Hung(directory, hang, port, stderr, stop_secs, interpreted=interpreted)
    try:
        daemon.wait_until_alive()
        yield daemon
    finally:
        daemon.process.kill()
        daemon.process.wait()


@contextmanager
def full_pipe() -> Iterator[int]:
    """The end of a pipe that takes nothing, since nobody reads it."""
    read_fd, write_fd = os.pipe()
    try:
        os.set_blocking(write_fd, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(write_fd, b"." * 512)
        os.set_blocking(write_fd, True)
        yield write_fd
    finally:
        os.close(read_fd)
        os.close(write_fd)


def test_law_9_with_stderr_full_it_stops_in_order(tmp_path: Path) -> None:
    with full_pipe() as stderr, hung(tmp_path, "loop", stderr) as daemon:
        daemon.signal(signal.SIGTERM)
        daemon.ends_within(STOP_SECS + MARGIN_SECS)
        assert daemon.process.returncode == 0


@pytest.mark.parametrize("hang", ["loop", "interpreter"])
def test_law_9_with_stderr_full_and_the_daemon_hung_it_ends_within_the_deadline(tmp_path: Path, hang: str) -> None:
    with full_pipe() as stderr, hung(tmp_path, hang, stderr) as daemon:
        daemon.hang()
        daemon.signal(signal.SIGTERM)
        took = daemon.ends_within(STOP_SECS + MARGIN_SECS)
        assert daemon.process.returncode == 1
        assert took > STOP_SECS * 0.9, "it was not the deadline that ended it"


def test_law_9_interpreted_with_stderr_full_and_the_loop_hung(tmp_path: Path) -> None:
    with full_pipe() as stderr, hung(tmp_path, "loop", stderr, interpreted=True) as daemon:
        daemon.hang()
        daemon.signal(signal.SIGTERM)
        daemon.ends_within(STOP_SECS + MARGIN_SECS)
        assert daemon.process.returncode == 1


def test_law_9_interpreted_with_the_interpreter_held_the_child_ends_it(tmp_path: Path) -> None:
    with full_pipe() as stderr, hung(tmp_path, "interpreter", stderr, interpreted=True) as daemon:
        child = only_child(daemon.process.pid)
        daemon.hang()
        daemon.signal(signal.SIGTERM)
        took = daemon.ends_within(STOP_SECS + MARGIN_SECS)
        assert daemon.process.returncode == -signal.SIGKILL
        assert took > STOP_SECS * 0.9, "it was not the deadline that ended it"
        until(lambda: not is_running(child), 5, "the child outlives it")


def test_law_9_interpreted_with_the_interpreter_held_two_signals_end_it_at_once(tmp_path: Path) -> None:
    with full_pipe() as stderr, hung(tmp_path, "interpreter", stderr, LONG_STOP_SECS, interpreted=True) as daemon:
        daemon.hang()
        daemon.signal(signal.SIGTERM)
        daemon.signal(signal.SIGINT)
        daemon.ends_within(AT_ONCE_SECS + MARGIN_SECS)
        assert daemon.process.returncode == -signal.SIGKILL


def test_interpreted_no_signal_and_the_interpreter_held_ends_nothing(tmp_path: Path) -> None:
    """Nor one that asks for no stop. A hung daemon is the liveness probe's business."""
    with full_pipe() as stderr, hung(tmp_path, "interpreter", stderr, stop_secs=1.0, interpreted=True) as daemon:
        daemon.hang()
        daemon.signal(signal.SIGUSR1)
        with pytest.raises(subprocess.TimeoutExpired):
            daemon.process.wait(3)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_interpreted_the_child_goes_with_the_daemon_and_keeps_no_file_open(tmp_path: Path, how: signal.Signals) -> None:
    read_fd, write_fd = os.pipe()
    with os.fdopen(read_fd, "rb") as stderr, hung(tmp_path, "loop", write_fd, interpreted=True) as daemon:
        os.close(write_fd)
        child = only_child(daemon.process.pid)
        assert {each.name for each in Path(f"/proc/{child}/fd").iterdir()} == {"0"}
        daemon.signal(how)
        daemon.ends_within(STOP_SECS + MARGIN_SECS)
        assert daemon.process.returncode == (0 if how == signal.SIGTERM else -how)
        began = time.monotonic()
        stderr.read()  # to its end, which comes when nobody has the other end open
        assert time.monotonic() - began < 1
        until(lambda: not is_running(child), 5, "the child outlives it")


def test_interpreted_as_process_1_it_says_that_a_stop_may_take_longer(tmp_path: Path) -> None:
    output = tmp_path / "output"
    with output.open("wb") as file, hung(tmp_path, "first", file.fileno(), interpreted=True) as daemon:
        assert children(daemon.process.pid) == []
        assert "a stop may take longer than app.shutdownTimeoutSecs" in output.read_text()
        daemon.signal(signal.SIGTERM)
        daemon.ends_within(STOP_SECS + MARGIN_SECS)
        assert daemon.process.returncode == 0


def children(process: int) -> list[int]:
    return [*map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split())]


def only_child(process: int) -> int:
    found = children(process)
    assert len(found) == 1, "no process watches it from outside"
    return found[0]


def is_running(process: int) -> bool:
    try:
        return "(zombie)" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


@pytest.mark.parametrize("hang", ["loop", "interpreter"])
def test_law_9_a_second_signal_ends_a_hung_daemon_at_once(tmp_path: Path, hang: str) -> None:
    with full_pipe() as stderr, hung(tmp_path, hang, stderr, LONG_STOP_SECS) as daemon:
        daemon.hang()
        daemon.signal(signal.SIGTERM)
        daemon.signal(signal.SIGINT)
        daemon.ends_within(AT_ONCE_SECS + MARGIN_SECS)
        assert daemon.process.returncode == 1


def test_a_second_signal_ends_a_stop_that_hangs_at_once(tmp_path: Path) -> None:
    output = tmp_path / "output"
    with output.open("wb") as file, hung(tmp_path, "shutdown", file.fileno(), LONG_STOP_SECS) as daemon:
        daemon.signal(signal.SIGTERM)
        until(lambda: b'"stopping"' in output.read_bytes(), 30, output.read_text)
        daemon.signal(signal.SIGTERM)
        daemon.ends_within(AT_ONCE_SECS + MARGIN_SECS)
        assert daemon.process.returncode == 1
        assert "of a second signal; ended by force" in output.read_text().splitlines()[-1]


@pytest.mark.parametrize("hang", ["loop", "interpreter"])
def test_a_forced_end_says_so_where_stderr_takes_it(tmp_path: Path, hang: str) -> None:
    output = tmp_path / "output"
    with output.open("wb") as file, hung(tmp_path, hang, file.fileno()) as daemon:
        daemon.hang()
        daemon.signal(signal.SIGTERM)
        daemon.ends_within(STOP_SECS + MARGIN_SECS)
        last = yaml.safe_load(output.read_text().splitlines()[-1])
        assert (last["level"], last["service"]) == ("critical", "tail-sampling-selector")
        assert last["event"].startswith(f"not stopped within {STOP_SECS:g} s; ended by force")
