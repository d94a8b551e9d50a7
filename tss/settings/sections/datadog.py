"""`datadog`: how traces reach Datadog; the shared values of exporters of type datadog."""

from urllib.parse import urlsplit

from attrs import frozen

from tss.settings.keys import key
from tss.settings.kinds.numbers import positive_secs, secs, truth, whole
from tss.settings.kinds.texts import choice, site, text, url
from tss.settings.kinds.units import MILLISECONDS

DATADOG_API = "https://api.datadoghq.com"

VIAS = choice("", "intake", "agent", "otlp")
VIA_DOC = (
    "How traces reach Datadog: `intake` is its trace intake, as the agent speaks to it; `agent` a Datadog agent at "
    "`agentUrl`; `otlp` its OTLP intake, which takes the spans byte for byte. The intakes need `apiKey`."
)
_STATS_DOC = "Send statistics of all traffic, kept and dropped, and tell Datadog that they are computed; with false an agent or the OTLP intake computes them of the kept traces alone, the trace intake not at all."
INTAKE_URL_DOC = "Base address in place of https://trace.agent.SITE (`via` intake) or https://otlp.SITE (otlp): a proxy, a private link."
TRACE_API_DOC = "Version of the agent's endpoint, with `via` agent."
INTAKE_COMPRESSION_DOC = "How requests to an intake are compressed; every version of the agent has sent gzip."
TRACE_APIS = choice("v0.4", "v0.7")
COMPRESSIONS = choice("gzip", "zstd", "none")


@frozen(kw_only=True)
class Datadog:
    """The destination when there are no `exporters`, and what exporters of type datadog share."""

    via: str = key(
        "", VIAS, VIA_DOC, default_doc="`agent` with `agentUrl`, else `intake` with `apiKey`, else no destination"
    )
    api_endpoint: str = key(
        DATADOG_API,
        url(),
        "Datadog's API; `site` is taken from it. Nothing is sent there: the intakes have other names.",
    )
    site: str = key(
        "",
        site,
        "Datadog's site, such as datadoghq.eu or us5.datadoghq.com.",
        default_doc="from `apiEndpoint`, where that is https://api.SITE",
    )
    intake_url: str = key("", url(empty=True), INTAKE_URL_DOC)
    api_key: str = key("", text(), "API key, for the intakes; an agent has its own.", secret=True)
    application_key: str = key(
        "", text(), "Application key; accepted, and has no effect: sending traces does not need it.", secret=True
    )
    agent_url: str = key("", url(empty=True), "Datadog agent that takes the traces, such as http://127.0.0.1:8126.")
    trace_api: str = key("v0.4", TRACE_APIS, TRACE_API_DOC)
    compression: str = key("gzip", COMPRESSIONS, INTAKE_COMPRESSION_DOC)
    stats: bool = key(True, truth, _STATS_DOC)
    batch_enabled: bool = key(True, truth, "Send several traces in one request; false is a `batchSize` of 1.")
    batch_size: int = key(100, whole(1, 10_000), "Traces in one request at most.")
    batch_timeout_secs: float = key(5, secs, "A batch is sent when its first trace has waited this long.")
    request_timeout_secs: float = key(30, positive_secs, "Time for one request.")
    max_retries: int = key(
        3, whole(0, 1000), "Quick retries before a failure is reported; kept traces are not dropped after that either."
    )
    retry_initial_delay_ms: int = key(
        1000, whole(1, 600_000, units=MILLISECONDS), "Pause before the first retry; it doubles each time."
    )

    @property
    def chosen_via(self) -> str:
        """`via`, derived if need be; empty where there is nothing to derive it from."""
        return self.via or ("agent" if self.agent_url else "intake" if self.api_key else "")

    @property
    def chosen_site(self) -> str:
        """`site`, derived if need be; empty where `apiEndpoint` has none."""
        name = urlsplit(self.api_endpoint).hostname or ""
        return self.site or (name.removeprefix("api.") if name.startswith("api.") else "")
