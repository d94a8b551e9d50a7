"""A producer's clock that is ahead: what the daemon says of it, and that a topic dated by its brokers does not know it."""

from __future__ import annotations

import time
from itertools import count
from pathlib import Path

import pytest

from demo.traffic import Trace
from tests.contracts.source import Sent
from tests.real.brokers import Broker
from tests.real.daemon import Section, file_spans, settings, until
from tests.real.kafka_world import produce
from tests.real.test_lifecycle import World, some_traces, spans

AHEAD_SECS = 290
EVENT = "a record's timestamp is ahead of the clock"
_topics = count(1)


def make_world(apache: Broker, directory: Path, dated_by: str) -> World:
    topic = f"clocks-{next(_topics)}"
    apache.create_topic(topic, 1, **{"message.timestamp.type": dated_by})
    to_file: list[Section] = [{"name": "file", "type": "file", "path": str(directory / "kept.jsonl")}]
    return World(
        apache, directory, topic, settings(apache.bootstrap, topic, app={"rootQuietSecs": 1}, exporters=to_file)
    )


def write(world: World, traces: list[Trace], ahead_secs: float = 0) -> None:
    dated = round((time.time() + ahead_secs) * 1000)
    records = [Sent(each.value, key=each.key, timestamp_ms=dated) for trace in traces for each in trace.messages]
    produce(world.broker.bootstrap, world.topic, records)


@pytest.mark.parametrize("dated_by", ["CreateTime", "LogAppendTime"])
def test_a_record_290_s_ahead(apache: Broker, tmp_path: Path, dated_by: str) -> None:
    world, (ahead, *others) = make_world(apache, tmp_path, dated_by), some_traces(6)
    with world.daemon as daemon:
        daemon.ready()
        write(world, [ahead], AHEAD_SECS)
        write(world, others)
        if dated_by == "CreateTime":
            until(lambda: daemon.said(EVENT), 10, daemon.tail)
            (said, *_) = daemon.said(EVENT)
            assert (said["partition"], said["offset"]) == (0, 0)
            assert AHEAD_SECS - 10 < said["ahead_secs"] <= AHEAD_SECS
            assert AHEAD_SECS - 20 < daemon.metric("stream_time_ahead_seconds") <= AHEAD_SECS
        else:  # nothing on its partition is delayed
            until(lambda: spans(others) <= {*file_spans(world.kept, written=False)}, 10, daemon.tail)
            assert daemon.said(EVENT) == []
            assert daemon.metric("stream_time_ahead_seconds") < 1
