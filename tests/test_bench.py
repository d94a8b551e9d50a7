"""The pure parts of the benchmark, and that it counts what it says it counts."""

from __future__ import annotations

import gzip
import itertools
import sys
import time
import urllib.request
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench import against, plot
from bench.corpus import SCATTERED, SCATTERED_SPANS, SPAN_BYTES, USUAL, Corpus
from bench.daemon import quantile
from bench.floors import FLOORS
from bench.processes import BenchFailed, Child
from bench.runs import Run
from bench.sink import Taken
from bench.soak import DROPPED_LIMIT, KEPT_LIMIT, Cycle, Growth, Sample, counting, cycle_growth, steady_growth
from bench.table import Row
from bench.topic import Topic
from tests.real.brokers import Tansu

EPOCH_NS = 1_700_000_000_000_000_000
CORPORA = [*USUAL, Corpus(50, shape="mixed"), Corpus(5, shape="mixed", keep=0.5)]


def spans_of(value: bytes) -> list:
    message = ExportTraceServiceRequest.FromString(value)  # on the wire the same as a record
    return [span for resource in message.resource_spans for scope in resource.scope_spans for span in scope.spans]


@pytest.mark.parametrize("corpus", CORPORA, ids=str)
def test_a_corpus_is_what_its_name_says(corpus: Corpus) -> None:
    groups = list(corpus.groups(20, EPOCH_NS))
    traces, keys, failed = defaultdict(set), defaultdict(set), set()
    size = count = 0
    for group in groups:
        assert len(group.records) == corpus.group_records
        for key, value in group.records:
            spans = spans_of(value)
            assert len(spans) in (SCATTERED_SPANS if corpus.is_scattered else [corpus.record_spans])
            assert len({span.trace_id for span in spans}) == (corpus.record_spans if corpus.is_mixed else 1)
            size += len(value)
            for span in spans:
                count += 1
                traces[span.trace_id].add(span.span_id)
                keys[span.trace_id].add(key)
                if span.status.code:
                    failed.add(span.trace_id)
                assert 0 <= span.start_time_unix_nano - EPOCH_NS + (1 << 32) < 20 * 10**9
    assert len(traces) == 20 * corpus.group_traces
    assert sorted(map(len, traces.values())) == sorted(20 * [*map(sum, corpus.group_layout)])
    assert count == sum(map(len, traces.values())) == 20 * corpus.group_spans  # no span twice
    assert all(len(of_trace) == 1 for of_trace in keys.values())  # so a trace is on one partition
    assert {span for group in groups for span in group.keep} == {
        trace + span for trace in failed for span in traces[trace]
    }
    if corpus.is_scattered:
        assert SPAN_BYTES < size / count < 1.5 * SPAN_BYTES  # each record brings the whole resource
    else:
        assert size / count == pytest.approx(SPAN_BYTES, rel=0.01)


def test_a_scattered_trace_comes_as_a_collector_writes_it() -> None:
    (group,) = SCATTERED.groups(1, EPOCH_NS)
    records: defaultdict[bytes, list[int]] = defaultdict(list)
    services: defaultdict[bytes, set[str]] = defaultdict(set)
    for key, value in group.records:
        message = ExportTraceServiceRequest.FromString(value)
        (resource,) = message.resource_spans  # of one service
        records[key].append(len(spans_of(value)))
        services[key] |= {
            each.value.string_value for each in resource.resource.attributes if each.key == "service.name"
        }
        assert {span.trace_id.hex().encode() for span in spans_of(value)} == {key}
    assert sorted(map(len, records.values())) == [*range(5, 21)]
    assert {count for counts in records.values() for count in counts} == {1, 2, 3}
    assert min(map(len, services.values())) >= 2
    keys = [key for key, _ in group.records]
    assert any(before != after for before, after in itertools.pairwise(keys))  # the traces come interleaved


@pytest.mark.parametrize(
    "corpus", [Corpus(8, keep=0), Corpus(8), Corpus(8, shape="mixed"), Corpus(8, keep=1), SCATTERED], ids=str
)
def test_as_many_traces_fail_as_asked(corpus: Corpus) -> None:
    groups = 3000 // corpus.group_traces
    kept = sum(len(group.keep) for group in corpus.groups(groups, EPOCH_NS))
    assert kept / corpus.trace_spans / (groups * corpus.group_traces) == pytest.approx(corpus.keep, rel=0.25)


def test_a_corpus_is_the_same_each_time() -> None:
    assert list(Corpus(8).groups(50, EPOCH_NS)) == list(Corpus(8).groups(50, EPOCH_NS))


def test_what_the_sink_took_is_held_against_what_was_wanted(tmp_path: Path) -> None:
    (first, *_), (second, *_) = (group.records for group in Corpus(8).groups(2, EPOCH_NS))
    wanted = frozenset(span.trace_id + span.span_id for span in spans_of(first[1]))
    out = tmp_path / "taken"

    def write(body: bytes) -> None:
        with out.open("ab") as file:
            file.write(len(body).to_bytes(4, "big") + body)

    write(gzip.compress(first[1]))
    taken = Taken(out)
    assert taken.look() == 8
    assert not taken.amiss(wanted)
    assert "misses 1 of 9" in taken.amiss(wanted | {bytes(24)})
    write(first[1])
    assert "has 0 others, and 8 more than once" in taken.amiss(wanted)
    with out.open("ab") as file:
        file.write(len(second[1]).to_bytes(4, "big") + second[1][:-1])
    assert taken.look() == 16  # a request that is still being written
    with out.open("ab") as file:
        file.write(second[1][-1:])
    assert "has 8 others" in taken.amiss(wanted)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 0.005), (0.75, 0.015), (0.9, 0.02), (0.99, 0.02)], ids=lambda value: f"{value:g}"
)
def test_quantiles_are_interpolated(share: float, expected: float) -> None:
    buckets = {0.01: 100, 0.02: 150, float("inf"): 200} if share > 0.8 else {0.005: 50, 0.01: 50, 0.02: 100}
    assert quantile(share, buckets) == pytest.approx(expected)


def test_a_childs_children_count_too(tmp_path: Path) -> None:
    burn = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"
    ended = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])\n"
    living = f"subprocess.run([sys.executable, '-c', {burn + 'print(1, flush=True); time.sleep(60)'!r}])"
    with Child.running("parent", [sys.executable, "-c", ended + living], tmp_path) as child:
        child.wait_until(lambda: child.has_said("1"), "burnt")
        assert child.cpu_secs() >= 0.58
        assert child.peak_bytes() >= child.resident_bytes() > 10 << 20
        (_, below) = child.tree()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{below}/cmdline").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{below}").exists()  # nothing is left behind


def test_the_plot_shows_each_figure_in_well_formed_svg() -> None:
    run = {"spans_per_cpu_sec": 1_234_567.0, "peak_bytes": 99 << 20}
    rows = [{"corpus": "8 <keyed> 5 %", "runs": {"bare": run, "tss": run | {"peak_bytes": 123 << 20}}}]
    held = [{"consumer": "collector", "spans": 1_000_000, "peak_bytes": 1756 << 20}]
    svg = plot.drawn({"machine": "a machine", "rows": rows}, {"machine": "a machine", "held": held})
    texts = [element.text for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    for expected in ("8 <keyed> 5 %", "1.23 M", "99", "123", "1,756", "held open", "a machine"):
        assert expected in texts


def test_the_interval_of_nine_pairs_is_the_second_to_the_eighth() -> None:
    ratios = [0.91, 0.95, 0.97, 0.98, 1.0, 1.01, 1.02, 1.04, 1.30]
    assert against.interval(ratios[::-1]) == (0.95, 1.04)  # outside lie 2 * (1 + 9) / 2 ** 9: 4 %
    assert against.interval(ratios[:5]) == (0.91, 1.0)  # too few for 95 %: all of them


def run_of(spans_per_cpu_sec: float) -> Run:
    return Run(
        records=1_000, spans=8_000, cpu_secs=8_000 / spans_per_cpu_sec, wall_secs=1.0, peak_bytes=1 << 20,
        start_cpu_secs=0.5, start_wall_secs=0.5,
    )  # fmt: skip


def test_a_row_compares_within_a_turn_and_tells_the_spread(tmp_path: Path) -> None:
    topic = Topic(Tansu(tmp_path), "t", Corpus(8), 1_000, 1, frozenset(), 0, 0.0)  # no broker is asked
    row = Row(topic)
    for bare, ours in ((100.0, 10.0), (50.0, 6.0), (200.0, 18.0)):  # a machine that is now busy and now not
        row.add("bare", run_of(bare))
        row.add("tss", run_of(ours))
    share = row.share("tss", "bare")
    assert (share.median, share.least, share.most) == pytest.approx((0.10, 0.09, 0.12))
    assert row.ratio("tss") == pytest.approx(0.10)
    assert row.to_json()["runs"]["tss"]["spans_per_cpu_sec"] == pytest.approx(10.0)


def test_there_is_a_floor_for_a_usual_corpus() -> None:
    assert set(FLOORS) <= set(USUAL)
    assert all(0 < floor < 1 for floor in FLOORS.values())


def sample_of(minute: float, mib: float, kept: int = KEPT_LIMIT) -> Sample:
    said: dict[str, float] = {"decision_memory_kept_current": kept, "decision_memory_dropped_current": DROPPED_LIMIT}
    return Sample(60 * minute, int(mib * (1 << 20)), 0, said)


def test_memory_grows_when_the_last_fifth_is_above_the_second() -> None:
    def grown(mib: float) -> Growth:
        (growth,) = steady_growth(
            [sample_of(each, 300 if each < 12 else 200 + mib * (each > 40)) for each in range(61)]
        )
        return growth

    assert grown(7.9).is_too_much is False
    assert grown(8.1).is_too_much is True
    assert grown(-90).is_too_much is False
    assert "from 12 min: 200.0 MiB, later 209.0 MiB: +9.0 MiB of 8.0 allowed: too much" in str(grown(9))


def test_nothing_is_compared_before_the_memory_of_decisions_is_full() -> None:
    def samples(full: int) -> list[Sample]:
        return [sample_of(each, 100 + min(each, full), KEPT_LIMIT if each >= full else 0) for each in range(61)]

    (growth,) = steady_growth(samples(30))
    assert growth.grown_bytes == 0
    for late in (40, 100):
        with pytest.raises(BenchFailed, match="too short"):
            steady_growth(samples(late))


def test_cycles_are_compared_full_and_drained() -> None:
    def cycles(count: int, step: int) -> list[Cycle]:
        full = [sample_of(each, 400 + (each >= 9) * step) for each in range(count)]
        return [Cycle(each, sample_of(0, 150)) for each in full]

    assert [growth.is_too_much for growth in cycle_growth(cycles(20, 12))] == [False, False]  # three per cent
    assert [growth.is_too_much for growth in cycle_growth(cycles(20, 13))] == [True, False]
    with pytest.raises(BenchFailed, match="11 cycles say nothing"):
        cycle_growth(cycles(11, 0))


def test_a_counting_sink_keeps_nothing(tmp_path: Path) -> None:
    bodies = [gzip.compress(value) for group in Corpus(8).groups(3, EPOCH_NS) for _, value in group.records]
    with counting(tmp_path) as (address, taken):
        for body in bodies:
            with urllib.request.urlopen(f"{address}/v1/traces", body) as answer:
                assert answer.status == 200
        deadline = time.monotonic() + 5
        while taken.spans < 24 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert taken.spans == 24
        assert not (tmp_path / "taken").is_file()
