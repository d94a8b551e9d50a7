"""Every setting: one frozen class per section, one line per key with default, kind and the sentence of the reference.

snake_case here, camelCase in YAML, TSS_<SECTION>_<KEY> in the environment. `docs/settings.md` is made from this file.
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, TypeVar, cast
from urllib.parse import urlsplit

import attrs
from attrs import frozen

from tss.settings import kinds
from tss.settings.faults import MASK
from tss.settings.kinds import (
    Kind,
    choice,
    filled,
    port,
    positive_secs,
    rate,
    secs,
    text,
    truth,
    url,
    whole,
)

T = TypeVar("T")

DATADOG_API = "https://api.datadoghq.com"


@frozen
class About:
    """What the reader and the reference know of a key beside its name and default."""

    kind: Kind[Any]
    doc: str
    secret: bool = False
    required: bool = False
    not_built: str = ""  # why any other value than the default is refused
    default_doc: str = ""  # where the default is not the value in the class


def key(
    default: T,
    kind: Kind[T],
    doc: str,
    *,
    secret: bool = False,
    required: bool = False,
    not_built: str = "",
    default_doc: str = "",
) -> T:
    """One line of a section. Secrets stay out of `repr`, so that settings can be logged."""
    known = About(kind, doc, secret, required, not_built, default_doc)
    show = masked if secret or kind is kinds.properties else kinds.without_password if kind is kinds.redis_url else None
    attribute: Any = attrs.field(
        default=attrs.Factory(dict) if isinstance(default, dict) else default,
        repr=(lambda value: repr(show(value))) if show else True,
        metadata={About: known},
    )
    return cast(T, attribute)


def masked(value: object) -> object:
    """What may be shown of a secret: whether there is one. Of a mapping, the names."""
    if isinstance(value, Mapping):
        return {name: masked(entry) for name, entry in value.items()}
    return MASK if value else value


def fields(section: type[Any]) -> tuple["attrs.Attribute[Any]", ...]:
    """The keys of a section, without the sections in it."""
    return tuple(field for field in attrs.fields(section) if About in field.metadata)


def about(attribute: "attrs.Attribute[Any]") -> About:
    return cast(About, attribute.metadata[About])


def camel(name: str) -> str:
    """As it is written in YAML; of a section in a section the path."""
    if "." in name:
        return ".".join(map(camel, name.split(".")))
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


@frozen(kw_only=True)
class App:
    """The daemon itself: what it holds in memory, when a trace counts as complete, how it stops."""

    instance_id: str = key(
        "",
        text(),
        "Name of this replica in logs, in metrics and, with `kafka.staticMembership`, in the group.",
        default_doc="the host's name",
    )
    max_buffer_spans: int = key(1_000_000, whole(1), "Spans of open traces held in memory at most.")
    max_buffer_traces: int = key(100_000, whole(1), "Open traces held in memory at most.")
    max_buffer_bytes: int = key(
        0,
        whole(0),
        "Bytes of open traces held in memory at most; from two fifths of it on quiet ones are compressed in place, and at the limit the oldest traces are decided early.",
        default_doc="two thirds of the memory limit (cgroup or machine) less 128 MiB, at least 32 MiB; `0` means the same",
    )
    max_trace_spans: int = key(50_000, whole(1), "A trace with this many spans is decided at once.")
    shutdown_timeout_secs: float = key(30, positive_secs, "An orderly stop takes no longer than this.")
    evaluation_workers: int = key(4, whole(1, 64), "Tasks that evaluate complete traces.")
    graceful_shutdown: bool = key(
        True, truth, "On SIGTERM finish what is in hand; with false stop at once (nothing is lost: Kafka still has it)."
    )
    inactivity_timeout_secs: float = key(600, positive_secs, "A trace is decided when no span came for this long.")
    max_trace_duration_secs: float = key(10_800, positive_secs, "A trace is decided when it has been open this long.")
    root_quiet_secs: float = key(
        30, secs, "A trace whose root is there and no parent is missing is decided when quiet for this long."
    )
    park_after_secs: float = key(
        60, positive_secs, "A trace open for longer moves to Redis; has an effect only with `redis.url`."
    )
    max_clock_skew_secs: float = key(300, secs, "A record dated further ahead of the clock than this counts as now.")
    replay_secs: float = key(
        60,
        secs,
        "How far before the committed offset the log is read again at a start, so that late spans of traces already "
        "decided meet the same verdict; 0 is off.",
    )
    decision_memory_secs: float = key(
        600,
        positive_secs,
        "For how long, in the topic's time, a decision is remembered, so that late spans follow it; less where "
        "`maxBufferBytes` has no room for so many.",
    )


_PROTOCOLS = choice("", "plaintext", "ssl", "sasl_plaintext", "sasl_ssl")


_REKEY_TOO = "Has an effect only with `enabled`."
_MADE_TOO = "Used when the topic is missing and so created; one that is there is taken as it is."


@frozen(kw_only=True)
class Rekey:
    """A first stage for input that is not keyed by trace id: docs/rekey.md. Its consumer group is `kafka.consumerGroup` and `.rekey`."""

    enabled: bool = key(False, truth, "Split the records of `kafka.inputTopic` by trace, and read them from `topic`.")
    topic: str = key(
        "",
        kinds.topic_or_empty,
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
        whole(0),
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
        15, kinds.number(1, 60), f"Brokers abort a transaction that takes longer. {_REKEY_TOO}"
    )


@frozen(kw_only=True)
class Kafka:
    """Where the spans come from."""

    brokers: str = key("", kinds.brokers, "Brokers to start from, with commas between or as a list.", required=True)
    input_topic: str = key("otel-traces-raw", kinds.topic, "Topic with OTLP records, keyed by trace id.")
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
        whole(1, 3_600_000),
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
    properties: Mapping[str, str] = key({}, kinds.properties, "Further librdkafka properties, by their own names.")
    rekey: Rekey = Rekey()


_WITH_URL = "Has an effect only with `url`."


@frozen(kw_only=True)
class Redis:
    """Memory shared by the replicas."""

    url: str = key(
        "",
        kinds.redis_url,
        "Address, redis://USER:PASSWORD@HOST:PORT/DATABASE, or rediss:// for TLS; empty: no Redis. Several hosts, with commas between, are Sentinels (`sentinelMaster`) or nodes of a Cluster (`cluster`). Redis away is no error: the replica goes on without, and comes back by itself.",
    )
    username: str = key("", text(), f"User, in place of that of `url`. {_WITH_URL}")
    password: str = key("", text(), f"Password, in place of that of `url`. {_WITH_URL}", secret=True)
    pool_size: int = key(10, whole(1, 1000), f"Calls under way at a time, each on a connection of its own. {_WITH_URL}")
    connection_timeout_secs: float = key(
        5, positive_secs, f"Time to connect, and for an answer; after that Redis is away. {_WITH_URL}"
    )
    sentinel_master: str = key("", text(), f"Name of the master that the Sentinels at `url` watch. {_WITH_URL}")
    sentinel_password: str = key("", text(), "Password of the Sentinels themselves, where they have one.", secret=True)
    cluster: bool = key(False, truth, f"The hosts of `url` are nodes of a Redis Cluster. {_WITH_URL}")
    ssl_ca_location: str = key(
        "", text(), "File with CA certificates to trust beside the system's (PEM); needs rediss://."
    )
    ssl_certificate_location: str = key("", text(), "File with our certificate (PEM); needs `sslKeyLocation`.")
    ssl_key_location: str = key("", text(), "File with our key (PEM).")
    ssl_key_password: str = key("", text(), "Password of our key.", secret=True)
    ssl_verify: bool = key(True, truth, "Verify the server's certificate.")
    decision_ttl_secs: float = key(3600, positive_secs, f"Decisions are remembered for this long. {_WITH_URL}")
    remember_dropped: bool = key(
        False,
        truth,
        f"Remember dropped traces, too, in 80 MiB of Redis for the whole group: 4 bytes each. {_WITH_URL}",
    )
    max_parked_bytes: int = key(
        268_435_456, whole(1), f"Bytes of parked traces of one partition at most; more stay in memory. {_WITH_URL}"
    )


_VIAS = choice("", "intake", "agent", "otlp")
_VIA_DOC = (
    "How traces reach Datadog: `intake` is its trace intake, as the agent speaks to it; `agent` a Datadog agent at "
    "`agentUrl`; `otlp` its OTLP intake, which takes the spans byte for byte. The intakes need `apiKey`."
)
_STATS_DOC = "Send statistics of all traffic, kept and dropped, and tell Datadog that they are computed; with false an agent or the OTLP intake computes them of the kept traces alone, the trace intake not at all."
_INTAKE_URL_DOC = "Base address in place of https://trace.agent.SITE (`via` intake) or https://otlp.SITE (otlp): a proxy, a private link."
_TRACE_API_DOC = "Version of the agent's endpoint, with `via` agent."
_INTAKE_COMPRESSION_DOC = "How requests to an intake are compressed; every version of the agent has sent gzip."
_TRACE_APIS = choice("v0.4", "v0.7")
_COMPRESSIONS = choice("gzip", "zstd", "none")


@frozen(kw_only=True)
class Datadog:
    """The destination when there are no `exporters`, and what exporters of type datadog share."""

    via: str = key(
        "", _VIAS, _VIA_DOC, default_doc="`agent` with `agentUrl`, else `intake` with `apiKey`, else no destination"
    )
    api_endpoint: str = key(
        DATADOG_API,
        url(),
        "Datadog's API; `site` is taken from it. Nothing is sent there: the intakes have other names.",
    )
    site: str = key(
        "",
        kinds.site,
        "Datadog's site, such as datadoghq.eu or us5.datadoghq.com.",
        default_doc="from `apiEndpoint`, where that is https://api.SITE",
    )
    intake_url: str = key("", url(empty=True), _INTAKE_URL_DOC)
    api_key: str = key("", text(), "API key, for the intakes; an agent has its own.", secret=True)
    application_key: str = key(
        "", text(), "Application key; accepted, and has no effect: sending traces does not need it.", secret=True
    )
    agent_url: str = key("", url(empty=True), "Datadog agent that takes the traces, such as http://127.0.0.1:8126.")
    trace_api: str = key("v0.4", _TRACE_APIS, _TRACE_API_DOC)
    compression: str = key("gzip", _COMPRESSIONS, _INTAKE_COMPRESSION_DOC)
    stats: bool = key(True, truth, _STATS_DOC)
    batch_enabled: bool = key(True, truth, "Send several traces in one request; false is a `batchSize` of 1.")
    batch_size: int = key(100, whole(1, 10_000), "Traces in one request at most.")
    batch_timeout_secs: float = key(5, secs, "A batch is sent when its first trace has waited this long.")
    request_timeout_secs: float = key(30, positive_secs, "Time for one request.")
    max_retries: int = key(
        3, whole(0, 1000), "Quick retries before a failure is reported; kept traces are not dropped after that either."
    )
    retry_initial_delay_ms: int = key(1000, whole(1, 600_000), "Pause before the first retry; it doubles each time.")

    @property
    def chosen_via(self) -> str:
        """`via`, derived if need be; empty where there is nothing to derive it from."""
        return self.via or ("agent" if self.agent_url else "intake" if self.api_key else "")

    @property
    def chosen_site(self) -> str:
        """`site`, derived if need be; empty where `apiEndpoint` has none."""
        name = urlsplit(self.api_endpoint).hostname or ""
        return self.site or (name.removeprefix("api.") if name.startswith("api.") else "")


@frozen(kw_only=True)
class Sampling:
    """Which traces are kept. Chance is taken from the trace id, so every replica and every rerun agrees."""

    always_sample_errors: bool = key(True, truth, "Look for traces with an error, and keep `errorSampleRate` of them.")
    error_sample_rate: float = key(1, rate, "Share kept of the traces with an error.")
    sample_latency: bool = key(True, truth, "Look for slow traces, and keep `latencySampleRate` of them.")
    latency_threshold_ms: float = key(
        5000, kinds.number(0, 1000 * kinds.WEEK_SECS), "A trace that lasts this long or longer is slow."
    )
    latency_sample_rate: float = key(0.1, rate, "Share kept of the slow traces.")
    default_sample_rate: float = key(0, rate, "Share kept of all other traces.")

    @property
    def policies(self) -> tuple[str, ...]:
        """The names that decisions give to what keeps traces by these settings."""
        chosen = (self.always_sample_errors and "errors", self.sample_latency and "latency", "default")
        return tuple(name for name in chosen if name)


@frozen(kw_only=True)
class Observability:
    """What the daemon tells about itself."""

    log_level: str = key(
        "info",
        choice("debug", "info", "warning", "error", aliases={"warn": "warning"}),
        "Least level that is logged (warn is warning).",
    )
    json_logging: bool = key(True, truth, "Log JSON, one object a line; false is for people at a terminal.")
    enable_prometheus: bool = key(True, truth, "Serve /metrics on `metricsPort`.")
    metrics_port: int = key(9090, port, "Port of /metrics; 0 is any free port.")
    metrics_addr: str = key("0.0.0.0", filled, "Address that /metrics listens on.")
    enable_health_check: bool = key(True, truth, "Serve /health on `healthPort`.")
    health_port: int = key(8080, port, "Port of /health; 0 is any free port.")
    health_addr: str = key("0.0.0.0", filled, "Address that /health listens on.")
    service_name: str = key("tail-sampling-selector", filled, "Name of the service in logs and metrics.")


_COMPRESSION_TOO = "Has an effect only with `enabled`."


@frozen(kw_only=True)
class SpanCompression:
    """Runs of alike spans made into one, in kept traces, after the decision: docs/operations.md says which are alike."""

    enabled: bool = key(False, truth, "Compress runs of alike spans in kept traces.")
    min_compression_count: int = key(3, whole(2), f"Alike spans that make a run, at least. {_COMPRESSION_TOO}")
    compression_window_secs: float = key(
        60, positive_secs, f"The spans of a run start within this time of its first. {_COMPRESSION_TOO}"
    )
    max_span_duration_secs: float = key(60, positive_secs, f"Longer spans stay as they are. {_COMPRESSION_TOO}")
    compress_operations: tuple[str, ...] = key(
        (),
        kinds.operations,
        "Only these operations; empty: all. The operation of a database call is `db.operation.name` or "
        "`db.operation`, else the statement's first word in capitals; of any other span its name. Case does not count. "
        f"A text is a glob of the whole (`*`, `?`); after `re:` a regular expression (RE2) that is found in it. {_COMPRESSION_TOO}",
    )
    exclude_operations: tuple[str, ...] = key(
        (), kinds.operations, f"Never these, whatever `compressOperations` says; written alike. {_COMPRESSION_TOO}"
    )
    sql_patterns: tuple[kinds.SqlPattern, ...] = key(
        (),
        kinds.sql_patterns,
        "Only SQL statements that match one of these are compressed, the first match counts; empty: all. Looked at is the "
        "statement as it was normalised: `?` for each value, lists as `(?)`, no comments, single spaces. Case does not "
        "count. A text is found anywhere in it, or, with `*` in it, is a glob of the whole (`?` is itself). A mapping has "
        "`pattern`; `isRegex: true` makes that a regular expression (RE2) that is found anywhere; with `groupName` all "
        "statements that match are alike and go by this name. "
        f"Other spans, and stores without SQL such as Redis, are not concerned. {_COMPRESSION_TOO}",
    )


_METRICS_TOO = "Has an effect only with `enabled`."
_OTLP_TOO = "Has an effect only with `otlpEndpoint`."


@frozen(kw_only=True)
class SpanMetrics:
    """Calls, errors and durations of all spans, kept and dropped, by series: names as the OpenTelemetry Collector's `spanmetrics` connector has them."""

    enabled: bool = key(
        False, truth, "Count every span, and show `traces_span_metrics_calls_total` and `..._duration_...` on /metrics."
    )
    dimensions: tuple[str, ...] = key(
        (),
        kinds.dimensions,
        "Attributes, of the span or else of its resource, that tell series apart beside service, span name, kind and status. "
        f"{_METRICS_TOO}",
    )
    buckets_ms: tuple[float, ...] = key(
        (2, 4, 6, 8, 10, 50, 100, 200, 400, 800, 1000, 1400, 2000, 5000, 10_000, 15_000),
        kinds.bounds,
        f"Upper bounds of the durations' buckets, in ms whatever the unit. {_METRICS_TOO}",
    )
    unit: str = key("ms", choice("ms", "s"), f"Unit of the durations that are shown and sent. {_METRICS_TOO}")
    max_series: int = key(
        10_000,
        whole(
            1, 100_000
        ),  # 4 kB each at most on average: numbers, exemplars, labels, and the answer to a scrape in gzip
        "Series told apart at most, or fewer if their labels take more than 2 kB on average; spans of further ones count as "
        f"`otel_metric_overflow`. A series takes about 2 kB. {_METRICS_TOO}",
    )
    exemplars: bool = key(
        True, truth, f"Give each bucket the ids of the newest span of a kept trace in it. {_METRICS_TOO}"
    )
    otlp_endpoint: str = key(
        "",
        url(empty=True, suffix_added="/v1/metrics"),
        f"Base address of a backend that is sent them by OTLP/HTTP too; /v1/metrics is added. {_METRICS_TOO}",
    )
    otlp_headers: Mapping[str, str] = key({}, kinds.headers, f"Headers of every request. {_OTLP_TOO}", secret=True)
    otlp_interval_secs: float = key(60, kinds.number(1, 3600), f"Time between two sendings. {_OTLP_TOO}")


_NAME_DOC = "Name of the destination in logs and metrics; no two may share one."
_BATCH_DOC = "Traces in one batch at most."
_BATCH_TIMEOUT_DOC = "A batch is sent when its first trace has waited this long."
_MATCH_DOC = (
    "Which kept traces it takes: `policies` (names of those that kept them) and `attributes` (of a span or its resource: "
    "a text or a list, `*` and `?` stand for other letters), all that is given must fit; empty: every trace."
)
_IN_FLIGHT_DOC = "Requests under way at the same time at most."
_YEARS = kinds.number(0, 520 * kinds.WEEK_SECS)


@frozen(kw_only=True)
class FileExporter:
    """Kept traces as lines of OTLP JSON. The file may be shared by replicas, and moved away by logrotate."""

    type: ClassVar[str] = "file"
    max_in_flight: ClassVar[int] = 1  # one file has one writer

    name: str = key("", filled, _NAME_DOC, required=True)
    match: Mapping[str, Any] = key({}, kinds.match, _MATCH_DOC)
    path: str = key("", filled, "File to add lines to.", required=True)
    fsync: bool = key(True, truth, "Have each batch on the disk before its offsets go; false trusts the system.")
    batch_size: int = key(100, whole(1, 10_000), _BATCH_DOC)
    batch_timeout_secs: float = key(0.2, secs, _BATCH_TIMEOUT_DOC)
    rotate_bytes: int = key(
        0,
        whole(0),
        "A file that would grow beyond this gets a name with the time, and a new one is begun; 0 is never (logrotate may).",
    )
    rotate_secs: float = key(
        0, secs, "The same at each full multiple of this, in UTC: 3600 is on the hour, with the next trace; 0 is never."
    )
    max_files: int = key(0, whole(0), "Put-away files kept; the oldest beyond it are **deleted**; 0 keeps all.")
    max_age_secs: float = key(0, _YEARS, "Put-away files older than this are **deleted**; 0 keeps all.")


@frozen(kw_only=True)
class ParquetExporter:
    """Kept traces as Parquet, a row for each span, for analysis. Needs pyarrow: `pip install 'tss[parquet]'`."""

    type: ClassVar[str] = "parquet"
    max_in_flight: ClassVar[int] = 1  # the next batch is gathered while one is written; more would only hold more

    name: str = key("", filled, _NAME_DOC, required=True)
    match: Mapping[str, Any] = key({}, kinds.match, _MATCH_DOC)
    path: str = key("", filled, "Folder in which each batch becomes a file.", required=True)
    raw: bool = key(True, truth, "Keep the bytes of each span too: without them, what has no column is lost.")
    batch_size: int = key(10_000, whole(1, 1_000_000), "Traces in one file at most.")
    batch_timeout_secs: float = key(60, secs, "A file is written when its first trace has waited this long.")
    batch_bytes: int = key(
        0,
        whole(0),
        "Bytes of OTLP in one file at most; they are held in memory until it is written.",
        default_doc="64 MiB, or a 32nd of `app.maxBufferBytes` if that is less; `0` means the same",
    )
    max_files: int = key(0, whole(0), "Files kept; the oldest beyond it are **deleted**; 0 keeps all.")
    max_age_secs: float = key(0, _YEARS, "Files older than this are **deleted**; 0 keeps all.")


@frozen(kw_only=True)
class OtlpExporter:
    """Any OTLP/HTTP backend."""

    type: ClassVar[str] = "otlp"

    name: str = key("", filled, _NAME_DOC, required=True)
    match: Mapping[str, Any] = key({}, kinds.match, _MATCH_DOC)
    endpoint: str = key(
        "", url(suffix_added="/v1/traces"), "Base address of the backend; /v1/traces is added.", required=True
    )
    headers: Mapping[str, str] = key({}, kinds.headers, "Headers of every request.", secret=True)
    bearer_token: str = key("", text(), "Token for `Authorization: Bearer`.", secret=True)
    compression: str = key("gzip", choice("gzip", "none"), "How requests are compressed.")
    request_timeout_secs: float = key(30, positive_secs, "Time for one request.")
    retry_initial_delay_ms: int = key(1000, whole(1, 600_000), "Pause before the first retry; it doubles each time.")
    ssl_ca_location: str = key("", text(), "File with the CA certificates to trust (PEM); empty: the usual ones.")
    ssl_certificate_location: str = key(
        "", text(), "File with the client's certificate, and those between it and the CA (PEM); needs `sslKeyLocation`."
    )
    ssl_key_location: str = key("", text(), "File with the client's key (PEM).")
    ssl_key_password: str = key("", text(), "Password of the client's key.", secret=True)
    ssl_verify: bool = key(True, truth, "Verify the backend's certificate and name; false is for trying things out.")
    batch_size: int = key(1_000, whole(1, 10_000), _BATCH_DOC)
    batch_timeout_secs: float = key(1, secs, _BATCH_TIMEOUT_DOC)
    max_in_flight: int = key(4, whole(1, 64), _IN_FLIGHT_DOC)


@frozen(kw_only=True)
class DatadogExporter:
    """Datadog. Time limits and retries are those of the `datadog` section."""

    type: ClassVar[str] = "datadog"

    name: str = key("", filled, _NAME_DOC, required=True)
    match: Mapping[str, Any] = key({}, kinds.match, _MATCH_DOC)
    via: str = key(
        "",
        _VIAS,
        _VIA_DOC,
        default_doc="`agent` with an `agentUrl` here, `intake` with an `apiKey`, `site` or `intakeUrl` here, else `datadog.via`",
    )
    agent_url: str = key("", url(empty=True), "Datadog agent that takes the traces.", default_doc="`datadog.agentUrl`")
    trace_api: str = key("v0.4", _TRACE_APIS, _TRACE_API_DOC, default_doc="`datadog.traceApi`")
    site: str = key("", kinds.site, "Datadog's site.", default_doc="`datadog.site`")
    intake_url: str = key(
        "", url(empty=True), _INTAKE_URL_DOC, default_doc="`datadog.intakeUrl`, unless there is a `site` here"
    )
    api_key: str = key("", text(), "API key, for the intakes.", secret=True, default_doc="`datadog.apiKey`")
    compression: str = key("gzip", _COMPRESSIONS, _INTAKE_COMPRESSION_DOC, default_doc="`datadog.compression`")
    batch_size: int = key(100, whole(1, 10_000), _BATCH_DOC, default_doc="`datadog.batchSize`")
    batch_timeout_secs: float = key(5, secs, _BATCH_TIMEOUT_DOC, default_doc="`datadog.batchTimeoutSecs`")
    max_in_flight: int = key(4, whole(1, 64), _IN_FLIGHT_DOC)

    @classmethod
    def of(cls, datadog: Datadog, **given: Any) -> "DatadogExporter":
        """The exporter that the datadog section stands for, but for what is given."""
        shared: dict[str, Any] = {
            "name": "datadog",
            "via": _via_of(given) or datadog.chosen_via,
            "agent_url": datadog.agent_url,
            "trace_api": datadog.trace_api,
            "site": datadog.chosen_site,
            "intake_url": "" if given.get("site") else datadog.intake_url,
            "api_key": datadog.api_key,
            "compression": datadog.compression,
            "batch_size": datadog.batch_size if datadog.batch_enabled else 1,
            "batch_timeout_secs": datadog.batch_timeout_secs,
        }
        return cls(**shared | {name: value for name, value in given.items() if name != "via" and value != ""})


def _via_of(given: Mapping[str, Any]) -> str:
    """What an exporter's own keys say."""
    if given.get("via"):
        return str(given["via"])
    if given.get("agent_url"):
        return "agent"
    return "intake" if any(given.get(name) for name in ("api_key", "site", "intake_url")) else ""


@frozen(kw_only=True)
class KafkaExporter:
    """A topic of the cluster that the spans come from: each kept trace once, keyed by its trace id, for readers of what is committed (`isolation.level` read_committed)."""

    type: ClassVar[str] = "kafka"

    name: str = key("", filled, _NAME_DOC, required=True)
    match: Mapping[str, Any] = key({}, kinds.match, _MATCH_DOC)
    topic: str = key(
        "", kinds.topic, "Topic for kept traces; not compacted, and not that of another exporter.", required=True
    )
    compression: str = key(
        "zstd", choice("zstd", "lz4", "snappy", "gzip", "none"), "How batches of records are compressed."
    )
    batch_size: int = key(500, whole(1, 10_000), "Traces in one transaction at most.")
    batch_timeout_secs: float = key(0.5, secs, _BATCH_TIMEOUT_DOC)
    transaction_timeout_secs: float = key(
        30,
        kinds.number(1, 60),
        "Brokers abort a transaction that takes longer; when a replica is killed in one, readers of the topic, and who takes over its partitions, wait for that, unless it comes back under the same `app.instanceId`.",
    )
    properties: Mapping[str, str] = key({}, kinds.properties, "Further librdkafka properties of the producer.")


Exporter = FileExporter | ParquetExporter | OtlpExporter | DatadogExporter | KafkaExporter
EXPORTERS: Mapping[str, type[Exporter]] = {
    "file": FileExporter,
    "parquet": ParquetExporter,
    "otlp": OtlpExporter,
    "datadog": DatadogExporter,
    "kafka": KafkaExporter,
}


@frozen(kw_only=True)
class DeadLetter:
    """Where records that cannot be parsed go, and traces that a destination refuses for good."""

    type: str = key("file", choice("file", "topic", "log"), "Put them in a file, in a Kafka topic, or only log them.")
    path: str = key(
        "tss-dead-letter.jsonl", filled, "The file, for type file; the log, where the default cannot be written."
    )
    topic: str = key("", kinds.topic_or_empty, "The topic, required for type topic.")


_TOKEN_TOO = "Has an effect only with `adminToken`."  # noqa: S105  # about the token, and none
_YEAR_SECS = 52 * kinds.WEEK_SECS


@frozen(kw_only=True)
class ForceSampling:
    """Rules that keep or drop whatever matches, for a while: docs/force-rules.md. On with a token; the rules are in Redis."""

    admin_token: str = key(
        "",
        text("16 letters, digits or signs of ASCII or more, without spaces", r"[!-~]{16,}|"),
        "Token that /admin/force-rules and /admin/exporters ask for (`Authorization: Bearer`); empty: there are no such pages, and no rules.",
        secret=True,
    )
    admin_port: int = key(
        0,
        port,
        "Port of /admin/force-rules and /admin/exporters alone, which then are not on `observability.healthPort`; 0: they are there, "
        "beside the probes. "
        f"{_TOKEN_TOO}",
    )
    admin_addr: str = key(
        "127.0.0.1",
        filled,
        "Address that `adminPort` listens on; the default is reached from within the pod and by `kubectl port-forward` only. "
        "Has an effect only with `adminPort`.",
    )
    default_duration_secs: float = key(
        3600, kinds.number(0, _YEAR_SECS, above=True), f"How long a rule lasts that does not say. {_TOKEN_TOO}"
    )
    max_duration_secs: float = key(
        kinds.WEEK_SECS, kinds.number(0, _YEAR_SECS, above=True), f"No rule ends later than this from now. {_TOKEN_TOO}"
    )
    max_rules: int = key(100, whole(1, 1000), f"Rules at a time at most. {_TOKEN_TOO}")
    poll_secs: float = key(
        5,
        kinds.number(0.1, 3600),
        f"Time between two looks at Redis, should a change not have been heard of. {_TOKEN_TOO}",
    )


@frozen(kw_only=True)
class Settings:
    """All settings. `load` fills in what is derived, so consumers find a value and never a question."""

    app: App = App()
    kafka: Kafka = Kafka()
    redis: Redis = Redis()
    datadog: Datadog = Datadog()
    sampling: Sampling = Sampling()
    observability: Observability = Observability()
    span_compression: SpanCompression = SpanCompression()
    span_metrics: SpanMetrics = SpanMetrics()
    exporters: tuple[Exporter, ...] = ()
    dead_letter: DeadLetter = DeadLetter()
    force_sampling: ForceSampling = ForceSampling()

    @property
    def policies(self) -> tuple[str, ...]:
        """All names by which `exporters[].match.policies` can tell what kept a trace."""
        return (*self.sampling.policies, *(("force",) if self.force_sampling.admin_token else ()))

    @property
    def effective_exporters(self) -> tuple[Exporter, ...]:
        """Where kept traces go. Without `exporters` the datadog section is the one destination."""
        return self.exporters or (DatadogExporter.of(self.datadog),)


def _sections(cls: type[Any], at: str = "") -> Iterator[tuple[str, type[Any]]]:
    for field in attrs.fields(cls):
        if isinstance(field.type, type) and attrs.has(field.type):
            yield f"{at}{field.name}", field.type
            yield from _sections(field.type, f"{at}{field.name}.")


# The sections that are one mapping each, by attribute name, one in another by its path; `exporters`, a list, is read by
# its own rule.
SECTIONS: Mapping[str, type[Any]] = dict(_sections(Settings))
