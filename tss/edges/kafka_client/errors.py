"""Kafka's errors, sorted once: which are fatal, and what an operator should check."""

from __future__ import annotations

import re
from collections.abc import Mapping

from confluent_kafka import KafkaError, KafkaException

HEADLINE = "Failed to connect to Kafka"

_GROUP = "check kafka.consumerGroup and the ACLs of the group"
_FENCED = "check that app.instanceId is of one replica only, since kafka.staticMembership is true"
CHECK_PROTOCOL = (
    "check kafka.groupProtocol: consumer needs Apache Kafka 4, or another broker that has KIP-848 switched on"
)
# librdkafka ends with one error name for all fatal errors. Only the text says which error it was.
_ENDED = {
    "instance": _FENCED,
    "API version not supported": CHECK_PROTOCOL,
    "assignor": "check group.remote.assignor in kafka.properties",
    "group has reached its maximum": "check the number of replicas against the brokers' group.max.size",
}
# By librdkafka's name: errors that do not go away without a change, and what to check.
FATAL: Mapping[str, str] = {
    "_FATAL": "check the kafka section",
    "_AUTHENTICATION": "check kafka.saslUsername, kafka.saslPassword, kafka.saslMechanism and kafka.securityProtocol",
    "SASL_AUTHENTICATION_FAILED": "check kafka.saslUsername, kafka.saslPassword and kafka.saslMechanism",
    "UNSUPPORTED_SASL_MECHANISM": "check kafka.saslMechanism",
    "ILLEGAL_SASL_STATE": "check kafka.securityProtocol",
    "GROUP_AUTHORIZATION_FAILED": _GROUP,
    "TOPIC_AUTHORIZATION_FAILED": "check kafka.inputTopic and the ACLs of the topic",
    "CLUSTER_AUTHORIZATION_FAILED": "check the ACLs of the cluster",
    "INVALID_GROUP_ID": "check kafka.consumerGroup",
    "INCONSISTENT_GROUP_PROTOCOL": "check kafka.partitionAssignmentStrategy: all replicas must have the same",
    "INVALID_SESSION_TIMEOUT": "check kafka.sessionTimeoutMs against the brokers' group.min/max.session.timeout.ms",
    "TOPIC_EXCEPTION": "check kafka.inputTopic",
    "FENCED_INSTANCE_ID": _FENCED,
    "UNRELEASED_INSTANCE_ID": _FENCED,
    "UNSUPPORTED_ASSIGNOR": "check group.remote.assignor in kafka.properties",
    "GROUP_MAX_SIZE_REACHED": "check the number of replicas against the brokers' group.max.size",
    "_UNSUPPORTED_FEATURE": "check kafka.properties",
    "UNSUPPORTED_VERSION": CHECK_PROTOCOL,
    "_INVALID_ARG": "check the kafka section",
    "_SSL": "check kafka.sslCaLocation, kafka.sslCertificateLocation and the brokers' certificates",
}
TOPIC_MISSING = frozenset({"UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION", "UNKNOWN_TOPIC_ID"})
# A TLS handshake that fails because of a certificate fails again. Others may fail because a broker was stopping.
_CERTIFICATE = re.compile(r"certificate|unknown ca", re.IGNORECASE)
# A broker that stops during a login is also reported as _AUTHENTICATION, with one of these local reasons.
_INTERRUPTED = re.compile(r"failed: Local: |Disconnected|timed out", re.IGNORECASE)


def is_fatal(error: KafkaError) -> bool:
    """Whether trying again is pointless."""
    name = error.name()
    if error.fatal():
        return True
    if name == "_SSL":
        return _CERTIFICATE.search(said(error)) is not None
    if name == "_AUTHENTICATION":
        return _INTERRUPTED.search(said(error)) is None
    return name in FATAL


def cause_of(error: KafkaException) -> KafkaError:
    """The client's error in an exception."""
    cause: KafkaError = error.args[0]
    return cause


def said(error: KafkaError) -> str:
    """The error's text. A broker may have put bytes into it that are not UTF-8: confluent-kafka raises, `str` replaces them."""
    try:
        return error.str()
    except (UnicodeDecodeError, SystemError):
        return str(error)


def advice(error: KafkaError) -> str:
    """What an operator should check after a fatal error."""
    if error.name() == "_FATAL":
        return next((check for words, check in _ENDED.items() if words in said(error)), FATAL["_FATAL"])
    return FATAL.get(error.name(), FATAL["_FATAL"])
