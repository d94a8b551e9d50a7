"""Records whose bytes changed on a broker's disk: what the client passes is counted and told, and the rest is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.real.brokers import Broker
from tests.real.daemon import file_spans, until
from tests.real.test_lifecycle import World, make_world, some_traces, spans

TRACES = 5


def spoil(place: World, sent: bytes) -> None:
    """Change a byte of these in the partition's file; the broker sends what is there."""
    (path,) = (place.broker.directory / "data" / f"{place.topic}-0").glob("*.log")
    data = bytearray(path.read_bytes())
    at = data.index(sent)
    with path.open("r+b") as file:
        file.seek(at + len(sent) // 2)
        file.write(bytes([data[at + len(sent) // 2] ^ 1]))


def test_law_4_a_batch_that_is_broken_on_the_broker_is_lost_counted_and_told(apache: Broker, tmp_path: Path) -> None:
    place = make_world(apache, tmp_path)
    batches = [some_traces(TRACES) for _ in range(3)]
    for batch in batches:
        place.send(*batch)
    spoil(place, batches[1][0].messages[0].value)
    with place.daemon as daemon:
        daemon.ready()
        until(lambda: {*file_spans(place.kept, written=False)} >= spans(batches[2]), 40, daemon.tail)
        told: list[dict[str, Any]] = daemon.said("records could not be read")
        assert daemon.metric("kafka_records_lost_total") == sum(line["lost_offsets"] for line in told) > 0
        daemon.stop()
    first, second = (sum(len(trace.messages) for trace in batch) for batch in batches[:2])
    assert min(line["from_offset"] for line in told) >= first
    assert max(line["to_offset"] for line in told) <= first + second
    assert "CRC" in told[0]["reason"]
    print([{name: line[name] for name in ("from_offset", "to_offset", "reason")} for line in told])
