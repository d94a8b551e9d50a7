"""Redis's errors by what they mean, and how the way to Redis is read from the settings: without a server."""

from __future__ import annotations

import pytest
from redis import exceptions
from redis.sentinel import MasterNotFoundError

from tss.edges.redis import errors as reasons
from tss.edges.redis.endpoint import RedisEndpoint
from tss.edges.redis.errors import CallFailure, reason_of
from tss.settings import Redis


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (exceptions.TimeoutError("Timeout reading from socket"), reasons.TIMEOUT),
        (TimeoutError(), reasons.TIMEOUT),
        (exceptions.ConnectionError("Error 111 connecting to h:1. Connection refused."), reasons.CONNECT),
        (OSError("unreachable"), reasons.CONNECT),
        (exceptions.ConnectionError("Error 1 connecting: [SSL: CERTIFICATE_VERIFY_FAILED]"), reasons.TLS),
        (MasterNotFoundError("No master found for 'm'"), reasons.SENTINEL),
        (exceptions.AuthenticationError("WRONGPASS"), reasons.AUTH),
        (exceptions.NoPermissionError("this user has no permissions"), reasons.AUTH),
        (exceptions.ResponseError("NOAUTH Authentication required."), reasons.AUTH),
        (exceptions.BusyLoadingError("Redis is loading"), reasons.LOADING),
        (exceptions.ReadOnlyError("You can't write against a read only replica."), reasons.READONLY),
        (exceptions.ResponseError("MISCONF Redis is configured to save RDB snapshots"), reasons.READONLY),
        (exceptions.OutOfMemoryError("command not allowed"), reasons.OOM),
        (exceptions.ResponseError("OOM command not allowed when used memory > 'maxmemory'."), reasons.OOM),
        (exceptions.MovedError("1 127.0.0.1:1"), reasons.MOVED),
        (exceptions.ClusterDownError("CLUSTERDOWN"), reasons.MOVED),
        (exceptions.SlotNotCoveredError("slot"), reasons.MOVED),
        (exceptions.ResponseError("WRONGTYPE Operation against a key"), reasons.OTHER),
    ],
)
def test_errors_are_sorted(error: BaseException, reason: CallFailure):
    assert reason_of(error) is reason


def test_a_cluster_that_nobody_answers_for_is_what_kept_them_from_answering():
    error = exceptions.RedisClusterException("Redis Cluster cannot be connected.")
    error.__cause__ = exceptions.TimeoutError("Timeout connecting to server")
    assert reason_of(error) is reasons.TIMEOUT


def test_only_what_one_command_is_refused_for_lets_others_try():
    every = {value for value in vars(reasons).values() if isinstance(value, CallFailure)}
    assert {reason for reason in every if not reason.closes} == {reasons.OOM, reasons.OTHER}
    assert all("redis." in reason.check or not reason.closes or reason is reasons.LOADING for reason in every)


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        (Redis(url="redis://h"), "h:6379"),
        (Redis(url="redis://u:pw@h:7/1"), "h:7"),
        (Redis(url="redis://a,b:5", sentinel_master="m"), "a:26379,b:5"),
    ],
)
def test_the_address_has_the_usual_port_and_no_password(settings: Redis, address: str):
    assert RedisEndpoint.of(settings).address == address


def test_the_keys_beat_the_address():
    settings = Redis(url="redis://u:one@h/2", username="v", password="two")
    client = RedisEndpoint.of(settings).connect()
    options = client.connection_pool.connection_kwargs
    assert (options["username"], options["password"], options["db"]) == ("v", "two", 2)
    assert options["socket_timeout"] == options["socket_connect_timeout"] == 5
