"""Kept traces to a Datadog agent, by its v0.4 trace endpoint.

Source: `shared/reference/wire-protocols.md` 1.a and 1.f.
"""

from __future__ import annotations

import platform
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

import attrs
import httpx
import msgpack
import trio

from tss import __version__
from tss.core.datadog import DatadogSpan, lead, to_spans
from tss.core.delivery import Accepted, Batching, Outcome, Refused, Retrying
from tss.core.trace import Trace
from tss.edges.posting import Answer, Rules, judge, open_client, plain_message, post
from tss.settings import Datadog, DatadogExporter

PATH = "/v0.4/traces"

MAX_BODY_BYTES = 25 * 1024 * 1024  # the agent's MaxRequestBytes
_ARRAY_HEADER_BYTES = 5  # the longest
THREAD_BYTES = 32 * 1024  # some 75 spans, 4 ms of work: from there on the event loop should not wait for it
# Each Datadog span repeats its resource's attributes, so a batch of this size may become several times as long.
BATCH_BYTES = 2 * 1024 * 1024

RULES = Rules(
    again=frozenset((408, 429, *range(500, 600))),
    misconfigured=frozenset((401, 403, 404, 405, 407)),
)

# Not sent on purpose: Datadog-Container-ID and -Entity-ID, for they would tag everybody's spans with this daemon's
# container; Datadog-Client-Computed-Stats, for nobody else has computed them; Datadog-Client-Dropped-P0-*, for what was
# dropped is told by `_sample_rate`.
HEADERS: Mapping[str, str] = {
    "Content-Type": "application/msgpack",
    "User-Agent": f"tss/{__version__}",
    "Datadog-Meta-Lang": "python",
    "Datadog-Meta-Lang-Version": platform.python_version(),
    "Datadog-Meta-Lang-Interpreter": platform.python_implementation(),
    "Datadog-Meta-Tracer-Version": __version__,
    "Datadog-Client-Computed-Top-Level": "yes",
    # Without it the agent answers 200 to what it throws away when overloaded.
    "Datadog-Send-Real-Http-Status": "true",
}


class TooLarge(Exception):
    """One span is larger than the agent takes."""


@attrs.frozen
class Request:
    """A body, and how many chunks are in it."""

    chunks: int
    body: bytes = attrs.field(repr=False)


class DatadogAgent:
    """Sends to one agent."""

    def __init__(
        self,
        settings: DatadogExporter,
        shared: Datadog,
        client: httpx.AsyncClient,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        self.name = settings.name
        self.comes_last = False
        self.batching = Batching(settings.batch_size, settings.batch_timeout_secs, settings.max_in_flight, BATCH_BYTES)
        self.retrying = Retrying(shared.retry_initial_delay_ms / 1000, quick_tries=shared.max_retries)
        self._timeout_secs = shared.request_timeout_secs
        self._client = client
        self._max_body_bytes = max_body_bytes
        # The work is Python's, so threads only share one processor: more of them would take turns.
        self._limiter = trio.CapacityLimiter(1)

    def __repr__(self) -> str:
        return f"<DatadogAgent {self.name} at {self._client.base_url}>"

    async def send(self, traces: Sequence[Trace]) -> Outcome:
        """As few requests as can be, one after the other; if one fails, its outcome is the batch's."""
        try:
            requests = await self._encode(traces)
        except TooLarge as error:
            return Refused("too_large", str(error))
        except Exception as error:  # noqa: BLE001  # whatever is wrong with these bytes, it is theirs alone
            return Refused("unencodable", f"{type(error).__name__}: {error}"[:400])
        for request in requests:
            headers = {"X-Datadog-Trace-Count": str(request.chunks)}
            answer = await post(self._client, PATH, request.body, headers, self._timeout_secs)
            if not isinstance(answer, Answer):
                return answer
            if not answer.accepted:
                return judge(answer, RULES, plain_message(answer.body))
        return Accepted()

    async def _encode(self, traces: Sequence[Trace]) -> Sequence[Request]:
        work = partial(encode, traces, self._max_body_bytes)
        if sum(trace.payload_bytes for trace in traces) < THREAD_BYTES:
            return work()
        return await trio.to_thread.run_sync(work, limiter=self._limiter, abandon_on_cancel=True)


@asynccontextmanager
async def open_datadog(settings: DatadogExporter, shared: Datadog) -> AsyncIterator[DatadogAgent]:
    """The agent is at hand, so proxies in the environment are not for it; Datadog's own libraries see it so too."""
    url = settings.agent_url or shared.agent_url
    async with open_client(
        url, HEADERS, settings.max_in_flight, verify=url.startswith("https:"), proxies=False
    ) as client:
        yield DatadogAgent(settings, shared, client)


def encode(traces: Sequence[Trace], max_body_bytes: int = MAX_BODY_BYTES) -> Sequence[Request]:
    """The traces as requests of at most so many bytes.

    The agent takes environment and version of a whole request from its first trace that has any (`Agent.Process`), so
    only traces that agree in both share one. Raises TooLarge, and whatever unfit bytes may raise.
    """
    groups: dict[tuple[str, str], list[bytes]] = {}
    for trace in traces:
        spans = to_spans(trace.payload, trace.decision.rate if trace.decision else 1.0)
        if spans:
            chunks = groups.setdefault(_group(spans), [])
            chunks.extend(_pack(spans, max_body_bytes - _ARRAY_HEADER_BYTES))
    return [request for chunks in groups.values() for request in _fill(chunks, max_body_bytes - _ARRAY_HEADER_BYTES)]


def _group(spans: Sequence[DatadogSpan]) -> tuple[str, str]:
    root = next((span for span in spans if not span["parent_id"]), spans[0])
    return root["meta"].get("env", ""), root["meta"].get("version", "")


def _pack(spans: Sequence[DatadogSpan], limit: int) -> Iterator[bytes]:
    """One chunk, or several of the same trace when one would be too long: the agent takes parts of traces."""
    lead(spans)
    packed: bytes = msgpack.packb(spans)
    if len(packed) <= limit:
        yield packed
        return
    if len(spans) == 1:
        raise TooLarge(f"a span of {len(packed):,} bytes; the agent takes {limit:,}")
    middle = len(spans) // 2
    yield from _pack(spans[:middle], limit)
    yield from _pack(spans[middle:], limit)


def _fill(chunks: Sequence[bytes], limit: int) -> Iterator[Request]:
    held: list[bytes] = []
    size = 0
    for chunk in chunks:
        if held and size + len(chunk) > limit:
            yield _request(held)
            held, size = [], 0
        held.append(chunk)
        size += len(chunk)
    if held:
        yield _request(held)


def _request(chunks: Sequence[bytes]) -> Request:
    header: bytes = msgpack.Packer().pack_array_header(len(chunks))
    return Request(len(chunks), b"".join((header, *chunks)))
