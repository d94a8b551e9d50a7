"""Peer tags: whom a span talked to. That they are the agent's, `tests/real/test_datadog_mapping.py` proves."""

from __future__ import annotations

from typing import Any

import pytest

from tss.core.formats.datadog import PEER_TAGS, peer_tags, without_addresses
from tss.core.formats.datadog.peers import peers_of

UNSPECIFIED, INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = range(6)


@pytest.mark.parametrize("kind", [CLIENT, PRODUCER, CONSUMER])
def test_what_a_span_or_its_resource_says_of_the_other_side(kind):
    own: dict[str, Any] = {
        "server.address": "db.internal",
        "db.name": "",
        "messaging.system": "kafka",
        "port": 5432,
        "db.system": 7,
    }
    resource = {"server.address": "other", "db.name": "shop", "peer.service": "Cart Service"}
    assert peer_tags(kind, own, peers_of(resource)) == [
        "db.name:shop",
        "db.system:7",
        "messaging.system:kafka",
        "peer.service:cart_service",
        "server.address:db.internal",
    ]


def test_they_stand_in_the_order_of_the_whole():
    found = peer_tags(CLIENT, {"messaging.destination": "a", "messaging.destination.name": "b"}, {})
    assert found == ["messaging.destination.name:b", "messaging.destination:a"]


@pytest.mark.parametrize("kind", [UNSPECIFIED, SERVER, 77])
def test_a_server_has_no_peer(kind):
    assert peer_tags(kind, {"peer.service": "x", "_dd.base_service": "y"}, {}) == []


def test_an_internal_span_tells_only_whose_it_is():
    assert peer_tags(INTERNAL, {"peer.service": "x", "_dd.base_service": "Y"}, {}) == ["_dd.base_service:y"]
    assert peer_tags(INTERNAL, {"peer.service": "x"}, {}) == []


def test_a_name_with_nothing_in_it_is_none():
    assert peer_tags(CLIENT, {"peer.service": "!!!", "out.host": ","}, {}) == ["out.host:"]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("shop.example:443", "shop.example:443"),
        ("10.1.2.3", "blocked-ip-address"),
        ("10.1.2.3:443", "blocked-ip-address:443"),
        ("1-2-3-4", "blocked-ip-address"),
        ("ip-10-0-0-1.ec2.internal", "ip-blocked-ip-address.ec2.internal"),
        ("http://10.0.0.1:80", "http://blocked-ip-address:80"),
        ("[2001:db8::1]:443", "blocked-ip-address:443"),
        ("2001:db8::1", "blocked-ip-address"),
        ("10.0.0.1:9092,10.0.0.2:9092,kafka:9092", "blocked-ip-address:9092,kafka:9092"),
        ("127.0.0.1:80", "127.0.0.1:80"),
        ("169.254.169.254", "169.254.169.254"),
        ("256.1.1.1", "256.1.1.1"),
        ("1.2.3", "1.2.3"),
        ("db.shop.svc", "db.shop.svc"),
        ("10.1.2.3,10.1.2.4", "blocked-ip-address"),
        ("", ""),
    ],
)
def test_addresses_are_too_many_to_count_by(value, told):
    assert without_addresses(value) == told
    assert without_addresses(told) == told


def test_the_table():
    assert len(PEER_TAGS) == 44 and list(PEER_TAGS) == sorted(set(PEER_TAGS))
