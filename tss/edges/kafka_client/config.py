"""Settings to librdkafka's properties."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tss.edges.kafka_client.client_log import logger
from tss.settings import Kafka
from tss.settings.errors import MASK
from tss.settings.kinds.kafka import is_secret_property

STATISTICS_MS = 1000  # the shortest that librdkafka allows: ends and lags are taken from them

# What is fetched ahead is memory beside maxBufferBytes, so it is small and its sum is known: the queue's 16 MiB (one
# queue, whatever the number of partitions), plus what one answer may overshoot it by (4 MiB, or one larger record
# batch) for each broker that is fetched from, plus some 400 bytes of bookkeeping a message. Fetched batches are counted
# as they are sent, so compressed ones unpack to more than that. 16 MiB is 4000 records of 4 kB, which is 45 ms of work
# for the reader and 8 polls; a broker on the same continent answers in less.
_QUEUE_KIBIBYTES = 16 * 1024
_FETCH_BYTES = 4 * 1024 * 1024
_PARTITION_FETCH_BYTES = 1024 * 1024
# How long the fetcher rests when the queue is full. The default of 1 s is longer than the queue lasts: measured, it
# makes reading a backlog of 470-byte records five times slower (61 us a record instead of 12).
_FULL_QUEUE_MS = 10
_QUEUE_MESSAGES = 10_000  # a partition; the default of 100 000 small messages is 40 MB of bookkeeping

# A broker that does not answer for this long is taken for gone, and said to be (the default is 60 s). librdkafka adds
# the waiting time of fetches and joins by itself.
_REQUEST_MS = 10_000

# How soon a partition that is added to the topic is found out about. Nothing of it is lost meanwhile (see kafka/lookup),
# but nothing of it is sent either, and librdkafka's default is 5 minutes. One small request in this time, a replica.
# With the protocol `consumer` the brokers find out by themselves.
_TOPIC_LOOK_MS = 30_000
_POLL_MS = 300_000  # max.poll.interval.ms, Kafka's default; librdkafka wants it to be no less than the session


def client_config(kafka: Kafka, client_id: str) -> dict[str, object]:
    """Everything but the callbacks. `kafka.properties` come last, except for what the settings keep for the daemon."""
    config: dict[str, object] = {
        "bootstrap.servers": kafka.brokers,
        "group.id": kafka.consumer_group,
        "client.id": client_id,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # Where to begin is decided at the assignment; a position that does not exist must be heard of, not mended.
        "auto.offset.reset": "error",
        # Law 2: what a transaction wrote and then took back was never there. librdkafka's own default, said aloud.
        "isolation.level": "read_committed",
        "statistics.interval.ms": STATISTICS_MS,
        "queued.max.messages.kbytes": _QUEUE_KIBIBYTES,
        "queued.min.messages": _QUEUE_MESSAGES,
        "fetch.queue.backoff.ms": _FULL_QUEUE_MS,
        "fetch.max.bytes": _FETCH_BYTES,
        "max.partition.fetch.bytes": _PARTITION_FETCH_BYTES,
        "socket.timeout.ms": _REQUEST_MS,
        # Law 6: bytes that changed are not exported. They are fetched again, and then passed: counted and told. With SSE4.2 it costs 0.1 ns a byte.
        "check.crcs": True,
        "topic.metadata.refresh.interval.ms": _TOPIC_LOOK_MS,
        "security.protocol": kafka.chosen_security_protocol,
        "group.protocol": kafka.group_protocol,
    }
    if kafka.static_membership:
        config["group.instance.id"] = client_id
    if kafka.group_protocol == "classic":
        # With the protocol `consumer` brokers assign, and librdkafka refuses to be told any of these.
        config |= {
            "max.poll.interval.ms": max(_POLL_MS, kafka.session_timeout_ms),
            "partition.assignment.strategy": kafka.partition_assignment_strategy,
            "session.timeout.ms": kafka.session_timeout_ms,
            # Nine chances to be heard before the session ends, but not more often than Kafka's own default asks for.
            "heartbeat.interval.ms": min(3000, max(1, kafka.session_timeout_ms // 10)),
        }
    return config | _security(kafka) | dict(kafka.properties)


_CONNECTION = (
    "bootstrap.", "security.", "sasl.", "ssl.", "enable.ssl.", "socket.", "broker.", "reconnect.", "client.",
)  # fmt: skip


def connection_config(kafka: Kafka, client_id: str) -> dict[str, object]:
    """What any client on the same brokers needs, a producer too."""
    return {name: value for name, value in client_config(kafka, client_id).items() if name.startswith(_CONNECTION)}


def admin_config(kafka: Kafka, client_id: str) -> dict[str, Any]:
    """Of a client that asks questions and joins nothing."""
    return connection_config(kafka, client_id) | {"logger": logger()}


def is_incremental(kafka: Kafka) -> bool:
    """Whether rebalances name only what comes and goes (cooperative), or everything (eager)."""
    return kafka.group_protocol == "consumer" or kafka.partition_assignment_strategy == "cooperative-sticky"


def without_secrets(text: str, config: Mapping[str, object]) -> str:
    """The text with the values of secret properties blotted out."""
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
    """Which of the files named cannot be read, and why; librdkafka says neither. Empty when all is well."""
    for name, path in config.items():
        if name.startswith("ssl.") and name.endswith(".location"):
            try:
                Path(str(path)).open("rb").close()
            except OSError as error:
                if not isinstance(error, IsADirectoryError):  # a directory of certificates
                    return f"{name} {path}: {error.strerror}"
    return ""
