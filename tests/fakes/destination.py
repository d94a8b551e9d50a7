"""A destination with moods, which remembers every span it ever took."""

import enum
import random
from collections import defaultdict
from collections.abc import Callable, Sequence

import attrs
import trio
from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from tss.core.delivery import Accepted, Again, Batching, Misconfigured, Outcome, Rejected, Retrying, Undeliverable
from tss.core.trace import Trace


@attrs.frozen
class SpanKey:
    """What tells one span from another."""

    trace_id: bytes = attrs.field(repr=bytes.hex)
    span_id: bytes = attrs.field(repr=bytes.hex)
    start_ns: int
    end_ns: int

    @classmethod
    def of(cls, span: Span) -> "SpanKey":
        return cls(span.trace_id, span.span_id, span.start_time_unix_nano, span.end_time_unix_nano)


@attrs.frozen
class Arrival:
    """One span taken once."""

    key: SpanKey
    span: bytes
    sender: int  # the incarnation of the daemon that sent it


class Mood(enum.Enum):
    """How a destination answers for a while."""

    WELL = "well"
    SLOW = "slow"  # answers, but late
    AGAIN = "again"  # 503
    AGAIN_AFTER = "again after"  # 429 with Retry-After
    MISCONFIGURED = "misconfigured"  # 401
    FAILING = "failing"  # 500 to everything
    BLAMING = "blaming"  # 400 to everything, as a TLS port answers to http://
    HANGING = "hanging"  # no answer until the mood changes
    VANISHING = "vanishing"  # takes the batch and goes away before it says so


def spans_of(payload: bytes) -> list[Span]:
    """The spans of a serialized TracesData, in order."""
    data = TracesData.FromString(payload)
    return [span for resource in data.resource_spans for scope in resource.scope_spans for span in scope.spans]


@attrs.define
class FakeDestination:
    """The destination itself; ``from_sender`` is the way to it of one incarnation of the daemon."""

    name: str = "fake"
    comes_last: bool = False
    batching: Batching = Batching(max_traces=10, linger_secs=0.1)
    retrying: Retrying = Retrying(initial_secs=0.1, max_secs=2.0, probe_secs=2.0)
    chance: random.Random = attrs.field(factory=lambda: random.Random(0))
    max_delay_secs: float = 0.0
    refused: set[bytes] = attrs.field(factory=set)  # trace ids it will never take
    crashing: set[bytes] = attrs.field(factory=set)  # trace ids of which it says 500 whenever it is sent one
    partly: set[bytes] = attrs.field(factory=set)  # trace ids it rejects while it takes the rest of their batch
    mood: Mood = Mood.WELL
    taken: Callable[[Sequence[Arrival]], None] = lambda arrivals: None
    arrivals: list[Arrival] = attrs.field(factory=list, repr=lambda arrivals: str(len(arrivals)))
    answered_spans: defaultdict[int, int] = attrs.field(factory=lambda: defaultdict(int))  # by sender, said to be taken
    tries: defaultdict[int, int] = attrs.field(factory=lambda: defaultdict(int))
    _changed: trio.Event = attrs.field(factory=trio.Event)

    def set_mood(self, mood: Mood) -> None:
        self.mood = mood
        self._changed.set()
        self._changed = trio.Event()

    def from_sender(self, sender: int) -> "Way":
        return Way(self, sender)

    async def send(self, traces: Sequence[Trace]) -> Outcome:
        return await self._answer(traces, 0)

    async def knock(self) -> bool:
        await trio.sleep(self.chance.uniform(0, self.max_delay_secs))
        return self.mood in (Mood.WELL, Mood.SLOW)

    def forget(self, traces: Sequence[Trace]) -> None:
        pass

    async def _answer(self, traces: Sequence[Trace], sender: int) -> Outcome:
        self.tries[sender] += 1
        payloads = [(trace.trace_id, trace.payload) for trace in traces]  # what it is now, not when the answer comes
        await trio.sleep(self.chance.uniform(0, self.max_delay_secs))
        match self.mood:
            case Mood.FAILING:
                return Rejected("internal", "500")
            case Mood.BLAMING:
                return Rejected("bad_request", "400", blames_data=True)
            case Mood.HANGING:
                await self._changed.wait()
                return Again("timeout", "no answer")
            case Mood.AGAIN:
                return Again("unavailable", "503")
            case Mood.AGAIN_AFTER:
                return Again("throttled", "429", after_secs=self.chance.uniform(0.1, 3))
            case Mood.MISCONFIGURED:
                return Misconfigured("unauthorized", "401")
            case Mood.VANISHING:
                self._take(payloads, sender)
                await trio.sleep(self.chance.uniform(0, 1))
                return Again("connection", "closed before it answered")
            case Mood.SLOW:
                await trio.sleep(self.chance.uniform(0.5, 4))
            case Mood.WELL:
                pass
        if any(trace_id in self.crashing for trace_id, _ in payloads):
            return Rejected("internal", "500")
        if any(trace_id in self.refused for trace_id, _ in payloads):
            return Rejected("bad_request", "400", blames_data=True)
        try:
            outcome = self._take(payloads, sender)
        except DecodeError as error:
            return Undeliverable("bad_request", str(error))
        await trio.sleep(self.chance.uniform(0, self.max_delay_secs))
        self.answered_spans[sender] += sum(len(spans_of(payload)) for _, payload in payloads) - outcome.rejected_spans
        return outcome

    def _take(self, payloads: Sequence[tuple[bytes, bytes]], sender: int) -> Accepted:
        arrivals, rejected = [], 0
        for trace_id, payload in payloads:
            spans = spans_of(payload)
            if trace_id in self.partly:
                rejected += len(spans)
            else:
                arrivals += [Arrival(SpanKey.of(span), span.SerializeToString(), sender) for span in spans]
        self.arrivals += arrivals
        self.taken(arrivals)
        return Accepted(rejected, "too old" if rejected else "")


@attrs.frozen
class Way:
    """Implements Destination for one incarnation of the daemon."""

    destination: FakeDestination
    sender: int

    @property
    def name(self) -> str:
        return self.destination.name

    @property
    def comes_last(self) -> bool:
        return self.destination.comes_last

    @property
    def batching(self) -> Batching:
        return self.destination.batching

    @property
    def retrying(self) -> Retrying:
        return self.destination.retrying

    async def send(self, traces: Sequence[Trace]) -> Outcome:
        return await self.destination._answer(traces, self.sender)

    async def knock(self) -> bool:
        return await self.destination.knock()

    def forget(self, traces: Sequence[Trace]) -> None:
        self.destination.forget(traces)
