"""Long traces handed over by way of a real Redis, to an owner whose destinations match by something else."""

from __future__ import annotations

from pathlib import Path

from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from tests.contracts.source import Sent
from tests.core.spans import message, span, span_id, trace_id
from tests.real.brokers import Broker
from tests.real.daemon import Daemon, Section, file_spans, until
from tests.real.redis_server import RedisServer
from tests.real.test_lifecycle import make_world

PLACES = (("gold", "eu"), ("iron", "us"), ("gold", "us"))  # tier and region of each trace


def record(trace: int, number: int, parent: int | None, **attributes: str) -> Sent:
    data = TracesData.FromString(message([span(trace, number, parent, error=True)]))
    for key, text in attributes.items():
        data.resource_spans[0].scope_spans[0].spans[0].attributes.add(key=key).value.string_value = text
    return Sent(data.SerializeToString(), key=trace_id(trace).hex().encode())


def to_files(directory: Path, key: str, *values: str) -> list[Section]:
    return [
        {
            "name": value,
            "type": "file",
            "path": str(directory / f"{value}.jsonl"),
            "match": {"attributes": {key: value}},
        }
        for value in values
    ]


def test_law_2_they_go_where_the_settings_of_their_owner_say(
    apache: Broker, redis: RedisServer, tmp_path: Path
) -> None:
    place = make_world(apache, tmp_path, exporters=to_files(tmp_path, "tier", "gold", "iron"), redis={"url": redis.url})
    place.config["app"] |= {"inactivityTimeoutSecs": 60}
    place.produce(*(record(number, 1, 0, tier=tier, region=region) for number, (tier, region) in enumerate(PLACES)))
    with Daemon(tmp_path / "first", place.config) as first, place.group() as group:
        first.ready()
        until(lambda: first.metric("buffer_traces_current") == len(PLACES), 20, first.tail)
        first.stop()
        assert group.committed()[0] == place.sent, "all of them are parked"
    config = place.config | {"exporters": to_files(tmp_path, "region", "eu", "us", "asia")}
    with Daemon(tmp_path / "second", config) as second:
        second.ready()
        assert second.metric("parked_traces_unlooked_total") == len(PLACES)
        place.produce(*(record(number, 0, None) for number in range(len(PLACES))))
        place.run_until_done(second)
        assert len(second.said("under other settings of policies or exporters[].match")) == 1
    for region in ("eu", "us", "asia"):
        wanted = [number for number, (_, where) in enumerate(PLACES) if where == region]
        got = sorted(file_spans(tmp_path / f"{region}.jsonl"))
        assert got == sorted((trace_id(number), span_id(each)) for number in wanted for each in (0, 1)), region
    assert not file_spans(tmp_path / "gold.jsonl") and not file_spans(tmp_path / "iron.jsonl")
