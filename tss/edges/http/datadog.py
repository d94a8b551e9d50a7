"""Kept traces to Datadog: by an agent, straight to its trace intake, or to its OTLP intake.

Source: `shared/reference/wire-protocols.md` 1.a to 1.c and 1.f. The trace intake is what the agent itself sends to; it
has no public documentation.
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
from isal import igzip
from zstandard import ZstdCompressor

from tss import __version__
from tss.core.delivery import Accepted, Again, Batching, Misconfigured, Outcome, Retrying, Undeliverable
from tss.core.formats.datadog.parts import ROOM_BYTES, Form, NoTraceId, OtlpForm, Part
from tss.core.otlp.wire import WireError
from tss.core.repeating import TooLarge
from tss.core.trace import Trace
from tss.edges.http.datadog_answers import taken_by_datadog
from tss.edges.http.datadog_forms import INTAKE_BYTES, V04, V07, Intake
from tss.edges.http.otlp_answers import PROTOBUF, TRACES, message, success
from tss.edges.http.otlphttp import GZIP_LEVEL, MIN_GZIP_BYTES
from tss.edges.http.posting import Answer, Client, Rules, judge, open_client, post
from tss.settings import Datadog, DatadogExporter

T = TypeVar("T")

THREAD_BYTES = 32 * 1024  # some 75 spans, 4 ms of work: from there on the event loop should not wait for it
# Each Datadog span repeats its resource's attributes, so a batch of this size may become several times as long.
BATCH_BYTES = 2 * 1024 * 1024
TOO_LONG = 413
# On payloads of 3 MB: 12 % fewer bytes than gzip's level 1 (OTLP: 22 %) at 1.1 GB/s; gzip does 1.5. Level 3 gains nothing.
ZSTD_LEVEL = 1

RULES = Rules(
    again=frozenset((408, 429, 502, 503, 504)),
    # 415 is of what stands between that takes no msgpack or zstd: it says nothing about the data.
    misconfigured=frozenset((401, 402, 403, 404, 405, 407, 415)),
)

# Not sent on purpose: Datadog-Container-ID and -Entity-ID, for they would tag everybody's spans with this daemon's
# container; Datadog-Client-Dropped-P0-*, for what was dropped is told by `_sample_rate`.
AGENT_HEADERS: Mapping[str, str] = {
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
INTAKE_HEADERS: Mapping[str, str] = {"Content-Type": PROTOBUF, "User-Agent": f"tss/{__version__}"}


@attrs.frozen
class Way:
    """One of the ways to Datadog."""

    base_url: str
    path: str
    form: Form
    headers: Mapping[str, str] = attrs.field(repr=False)  # with the API key
    compression: str = "none"
    batch_bytes: int = BATCH_BYTES
    at_hand: bool = (
        False  # as an agent is: proxies in the environment are not for it, as Datadog's own libraries see it
    )


@attrs.define
class Parcel:
    """What is left to be sent of a trace, and what was said of what was sent."""

    parts: OrderedDict[Part, None]
    rejected_spans: int = 0
    remark: str = ""


class DatadogHttp:
    """Sends by one way.

    What is left of a trace is remembered until it was taken, or is given up: a batch that is sent again, whole or
    in halves, sends just the rest, and need not be encoded again.
    """

    def __init__(self, settings: DatadogExporter, shared: Datadog, way: Way, client: Client) -> None:
        self.name = settings.name
        self.comes_last = False
        self.batching = Batching(
            settings.batch_size, settings.batch_timeout_secs, settings.max_in_flight, way.batch_bytes
        )
        self.retrying = Retrying(shared.retry_initial_delay_ms / 1000, quick_tries=shared.max_retries)
        self._timeout_secs = shared.request_timeout_secs
        self._client = client
        self._way, self._form = way, way.form
        self._left: dict[Trace, Parcel] = {}
        # The work is Python's, so threads only share one processor: more of them would take turns.
        self._limiter = trio.CapacityLimiter(1)

    def __repr__(self) -> str:
        return f"<DatadogHttp {self.name} to {self._client.base_url} {self._way.path}, {len(self._left)} traces begun>"

    async def send(self, traces: Sequence[Trace]) -> Outcome:
        """As few requests as can be, one after the other; if one fails, its outcome is the batch's."""
        try:
            outcome = await self._prepare(traces) or await self._deliver(traces)
        finally:
            self._form.rest()
        if isinstance(outcome, Accepted):
            self.forget(traces)
        return outcome

    async def knock(self) -> bool:
        """Whether it takes a request without spans."""
        answer = await self._post([])
        return isinstance(answer, Answer) and answer.accepted and isinstance(self._success(answer), Accepted)

    def forget(self, traces: Sequence[Trace]) -> None:
        """They are not sent again: what was left of them is let go."""
        for trace in traces:
            self._left.pop(trace, None)

    async def _prepare(self, traces: Sequence[Trace]) -> Undeliverable | None:
        new = [trace for trace in traces if trace not in self._left]
        size = sum(max(trace.payload_bytes, trace.payload_bytes * trace.held_spans // 8) for trace in new)
        found, refused = await self._work(size, partial(encode, self._form, new))
        self._left |= {trace: Parcel(OrderedDict.fromkeys(parts)) for trace, parts in found.items()}
        return refused

    async def _deliver(self, traces: Sequence[Trace]) -> Outcome:
        waiting = deque(self._form.requests([part for trace in traces for part in self._left[trace].parts]))
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
                said = self._success(answer)
                if isinstance(said, Misconfigured):
                    return said
                self._taken(parts, said)
            elif answer.status == TOO_LONG and (smaller := await self._smaller(parts)):
                waiting.extendleft(reversed(smaller))
            else:
                return judge(answer, RULES, message(answer))
        parcels = [self._left[trace] for trace in traces]
        remark = next((parcel.remark for parcel in parcels if parcel.remark), "")
        return Accepted(sum(parcel.rejected_spans for parcel in parcels), remark)

    async def _post(self, parts: Sequence[Part]) -> Answer | Again | Misconfigured:
        size = sum(len(part.body) for part in parts)
        body, encoding = await self._work(size, partial(write, self._way, parts))
        headers = {**self._form.headers(parts), **encoding}
        return await post(self._client, self._way.path, body, headers, self._timeout_secs)

    def _success(self, answer: Answer) -> Accepted | Misconfigured:
        """Only OTLP has partial successes."""
        return success(answer, TRACES) if isinstance(self._form, OtlpForm) else taken_by_datadog(answer)

    def _taken(self, parts: Sequence[Part], said: Accepted) -> None:
        first = self._left[parts[0].trace]
        first.rejected_spans += said.rejected_spans
        first.remark = first.remark or said.message
        for part in parts:
            del self._left[part.trace].parts[part]

    async def _smaller(self, parts: list[Part]) -> list[list[Part]]:
        """A request's parts as several; none when it is a single span."""
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
        """The requests of planned parts, or why there are none."""
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
        """At the front: it is sent first when the batch is sent again, so that never more than one request's parts have been
        encoded beyond the room."""
        left = self._left[part.trace].parts
        del left[part]
        for other in reversed(others):
            left[other] = None
            left.move_to_end(other, last=False)

    async def _work(self, size: int, work: Callable[[], T]) -> T:
        """On a thread where it would take long."""
        if size < THREAD_BYTES:
            return work()
        return await trio.to_thread.run_sync(work, limiter=self._limiter, abandon_on_cancel=True)


def encode(form: Form, traces: Sequence[Trace]) -> tuple[Mapping[Trace, list[Part]], Undeliverable | None]:
    """The parts of each, and why there are none of some."""
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
    """The parts that this makes, or none and why."""
    try:
        return work(), None
    except TooLarge as error:
        return [], Undeliverable("too_large", str(error))
    except NoTraceId as error:
        return [], Undeliverable("trace_id_zero", str(error))
    except Exception as error:  # noqa: BLE001  # whatever is wrong with these bytes, it is theirs alone
        return [], Undeliverable("unencodable", f"{type(error).__name__}: {error}"[:400])


def write(way: Way, parts: Sequence[Part]) -> tuple[bytes, Mapping[str, str]]:
    """A request's body, and the headers that say how it is compressed."""
    body = way.form.body(parts)
    if way.compression == "none" or len(body) < MIN_GZIP_BYTES:
        return body, {}
    if way.compression == "zstd":
        body = ZstdCompressor(ZSTD_LEVEL).compress(body)
    else:
        body = igzip.compress(body, GZIP_LEVEL, mtime=0)
    return body, {"Content-Encoding": way.compression}


@asynccontextmanager
async def open_datadog(
    settings: DatadogExporter, shared: Datadog, *, computes_stats: bool = False
) -> AsyncIterator[DatadogHttp]:
    """``computes_stats`` says that this daemon sends statistics of all traffic, so nobody need count what it kept."""
    way = way_of(settings, computes_stats=computes_stats)
    verify = way.base_url.startswith("https:")
    async with open_client(
        way.base_url, way.headers, settings.max_in_flight, verify=verify, proxies=not way.at_hand
    ) as client:
        yield DatadogHttp(settings, shared, way, client)


def way_of(settings: DatadogExporter, *, computes_stats: bool) -> Way:
    """By the settings, where what can be derived has been."""
    key = settings.api_key
    match settings.via:
        case "intake":
            base = settings.intake_url or f"https://trace.agent.{settings.site}"
            headers = {**INTAKE_HEADERS, "DD-Api-Key": key}
            return Way(base, "/api/v0.2/traces", Intake(), headers, settings.compression)
        case "otlp":
            base = settings.intake_url or f"https://otlp.{settings.site}"
            headers = {**INTAKE_HEADERS, "dd-api-key": key}
            if not computes_stats:  # then at least what was kept is counted
                headers["compute_stats"] = "true"
            form = OtlpForm(INTAKE_BYTES)
            return Way(base, "/v1/traces", form, headers, settings.compression, batch_bytes=INTAKE_BYTES)
    headers = {**AGENT_HEADERS, **({"Datadog-Client-Computed-Stats": "yes"} if computes_stats else {})}
    agent_form = V07() if settings.trace_api == "v0.7" else V04()
    return Way(settings.agent_url, f"/{settings.trace_api}/traces", agent_form, headers, at_hand=True)
