"""Files that are put away: no line is lost or torn on the way, whoever does it, and nothing else is ever deleted."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import structlog.testing

from tests.edges.files.test_files import spans_in
from tests.edges.traces import span_ids, trace
from tss.core.delivery import Accepted, Again
from tss.edges.files.lines import LineFile
from tss.edges.files.otlp_json import open_file
from tss.edges.files.rotation import FinishedFiles, Rotation
from tss.settings import FileExporter


@pytest.fixture
def path(tmp_path):
    return tmp_path / "kept.jsonl"


def rotating(path: Path, clock=time.time, *, max_files: int = 0, max_age_secs: float = 0, **rules) -> LineFile:
    rotation = Rotation(FinishedFiles.beside(path, max_files, max_age_secs), **rules)
    return LineFile(str(path), begins=b"", fsync=True, rotation=rotation, clock=clock)


def put_away(path: Path) -> list[Path]:
    return sorted(path.parent.glob("kept-*.jsonl"))


def test_by_size(path):
    """No file is larger, but for one batch that is larger alone; the batch stays in one piece."""
    file = rotating(path, max_bytes=10)
    for line in (b"12345\n", b"123\n", b"1\n", b"x" * 20 + b"\n", b"2\n"):
        file.append(line)
    file.close()
    assert [each.read_bytes() for each in put_away(path)] == [b"12345\n123\n", b"1\n", b"x" * 20 + b"\n"]
    assert path.read_bytes() == b"2\n"


def test_by_time(path):
    """At each full multiple of the period, with the first line after it; also when nobody ran at the turn."""
    now = 7200.0
    file = rotating(path, clock=lambda: now, period_secs=3600)
    for moment, line in ((7200, b"a\n"), (10_799.9, b"b\n"), (10_800, b"c\n"), (90_000, b"d\n")):
        now = moment
        file.append(line)
        os.utime(path, (moment, moment))
    file.close()
    assert [each.read_bytes() for each in put_away(path)] == [b"a\nb\n", b"c\n"]
    assert [each.name for each in put_away(path)] == [
        "kept-19700101T030000.000000Z.jsonl",
        "kept-19700102T010000.000000Z.jsonl",
    ]
    assert path.read_bytes() == b"d\n"


def test_without_a_rule_nothing_is_put_away(path):
    file = rotating(path)
    file.append(b"x" * 100_000 + b"\n")
    os.utime(path, (0, 0))
    file.append(b"y\n")
    file.close()
    assert put_away(path) == []


def test_a_torn_tail_does_not_go_along(path):
    file = rotating(path, max_bytes=8)
    file.append(b"one\n")
    with path.open("ab") as other:
        other.write(b"tor")
    file.append(b"three\n")
    file.close()
    assert [each.read_bytes() for each in put_away(path)] == [b"one\n"]
    assert path.read_bytes() == b"three\n"


def test_the_clock_may_stand_still(path):
    file = rotating(path, clock=lambda: 5.0, max_bytes=1)
    for line in (b"1\n", b"2\n", b"3\n"):
        file.append(line)
    file.close()
    assert sorted(each.read_bytes() for each in put_away(path)) == [b"1\n", b"2\n"]


def test_only_put_away_files_are_deleted_and_the_oldest_first(path):
    """Neither the file in use nor a neighbour that only looks alike, whatever its age."""
    neighbours = ["kept-mine.jsonl", "kept-20200101.jsonl", "kept-20200101T000000.000000Z.jsonl.gz", "other.jsonl"]
    neighbours += ["kept2-20200101T000000.000000Z.jsonl", "kept-20209901T000000.000000Z.jsonl"]
    neighbours += ["kept-20200101T000000.000000Z-keep.jsonl"]  # somebody wants it to stay
    for name in neighbours:
        (path.parent / name).write_bytes(b"mine\n")
    file = rotating(path, max_bytes=1, max_files=2)
    for number in range(6):
        file.append(b"%d\n" % number)
    file.close()
    for name in neighbours:
        (path.parent / name).unlink()
    assert [each.read_bytes() for each in put_away(path)] == [b"3\n", b"4\n"]
    assert path.read_bytes() == b"5\n"


def test_by_age_in_the_name(path):
    now = 1000.0
    file = rotating(path, clock=lambda: now, max_bytes=1, max_age_secs=100)
    for moment in (1000, 1050, 1101, 1151):
        now = moment
        file.append(b"%d\n" % moment)
    file.close()
    assert [each.read_bytes() for each in put_away(path)] == [b"1050\n", b"1101\n"]  # put away at 1101 and 1151


def test_what_cannot_be_deleted_is_told_and_left(path):
    file = rotating(path, max_bytes=1, max_files=1)
    (path.parent / "kept-20200101T000000.000000Z.jsonl").mkdir()
    with structlog.testing.capture_logs() as logs:
        for line in (b"1\n", b"2\n", b"3\n"):
            file.append(line)
    file.close()
    assert "old file not deleted" in [entry["event"] for entry in logs]
    assert path.read_bytes() == b"3\n"


async def test_the_exporter_rotates(path):
    settings = FileExporter(name="file", path=str(path), rotate_bytes=3000, max_files=1000)
    async with open_file(settings) as destination:
        for number in range(20):
            assert await destination.send([trace(number)]) == Accepted()
    pieces = [*put_away(path), path]
    assert len(pieces) > 5 and all(each.stat().st_size <= 3000 for each in pieces)
    assert set().union(*map(spans_in, pieces)) == span_ids([trace(number) for number in range(20)])


async def test_a_name_that_cannot_be_given_is_tried_again(path, monkeypatch):
    def failing(*arguments):
        raise PermissionError(13, "Permission denied")

    settings = FileExporter(name="file", path=str(path), rotate_bytes=1)
    async with open_file(settings) as destination:
        await destination.send([trace(1)])
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", failing)
            assert await destination.send([trace(2)]) == Again("disk", f"{path}: Permission denied")
        assert await destination.send([trace(2)]) == Accepted()
    assert [spans_in(each) for each in (*put_away(path), path)] == [span_ids([trace(1)]), span_ids([trace(2)])]


_WRITER = """
import sys
from pathlib import Path
import structlog
from tss.edges.files.lines import LineFile
from tss.edges.files.rotation import Rotation, FinishedFiles
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
name, path, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
file = LineFile(str(path), begins=b"", fsync=False, rotation=Rotation(FinishedFiles.beside(path, 0, 0), max_bytes=50_000))
for number in range(count):
    file.append(b"".join(b"%s %d %d %s\\n" % (name.encode(), number, at, b"x" * 500) for at in range(10)))
    print(number, flush=True)
"""


def writer(name: str, path: Path, count: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", _WRITER, name, str(path), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def lines_in(path: Path) -> list[list[bytes]]:
    return [line.split() for each in (*put_away(path), path) for line in each.read_bytes().splitlines()]


def test_processes_share_a_file_that_rotates(path):
    """Each may put it away at any moment; every batch is in one file, whole, once."""
    writers = [writer(name, path, 200) for name in "abc"]
    for each in writers:
        each.communicate()
    assert [each.returncode for each in writers] == [0, 0, 0]
    found = sorted((line[0], int(line[1]), int(line[2])) for line in lines_in(path))
    assert found == [(name, number, at) for name in (b"a", b"b", b"c") for number in range(200) for at in range(10)]
    sizes = [each.stat().st_size for each in put_away(path)]
    assert len(sizes) > 50 and max(sizes) <= 50_000 and min(sizes) > 40_000


def test_law_1_killed_while_it_rotates(path):
    """kill -9 at any moment, while another process goes on and logrotate meddles: what was said to be written is there."""
    with writer("survivor", path, 3000) as survivor:
        said: set[tuple[bytes, int]] = set()
        for round_ in range(4):
            name = f"r{round_}"
            with writer(name, path, 100_000) as child:
                assert child.stdout is not None
                first = child.stdout.readline()
                with contextlib.suppress(FileNotFoundError):  # it has just been put away
                    path.rename(path.parent / f"kept-by-logrotate-{round_}.jsonl")
                time.sleep(0.02 + 0.011 * round_)
                child.kill()
                numbers = [int(line) for line in (first + child.stdout.read()).split(b"\n")[:-1]]
            said |= {(name.encode(), number) for number in numbers}
        survivor.communicate()
    assert survivor.returncode == 0 and said
    LineFile(str(path), begins=b"", fsync=False).close()
    found = lines_in(path)
    assert all(len(line) == 4 and len(line[3]) == 500 for line in found)
    whole = {(line[0], int(line[1])) for line in found if line[2] == b"9"}
    assert said | {(b"survivor", number) for number in range(3000)} <= whole


def test_a_file_of_somebody_elses_is_neither_added_to_nor_put_away(path):
    """One that came to the path while we ran."""
    rotation = Rotation(FinishedFiles.beside(path, 1, 0), max_bytes=1)
    file = LineFile(str(path), begins=b"ours ", fsync=False, rotation=rotation)
    file.append(b"ours 1\n")
    path.write_bytes(b"theirs\n")
    with pytest.raises(OSError, match="somebody else's"):
        file.append(b"ours 2\n")
    file.close()
    assert path.read_bytes() == b"theirs\n"
    assert put_away(path) == []
