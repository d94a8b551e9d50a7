"""APM statistics of all traffic to Datadog: to its intake, or to an agent.

Source: datadog-agent 0.85.2, `pkg/trace/stats/client_stats_aggregator.go`: an agent moves buckets that begin more than some
twenty seconds ago, or in the future, into its own oldest or newest bucket, and does not say by how much. The intake probably takes
them as they are: it is not documented.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager

import attrs
import trio

from tss import __version__
from tss.core.delivery import Outcome, Retrying
from tss.core.formats.apm_stats import GroupedStats, StatsBody
from tss.edges.http.answers import AnswerRules
from tss.edges.http.datadog_answers import AGENT, INTAKE
from tss.edges.http.datadog_stats_forms import Sender, for_agent, for_intake
from tss.edges.http.datadog_traces import AGENT_HEADERS
from tss.edges.http.posting import Client, open_client, send
from tss.settings import Datadog, DatadogExporter

INTAKE_HEADERS: Mapping[str, str] = {
    "Content-Type": "application/msgpack",
    "Content-Encoding": "gzip",
    "User-Agent": f"tss/{__version__}",
}


@attrs.frozen
class StatsEndpoint:
    """Where the statistics go, and in which form."""

    base_url: str
    path: str
    write: Callable[[Sequence[GroupedStats], Sender], Iterator[StatsBody]]
    headers: Mapping[str, str] = attrs.field(repr=False)  # with the API key
    rules: AnswerRules = attrs.field(default=INTAKE, repr=False)
    proxies: bool = True  # use the environment's proxies


class DatadogStats:
    """Sends to one endpoint."""

    def __init__(self, shared: Datadog, endpoint: StatsEndpoint, sender: Sender, client: Client) -> None:
        self.retrying = Retrying(shared.retry_initial_delay_ms / 1000, quick_tries=shared.max_retries)
        self._timeout_secs = shared.request_timeout_secs
        self._endpoint = endpoint
        self._sender = sender
        self._client = client

    def __repr__(self) -> str:
        return f"<DatadogStats at {self._client.base_url}>"

    async def encode(self, found: Sequence[GroupedStats]) -> Sequence[StatsBody]:
        """The request bodies. In a thread: four thousand groups take 30 ms."""
        return await trio.to_thread.run_sync(
            lambda: [*self._endpoint.write(found, self._sender)], abandon_on_cancel=True
        )

    async def send(self, part: StatsBody) -> Outcome:
        """One request."""
        endpoint = self._endpoint
        return await send(self._client, endpoint.path, part.body, {}, self._timeout_secs, endpoint.rules)


@asynccontextmanager
async def open_datadog_stats(
    settings: DatadogExporter, shared: Datadog, instance_id: str
) -> AsyncIterator[DatadogStats]:
    """To the exporter's agent or intake. The OTLP intake takes no statistics: then they go to the other intake, with its key."""
    endpoint = endpoint_of(settings)
    verify = endpoint.base_url.startswith("https:")
    async with open_client(endpoint.base_url, endpoint.headers, 1, verify=verify, proxies=endpoint.proxies) as client:
        yield DatadogStats(shared, endpoint, Sender(instance_id, __version__), client)


def endpoint_of(settings: DatadogExporter) -> StatsEndpoint:
    """From the settings, with their derived values filled in."""
    if settings.via == "agent":
        return StatsEndpoint(settings.agent_url, "/v0.6/stats", for_agent, AGENT_HEADERS, AGENT, proxies=False)
    base = f"https://trace.agent.{settings.site}"
    if settings.via == "intake" and settings.intake_url:
        base = settings.intake_url
    headers = {**INTAKE_HEADERS, "DD-Api-Key": settings.api_key}
    return StatsEndpoint(base, "/api/v0.2/stats", for_intake, headers)
