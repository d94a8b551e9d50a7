"""What of the fleet there is, by the settings; joined to a Redis that nobody can reach, which is no error."""

from __future__ import annotations

from contextlib import AsyncExitStack

import attrs
import pytest

from demo.servers import HOST, free_ports
from tests.fakes.meter import FakeMeter
from tss.core.force import Rulebook
from tss.core.health import Health
from tss.daemon.fleet import Fleet, open_fleet
from tss.edges.redis.parking import RedisParking
from tss.settings import App, FileExporter, ForceSampling, Kafka, KafkaExporter, Redis, Settings
from tss.state.crew import Crew

TO_TOPIC = {"kafka": Kafka(input_topic="t"), "exporters": (KafkaExporter(name="k", topic="kept"),)}


def with_redis() -> Settings:
    (port,) = free_ports(1)
    redis = Redis(url=f"redis://{HOST}:{port}", connection_timeout_secs=0.1)
    to_file = FileExporter(name="f", path="kept.jsonl")
    return Settings(kafka=Kafka(input_topic="t"), redis=redis, exporters=(to_file,))


async def fleet_of(settings: Settings) -> Fleet:
    async with AsyncExitStack() as opened:
        return await open_fleet(settings, opened, Rulebook(), FakeMeter(), Health(), Crew())


async def test_without_redis_there_is_none() -> None:
    assert await fleet_of(attrs.evolve(with_redis(), redis=Redis())) == Fleet()


async def test_with_redis_decisions_are_shared_and_traces_parked_for_longer_than_any_is_open() -> None:
    fleet = await fleet_of(attrs.evolve(with_redis(), app=App(max_trace_duration_secs=500)))
    assert fleet.sharing is not None
    assert fleet.parked is not None
    assert isinstance(fleet.parked.parking, RedisParking)
    assert fleet.parked.parking._ttl_secs == 3 * 86_400 + 500
    assert fleet.forcing is None, "without a token"


async def test_force_rules_want_a_token() -> None:
    settings = attrs.evolve(with_redis(), force_sampling=ForceSampling(admin_token="for-the-tests-alone"))
    assert (await fleet_of(settings)).forcing is not None


@pytest.mark.parametrize("more", [TO_TOPIC, {"kafka": Kafka(input_topic="t", enable_auto_commit=False)}])
async def test_nothing_is_parked_in_a_rehearsal_or_where_a_topic_remembers(more: dict[str, object]) -> None:
    fleet = await fleet_of(attrs.evolve(with_redis(), **more))  # type: ignore[arg-type]
    assert fleet.sharing is not None
    assert fleet.parked is None
