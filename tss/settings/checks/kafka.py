"""`kafka`: credentials, encryption, membership in the consumer group."""

import re
import socket
from collections.abc import Iterator

from tss.settings.checks.conflict import Conflict, pair
from tss.settings.errors import shown
from tss.settings.keys import camel
from tss.settings.model import Settings
from tss.settings.sections.kafka import Kafka


def conflicts(settings: Settings) -> Iterator[Conflict]:
    kafka = settings.kafka
    yield from pair("kafka.saslUsername", kafka.sasl_username, "kafka.saslPassword", kafka.sasl_password)
    yield from pair(
        "kafka.sslCertificateLocation", kafka.ssl_certificate_location, "kafka.sslKeyLocation", kafka.ssl_key_location
    )
    protocol = kafka.chosen_security_protocol
    keys = ("kafka.securityProtocol", "kafka.saslUsername")
    if kafka.sasl_username and not protocol.startswith("sasl_"):
        yield Conflict(keys, shown(protocol), "sasl_ssl or sasl_plaintext, since kafka.saslUsername is set")
    for name in ("ssl_ca_location", "ssl_certificate_location"):
        if getattr(kafka, name) and not protocol.endswith("ssl"):
            found, allowed = shown(protocol), f"ssl or sasl_ssl, since kafka.{camel(name)} is set"
            yield Conflict(("kafka.securityProtocol", f"kafka.{camel(name)}"), found, allowed)
    if protocol.startswith("sasl_") and not kafka.sasl_username and not kafka.sasl_password:
        yield Conflict(keys[::-1], "nothing", f"a user, since kafka.securityProtocol is {protocol}")
    yield from _membership(kafka, settings.app.instance_id or socket.gethostname())
    if kafka.scaler_group == kafka.consumer_group:
        allowed = "another group than kafka.consumerGroup: what is not done with would be skipped"
        yield Conflict(("kafka.scalerGroup", "kafka.consumerGroup"), shown(kafka.scaler_group), allowed)


# What librdkafka refuses to be told where the brokers decide, beside what has a key of its own.
_OF_THE_CLASSIC_PROTOCOL = ("heartbeat.interval.ms", "group.protocol.type")
# A pod of a Deployment (the letters and digits are those that Kubernetes draws from), a container without a name.
_PASSING_NAME = re.compile(r".+-[bcdfghjklmnpqrstvwxz2456789]{6,10}-[bcdfghjklmnpqrstvwxz2456789]{5}|[0-9a-f]{12}")
_MEMBER_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")  # as brokers and Java's clients want it


def _membership(kafka: Kafka, name: str) -> Iterator[Conflict]:
    if kafka.group_protocol == "consumer":
        for each in _OF_THE_CLASSIC_PROTOCOL:
            if each in kafka.properties:
                keys = (f"kafka.properties.{each}", "kafka.groupProtocol")
                yield Conflict(keys, each, "no such property, since kafka.groupProtocol is consumer")
    if not kafka.static_membership:
        return
    keys = ("app.instanceId", "kafka.staticMembership")
    if not _MEMBER_NAME.fullmatch(name):
        allowed = "letters, digits, dots, dashes and underscores, since kafka.staticMembership is true"
        yield Conflict(keys, shown(name), allowed)
    elif _PASSING_NAME.fullmatch(name):
        # Nobody with this name would come back, so each restart would leave its partitions unread for a session.
        allowed = "a name that the replica still has after a restart, since kafka.staticMembership is true"
        hint = "use a StatefulSet and its pods' names, or set app.instanceId, another for each replica"
        yield Conflict(keys, shown(name), allowed, hint)
