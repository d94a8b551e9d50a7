"""`exporters`: where kept traces go, one class for each type."""

from collections.abc import Mapping
from typing import Any, ClassVar

from attrs import frozen

from tss.settings.keys import key
from tss.settings.kinds.headers import headers
from tss.settings.kinds.kafka import properties, topic
from tss.settings.kinds.numbers import WEEK_SECS, number, positive_secs, secs, truth, whole
from tss.settings.kinds.routing import match
from tss.settings.kinds.texts import choice, filled, site, text, url
from tss.settings.kinds.units import BYTES, MILLISECONDS, SECONDS
from tss.settings.sections.datadog import (
    COMPRESSIONS,
    INTAKE_COMPRESSION_DOC,
    INTAKE_URL_DOC,
    TRACE_API_DOC,
    TRACE_APIS,
    VIA_DOC,
    VIAS,
    Datadog,
)

_NAME_DOC = "Name of the destination in logs and metrics; no two may share one."
_BATCH_DOC = "Traces in one batch at most."
_BATCH_TIMEOUT_DOC = "A batch is sent when its first trace has waited this long."
_MATCH_DOC = (
    "Which kept traces it takes: `policies` (names of those that kept them) and `attributes` (of a span or its resource: "
    "a text or a list, `*` and `?` stand for other letters), all that is given must fit; empty: every trace."
)
_IN_FLIGHT_DOC = "Requests under way at the same time at most."
_YEARS = number(0, 520 * WEEK_SECS, units=SECONDS)


@frozen(kw_only=True)
class FileExporter:
    """Kept traces as lines of OTLP JSON. The file may be shared by replicas, and moved away by logrotate."""

    type: ClassVar[str] = "file"
    max_in_flight: ClassVar[int] = 1  # one file has one writer

    name: str = key("", filled, _NAME_DOC, required=True)
    match: Mapping[str, Any] = key({}, match, _MATCH_DOC)
    path: str = key("", filled, "File to add lines to.", required=True)
    fsync: bool = key(True, truth, "Have each batch on the disk before its offsets go; false trusts the system.")
    batch_size: int = key(100, whole(1, 10_000), _BATCH_DOC)
    batch_timeout_secs: float = key(0.2, secs, _BATCH_TIMEOUT_DOC)
    rotate_bytes: int = key(
        0,
        whole(0, units=BYTES),
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
    match: Mapping[str, Any] = key({}, match, _MATCH_DOC)
    path: str = key("", filled, "Folder in which each batch becomes a file.", required=True)
    raw: bool = key(True, truth, "Keep the bytes of each span too: without them, what has no column is lost.")
    batch_size: int = key(10_000, whole(1, 1_000_000), "Traces in one file at most.")
    batch_timeout_secs: float = key(60, secs, "A file is written when its first trace has waited this long.")
    batch_bytes: int = key(
        0,
        whole(0, units=BYTES),
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
    match: Mapping[str, Any] = key({}, match, _MATCH_DOC)
    endpoint: str = key(
        "", url(suffix_added="/v1/traces"), "Base address of the backend; /v1/traces is added.", required=True
    )
    headers: Mapping[str, str] = key({}, headers, "Headers of every request.", secret=True)
    bearer_token: str = key("", text(), "Token for `Authorization: Bearer`.", secret=True)
    compression: str = key("gzip", choice("gzip", "none"), "How requests are compressed.")
    request_timeout_secs: float = key(30, positive_secs, "Time for one request.")
    retry_initial_delay_ms: int = key(
        1000, whole(1, 600_000, units=MILLISECONDS), "Pause before the first retry; it doubles each time."
    )
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
    match: Mapping[str, Any] = key({}, match, _MATCH_DOC)
    via: str = key(
        "",
        VIAS,
        VIA_DOC,
        default_doc="`agent` with an `agentUrl` here, `intake` with an `apiKey`, `site` or `intakeUrl` here, else `datadog.via`",
    )
    agent_url: str = key("", url(empty=True), "Datadog agent that takes the traces.", default_doc="`datadog.agentUrl`")
    trace_api: str = key("v0.4", TRACE_APIS, TRACE_API_DOC, default_doc="`datadog.traceApi`")
    site: str = key("", site, "Datadog's site.", default_doc="`datadog.site`")
    intake_url: str = key(
        "", url(empty=True), INTAKE_URL_DOC, default_doc="`datadog.intakeUrl`, unless there is a `site` here"
    )
    api_key: str = key("", text(), "API key, for the intakes.", secret=True, default_doc="`datadog.apiKey`")
    compression: str = key("gzip", COMPRESSIONS, INTAKE_COMPRESSION_DOC, default_doc="`datadog.compression`")
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
    match: Mapping[str, Any] = key({}, match, _MATCH_DOC)
    topic: str = key(
        "", topic, "Topic for kept traces; not compacted, and not that of another exporter.", required=True
    )
    compression: str = key(
        "zstd", choice("zstd", "lz4", "snappy", "gzip", "none"), "How batches of records are compressed."
    )
    batch_size: int = key(500, whole(1, 10_000), "Traces in one transaction at most.")
    batch_timeout_secs: float = key(0.5, secs, _BATCH_TIMEOUT_DOC)
    transaction_timeout_secs: float = key(
        30,
        number(1, 60, units=SECONDS),
        "Brokers abort a transaction that takes longer; when a replica is killed in one, readers of the topic, and who takes over its partitions, wait for that, unless it comes back under the same `app.instanceId`.",
    )
    properties: Mapping[str, str] = key({}, properties, "Further librdkafka properties of the producer.")


Exporter = FileExporter | ParquetExporter | OtlpExporter | DatadogExporter | KafkaExporter
EXPORTERS: Mapping[str, type[Exporter]] = {
    "file": FileExporter,
    "parquet": ParquetExporter,
    "otlp": OtlpExporter,
    "datadog": DatadogExporter,
    "kafka": KafkaExporter,
}
