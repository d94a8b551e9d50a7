"""Where Redis is, from the settings, and redis-py's client for it: one server, a master named by Sentinels, a Cluster."""

from __future__ import annotations

from typing import Any, cast

import attrs
import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.retry import Retry

from tss.edges.tls import tls_context
from tss.settings import Redis
from tss.settings.redis_url import RedisUrl, parse

PORT, SENTINEL_PORT = 6379, 26379


@attrs.frozen
class RedisEndpoint:
    """Where Redis is. Connects only when a client is used."""

    settings: Redis
    url: RedisUrl

    @classmethod
    def of(cls, settings: Redis) -> RedisEndpoint:
        """Check everything that can be checked without Redis. Raises UnusableFile for a TLS file."""
        url = parse(settings.url)
        if url.tls:
            tls_context(settings)  # redis-py reads the files at each connection, and does not say which one is wrong
        return cls(settings, url)

    @property
    def address(self) -> str:
        """Hosts and ports, for logs and metrics."""
        return ",".join(f"{host}:{port}" for host, port in self._hosts)

    @property
    def _hosts(self) -> tuple[tuple[str, int], ...]:
        usual = SENTINEL_PORT if self.settings.sentinel_master else PORT
        return tuple((host, port or usual) for host, port in self.url.hosts)

    def connect(self) -> redis.Redis:
        """A new client. A Cluster is asked for its nodes at once, so this may raise what redis-py raises."""
        if self.settings.cluster:
            nodes = [ClusterNode(host, port) for host, port in self._hosts]  # type: ignore[no-untyped-call]
            options = self._options() | {
                # One retry, after the nodes were read again: a slot has moved, most often.
                "retry": Retry(NoBackoff(), 1),
                # Start from the configured names each time: all addresses behind them may change.
                "dynamic_startup_nodes": False,
            }
            return cast(redis.Redis, redis.RedisCluster(startup_nodes=nodes, **options))
        if self.settings.sentinel_master:
            return self._by_sentinel()
        [(host, port)] = self._hosts
        return redis.Redis(host=host, port=port, db=self.url.database, **self._options())

    def _by_sentinel(self) -> redis.Redis:
        to_sentinels = self._times() | self._tls() | {"password": self.settings.sentinel_password or None}
        options = self._options() | {"db": self.url.database}
        sentinel: Any = redis.Sentinel(self._hosts, sentinel_kwargs=to_sentinels, **options)  # type: ignore[no-untyped-call]
        return cast(redis.Redis, sentinel.master_for(self.settings.sentinel_master))

    def _options(self) -> dict[str, Any]:
        user = {
            "username": self.settings.username or self.url.username or None,
            "password": self.settings.password or self.url.password or None,
        }
        return self._times() | self._tls() | user

    def _times(self) -> dict[str, Any]:
        secs = self.settings.connection_timeout_secs
        return {
            "socket_timeout": secs,
            "socket_connect_timeout": secs,
            "socket_keepalive": True,
            "protocol": 2,  # it is enough, and proxies in front of Redis support it
            # None: a call must end within its limit, and its caller can do without Redis.
            "retry": Retry(NoBackoff(), 0),
        }

    def _tls(self) -> dict[str, Any]:
        if not self.url.tls:
            return {}
        files = self.settings
        return {
            "ssl": True,
            "ssl_ca_certs": files.ssl_ca_location or None,
            "ssl_certfile": files.ssl_certificate_location or None,
            "ssl_keyfile": files.ssl_key_location or None,
            "ssl_password": files.ssl_key_password,
            "ssl_cert_reqs": "required" if files.ssl_verify else "none",
            "ssl_check_hostname": files.ssl_verify,
        }
