"""`redis`: the address, and the keys that must fit it."""

from collections.abc import Iterator

from tss.settings.checks.conflict import Conflict, pair
from tss.settings.errors import shown
from tss.settings.keys import camel
from tss.settings.redis_url import parse
from tss.settings.sections.redis import Redis


def conflicts(redis: Redis) -> Iterator[Conflict]:
    certificate, key = redis.ssl_certificate_location, redis.ssl_key_location
    yield from pair("redis.sslCertificateLocation", certificate, "redis.sslKeyLocation", key)
    if redis.ssl_ca_location and not redis.ssl_verify:
        keys = ("redis.sslVerify", "redis.sslCaLocation")
        yield Conflict(
            keys,
            "false",
            "true, since redis.sslCaLocation is set; with false, certificates are not checked against any CA",
        )
    if not redis.url:
        return
    address = parse(redis.url)
    if redis.cluster and redis.sentinel_master:
        keys = ("redis.sentinelMaster", "redis.cluster")
        yield Conflict(
            keys,
            shown(redis.sentinel_master),
            "nothing, since redis.cluster is true: a Redis Cluster fails over without Sentinels",
        )
    if redis.cluster and address.database:
        yield Conflict(
            ("redis.url", "redis.cluster"),
            f"database {address.database}",
            "database 0, since redis.cluster is true: a Redis Cluster has no other",
        )
    if len(address.hosts) > 1 and not (redis.cluster or redis.sentinel_master):
        hint = "set redis.cluster for a Redis Cluster, redis.sentinelMaster for Sentinels"
        yield Conflict(("redis.url",), f"{len(address.hosts)} hosts", "one host", hint)
    for name in ("ssl_ca_location", "ssl_certificate_location"):
        if getattr(redis, name) and not address.tls:
            yield Conflict(
                ("redis.url", f"redis.{camel(name)}"), "redis://", f"rediss://, since redis.{camel(name)} is set"
            )
