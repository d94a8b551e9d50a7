"""The file exporter and the file under it: a line is whole or absent, whatever crashes."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog.testing
import trio

from tests.contracts.destination import World, check_destination
from tests.core.spans import trace_id
from tests.edges.traces import span_ids, trace, trace_of
from tss.core.delivery import Accepted, Again, Undeliverable
from tss.edges.files.lines import CannotOpen, LineFile
from tss.edges.files.otlp_json import OtlpJsonFile, open_file
from tss.settings import FileExporter


@pytest.fixture
def path(tmp_path):
    return tmp_path / "traces.jsonl"


@asynccontextmanager
async def exporter(path: Path, fsync: bool = True) -> AsyncIterator[OtlpJsonFile]:
    async with open_file(FileExporter(name="file", path=str(path), fsync=fsync)) as destination:
        yield destination


def spans_in(path: Path) -> set[tuple[bytes, bytes]]:
    return {
        (bytes.fromhex(span["traceId"]), bytes.fromhex(span["spanId"]))
        for line in path.read_bytes().splitlines()
        for resource_spans in json.loads(line)["resourceSpans"]
        for scope_spans in resource_spans["scopeSpans"]
        for span in scope_spans["spans"]
    }


@pytest.mark.parametrize("fsync", [True, False])
async def test_contract(path, fsync):
    elsewhere = path.with_name("elsewhere")
    folder = path.parent / "folder"
    path = folder / path.name

    def go_away() -> None:  # the folder is gone, and a file is in its place
        folder.rename(elsewhere)
        folder.touch()

    def come_back() -> None:
        if folder.is_file():
            folder.unlink()
            elsewhere.rename(folder)

    async with exporter(path, fsync) as destination:
        await check_destination(World(destination, lambda: spans_in(path), go_away, come_back))


async def test_one_trace_a_line(path):
    sent = [trace(number) for number in range(3)]
    async with exporter(path) as destination:
        await destination.send(sent)
    lines = path.read_bytes().splitlines()
    assert len(lines) == 3
    for line, each in zip(lines, sent, strict=True):
        first = json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
        assert first["traceId"] == each.trace_id.hex()


async def test_a_trace_that_cannot_be_written_spoils_no_line(path):
    async with exporter(path) as destination:
        await destination.send([trace(1)])
        before = path.read_bytes()
        outcome = await destination.send([trace(2), trace_of([b"\x0a\xff"], trace_id(3))])
    assert isinstance(outcome, Undeliverable) and outcome.reason == "unencodable"
    assert path.read_bytes() == before


async def test_folder_is_made_and_lines_are_added(path):
    path = path.parent / "a" / "b" / path.name
    for number in range(2):
        async with exporter(path) as destination:
            assert await destination.send([trace(number)]) == Accepted()
    assert spans_in(path) == span_ids([trace(0), trace(1)])


@pytest.mark.parametrize(
    ("found", "left"),
    [
        (b"", b""),
        (b"one\n", b"one\n"),
        (b"torn", b""),
        (b"one\ntor", b"one\n"),
        (b"one\n" + b"x" * 200_000, b"one\n"),
        (b"x" * 200_000, b""),
        (b"x" * 65_535 + b"\n" + b"y" * 65_536, b"x" * 65_535 + b"\n"),
    ],
)
def test_a_torn_tail_is_cut_off_at_the_start(path, found, left):
    path.write_bytes(found)
    with structlog.testing.capture_logs() as logs:
        LineFile(str(path), begins=b"", fsync=True).close()
    assert path.read_bytes() == left
    cut = [entry["bytes"] for entry in logs]
    assert cut == ([len(found) - len(left)] if found != left else [])


_OURS = b'{"resourceSpans":[]}\n'


@pytest.mark.parametrize("tail", [b"{", b'{"resourceSp', b'{"resourceSpans":[{', b'{"res\0\0\0', b"\0" * 5000])
@pytest.mark.parametrize("before", [b"", _OURS])
async def test_what_begins_as_our_own_line_is_repaired(path, before, tail):
    """Zeros are what a power cut leaves of a tail; alone they may be anybody's."""
    path.write_bytes(before + tail)
    if not before and not tail.strip(b"\0"):
        return
    async with exporter(path) as destination:
        assert path.read_bytes() == before
        assert await destination.send([trace(1)]) == Accepted()
    assert spans_in(path) == span_ids([trace(1)])


@pytest.mark.parametrize(
    "found",
    [
        b"127.0.0.1 localhost",
        b"127.0.0.1 localhost\n",
        b"127.0.0.1 localhost\n::1 localhost",
        b"\n",
        b"{\n}",
        b'{"resourceLogs":[]}\n',
        b'{"time":"2026-01-01","reason":"empty"}\n{"ti',
        _OURS + b"a note of somebody's, without an end",
        bytes(5000),
    ],
)
async def test_somebody_elses_file_is_refused_at_the_start_and_left_as_it_is(path, found):
    path.write_bytes(found)
    with pytest.raises(CannotOpen) as caught:
        async with exporter(path):
            pass
    assert path.read_bytes() == found
    assert str(caught.value).startswith(f"{path}: cannot be opened for writing: it is somebody else's file")
    assert "\n" not in str(caught.value)


async def test_somebody_elses_tail_holds_the_traces_and_is_left_as_it_is(path):
    async with exporter(path) as destination:
        assert await destination.send([trace(1)]) == Accepted()
        with path.open("ab") as file:
            file.write(b"a note")
        found = path.read_bytes()
        outcome = await destination.send([trace(2)])
        assert isinstance(outcome, Again) and "somebody else's" in outcome.detail
        assert path.read_bytes() == found


def test_a_tail_torn_by_another_process_is_cut_off_before_a_line_is_added(path):
    file = LineFile(str(path), begins=b"", fsync=False)
    file.append(b"one\n")
    with path.open("ab") as other:
        other.write(b"tor")
    file.append(b"two\n")
    file.close()
    assert path.read_bytes() == b"one\ntwo\n"


def test_rotation(path):
    """Moved or deleted, lines go to the file that has the name."""
    file = LineFile(str(path), begins=b"", fsync=True)
    file.append(b"one\n")
    moved = path.rename(path.with_suffix(".1"))
    file.append(b"two\n")
    path.unlink()
    file.append(b"three\n")
    file.close()
    assert moved.read_bytes() == b"one\n"
    assert path.read_bytes() == b"three\n"


def test_truncated_by_somebody(path):
    """As with logrotate's copytruncate: no size is remembered, so no hole is left."""
    file = LineFile(str(path), begins=b"", fsync=False)
    file.append(b"one\n")
    os.truncate(path, 0)
    file.append(b"two\n")
    file.close()
    assert path.read_bytes() == b"two\n"


@pytest.mark.parametrize("sort", ["folder", "pipe", "below a file"])
async def test_unusable_path_is_said_at_the_start(path, sort):
    if sort == "folder":
        path.mkdir()
    elif sort == "pipe":
        os.mkfifo(path)
    else:
        path.touch()
        path = path / "below"
    with pytest.raises(CannotOpen) as caught:
        async with exporter(path):
            pass
    assert str(caught.value).startswith(f"{path}: cannot be opened for writing: ")
    assert caught.value.errno, "it is still the OSError that it was"


async def test_no_space_left(path):
    """A real ENOSPC would need a file system of its own; a limit on the file's size fails in the same place (EFBIG)."""
    script = f"""
import resource, signal, sys, structlog
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from tss.edges.files.lines import LineFile
file = LineFile({str(path)!r}, begins=b"", fsync=True)
file.append(b"one\\n")
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
try:
    file.append(b"x" * 5000 + b"\\n")
except OSError as error:
    print(error.errno)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
file.append(b"two\\n")
"""
    done = await trio.run_process([sys.executable, "-c", script], capture_stdout=True)
    assert int(done.stdout) == errno.EFBIG
    assert path.read_bytes() == b"one\ntwo\n", "the part that was written is taken back"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("call", ["write", "fsync"])
async def test_a_failing_disk_is_tried_again(path, monkeypatch, number, call):
    real = getattr(os, call)

    def failing(*arguments):
        if call == "write":
            real(arguments[0], bytes(arguments[1])[:10])
        raise OSError(number, os.strerror(number))

    async with exporter(path) as destination:
        await destination.send([trace(1)])
        before = path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(f"tss.edges.files.lines.os.{call}", failing)
            outcome = await destination.send([trace(2)])
        assert outcome == Again("disk", f"{path}: {os.strerror(number)}")
        assert path.read_bytes() == before
        assert await destination.send([trace(2)]) == Accepted()
    assert spans_in(path) == span_ids([trace(1), trace(2)])


def test_a_short_write_is_gone_on_with(path, monkeypatch):
    real = os.write
    file = LineFile(str(path), begins=b"", fsync=False)
    writes = 0

    def short(descriptor: int, data: bytes) -> int:
        nonlocal writes
        writes += 1
        assert writes <= 5, "32 bytes are five times seven at most: it writes the line again and again"
        return real(descriptor, bytes(data)[:7])

    monkeypatch.setattr("tss.edges.files.lines.os.write", short)
    file.append(b"a line of more than seven bytes\n")
    file.close()
    assert path.read_bytes() == b"a line of more than seven bytes\n"


_WRITER = """
import sys
import structlog
from tss.edges.files.lines import LineFile
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
name, path, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
file = LineFile(path, begins=b"", fsync=False)
for number in range(count):
    file.append(b"".join(b"%s %d %d %s\\n" % (name.encode(), number, at, b"x" * 3000) for at in range(40)))
    print(number, flush=True)
"""


def writer(name: str, path: Path, count: int):
    command = [sys.executable, "-c", _WRITER, name, str(path), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def test_processes_share_a_file(path):
    writers = [writer(name, path, 30) for name in "abc"]
    assert [each.wait() for each in writers] == [0, 0, 0]
    for each in writers:
        each.stdout.close()
    lines = path.read_bytes().splitlines()
    assert len(lines) == 3 * 30 * 40 and all(len(line.split()[3]) == 3000 for line in lines)
    for start in range(0, len(lines), 40):  # batches are not mixed
        assert len({tuple(line.split()[:2]) for line in lines[start : start + 40]}) == 1


def test_killed_while_writing(path):
    """kill -9 at any moment: what was said to be written is there, and every line is whole after the next start."""
    said: set[tuple[bytes, int]] = set()
    for round_ in range(3):
        name = f"r{round_}"
        with writer(name, path, 100_000) as child:
            first = child.stdout.readline()
            time.sleep(0.02 + 0.013 * round_)
            child.kill()
            numbers = [int(line) for line in (first + child.stdout.read()).split(b"\n")[:-1]]
        assert numbers
        said |= {(name.encode(), number) for number in numbers}
    LineFile(str(path), begins=b"", fsync=False).close()
    assert path.read_bytes().endswith(b"\n")
    lines = [line.split() for line in path.read_bytes().splitlines()]
    assert all(len(line) == 4 and len(line[3]) == 3000 for line in lines)
    assert said <= {(line[0], int(line[1])) for line in lines if line[2] == b"39"}


async def test_a_hanging_disk_can_be_left_behind(path):
    """Another process holds the lock and does not let go: stopping is bounded all the same (law 9)."""
    import fcntl

    with path.open("ab") as other:
        async with exporter(path) as destination:
            fcntl.flock(other, fcntl.LOCK_EX)
            with trio.move_on_after(0.1) as scope:
                await destination.send([trace(1)])
            assert scope.cancelled_caught
        fcntl.flock(other, fcntl.LOCK_UN)


def test_close_leaves_a_descriptor_that_is_in_use(path):
    file = LineFile(str(path), begins=b"", fsync=False)
    with file._busy:
        thread = threading.Thread(target=file.close)
        thread.start()
        thread.join(1)
        assert not thread.is_alive()
    os.fstat(file._descriptor)
    file.close()
    with pytest.raises(OSError):
        os.fstat(file._descriptor)


def test_no_descriptor_leaks(path):
    before = len([*Path("/proc/self/fd").iterdir()])
    file = LineFile(str(path), begins=b"", fsync=True)
    for number in range(5):
        path.rename(path.with_suffix(f".{number}"))
        file.append(b"x\n")
    file.close()
    assert len([*Path("/proc/self/fd").iterdir()]) == before
