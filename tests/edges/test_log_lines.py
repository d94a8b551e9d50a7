"""Whoever logs waits for nobody, and what is dropped is counted (law 9)."""

import io
import os
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tss.edges.log_lines import Lines

SECS = 30.0  # for a thread to have had its turn, on a busy machine


class Pipe:
    """A pipe in the place of stderr, with nobody who reads it but the test."""

    def __init__(self) -> None:
        self.read_fd, write_fd = os.pipe()
        self.stream = os.fdopen(write_fd, "w")

    def fill(self) -> int:
        os.set_blocking(self.stream.fileno(), False)
        filled = 0
        with suppress(BlockingIOError):
            while True:
                filled += os.write(self.stream.fileno(), b"." * 512)
        os.set_blocking(self.stream.fileno(), True)
        return filled

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += os.read(self.read_fd, size - len(data))
        return data


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    os.close(made.read_fd)  # a writer that hangs gets EPIPE, and its thread goes on
    made.stream.close()


def test_lines_come_out_in_their_order(pipe):
    lines = Lines(pipe.stream)
    for number in range(100):
        lines.write(f"line {number}")
    assert lines.flush(SECS)
    wanted = b"".join(b"line %d\n" % number for number in range(100))
    assert pipe.read(len(wanted)) == wanted
    assert lines.dropped == 0


@pytest.mark.parametrize(
    ("limits", "fit"), [({"max_lines": 5}, 5), ({"max_bytes": 100}, 10)], ids=["by lines", "by bytes"]
)
def test_law_9_a_stderr_that_nobody_reads_drops_what_finds_no_room(pipe, limits, fit):
    told: list[int] = []
    lines = Lines(pipe.stream, **limits)
    lines.tell = told.append
    filled = pipe.fill()
    lines.write("the first")  # the thread takes it, and hangs in it
    while lines._waiting:
        pass
    for number in range(1000):
        lines.write(f"line {number:04}")
    assert not lines.flush(0.01)
    assert lines.dropped == 1000 - fit
    assert not told
    pipe.read(filled)  # somebody reads again
    assert lines.flush(SECS)
    assert pipe.read(10) == b"the first\n"
    assert pipe.read(10 * fit) == b"".join(b"line %04d\n" % number for number in range(fit))
    assert told == [1000 - fit]


def test_a_descriptor_that_does_not_block_is_waited_for(pipe):
    lines = Lines(pipe.stream)
    filled = pipe.fill()
    os.set_blocking(pipe.stream.fileno(), False)
    lines.write("told")
    assert not lines.flush(0.2)
    pipe.read(filled)
    assert lines.flush(SECS)
    assert pipe.read(5) == b"told\n"
    assert lines.dropped == 0


def test_what_a_closed_stderr_does_not_take_is_counted(pipe):
    lines = Lines(pipe.stream)
    pipe.stream.close()
    lines.write("lost")
    assert lines.flush(SECS)
    assert lines.dropped == 1


def test_text_that_is_no_unicode_is_told(pipe):
    lines = Lines(pipe.stream)
    lines.write("half a pair: \ud800")
    assert lines.flush(SECS)
    assert pipe.read(20) == b"half a pair: \\ud800\n"


def test_a_line_larger_than_a_pipe_is_whole(pipe):
    lines = Lines(pipe.stream)
    lines.write("x" * 300_000)
    assert pipe.read(300_001) == b"x" * 300_000 + b"\n"
    assert lines.flush(SECS)


def test_what_is_no_file_is_written_to(pipe):
    stream = io.StringIO()
    lines = Lines(stream)
    lines.write("told")
    assert lines.flush(SECS)
    assert stream.getvalue() == "told\n"


def test_closing_ends_the_thread_once_all_is_written(pipe):
    lines = Lines(pipe.stream)
    lines.write("told")
    lines.close()
    assert pipe.read(5) == b"told\n"
    lines._thread.join(SECS)
    assert not lines._thread.is_alive()
