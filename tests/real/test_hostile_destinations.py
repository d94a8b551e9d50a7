"""Law 5 with everything joined: a daemon with all kinds of destinations, under traffic made to break it.

`test_hostile_bytes.py` measures what stands before the destinations, exactly. Here the real process reads a real topic, parks
in a real Redis and writes to real servers, and is to stay within its limit and what docs/operations.md says comes beside it.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.source import Sent
from tests.edges.traces import repeating, span_ids, trace
from tests.real.brokers import Tansu
from tests.real.daemon import Daemon, Section, until
from tests.real.redis_server import RedisServer
from tests.real.test_lifecycle import World, make_world
from tests.sinks import DatadogIntakeSink, DatadogSink, OtlpSink
from tss.core.trace import Trace

pytestmark = pytest.mark.alone

MIB = 1 << 20
LIMIT_MIB = 64
# Beside it: batches under way to two Datadog destinations, 40 MB each, and a Parquet file, 150 MB. Four at once to each, all
# of the worst kind, would be more; that one encodes at a time keeps it below.
BESIDE_MIB = 350
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
KEY_BYTES = HEADER_BYTES = 4_000  # of an unreadable record

ABSURD = [repeating(number, 400, 2_000) for number in range(2)]  # 530 kB, and 814 MB as Datadog spans
LONG = [repeating(100 + number, 25, 1_100) for number in range(8)]  # 93 kB, and 29 MB
WIDE = [repeating(200 + number, 300, 8) for number in range(60)]  # 300 kB: hardly more than a resource
USUAL = [trace(1_000 + number, pieces=1) for number in range(300)]


def resident(daemon: Daemon) -> int:
    return int(Path(f"/proc/{daemon.process.pid}/statm").read_text().split()[1]) * PAGE_BYTES


def sent(each: Trace) -> Sent:
    return Sent(each.payload, key=each.trace_id.hex().encode())


def unreadable(number: int) -> Sent:
    return Sent(b"\xff" * 10_000, key=f"{number:0{KEY_BYTES}}".encode(), headers=(("h", b"x" * HEADER_BYTES),))


def world_of(tansu: Tansu, directory: Path, redis: RedisServer, sinks: dict[str, str]) -> World:
    quick: Section = {"batchTimeoutSecs": 0.2}
    exporters: list[Section] = [
        {"name": "agent", "type": "datadog", "via": "agent", "agentUrl": sinks["agent"], **quick},
        {"name": "intake", "type": "datadog", "via": "intake", "intakeUrl": sinks["intake"], "apiKey": "key", **quick},
        {"name": "otlp", "type": "otlp", "endpoint": sinks["otlp"], **quick},
        {"name": "file", "type": "file", "path": str(directory / "kept.jsonl")},
        {"name": "archive", "type": "parquet", "path": str(directory / "parquet"), "batchTimeoutSecs": 1},
    ]
    return make_world(
        tansu, directory, exporters=exporters, redis={"url": redis.url}, sampling={"defaultSampleRate": 1.0},
        app={"maxBufferBytes": LIMIT_MIB * MIB, "parkAfterSecs": 2}, spanMetrics={"enabled": True}, datadog={"stats": False},
    )  # fmt: skip


def letters(daemon: Daemon) -> list[dict[str, Any]]:
    path = daemon.directory / "dead-letters.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_law_5_destinations_stay_within_the_limit_and_what_is_said_to_come_beside_it(
    tansu: Tansu, redis: RedisServer, tmp_path: Path
) -> None:
    with DatadogSink() as agent, DatadogIntakeSink() as intake, OtlpSink() as otlp:
        sinks = {"agent": agent.url, "intake": intake.url, "otlp": otlp.url}
        world = world_of(tansu, tmp_path, redis, sinks)
        with world.daemon as daemon:
            daemon.ready()
            time.sleep(1)
            before = most = resident(daemon)
            world.produce(*map(sent, USUAL[:100]), *map(unreadable, range(100)), *map(sent, ABSURD[:1] + LONG[:4]))
            world.produce(*map(sent, [*WIDE, *USUAL[100:200], *ABSURD[1:], *LONG[4:], *USUAL[200:]]))
            deliverable = span_ids([*LONG, *WIDE, *USUAL])

            def is_done() -> bool:
                nonlocal most
                most = max(most, resident(daemon))
                assert most < before + (LIMIT_MIB + BESIDE_MIB) * MIB, f"{(most - before) / MIB:.0f} MiB"
                return deliverable <= agent.spans and deliverable <= intake.spans and deliverable <= otlp.spans

            until(is_done, 120, daemon.tail)
            until(lambda: len(letters(daemon)) >= 100 + 3 * len(ABSURD), 30, daemon.tail)
            world.run_until_done(daemon)
        print(f"\n{before / MIB:.0f} MiB at the start, at most {(most - before) / MIB:.0f} MiB more")
    assert otlp.spans >= span_ids(ABSURD), "OTLP has a resource once"
    absurd = {each.trace_id.hex() for each in ABSURD}
    refused = [each for each in letters(daemon) if each.get("destination")]
    assert {(each["destination"], each["trace_id"]) for each in refused} == {
        (name, trace_id) for name in ("agent", "intake", "archive") for trace_id in absurd
    }
    assert {each["reason"] for each in refused} == {"too_large"}
