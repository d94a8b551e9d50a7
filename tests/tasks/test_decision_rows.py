"""Rows of decisions: what is in them, where they go, and that nothing waits for them."""

from __future__ import annotations

import json
import resource
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import trio

from tests.core.spans import fragment, record, span, trace_id
from tests.fakes.meter import FakeMeter
from tests.tasks.test_tally import payload
from tss.core import measures
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.combining import Sampler
from tss.core.decision_rows import ROW_BYTES, LineWriter, Row, RowQueue
from tss.core.delivery import Accepted, Again, Batching, Outcome
from tss.core.evaluation import evaluate
from tss.core.health import Health, State
from tss.core.memory import Memory
from tss.core.partition import Partition
from tss.core.policies.probability import randomness
from tss.core.policies.rest import Rest
from tss.core.trace import Trace
from tss.edges.destinations import open_rows
from tss.settings import DecisionsExporter, Kafka
from tss.tasks import decision_rows
from tss.tasks.decision_rows import Writing

DECIDED_MS = 1_764_000_123_456


def decided(traces: int = 10, rate: float = 0.5) -> tuple[Buffer, list[Trace]]:
    sampler = Sampler([Rest(rate)])
    buffer = Buffer(Limits(1 << 30, 10**6, 10**6, 10**6), Waits(1000, 1000, 10**9), Memory(), program=sampler.program)
    home = Partition(0, 0, 300_000)
    for number in range(traces):
        part = fragment(number, root=True, ms=7, payload=payload(f"shop {number % 3}", span(number, 0)))
        buffer.add(home, record(number, 10, part), 0)
    buffer.reach(home, 100_000)
    found = evaluate(buffer.take(), sampler, buffer)
    return buffer, [*found.kept, *found.ended]


def queued(traces: Sequence[Trace], share: float = 1.0, max_rows: int = 1000) -> RowQueue:
    queue = RowQueue(max_rows * ROW_BYTES, share)
    queue.add(traces, DECIDED_MS)
    return queue


def test_a_row_says_all_of_a_decision_dropped_ones_too() -> None:
    buffer, traces = decided()
    rows = queued(traces).take(100)
    lines = [json.loads(line) for line in LineWriter(buffer.tally.names).lines(rows)]
    assert {line["verdict"] for line in lines} == {"keep", "drop"}
    [one] = [line for line in lines if line["trace_id"] == trace_id(1).hex()]
    assert one == {
        "trace_id": trace_id(1).hex(), "closed": "1970-01-01T00:01:38.000Z", "decided": "2025-11-24T16:02:03.456Z",
        "start": "1970-01-01T00:00:00.001Z", "duration_ns": 7_000_000, "spans": 1, "errors": 0,
        "bytes": len(payload("shop 1", span(1, 0))), "service": "shop 1", "root": "span 0",
        "verdict": one["verdict"], "policy": "default", "reason": "root_quiet", "rate": 0.5, "ruleset": "",
    }  # fmt: skip


def test_a_share_is_chosen_by_the_trace_id_and_a_larger_one_has_all_of_a_smaller() -> None:
    _, traces = decided(400)
    ids = [{row.trace_id for row in queued(traces, share).take(1000)} for share in (0.1, 0.5, 1.0)]
    assert ids[0] < ids[1] < ids[2] == {trace.trace_id for trace in traces}
    assert 20 < len(ids[0]) < 60 and 150 < len(ids[1]) < 250
    assert min(map(randomness, ids[1])) >= 1 << 55


def test_law_5_a_full_queue_loses_rows_and_counts_them() -> None:
    _, traces = decided(50)
    queue = queued(traces, max_rows=20)
    assert (len(queue), queue.take_lost(), queue.held_bytes) == (20, 30, 20 * ROW_BYTES)
    taken = queue.take(15)
    queue.add(traces, DECIDED_MS)
    assert (len(queue), queue.take_lost()) == (20, 50), "rows that are being written count until they are written"
    queue.done(taken)
    assert len(queue) == 5


class Place:
    """Takes rows, or not."""

    def __init__(self) -> None:
        self.name = "rows"
        self.batching = Batching(8, 1.0, 1)
        self.works = True
        self.taken: list[Row] = []

    async def send(self, rows: Sequence[Row]) -> Outcome:
        await trio.lowlevel.checkpoint()
        if not self.works:
            return Again("disk", "no space left on device")
        self.taken += rows
        return Accepted()


async def test_rows_wait_while_they_cannot_be_written_and_more_are_lost(autojump_clock) -> None:
    _, traces = decided(30)
    place, meter, health, done = Place(), FakeMeter(), Health(), trio.Event()
    queue = RowQueue(20 * ROW_BYTES)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(decision_rows.run, Writing(queue, place, meter, health), 1.0, done)
        queue.add(traces[:4], DECIDED_MS)
        await trio.sleep(3)
        assert len(place.taken) == 4
        place.works = False
        for _ in range(10):
            queue.add(traces, DECIDED_MS)
            await trio.sleep(5)
        assert "no space" in health.components["exporter rows"].detail
        assert meter.counted(measures.DECISION_ROWS, "rows", "lost") == 300 - 20
        place.works = True
        await trio.sleep(60)
        assert health.components["exporter rows"].state is State.UP
        assert len(place.taken) == 4 + 20
        queue.add(traces[:3], DECIDED_MS)
        done.set()
    assert meter.counted(measures.DECISION_ROWS, "rows", "written") == len(place.taken) == 4 + 20 + 3


async def test_law_9_what_cannot_be_written_at_the_end_is_counted_as_lost(autojump_clock) -> None:
    _, traces = decided(9)
    place, meter, done = Place(), FakeMeter(), trio.Event()
    place.works = False
    queue = queued(traces)
    done.set()
    await decision_rows.run(Writing(queue, place, meter, Health()), 1.0, done)
    assert meter.by_label(measures.DECISION_ROWS) == {("rows", "lost"): 9} and not len(queue)


async def test_lines_go_to_a_file_and_a_disk_without_room_takes_none(tmp_path: Path) -> None:
    buffer, traces = decided()
    rows = queued(traces).take(100)
    settings = DecisionsExporter(name="d", path=str(tmp_path / "decisions.jsonl"))
    async with open_rows(settings, Kafka(), "me", buffer.tally.names) as place:
        assert await place.send(rows) == Accepted()
        assert await place.send(rows[:1]) == Accepted()
        used = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, used[1]))  # stands for a full disk
        try:
            outcome = await place.send(rows)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, used)
        assert isinstance(outcome, Again) and outcome.reason == "disk"
    lines = [json.loads(line) for line in (tmp_path / "decisions.jsonl").read_text().splitlines()]
    assert len(lines) == 11 and lines[0] == lines[10]


async def test_parquet_has_the_same_rows_and_a_folder_that_vanished_is_told(tmp_path: Path) -> None:
    buffer, traces = decided()
    names = buffer.tally.names
    rows = queued(traces).take(100)
    folder = tmp_path / "decisions"
    async with open_rows(DecisionsExporter(name="d", via="parquet", path=str(folder)), Kafka(), "me", names) as place:
        assert await place.send(rows) == Accepted()
        [path] = folder.glob("decisions-*.parquet")
        found = pq.read_table(path).to_pylist()
        path.unlink()
        folder.rmdir()
        folder.write_text("in the way")
        outcome = await place.send(rows)
        assert isinstance(outcome, Again) and outcome.reason == "disk"
    lines = [json.loads(line) for line in LineWriter(names).lines(rows)]
    for name in (
        "trace_id",
        "duration_ns",
        "spans",
        "errors",
        "bytes",
        "service",
        "root",
        "verdict",
        "policy",
        "reason",
        "rate",
    ):
        assert [row[name] for row in found] == [line[name] for line in lines], name
    assert found[0]["closed"].isoformat(timespec="milliseconds").replace("+00:00", "Z") == lines[0]["closed"]
    assert found[0]["start"].isoformat(timespec="milliseconds").replace("+00:00", "Z") == lines[0]["start"]


async def test_a_broker_that_is_away_takes_no_rows_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tss.edges.kafka_output.decision_rows.MESSAGE_TIMEOUT_MS", 300)
    buffer, traces = decided()
    kafka = Kafka(brokers="127.0.0.1:1")
    settings = DecisionsExporter(name="d", via="kafka", topic="decisions")
    async with open_rows(settings, kafka, "me", buffer.tally.names) as place:
        outcome = await place.send(queued(traces).take(100))
    assert isinstance(outcome, Again) and outcome.reason == "kafka" and outcome.detail
