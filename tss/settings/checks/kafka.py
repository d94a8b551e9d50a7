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
        # Records of unfinished traces would be skipped after a restart.
        allowed = "a group other than kafka.consumerGroup: its read positions would replace the committed offsets"
        yield Conflict(("kafka.scalerGroup", "kafka.consumerGroup"), shown(kafka.scaler_group), allowed)


# Properties that librdkafka refuses with `groupProtocol` consumer, beside those that have a key of their own.
_CLASSIC_ONLY = ("heartbeat.interval.ms", "group.protocol.type")
# Names that change with each start: a pod of a Deployment (Kubernetes uses these letters and digits), an unnamed container.
_TEMPORARY_NAME = re.compile(r".+-[bcdfghjklmnpqrstvwxz2456789]{6,10}-[bcdfghjklmnpqrstvwxz2456789]{5}|[0-9a-f]{12}")
_MEMBER_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")  # the rule of brokers and of Java's clients


def _membership(kafka: Kafka, name: str) -> Iterator[Conflict]:
    if kafka.group_protocol == "consumer":
        for each in _CLASSIC_ONLY:
            if each in kafka.properties:
                keys = (f"kafka.properties.{each}", "kafka.groupProtocol")
                yield Conflict(keys, each, "no such property, since kafka.groupProtocol is consumer")
    if not kafka.static_membership:
        return
    keys = ("app.instanceId", "kafka.staticMembership")
    if not _MEMBER_NAME.fullmatch(name):
        allowed = "letters, digits, dots, dashes and underscores, since kafka.staticMembership is true"
        yield Conflict(keys, shown(name), allowed)
    elif _TEMPORARY_NAME.fullmatch(name):
        # A restarted replica would have another name, so its old partitions would stay unread until the session ends.
        allowed = "a name that stays the same after a restart, since kafka.staticMembership is true"
        hint = "use a StatefulSet and its pods' names, or set a different app.instanceId for each replica"
        yield Conflict(keys, shown(name), allowed, hint)
