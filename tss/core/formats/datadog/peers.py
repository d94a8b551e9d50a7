"""Peer tags: the service, host or queue that a span called. Datadog's APM statistics are grouped by them.

Source: the Datadog agent (`pkg/trace/config/peer_tags.go`, `pkg/trace/stats/span_concentrator.go`,
`pkg/obfuscate/ip_address.go`). `tests/real/test_datadog_mapping.py` compares this with the agent's own code.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from tss.core.formats.datadog.naming import CLIENT, CONSUMER, INTERNAL, PRODUCER
from tss.core.formats.datadog.values import MAX_SERVICE, Value, cut, tag, text

BASE_SERVICE = "_dd.base_service"
_NAMES = frozenset((BASE_SERVICE, "peer.service"))  # Datadog treats their values as names of services

# The agent's peer tags, by what they name.
PEERS: Mapping[str, Sequence[str]] = {
    "base service": (BASE_SERVICE,),
    "service": ("peer.service",),
    "host": (
        *("peer.hostname", "hostname", "net.peer.name", "db.hostname", "network.destination.name", "grpc.host"),
        *("http.host", "server.address", "http.server_name", "out.host", "dns.hostname", "network.destination.ip"),
    ),
    "database": ("db.name", "mongodb.db", "db.instance", "cassandra.keyspace", "db.namespace"),
    "database system": ("db.system.name", "db.system", "active_record.db.vendor", "db.type", "sequel.db.vendor"),
    "Cassandra": ("db.cassandra.contact.points",),
    "Couchbase": ("db.couchbase.seed.nodes",),
    "messaging destination": (
        *("topicname", "messaging.destination", "messaging.destination.name", "messaging.rabbitmq.exchange"),
        *("amqp.destination", "amqp.queue", "amqp.exchange", "msmq.queue.path", "aws.queue.name"),
    ),
    "messaging system": ("messaging.system",),
    "Kafka": ("messaging.kafka.bootstrap.servers",),
    "RPC service": ("rpc.service",),
    "RPC system": ("rpc.system",),
    "S3": ("bucketname", "aws.s3.bucket"),
    "SQS": ("queuename",),
    "DynamoDB": ("tablename",),
    "Kinesis": ("streamname",),
}
PEER_TAGS: Sequence[str] = tuple(sorted(key for keys in PEERS.values() for key in keys))
_PEER_TAGS = frozenset(PEER_TAGS)
_WITH_PEERS = frozenset((CLIENT, PRODUCER, CONSUMER))  # Span.SpanKind


def peers_of(attributes: Mapping[str, Value]) -> Mapping[str, str]:
    """`key:value` by key, for each peer tag among the attributes of a span or of a resource. The text is empty if no character
    of the value is allowed in a tag."""
    values = {key: written for key in attributes.keys() & _PEER_TAGS if (written := text(attributes[key]))}
    return {key: _peer(key, _named(key, value)) for key, value in values.items()}


def peer_tags(kind: int, own: Mapping[str, Value], resource: Mapping[str, str]) -> list[str]:
    """`key:value` for each peer tag of a span, sorted, from its attributes and its resource's `peers_of`.

    An internal span has no peer; it has only `_dd.base_service`, if its service name was overridden.
    """
    if kind in _WITH_PEERS:
        return sorted(filter(None, {**resource, **peers_of(own)}.values()))
    if kind != INTERNAL:
        return []
    mine = peers_of({key: own[key] for key in (BASE_SERVICE,) if key in own})
    found = {**resource, **mine}.get(BASE_SERVICE)
    return [found] if found else []


def _peer(key: str, value: str) -> str:
    return f"{key}:{without_addresses(value)}" if value else ""


def _named(key: str, value: str) -> str:
    return tag(cut(value, MAX_SERVICE)) if key in _NAMES else value


MAX_REMEMBERED = 1024  # characters; longer values are not cached (law 5)
_SCHEMES = ("dnspoll", "ftp", "file", "http", "https")
_BLOCKED = "blocked-ip-address"
# Addresses that mean the same everywhere: the local host, and the metadata services of clouds.
_ALLOWED = frozenset(("127.0.0.1", "::1", "169.254.169.254", "fd00:ec2::254", "169.254.170.2"))
_OCTET = "(?:0|[1-9][0-9]{0,2})(?![0-9])"
_IPV4 = re.compile(rf"{_OCTET}([._-]){_OCTET}\1{_OCTET}\1{_OCTET}")
_IPV6 = re.compile(r"[0-9a-fA-F]*:.*", re.DOTALL)


def without_addresses(value: str) -> str:
    """Replace the IP addresses in a host, or in several hosts separated by commas, by one word.

    There are too many addresses to group by. Ports and host names are kept.
    """
    return _without_addresses(value) if len(value) <= MAX_REMEMBERED else _without_addresses.__wrapped__(value)


@lru_cache(4096)
def _without_addresses(value: str) -> str:
    return ",".join(dict.fromkeys(map(_without_address, value.split(","))))


def _without_address(host: str) -> str:
    before, rest = _before_host(host)
    name, port = _split_port(rest)
    address = _address(name)
    if not address or address in _ALLOWED:
        return host
    return f"{before}{_BLOCKED}{port and f':{port}'}{name[len(address) :]}"


def _before_host(host: str) -> tuple[str, str]:
    """The prefix before an address (`ip-` in EC2's names, the scheme of a URL), and the rest."""
    if host.startswith("ip-"):
        return "ip-", host[3:]
    for scheme in _SCHEMES:
        if (at := host.find(scheme)) < 0:
            continue
        for slashes in (":///", "://"):
            end = at + len(scheme) + len(slashes)
            if end < len(host) and host.startswith(slashes, at + len(scheme)):
                return host[at:end], host[end:]
    return "", host


def _split_port(host: str) -> tuple[str, str]:
    """Name and port; without a port, the whole text and "". Like Go's `net.SplitHostPort`."""
    name, colon, port = host.rpartition(":")
    if name.startswith("["):
        inner = name[1:-1]
        return (inner, port) if name.endswith("]") and not {"[", "]"} & set(inner + port) else (host, "")
    return (name, port) if colon and not {":", "[", "]"} & set(host.replace(":", "", 1)) else (host, "")


def _address(name: str) -> str:
    """The IPv4 address at the beginning of a name (with `.`, `-` or `_` between the numbers), or the IPv6 address that the whole
    name is; "" if there is none."""
    if found := _IPV4.match(name):
        too_high = any(int(octet) > 255 for octet in found[0].split(found[1]))
        return "" if too_high or name[found.end() :] == found[1] else found[0]
    return name if _IPV6.fullmatch(name) and _is_ipv6(name) else ""


def _is_ipv6(name: str) -> bool:
    try:
        ipaddress.IPv6Address(name)
    except ValueError:
        return False
    return True
