"""Kept traces to Datadog: to an agent, to its trace intake, or to its OTLP intake.

Source: datadog-agent, `pkg/trace/api` (an agent's endpoints) and `pkg/trace/writer/trace.go` (the trace intake, to which the
agent itself sends; it has no public documentation); docs.datadoghq.com, "OTLP intake endpoint".
"""

from __future__ import annotations

import platform
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

import attrs
import trio
from zstandard import ZstdCompressor

from tss import __version__
from tss.core.delivery import Accepted, Again, Batching, Misconfigured, Outcome, Retrying, Undeliverable
from tss.core.formats.datadog.parts import ROOM_BYTES, Form, NoTraceId, OtlpForm, Part
from tss.core.otlp.wire import WireError
from tss.core.repeating import TooLarge
from tss.core.trace import Trace
from tss.edges.http.answers import Answer, AnswerRules, judge, taken
from tss.edges.http.datadog_answers import AGENT, INTAKE
from tss.edges.http.datadog_trace_forms import INTAKE_BYTES, V04, V07, Intake
from tss.edges.http.gzip_body import MIN_GZIP_BYTES, compressed
from tss.edges.http.otlp_answers import PROTOBUF, TRACES
from tss.edges.http.posting import Client, open_client, post
from tss.settings import Datadog, DatadogExporter

T = TypeVar("T")

# Some 75 spans, 4 ms of work. Longer work goes to a thread, so that the event loop does not wait.
THREAD_BYTES = 32 * 1024
# As OTLP. Each Datadog span repeats its resource's attributes, so the request may be several times as long.
BATCH_BYTES = 2 * 1024 * 1024
TOO_LONG = 413
# On payloads of 3 MB: 12 % fewer bytes than gzip's level 1 (OTLP: 22 %) at 1.1 GB/s; gzip does 1.5. Level 3 gains nothing.
ZSTD_LEVEL = 1

# Not sent on purpose: Datadog-Container-ID and -Entity-ID, because they would tag all spans with this daemon's container;
# Datadog-Client-Dropped-P0-*, because `_sample_rate` accounts for dropped traces.
AGENT_HEADERS: Mapping[str, str] = {
    "Content-Type": "application/msgpack",
    "User-Agent": f"tss/{__version__}",
    "Datadog-Meta-Lang": "python",
    "Datadog-Meta-Lang-Version": platform.python_version(),
    "Datadog-Meta-Lang-Interpreter": platform.python_implementation(),
    "Datadog-Meta-Tracer-Version": __version__,
    "Datadog-Client-Computed-Top-Level": "yes",
    # Without it an overloaded agent answers 200 and drops the traces.
    "Datadog-Send-Real-Http-Status": "true",
}
INTAKE_HEADERS: Mapping[str, str] = {"Content-Type": PROTOBUF, "User-Agent": f"tss/{__version__}"}


@attrs.frozen
class TraceEndpoint:
    """Where the traces go, and in which form."""

    base_url: str
    path: str
    form: Form
    headers: Mapping[str, str] = attrs.field(repr=False)  # with the API key
    compression: str = "none"
    batch_bytes: int = BATCH_BYTES
    rules: AnswerRules = attrs.field(default=INTAKE, repr=False)
    proxies: bool = True  # use the environment's proxies; Datadog's own libraries do not use them for an agent


@attrs.define
class SentParts:
    """How far one trace has been sent: the parts that are left, and the server's answers to the others."""

    left: OrderedDict[Part, None]
    rejected_spans: int = 0
    message: str = ""


class DatadogTraces:
    """Sends to one endpoint.

    The parts of a trace that were not taken yet are remembered until they are taken or given up. If a batch is sent again,
    whole or in halves, only these parts are sent, and are not encoded again.
    """

    def __init__(self, settings: DatadogExporter, shared: Datadog, endpoint: TraceEndpoint, client: Client) -> None:
        self.name = settings.name
        self.comes_last = False
        self.batching = Batching(
            settings.batch_size, settings.batch_timeout_secs, settings.max_in_flight, endpoint.batch_bytes
        )
        self.retrying = Retrying(shared.retry_initial_delay_ms / 1000, quick_tries=shared.max_retries)
        self._timeout_secs = shared.request_timeout_secs
        self._client = client
        self._endpoint, self._form = endpoint, endpoint.form
        self._begun: dict[Trace, SentParts] = {}
        # Encoding is Python code, so a second thread would only wait for the interpreter lock.
        self._limiter = trio.CapacityLimiter(1)

    def __repr__(self) -> str:
        return f"<DatadogTraces {self.name} to {self._client.base_url} {self._endpoint.path}, {len(self._begun)} traces begun>"

    async def send(self, traces: Sequence[Trace]) -> Outcome:
        """As few requests as possible, one after the other. If one fails, its outcome is the outcome of the batch."""
        try:
            outcome = await self._prepare(traces) or await self._deliver(traces)
        finally:
            self._form.rest()
        if isinstance(outcome, Accepted):
            self.forget(traces)
        return outcome

    async def ask(self) -> Outcome:
        """The outcome of a request without spans."""
        answer = await self._post([])
        if not isinstance(answer, Answer):
            return answer
        return self._taken(answer) if answer.accepted else judge(answer, self._endpoint.rules)

    async def knock(self) -> bool:
        """Whether it takes a request without spans."""
        return isinstance(await self.ask(), Accepted)

    def forget(self, traces: Sequence[Trace]) -> None:
        """They are not sent again: their remaining parts are let go."""
        for trace in traces:
            self._begun.pop(trace, None)

    async def _prepare(self, traces: Sequence[Trace]) -> Undeliverable | None:
        new = [trace for trace in traces if trace not in self._begun]
        size = sum(max(trace.payload_bytes, trace.payload_bytes * trace.held_spans // 8) for trace in new)
        found, refused = await self._work(size, partial(encode, self._form, new))
        self._begun |= {trace: SentParts(OrderedDict.fromkeys(parts)) for trace, parts in found.items()}
        return refused

    async def _deliver(self, traces: Sequence[Trace]) -> Outcome:
        waiting = deque(self._form.requests([part for trace in traces for part in self._begun[trace].left]))
        while waiting:
            parts = waiting.popleft()
            if parts[0].is_planned:
                made = await self._made(parts)
                if isinstance(made, Undeliverable):
                    return made
                waiting.extendleft(reversed(made))
                continue
            answer = await self._post(parts)
            if not isinstance(answer, Answer):
                return answer
            if answer.accepted:
                outcome = self._taken(answer)
                if isinstance(outcome, Misconfigured):
                    return outcome
                self._done(parts, outcome)
            elif answer.status == TOO_LONG and (smaller := await self._smaller(parts)):
                waiting.extendleft(reversed(smaller))
            else:
                return judge(answer, self._endpoint.rules)
        done = [self._begun[trace] for trace in traces]
        message = next((each.message for each in done if each.message), "")
        return Accepted(sum(each.rejected_spans for each in done), message)

    async def _post(self, parts: Sequence[Part]) -> Answer | Again | Misconfigured:
        size = sum(len(part.body) for part in parts)
        body, encoding = await self._work(size, partial(write, self._endpoint, parts))
        headers = {**self._form.headers(parts), **encoding}
        return await post(self._client, self._endpoint.path, body, headers, self._timeout_secs)

    def _taken(self, answer: Answer) -> Accepted | Misconfigured:
        return taken(answer, self._endpoint.rules)

    def _done(self, parts: Sequence[Part], outcome: Accepted) -> None:
        """A request with these parts was taken. Rejected spans count for its first trace: the answer does not say which."""
        first = self._begun[parts[0].trace]
        first.rejected_spans += outcome.rejected_spans
        first.message = first.message or outcome.message
        for part in parts:
            del self._begun[part.trace].left[part]

    async def _smaller(self, parts: list[Part]) -> list[list[Part]]:
        """The parts of a request that is too long, as several requests; empty if it is a single span."""
        if len(parts) > 1:
            middle = len(parts) // 2
            return [parts[:middle], parts[middle:]]
        [part] = parts
        try:
            halves = await self._work(part.trace.payload_bytes, partial(self._form.halves, part))
        except (TooLarge, WireError):
            return []
        self._replace(part, halves)
        return [[half] for half in halves]

    async def _made(self, plans: Sequence[Part]) -> list[list[Part]] | Undeliverable:
        """Encode planned parts: the requests, or why they cannot be encoded."""
        made: list[Part] = []
        for plan in plans:
            work = partial(attempt, partial(self._form.encoded, plan))
            found, refused = await self._work(plan.size, work)
            if refused:
                return refused
            self._replace(plan, found)
            made += found
        return [*self._form.requests(made)]

    def _replace(self, part: Part, others: Sequence[Part]) -> None:
        """Put the others to the front: they are sent first if the batch is sent again. So at most one request's parts are
        encoded beyond the room for a batch."""
        left = self._begun[part.trace].left
        del left[part]
        for other in reversed(others):
            left[other] = None
            left.move_to_end(other, last=False)

    async def _work(self, size: int, work: Callable[[], T]) -> T:
        """In a thread if it would take long."""
        if size < THREAD_BYTES:
            return work()
        return await trio.to_thread.run_sync(work, limiter=self._limiter, abandon_on_cancel=True)


def encode(form: Form, traces: Sequence[Trace]) -> tuple[Mapping[Trace, list[Part]], Undeliverable | None]:
    """The parts of each trace that can be encoded; and why, if some cannot."""
    found: dict[Trace, list[Part]] = {}
    refused = None
    room = ROOM_BYTES
    for trace in traces:
        parts, trouble = attempt(partial(form.parts, trace, room))
        room -= sum(len(part.body) for part in parts)
        if trouble is None:
            found[trace] = parts
        refused = trouble or refused
    return found, refused


def attempt(work: Callable[[], list[Part]]) -> tuple[list[Part], Undeliverable | None]:
    """The parts that ``work`` makes; or no parts and the reason."""
    try:
        return work(), None
    except TooLarge as error:
        return [], Undeliverable("too_large", str(error))
    except NoTraceId as error:
        return [], Undeliverable("trace_id_zero", str(error))
    except Exception as error:  # noqa: BLE001  # any error concerns only these bytes
        return [], Undeliverable("unencodable", f"{type(error).__name__}: {error}"[:400])


def write(endpoint: TraceEndpoint, parts: Sequence[Part]) -> tuple[bytes, Mapping[str, str]]:
    """A request's body, and the header that names its compression."""
    body = endpoint.form.body(parts)
    if endpoint.compression == "none" or len(body) < MIN_GZIP_BYTES:
        return body, {}
    packed = ZstdCompressor(ZSTD_LEVEL).compress(body) if endpoint.compression == "zstd" else compressed(body)
    return packed, {"Content-Encoding": endpoint.compression}


@asynccontextmanager
async def open_datadog(
    settings: DatadogExporter, shared: Datadog, *, computes_stats: bool = False
) -> AsyncIterator[DatadogTraces]:
    """``computes_stats``: this daemon sends APM statistics of all traffic, so Datadog should not compute them from kept traces."""
    endpoint = endpoint_of(settings, computes_stats=computes_stats)
    verify = endpoint.base_url.startswith("https:")
    connections = settings.max_in_flight
    async with open_client(
        endpoint.base_url, endpoint.headers, connections, verify=verify, proxies=endpoint.proxies
    ) as client:
        yield DatadogTraces(settings, shared, endpoint, client)


def endpoint_of(settings: DatadogExporter, *, computes_stats: bool) -> TraceEndpoint:
    """From the settings, with their derived values filled in."""
    key = settings.api_key
    match settings.via:
        case "intake":
            base = settings.intake_url or f"https://trace.agent.{settings.site}"
            headers = {**INTAKE_HEADERS, "DD-Api-Key": key}
            return TraceEndpoint(base, "/api/v0.2/traces", Intake(), headers, settings.compression)
        case "otlp":
            base = settings.intake_url or f"https://otlp.{settings.site}"
            headers = {**INTAKE_HEADERS, "dd-api-key": key}
            if not computes_stats:  # then Datadog counts at least the kept traces
                headers["compute_stats"] = "true"
            rules = attrs.evolve(
                TRACES,
                again=INTAKE.again,
                misconfigured=INTAKE.misconfigured,
                credentials=INTAKE.credentials,
                address=INTAKE.address,
            )
            return TraceEndpoint(
                base, "/v1/traces", OtlpForm(INTAKE_BYTES), headers, settings.compression, INTAKE_BYTES, rules
            )
    headers = {**AGENT_HEADERS, **({"Datadog-Client-Computed-Stats": "yes"} if computes_stats else {})}
    form = V07() if settings.trace_api == "v0.7" else V04()
    path = f"/{settings.trace_api}/traces"
    return TraceEndpoint(settings.agent_url, path, form, headers, rules=AGENT, proxies=False)
