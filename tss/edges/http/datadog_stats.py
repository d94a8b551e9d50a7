"""Statistics of all traffic to Datadog: to its intake, or to an agent.

Source: `shared/reference/wire-protocols.md` 1.d. An agent puts buckets that begin more than some twenty seconds ago, or in
the future, into the oldest or newest of its own, and does not say by how much (`pkg/trace/stats`, `client_stats_aggregator.go`,
0.85.2). The intake is believed to take them as they are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager

import attrs
import trio

from tss import __version__
from tss.core.delivery import Outcome, Retrying
from tss.core.formats.apm_stats import GroupedStats, StatsBody
from tss.edges.http.datadog import AGENT_HEADERS, RULES
from tss.edges.http.datadog_answers import taken_by_datadog
from tss.edges.http.datadog_stats_forms import Sender, for_agent, for_intake
from tss.edges.http.posting import Answer, Client, judge, open_client, plain_message, post
from tss.settings import Datadog, DatadogExporter

INTAKE_HEADERS: Mapping[str, str] = {
    "Content-Type": "application/msgpack",
    "Content-Encoding": "gzip",
    "User-Agent": f"tss/{__version__}",
}


@attrs.frozen
class Way:
    """Where they go, and how they are written."""

    base_url: str
    path: str
    write: Callable[[Sequence[GroupedStats], Sender], Iterator[StatsBody]]
    headers: Mapping[str, str] = attrs.field(repr=False)  # the key is among them
    at_hand: bool = False


class DatadogStats:
    """Sends to one of them."""

    def __init__(self, shared: Datadog, way: Way, sender: Sender, client: Client) -> None:
        self.retrying = Retrying(shared.retry_initial_delay_ms / 1000, quick_tries=shared.max_retries)
        self._timeout_secs = shared.request_timeout_secs
        self._way = way
        self._sender = sender
        self._client = client

    def __repr__(self) -> str:
        return f"<DatadogStats at {self._client.base_url}>"

    async def encode(self, found: Sequence[GroupedStats]) -> Sequence[StatsBody]:
        """In a thread: four thousand groups take 30 ms."""
        return await trio.to_thread.run_sync(lambda: [*self._way.write(found, self._sender)], abandon_on_cancel=True)

    async def send(self, part: StatsBody) -> Outcome:
        """One request."""
        answer = await post(self._client, self._way.path, part.body, {}, self._timeout_secs)
        if not isinstance(answer, Answer):
            return answer
        if answer.accepted:
            return taken_by_datadog(answer)
        return judge(answer, RULES, plain_message(answer.body))


@asynccontextmanager
async def open_datadog_stats(
    settings: DatadogExporter, shared: Datadog, instance_id: str
) -> AsyncIterator[DatadogStats]:
    """Of the way that this exporter goes; by OTLP there is none, so that they go to the intake with the same key."""
    way = way_of(settings)
    verify = way.base_url.startswith("https:")
    async with open_client(way.base_url, way.headers, 1, verify=verify, proxies=not way.at_hand) as client:
        yield DatadogStats(shared, way, Sender(instance_id, __version__), client)


def way_of(settings: DatadogExporter) -> Way:
    """By the settings, where what can be derived has been."""
    if settings.via == "agent":
        return Way(settings.agent_url, "/v0.6/stats", for_agent, AGENT_HEADERS, at_hand=True)
    base = f"https://trace.agent.{settings.site}"
    if settings.via == "intake" and settings.intake_url:
        base = settings.intake_url
    return Way(base, "/api/v0.2/stats", for_intake, {**INTAKE_HEADERS, "DD-Api-Key": settings.api_key})
