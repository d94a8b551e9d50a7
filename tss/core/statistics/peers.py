"""Peer tags: who a span talks to, as far as statistics are told apart by it.

Source: the Datadog agent's own list (`pkg/trace/config/peer_tags.go`, 7.85) and its rule for addresses
(`pkg/obfuscate/ip_address.go`): one may be any of thousands, so that it is not told apart.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

from tss.core.datadog.naming import CLIENT, CONSUMER, INTERNAL, PRODUCER, UNSPECIFIED

BASE_SERVICE = "_dd.base_service"
# In the order in which the agent writes them.
PEER_TAGS = tuple(
    """
    _dd.base_service active_record.db.vendor amqp.destination amqp.exchange amqp.queue aws.queue.name aws.s3.bucket
    bucketname cassandra.keyspace db.cassandra.contact.points db.couchbase.seed.nodes db.hostname db.instance db.name
    db.namespace db.system db.system.name db.type dns.hostname grpc.host hostname http.host http.server_name
    messaging.destination messaging.destination.name messaging.kafka.bootstrap.servers messaging.rabbitmq.exchange
    messaging.system mongodb.db msmq.queue.path net.peer.name network.destination.ip network.destination.name out.host
    peer.hostname peer.service queuename rpc.service rpc.system sequel.db.vendor server.address streamname tablename
    topicname
    """.split()
)
_TALKING = frozenset((CLIENT, PRODUCER, CONSUMER))
_ALONE = frozenset((UNSPECIFIED, INTERNAL))

BLOCKED = "blocked-ip-address"
# Every host has them, so they name nobody.
_EVERYWHERE = frozenset(("127.0.0.1", "::1", "169.254.169.254", "fd00:ec2::254", "169.254.170.2"))
_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_V4 = re.compile(
    rf"(?P<before>ip-|(?:dnspoll|ftp|file|https?):/{{2,3}})?"
    rf"(?P<host>{_OCTET}(?P<by>[.\-_]){_OCTET}(?P=by){_OCTET}(?P=by){_OCTET})(?P<after>(?!\d).*)",
    re.ASCII | re.DOTALL,
)


def peer_tags(kind: int, own: Mapping[str, str]) -> tuple[str, ...]:
    """`key:value` of what names the peer of a span of this kind."""
    if kind in _TALKING:
        return tuple([f"{key}:{without_addresses(own[key])}" for key in PEER_TAGS if own.get(key)])
    if kind in _ALONE and own.get(BASE_SERVICE):
        return (f"{BASE_SERVICE}:{without_addresses(own[BASE_SERVICE])}",)
    return ()


def without_addresses(hosts: str) -> str:
    """A list of hosts, in which what is an address reads as a fixed word, each once."""
    return ",".join(dict.fromkeys(map(_without_address, hosts.split(","))))


def _without_address(host: str) -> str:
    if (found := _V4.fullmatch(host)) and _ends(found["after"]):
        return host if found["host"] in _EVERYWHERE else f"{found['before'] or ''}{BLOCKED}{found['after']}"
    name, port = _without_port(host)
    if ":" not in name or name in _EVERYWHERE:
        return host
    try:
        ipaddress.IPv6Address(name)
    except ValueError:
        return host
    return BLOCKED + port


def _ends(after: str) -> bool:
    """Whether an address may end where this begins: a dot or so needs something after it."""
    return after not in (".", "-", "_")


def _without_port(host: str) -> tuple[str, str]:
    if host.startswith("[") and "]:" in host:
        name, _, port = host[1:].partition("]:")
        return name, f":{port}"
    return host, ""
