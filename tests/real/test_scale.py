"""Replicas scale to one and back, a broker goes and comes, a partition is added: all under load, all accounted for."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]

from demo.traffic import Trace
from tests.real.brokers import Broker
from tests.real.daemon import until
from tests.real.fleet import LOAD, SHUTDOWN_SECS, Fleet, audit, lasting
from tests.real.load import Load
from tests.real.redis_server import RedisServer

SEED = int(os.environ.get("FLEET_SEED", "1"))
ALONE = "FLEET_ALONE" in os.environ  # without Redis, to compare
UNDER_LOAD_SECS = 3.0  # more than parkAfterSecs, so that long traces are parked when the next thing happens
PARK_SECS = 2
SESSION_MS = 1500


def sections(redis: RedisServer | None, **kafka: Any) -> dict[str, Any]:
    """With short sessions, and long traces parked soon."""
    kept = {"redis": {"url": redis.url}} if redis else {}
    return {"app": {"parkAfterSecs": PARK_SECS}, "kafka": {"sessionTimeoutMs": SESSION_MS, **kafka}, **kept}


@contextmanager
def loaded(fleet: Fleet, **more: Any) -> Iterator[Load]:
    """Under load, which goes on for a while before it is left."""
    with Load(fleet.broker.bootstrap, fleet.topic, SEED, LOAD, change=lasting(SEED), **more) as load:
        yield load
        time.sleep(UNDER_LOAD_SECS)


def scale_down_and_up(fleet: Fleet) -> dict[str, int]:
    """Three replicas to one and back, and to one again; returns the duplicates that each step made."""
    fleet.join(*"abc")
    fleet.settle(*"abc")
    time.sleep(UNDER_LOAD_SECS)
    steps = {"three": fleet.delivered.duplicates}
    assert fleet.leave("c") < SHUTDOWN_SECS
    assert fleet.leave("b") < SHUTDOWN_SECS
    fleet.settle("a")
    time.sleep(UNDER_LOAD_SECS)
    steps["one"] = fleet.delivered.duplicates
    fleet.join(*"bc")
    fleet.settle(*"abc")
    time.sleep(UNDER_LOAD_SECS)
    steps["three again"] = fleet.delivered.duplicates
    assert fleet.leave("a") < SHUTDOWN_SECS
    fleet.settle(*"bc")
    return steps


def test_law_1_2_and_9_three_to_one_and_back(apache: Broker, tmp_path: Path, redis: RedisServer) -> None:
    """With Redis nothing comes twice; without, what was open is read again, and what was kept of it is sent again."""
    with Fleet.of(apache, tmp_path, "scale", "abc", **sections(None if ALONE else redis)) as fleet:
        with loaded(fleet) as load:
            steps = scale_down_and_up(fleet)
        fleet.drain()
        accounts = audit(load, fleet)
        print(f"\nduplicates {steps}; {accounts}")
        assert ALONE or accounts.duplicates == 0, "\n".join((fleet.story(), *accounts.examples))


def test_scale_in_hands_over_the_position(apache: Broker, tmp_path: Path, redis: RedisServer) -> None:
    """SIGTERM parks what is open and commits: what is left uncommitted is what has come since, not the long traces."""
    with Fleet.of(apache, tmp_path, "hand-over", "ab", partitions=2, **sections(redis)) as fleet:
        with loaded(fleet) as load:
            fleet.join("a")
            fleet.settle("a")
            time.sleep(2 * UNDER_LOAD_SECS)
            read = fleet.replicas["a"].metric("kafka_records_read_total")
            took = fleet.leave("a")
            committed = sum(fleet.group.committed().values())
            fleet.join("b")
            fleet.settle("b")
        fleet.drain()
        accounts = audit(load, fleet)
        print(f"\nleft in {took:.2f} s; {read:.0f} records read before, {committed} committed after; {accounts}")
        assert committed >= read, "open traces held the low water back"
        assert accounts.duplicates == 0, accounts.examples


def test_law_1_and_2_the_broker_dies_and_comes_back(apache: Broker, tmp_path: Path, redis: RedisServer) -> None:
    with Fleet.of(apache, tmp_path, "broker", "ab", **sections(None if ALONE else redis)) as fleet:
        with loaded(fleet) as load:
            fleet.join(*"ab")
            fleet.settle(*"ab")
            time.sleep(1)
            apache.kill()
            fleet.note("the broker is killed")
            time.sleep(2 * SESSION_MS / 1000)
            apache.start()
            fleet.note("the broker is back")
            before = load.records
            until(lambda: load.records > before, 30, "the traffic does not go on")
            fleet.settle(*"ab")
        fleet.drain()
        print(f"\n{audit(load, fleet)}")


def test_law_1_a_partition_is_added(apache: Broker, tmp_path: Path) -> None:
    """What is written to it before the group knows of it is read, too, though a new group would begin at the end."""
    kafka = {"properties": {"topic.metadata.refresh.interval.ms": "5000"}, "autoOffsetReset": "latest"}
    topic, few, more = "added", 2, 4
    with Fleet.of(apache, tmp_path, topic, "ab", partitions=few, **sections(None, **kafka)) as fleet:
        fleet.join(*"ab")
        fleet.settle(*"ab")

        def place(trace: Trace) -> int:
            return trace.trace_id[0] % fleet.partitions  # a trace stays where it began, as each must

        with loaded(fleet, partition_of=place) as load:
            time.sleep(1)
            admin = apache.admin()
            admin.create_partitions([NewPartitions(topic, more)])[topic].result(20)
            load.learn()
            fleet.group = attrs.evolve(fleet.group, partitions=more)
            fleet.partitions = more
            fleet.settle(*"ab")
        fleet.drain()
        print(f"\n{audit(load, fleet)}")
