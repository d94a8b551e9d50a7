"""Replicas scale to one and back, a broker goes and comes, a partition is added: all under load, all accounted for."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]

from tests.real.brokers import Broker
from tests.real.daemon import until
from tests.real.fleet import LOAD, SHUTDOWN_SECS, Fleet, audit, lasting
from tests.real.load import Load
from tests.real.redis_server import RedisServer

pytestmark = pytest.mark.alone

SEED = int(os.environ.get("FLEET_SEED", "1"))
ALONE = "FLEET_ALONE" in os.environ  # without Redis, to compare
UNDER_LOAD_SECS = 2.0  # more than parkAfterSecs, so that long traces are parked when the next thing happens
PARK_SECS = 1
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


def test_law_1_and_2_a_partition_is_added_and_the_broker_dies(
    apache: Broker, tmp_path: Path, redis: RedisServer
) -> None:
    """What is written to a new partition before the group knows of it is read, too, though a new group would begin at
    the end; and the broker is killed under load, and comes back."""
    kafka = {"properties": {"topic.metadata.refresh.interval.ms": "2000"}, "autoOffsetReset": "latest"}
    few, more = 2, 4
    redis_or_none = None if ALONE else redis
    with Fleet.of(apache, tmp_path, "added", "ab", partitions=few, **sections(redis_or_none, **kafka)) as fleet:
        fleet.join(*"ab")
        fleet.settle(*"ab")
        with loaded(fleet, partition_of=lambda trace: trace.trace_id[0] % fleet.partitions) as load:
            time.sleep(1)
            admin = apache.admin()
            admin.create_partitions([NewPartitions(fleet.topic, more)])[fleet.topic].result(20)
            load.learn()
            fleet.group = attrs.evolve(fleet.group, partitions=more)
            fleet.partitions = more
            fleet.settle(*"ab")
            apache.kill()
            fleet.note("the broker is killed")
            time.sleep(2 * SESSION_MS / 1000)
            apache.start()
            fleet.note("the broker is back")
            before = load.records
            until(lambda: load.records > before, 30, "the traffic does not go on")
            fleet.note("the traffic goes on")
            fleet.settle(*"ab")
        fleet.note("the traffic ends")
        fleet.drain()
        fleet.note("all is done")
        print(f"\n{fleet.story()}\n{audit(load, fleet)}")
