"""`datadog`: how traces reach Datadog, and the defaults of exporters of type datadog."""

from urllib.parse import urlsplit

from attrs import frozen

from tss.settings.keys import key
from tss.settings.kinds.numbers import positive_secs, secs, truth, whole
from tss.settings.kinds.texts import choice, site, text, url
from tss.settings.kinds.units import MILLISECONDS

DATADOG_API = "https://api.datadoghq.com"

VIAS = choice("", "intake", "agent", "otlp")
VIA_DOC = (
    "How traces reach Datadog. `intake`: its trace intake, in the agent's own format. `agent`: a Datadog agent at "
    "`agentUrl`. `otlp`: its OTLP intake, which takes the spans byte for byte. The intakes need `apiKey`."
)
_STATS_DOC = (
    "Send statistics of all traces, kept and dropped, and tell Datadog not to compute its own. With false, an agent or the "
    "OTLP intake computes statistics of the kept traces only, and the trace intake computes none."
)
INTAKE_URL_DOC = "Base address that replaces https://trace.agent.SITE (`via` intake) or https://otlp.SITE (`via` otlp), for a proxy or a private link."
TRACE_API_DOC = "Version of the agent's trace endpoint. Has an effect only with `via` agent."
INTAKE_COMPRESSION_DOC = "Compression of requests to an intake. Agents of all versions send gzip."
TRACE_APIS = choice("v0.4", "v0.7")
COMPRESSIONS = choice("gzip", "zstd", "none")


@frozen(kw_only=True)
class Datadog:
    """The destination if there are no `exporters`, and the defaults of exporters of type datadog."""

    via: str = key(
        "",
        VIAS,
        VIA_DOC,
        default_doc="`agent` if `agentUrl` is set, else `intake` if `apiKey` is set, else no destination",
    )
    api_endpoint: str = key(
        DATADOG_API,
        url(),
        "Datadog's API. Only used to derive `site`: nothing is sent there, since the intakes have other addresses.",
    )
    site: str = key(
        "",
        site,
        "Datadog's site, such as datadoghq.eu or us5.datadoghq.com.",
        default_doc="from `apiEndpoint`, if that is https://api.SITE",
    )
    intake_url: str = key("", url(empty=True), INTAKE_URL_DOC)
    api_key: str = key("", text(), "API key for the intakes. An agent has its own.", secret=True)
    application_key: str = key(
        "", text(), "Application key. Accepted, but has no effect: sending traces does not need it.", secret=True
    )
    agent_url: str = key(
        "", url(empty=True), "Address of the Datadog agent that receives the traces, such as http://127.0.0.1:8126."
    )
    trace_api: str = key("v0.4", TRACE_APIS, TRACE_API_DOC)
    compression: str = key("gzip", COMPRESSIONS, INTAKE_COMPRESSION_DOC)
    stats: bool = key(True, truth, _STATS_DOC)
    batch_enabled: bool = key(True, truth, "Send several traces in one request. False means a `batchSize` of 1.")
    batch_size: int = key(100, whole(1, 10_000), "The most traces in one request.")
    batch_timeout_secs: float = key(
        5, secs, "A batch is sent when its first trace has waited this long, even if it is not full."
    )
    request_timeout_secs: float = key(30, positive_secs, "Time limit for one request.")
    max_retries: int = key(
        3,
        whole(0, 1000),
        "Quick retries before a failure is reported. After them the daemon keeps trying: it never drops a kept trace.",
    )
    retry_initial_delay_ms: int = key(
        1000, whole(1, 600_000, units=MILLISECONDS), "Pause before the first retry. It doubles with each retry."
    )

    @property
    def chosen_via(self) -> str:
        """`via`, or if it is empty the one that follows from the other keys; empty if none follows."""
        return self.via or ("agent" if self.agent_url else "intake" if self.api_key else "")

    @property
    def chosen_site(self) -> str:
        """`site`, or if it is empty the one in `apiEndpoint`; empty if that has none."""
        name = urlsplit(self.api_endpoint).hostname or ""
        return self.site or (name.removeprefix("api.") if name.startswith("api.") else "")
