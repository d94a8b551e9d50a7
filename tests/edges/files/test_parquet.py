"""Kept traces as Parquet: what is said to be taken can be read, and nothing of a span is lost."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import structlog.testing
import trio
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status, TracesData

from tests.contracts.destination import World, check_destination
from tests.core.spans import span_id, trace_id
from tests.edges.traces import repeating, span_ids, trace, trace_of
from tests.faulty import drive, lost
from tss.core.delivery import Accepted, Again, Undeliverable
from tss.core.errors import WrongSetting
from tss.edges.files.lines import CannotOpen
from tss.edges.files.parquet import ParquetFolder, open_parquet
from tss.edges.files.parquet_table import COLUMNS, RAW, ROW_GROUP_BYTES, ROW_GROUP_ROWS, to_parquet
from tss.settings import ParquetExporter


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "kept"


@asynccontextmanager
async def exporter(folder: Path, **settings: Any) -> AsyncIterator[ParquetFolder]:
    async with open_parquet(
        ParquetExporter(name="archive", path=str(folder), batch_bytes=1 << 20, **settings)
    ) as open_:
        yield open_


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet"))


def table(folder: Path) -> Any:
    return pa.concat_tables([read(path) for path in files(folder)])


def read(path: Path) -> Any:
    """A file under its final name is whole, whenever it is looked at (law 1)."""
    try:
        return pq.read_table(path)
    except pa.ArrowInvalid as error:
        pytest.fail(f"{path.name}: {error}")


def spans_in(folder: Path) -> set[tuple[bytes, bytes]]:
    if not files(folder):
        return set()
    found = table(folder)
    pairs = zip(found["trace_id"].to_pylist(), found["span_id"].to_pylist(), strict=True)
    return {(bytes.fromhex(trace), bytes.fromhex(span)) for trace, span in pairs}


def only_row(folder: Path) -> dict[str, Any]:
    """Times as whole nanoseconds, for Python's own have only microseconds."""
    (batch,) = table(folder).to_batches()
    return {name: as_plain(column[0]) for name, column in zip(batch.schema.names, batch.columns, strict=True)}


def as_plain(value: Any) -> Any:
    if isinstance(value, pa.TimestampScalar):
        return value.value
    if isinstance(value, pa.StructScalar):
        return {name: as_plain(each) for name, each in value.items()}
    if isinstance(value, pa.ListScalar) and not isinstance(value, pa.MapScalar):
        return [as_plain(each) for each in value]
    return value.as_py()


async def test_contract(folder):
    elsewhere = folder.with_name("elsewhere")

    def go_away() -> None:  # a file is in the folder's place
        folder.rename(elsewhere)
        folder.touch()

    def come_back() -> None:
        if folder.is_file():
            folder.unlink()
            elsewhere.rename(folder)

    async with exporter(folder) as destination:
        await check_destination(World(destination, lambda: spans_in(folder), go_away, come_back))


async def test_each_batch_is_a_file_and_names_sort_by_time(folder):
    for number in range(3):  # also across starts
        async with exporter(folder) as destination:
            assert await destination.send([trace(2 * number), trace(2 * number + 1)]) == Accepted()
    firsts = [pq.read_table(path)["trace_id"][0].as_py() for path in files(folder)]
    assert firsts == [trace_id(number).hex() for number in (0, 2, 4)]
    assert [path.name for path in folder.iterdir() if path not in files(folder)] == []


FULL = Span(
    trace_id=trace_id(1),
    span_id=span_id(2),
    parent_span_id=span_id(1),
    trace_state="ot=th:8",
    flags=0x101,
    name="GET /cart",
    kind=Span.SPAN_KIND_SERVER,
    start_time_unix_nano=1_700_000_000_123_456_789,
    end_time_unix_nano=1_700_000_000_123_456_789 + 42,
    status=Status(code=Status.STATUS_CODE_ERROR, message="no cart"),
    dropped_attributes_count=7,
)


def _key(key: str, **value: Any) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(**value))


def full_message() -> TracesData:
    span = Span()
    span.CopyFrom(FULL)
    span.attributes.extend(
        [
            _key("text", string_value="ü"),
            _key("whole", int_value=-5),
            _key("truth", bool_value=True),
            _key("fraction", double_value=0.25),
            _key("bytes", bytes_value=b"\x00\xff"),
            _key("list", array_value=ArrayValue(values=[AnyValue(int_value=1), AnyValue(string_value="a")])),
            _key("map", kvlist_value=KeyValueList(values=[_key("k", bool_value=False)])),
        ]
    )
    span.events.add(name="exception", time_unix_nano=1_700_000_000_123_456_800).attributes.append(
        _key("exception.type", string_value="KeyError")
    )
    span.links.add(trace_id=trace_id(9), span_id=span_id(9), trace_state="a=b").attributes.append(
        _key("why", string_value="batch")
    )
    scope = ScopeSpans(scope=InstrumentationScope(name="lib", version="1.2"), spans=[span], schema_url="urn:scope")
    resource = Resource(attributes=[_key("service.name", string_value="cart"), _key("host", string_value="h1")])
    return TracesData(resource_spans=[ResourceSpans(resource=resource, scope_spans=[scope], schema_url="urn:res")])


async def test_every_column(folder):
    async with exporter(folder) as destination:
        await destination.send([trace_of([full_message().SerializeToString()], trace_id(1), rate=0.25)])
    row = only_row(folder)
    assert [*row] == [*COLUMNS, *RAW]
    assert {name: value for name, value in row.items() if name not in RAW} == {
        "trace_id": trace_id(1).hex(),
        "span_id": span_id(2).hex(),
        "parent_span_id": span_id(1).hex(),
        "service": "cart",
        "name": "GET /cart",
        "kind": "server",
        "start": 1_700_000_000_123_456_789,
        "duration_ns": 42,
        "status": "error",
        "status_message": "no cart",
        "attributes": [
            ("text", "ü"),
            ("whole", "-5"),
            ("truth", "true"),
            ("fraction", "0.25"),
            ("bytes", "AP8="),
            ("list", '[1,"a"]'),
            ("map", '{"k":false}'),
        ],
        "resource_attributes": [("service.name", "cart"), ("host", "h1")],
        "events": [
            {"time": 1_700_000_000_123_456_800, "name": "exception", "attributes": [("exception.type", "KeyError")]}
        ],
        "links": [
            {
                "trace_id": trace_id(9).hex(),
                "span_id": span_id(9).hex(),
                "trace_state": "a=b",
                "attributes": [("why", "batch")],
            }
        ],
        "scope_name": "lib",
        "scope_version": "1.2",
        "scope_attributes": [],
        "trace_state": "ot=th:8",
        "flags": 0x101,
        "decision_policy": "errors",
        "decision_reason": "root_quiet",
        "decision_rate": 0.25,
        "late": False,
    }


def test_times_are_exact_to_the_nanosecond():
    found = pq.read_table(pa.py_buffer(to_parquet([trace_of([full_message().SerializeToString()])], raw=False)))
    assert found.schema.field("start").type == pa.timestamp("ns", tz="UTC")
    assert found["start"].cast(pa.int64()).to_pylist() == [1_700_000_000_123_456_789]
    assert found["duration_ns"].to_pylist() == [42]


@pytest.mark.parametrize(
    ("start", "end", "seen_start", "seen_duration"),
    [
        (0, 5, None, None),
        (5, 0, 5, None),
        (9, 4, 9, -5),
        (2**64 - 1, 1, None, -(2**63 - 1)),
        (1, 2**64 - 1, 1, 2**63 - 1),
    ],
)
def test_times_that_cannot_be(start, end, seen_start, seen_duration):
    span = Span(trace_id=trace_id(1), span_id=span_id(1), start_time_unix_nano=start, end_time_unix_nano=end)
    message = TracesData(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[span])])]).SerializeToString()
    found = pq.read_table(pa.py_buffer(to_parquet([trace_of([message])], raw=True)))
    assert found["start"].cast(pa.int64()).to_pylist() == [seen_start]
    assert found["duration_ns"].to_pylist() == [seen_duration]


def _field(tag: int, content: bytes) -> bytes:
    length, size = len(content), b""
    while length > 0x7F:
        size += bytes((length & 0x7F | 0x80,))
        length >>= 7
    return bytes((tag << 3 | 2,)) + size + bytes((length,)) + content


async def test_law_6_the_bytes_are_kept(folder):
    """From the three columns the message can be put together again, unknown fields, schema addresses and all."""
    unknown = b"\xfa\x7f\x03abc"
    inner = full_message().resource_spans[0]
    span = inner.scope_spans[0].spans[0].SerializeToString() + unknown
    del inner.scope_spans[0].spans[:]
    scope = inner.scope_spans[0].SerializeToString() + unknown
    del inner.scope_spans[:]
    resource = inner.SerializeToString() + unknown
    payload = _field(1, resource + _field(2, scope + _field(2, span)))
    async with exporter(folder) as destination:
        await destination.send([trace_of([payload], trace_id(1))])
    row = only_row(folder)
    assert (row["otlp_resource"], row["otlp_scope"], row["otlp_span"]) == (resource, scope, span)


async def test_without_raw_the_bytes_are_not_there(folder):
    async with exporter(folder, raw=False) as destination:
        await destination.send([trace(1)])
    assert table(folder).column_names == [*COLUMNS]


def test_an_analysis():
    """What it is for: the slowest operations of each service, over files and groups of rows."""
    traces = [trace(number, pieces=1, spans=40) for number in range(ROW_GROUP_ROWS // 40 + 100)]
    content = pa.py_buffer(to_parquet(traces, raw=True))
    assert pq.ParquetFile(content).num_row_groups == 2
    groups = pq.read_table(content).group_by("name").aggregate([("duration_ns", "max"), ("span_id", "count")])
    assert groups.num_rows == 40
    assert set(groups["span_id_count"].to_pylist()) == {len(traces)}
    assert pc.max(groups["duration_ns_max"]).as_py() == 1_000_000


async def test_a_trace_that_cannot_be_read_spoils_no_file(folder):
    async with exporter(folder) as destination:
        outcome = await destination.send([trace(2), trace_of([b"\x0a\xff"], trace_id(3))])
        assert isinstance(outcome, Undeliverable) and outcome.reason == "unencodable"
        assert files(folder) == []
        driven = await drive([destination], [[trace(2), trace_of([b"\x0a\xff"], trace_id(3))]])
    assert spans_in(folder) == span_ids([trace(2)])
    assert driven.put_aside == {(trace_id(3).hex(), "archive"): 1}


async def test_through_the_exporter_nothing_is_lost(folder):
    sent = [trace(number) for number in range(25)]
    async with exporter(folder, batch_size=10, batch_timeout_secs=0.05) as destination:
        driven = await drive([destination], [sent[:3], sent[3:]])
    assert lost(driven, "archive", spans_in(folder), sent) == set()
    assert [pq.read_metadata(path).num_rows for path in files(folder)] == [60, 60, 30]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("call", ["os.fsync", "Path.rename"])
async def test_a_failing_disk_is_tried_again(folder, monkeypatch, number, call):
    def failing(*arguments):
        raise OSError(number, os.strerror(number))

    async with exporter(folder) as destination:
        with monkeypatch.context() as patch:
            patch.setattr(f"tss.edges.files.parquet.{call}", failing)
            outcome = await destination.send([trace(1)])
        assert outcome == Again("disk", f"{folder}: {os.strerror(number)}")
        assert [*folder.iterdir()] == []
        assert await destination.send([trace(1)]) == Accepted()
    assert spans_in(folder) == span_ids([trace(1)])


async def test_law_1_the_name_comes_after_the_bytes_and_the_answer_after_the_name(folder, monkeypatch):
    """The order of what reaches the disk: content, then name, then the folder."""
    done: list[str] = []
    real_fsync, real_rename = os.fsync, Path.rename

    def fsync(descriptor):
        done.append("folder" if Path(f"/proc/self/fd/{descriptor}").resolve().is_dir() else "content")
        real_fsync(descriptor)

    def rename(self, target):
        done.append("name")
        return real_rename(self, target)

    async with exporter(folder) as destination:
        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(Path, "rename", rename)
        assert await destination.send([trace(1)]) == Accepted()
    assert done == ["content", "name", "folder"]


_WRITER = """
import sys, trio, structlog
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
from tests.edges.traces import trace
from tss.edges.files.parquet import open_parquet
from tss.settings import ParquetExporter

async def main(path, first):
    async with open_parquet(ParquetExporter(name="a", path=path, batch_bytes=1 << 20)) as destination:
        for number in range(first, first + 1_000_000):
            await destination.send([trace(number, spans=200)])
            print(number, flush=True)

trio.run(main, sys.argv[1], int(sys.argv[2]))
"""


def test_law_1_killed_while_writing(folder):
    """kill -9 at any moment, two processes in one folder: what was said is there, and each file with a name is whole."""
    command = [sys.executable, "-c", _WRITER, str(folder)]
    said: set[int] = set()
    for round_ in range(3):
        starts = (round_ * 2_000_000, round_ * 2_000_000 + 1_000_000)
        children = [subprocess.Popen([*command, str(start)], stdout=subprocess.PIPE) for start in starts]
        for child, lines in zip(children, (3 + round_, 8), strict=True):
            assert child.stdout is not None
            for _ in range(lines):
                said.add(int(child.stdout.readline()))
        for child in children:
            assert child.stdout is not None
            child.send_signal(signal.SIGKILL)
            said |= {int(line) for line in child.stdout.read().split(b"\n")[:-1]}
            child.wait()
            child.stdout.close()
    assert len(said) >= 3 * (3 + 8)
    traces = {trace for trace, _ in spans_in(folder)}
    assert {trace_id(number) for number in said} <= traces
    assert set(pc.unique(table(folder).group_by("trace_id").aggregate([("span_id", "count")])["span_id_count"]).to_pylist()) == {400}  # fmt: skip


async def test_what_a_crash_left_is_deleted_when_it_is_old(folder):
    folder.mkdir()
    ours = "traces-20200101T000000.000000Z-pod-a-1-"
    old, young = (folder / f".{ours}{number:06}.parquet.tmp" for number in (1, 2))
    others = [folder / name for name in (".mine.tmp", ".traces-of-mine.parquet.tmp", f".{ours}copy.parquet.tmp")]
    for path in (old, young, *others):
        path.write_bytes(b"PAR1 torn")
    for path in (old, *others):
        os.utime(path, (0, 0))
    with structlog.testing.capture_logs() as logs:
        async with exporter(folder):
            pass
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in (young, *others))
    assert [entry["event"] for entry in logs] == [
        "deleted an unfinished file that a crash left; its traces are read again from Kafka"
    ]


async def test_only_so_many_files_are_kept(folder):
    folder.mkdir()
    names = [
        "traces-of-mine.parquet",
        "traces-20200101T000000.000000Z-mine.parquet",
        "traces-20200101T000000.000000Z.parquet",
    ]
    mine = [folder / name for name in names]
    for path in mine:
        path.touch()
    async with exporter(folder, max_files=2) as destination:
        for number in range(5):
            await destination.send([trace(number)])
    for path in mine:
        path.unlink()
    assert spans_in(folder) == span_ids([trace(3), trace(4)])


async def test_old_files_are_deleted_also_at_the_start(folder):
    async with exporter(folder) as destination:
        destination._clock = lambda: 1_000_000_000
        await destination.send([trace(1)])
    async with exporter(folder, max_age_secs=3600) as destination:
        assert files(folder) == []
        await destination.send([trace(2)])
    assert spans_in(folder) == span_ids([trace(2)])


async def test_without_limits_nothing_is_ever_deleted(folder):
    async with exporter(folder) as destination:
        destination._clock = lambda: 1_000_000_000
        await destination.send([trace(1)])
    async with exporter(folder):
        assert len(files(folder)) == 1


async def test_a_clock_that_is_set_back_overwrites_nothing(folder):
    for number in range(2):
        async with exporter(folder) as destination:
            destination._clock = lambda: 1_700_000_000.5
            await destination.send([trace(number)])
    assert spans_in(folder) == span_ids([trace(0), trace(1)])


@pytest.mark.parametrize("sort", ["file", "below a file"])
async def test_unusable_folder_is_said_at_the_start(folder, sort):
    folder.touch()
    path = folder if sort == "file" else folder / "below"
    with pytest.raises(CannotOpen) as caught:
        async with exporter(path):
            pass
    assert str(caught.value).startswith(f"{path}: cannot be opened for writing: ")


async def test_without_pyarrow_the_setting_is_refused_and_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "tss.edges.files.parquet_table")
    with pytest.raises(WrongSetting, match=r"exporters, archive: .*pip install 'tail-sampling-selector\[parquet\]'"):
        async with exporter(folder):
            pass


def test_nobody_else_pays_for_pyarrow():
    script = "import sys, tss.daemon; print(*[name for name in sys.modules if name.startswith('pyarrow')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


async def test_can_be_left_behind(folder, monkeypatch):
    """A disk that hangs: stopping is bounded all the same (law 9)."""
    import threading

    go_on = threading.Event()
    monkeypatch.setattr("tss.edges.files.parquet.os.fsync", lambda descriptor: go_on.wait(10))
    async with exporter(folder) as destination:
        with trio.move_on_after(0.2) as scope:
            await destination.send([trace(1)])
        assert scope.cancelled_caught
        go_on.set()


def test_rows_of_many_shapes_are_json_free():
    """Attributes are a map, so a reader asks for a key without parsing."""
    found = pq.read_table(pa.py_buffer(to_parquet([trace_of([full_message().SerializeToString()])], raw=False)))
    (value,) = pc.map_lookup(found["attributes"], pa.scalar("whole"), "first").to_pylist()
    assert json.loads(value) == -5


def test_rows_that_repeat_a_long_resource_are_written_few_at_once():
    sent = repeating(1, 20, 1200)
    written = pq.ParquetFile(pa.BufferReader(to_parquet([sent], raw=True)))
    assert written.metadata.num_rows == 1200
    groups = [written.metadata.row_group(number).num_rows for number in range(written.num_row_groups)]
    assert len(groups) > 1
    assert all(rows * 2 * 20_000 <= ROW_GROUP_BYTES for rows in groups), "twice: as attributes and as bytes"
    ids = written.read(["span_id"]).column(0).to_pylist()
    assert ids == [span_id(number).hex() for number in range(1200)]


async def test_a_trace_that_becomes_a_thousand_times_as_long_is_dead_lettered_alone(folder):
    sent = [trace(1), repeating(2, 400, 2000), trace(3)]
    async with exporter(folder) as destination:
        driven = await drive([destination], [sent])
    [letter] = driven.letters.letters
    assert (letter.trace_id, letter.reason) == (sent[1].trace_id.hex(), "too_large")
    assert letter.payload == sent[1].payload
    assert table(folder).num_rows == sum(each.held_spans for each in (sent[0], sent[2]))
