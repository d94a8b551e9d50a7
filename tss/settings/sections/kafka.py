"""`kafka`: the brokers, the topic, the consumer group; and `kafka.rekey`."""

from collections.abc import Mapping

from attrs import frozen

from tss.settings.keys import key
from tss.settings.kinds.kafka import brokers, properties, topic, topic_or_empty
from tss.settings.kinds.numbers import number, positive_secs, secs, truth, whole
from tss.settings.kinds.texts import choice, filled, text
from tss.settings.kinds.units import MILLISECONDS, SECONDS

_PROTOCOLS = choice("", "plaintext", "ssl", "sasl_plaintext", "sasl_ssl")
_IF_ENABLED = "Has an effect only with `enabled`."
_IF_CREATED = "Used only when the daemon creates the topic; an existing topic stays as it is."


@frozen(kw_only=True)
class Rekey:
    """A first stage for input that is not keyed by trace id: see docs/rekey.md. Its consumer group is `kafka.consumerGroup` plus `.rekey`."""

    enabled: bool = key(
        False,
        truth,
        "Split the records of `kafka.inputTopic` by trace, write them to `topic` and read them from there.",
    )
    topic: str = key(
        "",
        topic_or_empty,
        f"Topic between the two stages. No other consumer group may use it. {_IF_ENABLED}",
        default_doc="`kafka.inputTopic` plus `.by-trace`",
    )
    partitions: int = key(
        0,
        whole(0, 100_000),
        f"Number of partitions of the topic. {_IF_CREATED}",
        default_doc="as many as the input topic has; `0` means the same",
    )
    replication_factor: int = key(
        0,
        whole(0, 100),
        f"Number of replicas of each partition. {_IF_CREATED}",
        default_doc="the brokers' default; `0` means the same",
    )
    retention_ms: int = key(
        0,
        whole(0, units=MILLISECONDS),
        f"How long the topic keeps records, counted from their timestamps in the input topic. {_IF_CREATED}",
        default_doc="the input topic's; `0` means the same",
    )
    partitioner: str = key(
        "fnv1a_random",
        choice("fnv1a_random", "murmur2_random", "consistent_random"),
        "How the partition of a trace id is chosen: as in the OpenTelemetry Collector (fnv1a_random), in Java clients "
        "(murmur2_random) or in librdkafka (consistent_random). Matters only if other producers write to the topic too. "
        f"{_IF_ENABLED}",
    )
    compression: str = key(
        "lz4", choice("zstd", "lz4", "snappy", "gzip", "none"), f"Compression of record batches. {_IF_ENABLED}"
    )
    max_ahead_secs: float = key(
        0,
        secs,
        f"While there is a lag, no input partition is read further ahead of another than this, by record timestamps. {_IF_ENABLED}",
        default_doc="5, or half of `app.rootQuietSecs` if that is less; `0` means the same",
    )
    transaction_timeout_secs: float = key(
        15, number(1, 60, units=SECONDS), f"Brokers abort a transaction that takes longer than this. {_IF_ENABLED}"
    )


@frozen(kw_only=True)
class Kafka:
    """The brokers, the topic with the spans, and the consumer group."""

    brokers: str = key("", brokers, "Brokers to connect to first, separated by commas or as a list.", required=True)
    input_topic: str = key("otel-traces-raw", topic, "Topic with OTLP records. The record key is the trace id.")
    consumer_group: str = key("tail-sampling-selector", filled, "Consumer group; the same for all replicas.")
    auto_offset_reset: str = key(
        "latest", choice("latest", "earliest"), "Where to start reading a partition that has no committed offset."
    )
    enable_auto_commit: bool = key(
        True,
        truth,
        "Commit offsets when their traces are finished. With false the daemon never commits; use that for rehearsals.",
    )
    # Brokers check their own limits (6 s to 30 min by default) and report an error; librdkafka's limit is an hour.
    session_timeout_ms: int = key(
        30_000,
        whole(1, 3_600_000, units=MILLISECONDS),
        "A replica that sends no heartbeat for this long loses its partitions. With `groupProtocol` consumer the brokers set this time.",
    )
    commit_interval_secs: float = key(5, positive_secs, "Time between two commits of offsets.")
    encoding: str = key(
        "auto", choice("auto", "otlp_proto", "otlp_json"), "Encoding of the records; auto detects it for each record."
    )
    partition_assignment_strategy: str = key(
        "cooperative-sticky",
        choice("cooperative-sticky", "range", "roundrobin"),
        "How partitions are assigned to replicas; the same for all replicas. Has an effect only with `groupProtocol` classic.",
    )
    group_protocol: str = key(
        "classic",
        choice("classic", "consumer"),
        "Who assigns the partitions: one of the replicas (classic) or the brokers (consumer; KIP-848, Apache Kafka 4 or newer).",
    )
    static_membership: bool = key(
        False,
        truth,
        "Join the group under `app.instanceId`. A replica that restarts within `sessionTimeoutMs` keeps its partitions, without a rebalance. Needs a name that stays the same after a restart.",
    )
    scaler_group: str = key(
        "",
        text(),
        "Consumer group under which the read positions are committed for KEDA: see docs/scaling.md. Empty: none are committed.",
    )
    security_protocol: str = key(
        "",
        _PROTOCOLS,
        "Encryption and login of the connections to the brokers.",
        default_doc="`sasl_ssl` if `saslUsername` is set, else `ssl` if a CA or a certificate is set, else `plaintext`",
    )
    sasl_mechanism: str = key(
        "PLAIN", choice("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"), "SASL mechanism that checks user and password."
    )
    sasl_username: str = key("", text(), "SASL user. Needs `saslPassword`.")
    sasl_password: str = key("", text(), "SASL password.", secret=True)
    ssl_ca_location: str = key("", text(), "File with the CA certificates to trust (PEM). Empty: those of the system.")
    ssl_certificate_location: str = key("", text(), "File with the client's certificate (PEM). Needs `sslKeyLocation`.")
    ssl_key_location: str = key("", text(), "File with the client's key (PEM).")
    ssl_key_password: str = key("", text(), "Password of the client's key.", secret=True)
    ssl_verify: bool = key(True, truth, "Verify the brokers' certificates.")
    properties: Mapping[str, str] = key({}, properties, "More librdkafka properties, by librdkafka's names.")
    rekey: Rekey = Rekey()

    @property
    def chosen_security_protocol(self) -> str:
        """`security_protocol`, or if it is empty the one that follows from the credentials."""
        if self.security_protocol:
            return self.security_protocol
        if self.sasl_username:
            return "sasl_ssl"
        return "ssl" if self.ssl_ca_location or self.ssl_certificate_location else "plaintext"

    @property
    def rekey_topic(self) -> str:
        """The topic between the two stages of `kafka.rekey`."""
        return self.rekey.topic or f"{self.input_topic}.by-trace"
