"""One broker of each kind for the whole test session, started when first asked for."""

from collections.abc import Iterator

import pytest

from tests.real import redis_server
from tests.real.brokers import ApacheKafka, Broker, Tansu, running
from tests.real.redis_server import RedisServer


@pytest.fixture(scope="session")
def apache() -> Iterator[Broker]:
    """Apache Kafka."""
    with running(ApacheKafka) as broker:
        yield broker


@pytest.fixture(scope="session")
def tansu() -> Iterator[Broker]:
    """The embedded default."""
    with running(Tansu) as broker:
        yield broker


@pytest.fixture(scope="session")
def _redis() -> Iterator[RedisServer]:
    with redis_server.running() as server:
        yield server


@pytest.fixture
def redis(_redis: RedisServer) -> RedisServer:
    """A Redis that is empty; for tests that neither end nor freeze nor fill it."""
    _redis.flush()
    return _redis


@pytest.fixture(params=["apache", "tansu"])
def broker(request: pytest.FixtureRequest) -> Broker:
    """Either, the test runs on both."""
    found: Broker = request.getfixturevalue(request.param)
    return found
