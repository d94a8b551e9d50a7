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

_NAME_DOC = "Name of the destination in logs and metrics. Each destination needs its own."
_BATCH_DOC = "The most traces in one batch."
_BATCH_TIMEOUT_DOC = "A batch is sent when its first trace has waited this long, even if it is not full."
_MATCH_DOC = (
    "Which kept traces go to this destination. `policies`: names of the policies that kept them. `attributes`: values of a span or its "
    "resource, each a text or a list, with the wildcards `*` and `?`. A trace must match all that are given. Empty: all traces."
)
_IN_FLIGHT_DOC = "The most concurrent requests."
_YEARS = number(0, 520 * WEEK_SECS, units=SECONDS)


@frozen(kw_only=True)
class FileExporter:
    """Writes kept traces as lines of OTLP JSON. Several replicas may write to the same file, and logrotate may move it."""

    type: ClassVar[str] = "file"
    max_in_flight: ClassVar[int] = 1  # one file has one writer

    name: str = key("", filled, _NAME_DOC, required=True)
    match: Mapping[str, Any] = key({}, match, _MATCH_DOC)
    path: str = key("", filled, "File that lines are appended to.", required=True)
    fsync: bool = key(
        True,
        truth,
        "Write each batch to the disk (fsync) before its offsets are committed. With false, the operating system decides when.",
    )
    batch_size: int = key(100, whole(1, 10_000), _BATCH_DOC)
    batch_timeout_secs: float = key(0.2, secs, _BATCH_TIMEOUT_DOC)
    rotate_bytes: int = key(
        0,
        whole(0, units=BYTES),
        "A file that would grow larger than this is rotated: it is renamed with the current time, and a new file starts. 0: never (logrotate may do it).",
    )
    rotate_secs: float = key(
        0,
        secs,
        "Rotate at each multiple of this time in UTC, with the next trace: 3600 rotates every full hour. 0: never.",
    )
    max_files: int = key(0, whole(0), "How many rotated files are kept. Older ones are **deleted**. 0: keep all.")
    max_age_secs: float = key(0, _YEARS, "Rotated files older than this are **deleted**. 0: keep all.")


@frozen(kw_only=True)
class ParquetExporter:
    """Writes kept traces as Parquet files for analysis, with one row per span. Needs pyarrow: `pip install 'tail-sampling-selector[parquet]'`."""

    type: ClassVar[str] = "parquet"
    max_in_flight: ClassVar[int] = (
        1  # one batch is collected while another is written; more would only take more memory
    )

    name: str = key("", filled, _NAME_DOC, required=True)
    match: Mapping[str, Any] = key({}, match, _MATCH_DOC)
    path: str = key("", filled, "Folder for the files. Each batch becomes one file.", required=True)
    raw: bool = key(
        True, truth, "Also store the bytes of each span. Without them, fields that have no column are lost."
    )
    batch_size: int = key(10_000, whole(1, 1_000_000), "The most traces in one file.")
    batch_timeout_secs: float = key(
        60, secs, "A file is written when its first trace has waited this long, even if it is not full."
    )
    batch_bytes: int = key(
        0,
        whole(0, units=BYTES),
        "The most bytes of OTLP in one file. They are held in memory until the file is written.",
        default_doc="64 MiB, or a 32nd of `app.maxBufferBytes` if that is less; `0` means the same",
    )
    max_files: int = key(0, whole(0), "How many files are kept. Older ones are **deleted**. 0: keep all.")
    max_age_secs: float = key(0, _YEARS, "Files older than this are **deleted**. 0: keep all.")


@frozen(kw_only=True)
class OtlpExporter:
    """Sends kept traces to any OTLP/HTTP backend."""

    type: ClassVar[str] = "otlp"

    name: str = key("", filled, _NAME_DOC, required=True)
    match: Mapping[str, Any] = key({}, match, _MATCH_DOC)
    endpoint: str = key(
        "", url(suffix_added="/v1/traces"), "Base address of the backend. The daemon adds /v1/traces.", required=True
    )
    headers: Mapping[str, str] = key({}, headers, "Headers of each request.", secret=True)
    bearer_token: str = key("", text(), "Token for `Authorization: Bearer`.", secret=True)
    compression: str = key("gzip", choice("gzip", "none"), "Compression of requests.")
    request_timeout_secs: float = key(30, positive_secs, "Time limit for one request.")
    retry_initial_delay_ms: int = key(
        1000, whole(1, 600_000, units=MILLISECONDS), "Pause before the first retry. It doubles with each retry."
    )
    ssl_ca_location: str = key("", text(), "File with the CA certificates to trust (PEM). Empty: the default ones.")
    ssl_certificate_location: str = key(
        "",
        text(),
        "File with the client's certificate and the intermediate certificates up to the CA (PEM). Needs `sslKeyLocation`.",
    )
    ssl_key_location: str = key("", text(), "File with the client's key (PEM).")
    ssl_key_password: str = key("", text(), "Password of the client's key.", secret=True)
    ssl_verify: bool = key(True, truth, "Verify the backend's certificate and host name. Use false only for tests.")
    batch_size: int = key(1_000, whole(1, 10_000), _BATCH_DOC)
    batch_timeout_secs: float = key(1, secs, _BATCH_TIMEOUT_DOC)
    max_in_flight: int = key(4, whole(1, 64), _IN_FLIGHT_DOC)
    sample_rate_attribute: str = key(
        "",
        text(),
        "Attribute that tells how many spans a span stands for, as an integer: `SampleRate` for Honeycomb. Empty: none.",
    )


@frozen(kw_only=True)
class DatadogExporter:
    """Sends kept traces to Datadog. Time limits and retries are set in the `datadog` section."""

    type: ClassVar[str] = "datadog"

    name: str = key("", filled, _NAME_DOC, required=True)
    match: Mapping[str, Any] = key({}, match, _MATCH_DOC)
    via: str = key(
        "",
        VIAS,
        VIA_DOC,
        default_doc="`agent` if `agentUrl` is set here, `intake` if `apiKey`, `site` or `intakeUrl` is set here, else `datadog.via`",
    )
    agent_url: str = key(
        "", url(empty=True), "Address of the Datadog agent that receives the traces.", default_doc="`datadog.agentUrl`"
    )
    trace_api: str = key("v0.4", TRACE_APIS, TRACE_API_DOC, default_doc="`datadog.traceApi`")
    site: str = key("", site, "Datadog's site.", default_doc="`datadog.site`")
    intake_url: str = key(
        "", url(empty=True), INTAKE_URL_DOC, default_doc="`datadog.intakeUrl`, unless `site` is set here"
    )
    api_key: str = key("", text(), "API key for the intakes.", secret=True, default_doc="`datadog.apiKey`")
    compression: str = key("gzip", COMPRESSIONS, INTAKE_COMPRESSION_DOC, default_doc="`datadog.compression`")
    batch_size: int = key(100, whole(1, 10_000), _BATCH_DOC, default_doc="`datadog.batchSize`")
    batch_timeout_secs: float = key(5, secs, _BATCH_TIMEOUT_DOC, default_doc="`datadog.batchTimeoutSecs`")
    max_in_flight: int = key(4, whole(1, 64), _IN_FLIGHT_DOC)

    @classmethod
    def of(cls, datadog: Datadog, **given: Any) -> "DatadogExporter":
        """An exporter with the values of the datadog section, except for the given ones."""
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
    """The `via` that follows from an exporter's own keys; empty if none follows."""
    if given.get("via"):
        return str(given["via"])
    if given.get("agent_url"):
        return "agent"
    return "intake" if any(given.get(name) for name in ("api_key", "site", "intake_url")) else ""


@frozen(kw_only=True)
class KafkaExporter:
    """Writes each kept trace exactly once to a topic in the cluster of the input topic. The record key is the trace id. Readers need `isolation.level` read_committed."""

    type: ClassVar[str] = "kafka"

    name: str = key("", filled, _NAME_DOC, required=True)
    match: Mapping[str, Any] = key({}, match, _MATCH_DOC)
    topic: str = key(
        "", topic, "Topic for kept traces. It must not be compacted, and no other exporter may use it.", required=True
    )
    compression: str = key("zstd", choice("zstd", "lz4", "snappy", "gzip", "none"), "Compression of record batches.")
    batch_size: int = key(500, whole(1, 10_000), "The most traces in one transaction.")
    batch_timeout_secs: float = key(0.5, secs, _BATCH_TIMEOUT_DOC)
    transaction_timeout_secs: float = key(
        30,
        number(1, 60, units=SECONDS),
        "Brokers abort a transaction that takes longer than this. If a replica is killed during a transaction, readers of the topic and the replica that takes over its partitions wait until then. They do not wait if it restarts under the same `app.instanceId`.",
    )
    properties: Mapping[str, str] = key({}, properties, "More librdkafka properties for the producer.")


@frozen(kw_only=True)
class DecisionsExporter:
    """Writes a row for each decided trace, kept or dropped: when, which policy, why, the service, the name of the root span, duration, spans, bytes and errors. It never holds reading back: rows that cannot be written are lost, and counted in `decision_rows_total`."""

    type: ClassVar[str] = "decisions"

    name: str = key("", filled, _NAME_DOC, required=True)
    via: str = key(
        "file",
        choice("file", "parquet", "kafka"),
        "`file`: lines of JSON appended to the file `path`. `parquet`: files in the folder `path`; needs pyarrow. `kafka`: records of JSON in `topic`, in the cluster of the input topic, keyed by trace id.",
    )
    path: str = key("", text(), "The file, or the folder for Parquet files.")
    topic: str = key("", text(), "The topic. It must exist.")
    share: float = key(
        1.0,
        number(0, 1, above=True),
        "The share of the traces that get a row. They are chosen by the trace id, so all replicas choose the same.",
    )
    batch_size: int = key(10_000, whole(1, 100_000), "The most rows in one batch.")
    batch_timeout_secs: float = key(
        0,
        secs,
        "How long rows wait for more of them before they are written.",
        default_doc="5 s, 60 s for `parquet`; `0` means the same",
    )
    rotate_bytes: int = key(0, whole(0, units=BYTES), "As for `file`.")
    rotate_secs: float = key(0, secs, "As for `file`.")
    max_files: int = key(
        0, whole(0), "How many rotated or Parquet files are kept. Older ones are **deleted**. 0: keep all."
    )
    max_age_secs: float = key(0, _YEARS, "Rotated or Parquet files older than this are **deleted**. 0: keep all.")
    properties: Mapping[str, str] = key({}, properties, "More librdkafka properties for the producer.")

    @property
    def linger_secs(self) -> float:
        """How long rows wait for more of them."""
        return self.batch_timeout_secs or (60.0 if self.via == "parquet" else 5.0)


TraceExporter = FileExporter | ParquetExporter | OtlpExporter | DatadogExporter | KafkaExporter
Exporter = TraceExporter | DecisionsExporter
EXPORTERS: Mapping[str, type[Exporter]] = {
    "file": FileExporter,
    "parquet": ParquetExporter,
    "otlp": OtlpExporter,
    "datadog": DatadogExporter,
    "kafka": KafkaExporter,
    "decisions": DecisionsExporter,
}
