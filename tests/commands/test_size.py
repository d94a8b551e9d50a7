"""`tss size`: what grows with what, and that its values are ones that the daemon and the chart take."""

import re
from pathlib import Path

import attrs
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bench.asks import twenty
from bench.corpus import Corpus
from tests.core.spans import scanned
from tss import __main__ as command
from tss.commands.parser import parse
from tss.commands.size import CPU_SHARE, SPANS_PER_CPU_SEC, Traffic, parked_bytes, sheet, size, traffic_of, values
from tss.core.otlp import Scanner
from tss.core.parked import to_frame
from tss.core.partition import Partition
from tss.core.trace import Trace
from tss.edges.redis.parking import FIELD_BYTES
from tss.settings import load
from tss.settings.memory import MIB, buffer_bytes

PAGE = Path(__file__).resolve().parents[2] / "docs" / "sizing.md"
TRAFFIC = st.builds(
    Traffic,
    rate=st.floats(1, 1e7),
    window=st.floats(1, 3600),
    spans_per_trace=st.floats(1, 1000),
    spans_per_record=st.floats(1, 100),
    keep=st.floats(0, 1),
    pod_mib=st.integers(256, 65536),
    redis=st.booleans(),
)


@given(TRAFFIC)
def test_the_pods_have_room_and_time_for_it(traffic: Traffic) -> None:
    found = size(traffic)
    assert found.pods >= 2
    assert found.pods * SPANS_PER_CPU_SEC * CPU_SHARE >= traffic.rate * 0.999
    assert found.held_bytes / found.pods <= buffer_bytes(traffic.pod_mib * MIB) / 2 * 1.001
    assert found.partitions >= found.pods


@given(TRAFFIC, st.floats(1, 10))
def test_more_traffic_or_longer_traces_never_need_less(traffic: Traffic, factor: float) -> None:
    found = size(traffic)
    for more in (
        attrs.evolve(traffic, rate=traffic.rate * factor),
        attrs.evolve(traffic, window=traffic.window * factor),
    ):
        assert size(more).pods >= found.pods
        assert size(more).retention_bytes >= found.retention_bytes


@pytest.mark.parametrize("spans", [1, 8, 50])
def test_a_parked_trace_takes_what_it_says(spans: int) -> None:
    """Of realistic traces, with the facts of twenty policies. Redis's own memory was measured: 1,004, 1,864 and 5,494 bytes."""
    program = twenty()
    scanner, home = Scanner(program), Partition(0, 0, 10**9)
    found = traces = 0
    for group in Corpus(spans).groups(40, 10**18):
        for _, value in group.records:
            offset = 10_000_000 + traces
            records = scanned(scanner, value, offset)
            trace = Trace(records.fragments(0)[0].trace_id, home, offset)
            trace.absorb(records, 0, program)
            home.ledger.read(offset)
            trace.hold(home, offset, records, 0)
            trace.first_ms = trace.last_ms = 1_700_000_000_000
            summary, chunks = trace.leave()
            found += len(summary.to_bytes()) + len(to_frame(-1, offset, chunks)) + 3 * FIELD_BYTES
            traces += 1
    assert parked_bytes(460, spans) == pytest.approx(found / traces, rel=0.1)


def test_redis_bounds_what_stays_in_memory() -> None:
    long = Traffic(rate=10_000, window=600)
    assert size(long).held_secs == 60
    assert size(attrs.evolve(long, redis=False)).held_secs == 600


@given(traffic=TRAFFIC)
def test_the_daemon_takes_what_it_says(traffic: Traffic, tmp_path_factory: pytest.TempPathFactory) -> None:
    config = values(traffic, size(traffic))["config"]
    file = tmp_path_factory.mktemp("size") / "tss.yaml"
    file.write_text(yaml.safe_dump(config))
    found = load(str(file), {"TSS_KAFKA_BROKERS": "a:1", "TSS_DATADOG_API_KEY": "k"})
    open_traces = size(traffic).open_traces
    assert found.app.max_buffer_traces >= 2 * open_traces
    assert found.app.max_buffer_spans >= 2 * open_traces * traffic.spans_per_trace * 0.999


def test_the_pages_examples_are_what_it_prints() -> None:
    examples = re.findall(r"```\n\$ python -m tss size (.*)\n([^`]*)\n```", PAGE.read_text())
    assert len(examples) == 3
    for arguments, printed in examples:
        assert sheet(traffic_of(parse(["size", *arguments.split()], "tss"))).rstrip() == printed


def test_it_is_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["size", "--rate", "1000", "--window", "40"]) == 0
    assert "spans a second" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rate", "0", "--window", "40"], "--rate: '0' is no number above 0"),
        (["--rate", "many", "--window", "40"], "--rate: 'many' is no number above 0"),
        (["--rate", "1", "--window", "inf"], "--window: 'inf' is no number above 0"),
        (["--rate", "1", "--window", "1", "--keep", "5"], "--keep: '5' is no share, 0 to 1"),
        (["--rate", "1", "--window", "1", "--pod-mib", "64"], "--pod-mib: '64' is no number of MiB, 256 or more"),
        (["--rate", "1"], "required: --window"),
    ],
)
def test_a_wrong_figure_is_told(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["size", *arguments])
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"), [(["sizes"], "'size'"), (["--config", "a", "size"], "size comes first")]
)
def test_what_is_a_command_is_told(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert words in capsys.readouterr().err
