"""librdkafka's properties, from the settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tss.edges.kafka_client.client_log import logger
from tss.settings import Kafka
from tss.settings.errors import MASK
from tss.settings.kinds.kafka import is_secret_property

STATISTICS_MS = 1000  # the shortest interval that librdkafka allows; ends and lags come from the statistics

# Records fetched ahead take memory beside maxBufferBytes, so this memory is small and its sum is known. The queue takes
# 16 MiB (one queue for all partitions). One answer may exceed that by 4 MiB, or by one larger record batch, for each
# broker. Bookkeeping takes some 400 bytes a message. Fetched batches count as they are sent, so compressed batches unpack
# to more. 16 MiB are 4000 records of 4 kB: 45 ms of work for the reader, in 8 polls. A broker on the same continent
# answers sooner.
_QUEUE_KIBIBYTES = 16 * 1024
_FETCH_BYTES = 4 * 1024 * 1024
_PARTITION_FETCH_BYTES = 1024 * 1024
# The fetcher rests this long when the queue is full. The default of 1 s is longer than the queue lasts: measured, a backlog
# of 470-byte records is then read five times slower (61 us a record instead of 12).
_FULL_QUEUE_MS = 10
_QUEUE_MESSAGES = 10_000  # for each partition; the default of 100 000 small messages takes 40 MB of bookkeeping

# A broker that does not answer for this long counts as away, and is reported (the default is 60 s). librdkafka adds the
# waiting times of fetches and joins.
_REQUEST_MS = 10_000

# An added partition is noticed within this time. Its records are not lost meanwhile (see kafka/lookup), but they are not
# read either, and librdkafka's default is 5 minutes. It costs one small request for each replica in this time. With the
# protocol `consumer` the brokers notice it themselves.
_TOPIC_LOOK_MS = 30_000
_POLL_MS = 300_000  # Kafka's default of max.poll.interval.ms; librdkafka refuses less than the session timeout


def client_config(kafka: Kafka, client_id: str) -> dict[str, object]:
    """Properties of the consumer, without callbacks. `kafka.properties` override all others; the settings refuse those
    that the daemon depends on."""
    config: dict[str, object] = {
        "bootstrap.servers": kafka.brokers,
        "group.id": kafka.consumer_group,
        "client.id": client_id,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # The start is decided at the assignment. A position that does not exist must be an error, not reset silently.
        "auto.offset.reset": "error",
        # Law 2: records of an aborted transaction must not be read. It is librdkafka's default too.
        "isolation.level": "read_committed",
        "statistics.interval.ms": STATISTICS_MS,
        "queued.max.messages.kbytes": _QUEUE_KIBIBYTES,
        "queued.min.messages": _QUEUE_MESSAGES,
        "fetch.queue.backoff.ms": _FULL_QUEUE_MS,
        "fetch.max.bytes": _FETCH_BYTES,
        "max.partition.fetch.bytes": _PARTITION_FETCH_BYTES,
        "socket.timeout.ms": _REQUEST_MS,
        # Law 6: changed bytes are not exported. They are fetched again, then skipped, counted and logged. With SSE4.2 it costs 0.1 ns a byte.
        "check.crcs": True,
        "topic.metadata.refresh.interval.ms": _TOPIC_LOOK_MS,
        "security.protocol": kafka.chosen_security_protocol,
        "group.protocol": kafka.group_protocol,
    }
    if kafka.static_membership:
        config["group.instance.id"] = client_id
    if kafka.group_protocol == "classic":
        # With the protocol `consumer` the brokers decide these, and librdkafka refuses them.
        config |= {
            "max.poll.interval.ms": max(_POLL_MS, kafka.session_timeout_ms),
            "partition.assignment.strategy": kafka.partition_assignment_strategy,
            "session.timeout.ms": kafka.session_timeout_ms,
            # Nine heartbeats before the session ends, but not more often than Kafka's default of 3 s.
            "heartbeat.interval.ms": min(3000, max(1, kafka.session_timeout_ms // 10)),
        }
    return config | _security(kafka) | dict(kafka.properties)


_CONNECTION = (
    "bootstrap.", "security.", "sasl.", "ssl.", "enable.ssl.", "socket.", "broker.", "reconnect.", "client.",
)  # fmt: skip


def connection_config(kafka: Kafka, client_id: str) -> dict[str, object]:
    """Properties of the connection to the brokers, for any client, producers too."""
    return {name: value for name, value in client_config(kafka, client_id).items() if name.startswith(_CONNECTION)}


def admin_config(kafka: Kafka, client_id: str) -> dict[str, Any]:
    """Properties of an admin client."""
    return connection_config(kafka, client_id) | {"logger": logger()}


def is_incremental(kafka: Kafka) -> bool:
    """Whether a rebalance names only the partitions that change (cooperative), or all of them (eager)."""
    return kafka.group_protocol == "consumer" or kafka.partition_assignment_strategy == "cooperative-sticky"


def without_secrets(text: str, config: Mapping[str, object]) -> str:
    """The text with the values of secret properties masked."""
    for name, value in config.items():
        if isinstance(value, str) and value and is_secret_property(name):
            text = text.replace(value, MASK)
    return text


def _security(kafka: Kafka) -> dict[str, object]:
    protocol = kafka.chosen_security_protocol
    config: dict[str, object] = {}
    if protocol.startswith("sasl_"):
        config |= {
            "sasl.mechanism": kafka.sasl_mechanism,
            "sasl.username": kafka.sasl_username,
            "sasl.password": kafka.sasl_password,
        }
    if protocol.endswith("ssl"):
        config["enable.ssl.certificate.verification"] = kafka.ssl_verify
        files = {
            "ssl.ca.location": kafka.ssl_ca_location,
            "ssl.certificate.location": kafka.ssl_certificate_location,
            "ssl.key.location": kafka.ssl_key_location,
            "ssl.key.password": kafka.ssl_key_password,
        }
        config |= {name: value for name, value in files.items() if value}
    return config


def unreadable_file(config: Mapping[str, object]) -> str:
    """The first TLS file that cannot be read, and the reason, which librdkafka does not report; empty if all can be read."""
    for name, path in config.items():
        if name.startswith("ssl.") and name.endswith(".location"):
            try:
                Path(str(path)).open("rb").close()
            except OSError as error:
                if not isinstance(error, IsADirectoryError):  # a directory of certificates
                    return f"{name} {path}: {error.strerror}"
    return ""
