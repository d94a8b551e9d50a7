"""`kafka`: the brokers, the topic, the consumer group; and `kafka.rekey`."""

from collections.abc import Mapping

from attrs import frozen

from tss.settings.keys import key
from tss.settings.kinds.kafka import brokers, properties, topic, topic_or_empty
from tss.settings.kinds.numbers import number, positive_secs, secs, truth, whole
from tss.settings.kinds.texts import choice, filled, text
from tss.settings.kinds.units import MILLISECONDS, SECONDS

_PROTOCOLS = choice("", "plaintext", "ssl", "sasl_plaintext", "sasl_ssl")


_REKEY_TOO = "Has an effect only with `enabled`."
_MADE_TOO = "Used when the topic is missing and so created; one that is there is taken as it is."


@frozen(kw_only=True)
class Rekey:
    """A first stage for input that is not keyed by trace id: docs/rekey.md. Its consumer group is `kafka.consumerGroup` and `.rekey`."""

    enabled: bool = key(False, truth, "Split the records of `kafka.inputTopic` by trace, and read them from `topic`.")
    topic: str = key(
        "",
        topic_or_empty,
        f"Topic between the two stages, of this consumer group alone. {_REKEY_TOO}",
        default_doc="`kafka.inputTopic` and `.by-trace`",
    )
    partitions: int = key(
        0,
        whole(0, 100_000),
        f"Its partitions. {_MADE_TOO}",
        default_doc="as many as the input topic has; `0` means the same",
    )
    replication_factor: int = key(
        0, whole(0, 100), f"Its replicas. {_MADE_TOO}", default_doc="the brokers' default; `0` means the same"
    )
    retention_ms: int = key(
        0,
        whole(0, units=MILLISECONDS),
        f"How long it keeps records, counted from their first writing, as that of the input topic. {_MADE_TOO}",
        default_doc="the input topic's; `0` means the same",
    )
    partitioner: str = key(
        "fnv1a_random",
        choice("fnv1a_random", "murmur2_random", "consistent_random"),
        "Which partition a trace id goes to: as the OpenTelemetry Collector does it, Java's clients, or librdkafka's. "
        f"Matters where others write to the topic too. {_REKEY_TOO}",
    )
    compression: str = key(
        "lz4", choice("zstd", "lz4", "snappy", "gzip", "none"), f"How batches of records are compressed. {_REKEY_TOO}"
    )
    max_ahead_secs: float = key(
        0,
        secs,
        f"In a backlog no input partition is read further than this ahead of another, by the records' time. {_REKEY_TOO}",
        default_doc="5, or half of `app.rootQuietSecs` if that is less; `0` means the same",
    )
    transaction_timeout_secs: float = key(
        15, number(1, 60, units=SECONDS), f"Brokers abort a transaction that takes longer. {_REKEY_TOO}"
    )


@frozen(kw_only=True)
class Kafka:
    """Where the spans come from."""

    brokers: str = key("", brokers, "Brokers to start from, with commas between or as a list.", required=True)
    input_topic: str = key("otel-traces-raw", topic, "Topic with OTLP records, keyed by trace id.")
    consumer_group: str = key("tail-sampling-selector", filled, "Consumer group, the same on all replicas.")
    auto_offset_reset: str = key(
        "latest", choice("latest", "earliest"), "Where to start on a partition that has no committed offset."
    )
    enable_auto_commit: bool = key(
        True, truth, "Commit offsets as traces finish; with false nothing is ever committed (for rehearsals)."
    )
    # Brokers allow 6 s to 30 min unless told otherwise, and say so themselves; librdkafka's own limit is an hour.
    session_timeout_ms: int = key(
        30_000,
        whole(1, 3_600_000, units=MILLISECONDS),
        "A replica silent for this long loses its partitions. With `groupProtocol` consumer the brokers say how long.",
    )
    commit_interval_secs: float = key(5, positive_secs, "Time between two commits of offsets.")
    encoding: str = key(
        "auto", choice("auto", "otlp_proto", "otlp_json"), "How records are encoded; auto looks at each record."
    )
    partition_assignment_strategy: str = key(
        "cooperative-sticky",
        choice("cooperative-sticky", "range", "roundrobin"),
        "How partitions are shared among replicas; all replicas must agree. Has an effect only with `groupProtocol` classic.",
    )
    group_protocol: str = key(
        "classic",
        choice("classic", "consumer"),
        "Who shares out the partitions: a replica (classic), or the brokers (consumer: KIP-848, Apache Kafka 4).",
    )
    static_membership: bool = key(
        False,
        truth,
        "Join under `app.instanceId`, so that a replica that is back within its session keeps its partitions and no other notices; needs names that stay.",
    )
    scaler_group: str = key(
        "",
        text(),
        "Consumer group under which the read positions are committed, for KEDA: see docs/scaling.md. Empty: off.",
    )
    security_protocol: str = key(
        "",
        _PROTOCOLS,
        "How to speak to the brokers.",
        default_doc="`sasl_ssl` with `saslUsername`, else `ssl` with a CA or a certificate, else `plaintext`",
    )
    sasl_mechanism: str = key(
        "PLAIN", choice("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"), "How user and password are proved."
    )
    sasl_username: str = key("", text(), "SASL user; needs `saslPassword`.")
    sasl_password: str = key("", text(), "SASL password.", secret=True)
    ssl_ca_location: str = key("", text(), "File with the CA certificates to trust (PEM); empty: the system's.")
    ssl_certificate_location: str = key("", text(), "File with the client's certificate (PEM); needs `sslKeyLocation`.")
    ssl_key_location: str = key("", text(), "File with the client's key (PEM).")
    ssl_key_password: str = key("", text(), "Password of the client's key.", secret=True)
    ssl_verify: bool = key(True, truth, "Verify the brokers' certificates.")
    properties: Mapping[str, str] = key({}, properties, "Further librdkafka properties, by their own names.")
    rekey: Rekey = Rekey()

    @property
    def chosen_security_protocol(self) -> str:
        """`security_protocol`, derived if need be."""
        if self.security_protocol:
            return self.security_protocol
        if self.sasl_username:
            return "sasl_ssl"
        return "ssl" if self.ssl_ca_location or self.ssl_certificate_location else "plaintext"

    @property
    def rekey_topic(self) -> str:
        """The topic between the two stages of `kafka.rekey`."""
        return self.rekey.topic or f"{self.input_topic}.by-trace"
