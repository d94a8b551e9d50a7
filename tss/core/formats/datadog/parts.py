"""Cuts kept traces into parts, and puts the parts into as few requests as possible.

A part has some spans of one trace in one of the forms that Datadog accepts (a `Form`), and fits into one request. If some
parts of a trace were accepted, only the other parts are sent again.

Law 5: a Datadog span repeats the attributes of its resource and its scope, so a trace may become a thousand times as long.
At most ROOM_BYTES of a batch are encoded at once. The rest is planned: parts without a body, each encoded when its turn
comes. A trace that becomes absurdly long is refused (`core/repeating.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import attrs

from tss.core.formats.datadog.origin import Origin, origin_of, root_of
from tss.core.formats.datadog.trace import DatadogSpan, Translation, lead
from tss.core.otlp.wire import halve
from tss.core.repeating import TooLarge, check
from tss.core.streamtime import NO_TIME
from tss.core.trace import Trace

# The limit for the encoded parts of a batch. A usual batch (2 MiB of OTLP, three to five times as long in Datadog's form)
# hardly ever has more.
ROOM_BYTES = 16 * 1024 * 1024
# The limit for a planned part, if requests may be longer: its spans also exist as Python objects, several times as large.
PLAN_BYTES = 4 * 1024 * 1024
OTLP_TIMES = 4  # how many times longer a trace may become in OTLP, where only the pieces of a trace repeat its resource

_FRAME_BYTES = 64  # the overhead of a part, or of a request without parts, in any form, at most


class NoTraceId(Exception):
    """The last 64 bits of the trace id are 0. Datadog uses only these bits, and 0 means no id: an agent and the intake accept
    such a trace and then discard it.
    """


@attrs.frozen(eq=False)
class Part:
    """Some spans of a trace, encoded. `members` are the numbers of these spans in the trace, for forms that translate.

    A planned part has no body yet, and its size is an estimate.
    """

    trace: Trace
    body: bytes = attrs.field(repr=lambda body: f"<{len(body)} bytes>")
    origin: Origin = Origin()
    members: Sequence[int] = ()
    planned_bytes: int = 0

    @property
    def is_planned(self) -> bool:
        return self.planned_bytes > 0

    @property
    def size(self) -> int:
        """Bytes in a request, at most."""
        return (self.planned_bytes or len(self.body)) + _FRAME_BYTES


class Form(Protocol):
    """The form of traces for one of Datadog's endpoints."""

    limit: int  # bytes of a request's body, before it is compressed

    def parts(self, trace: Trace, room: int = ROOM_BYTES) -> list[Part]:
        """The parts of a whole trace; planned parts, if they are longer than `room`.

        Raises TooLarge, NoTraceId, and any exception that invalid bytes cause.
        """

    def encoded(self, part: Part) -> list[Part]:
        """Encode a planned part. Raises the same as `parts`."""

    def halves(self, part: Part) -> list[Part]:
        """The same spans in smaller parts. Raises TooLarge if the part has only one span."""

    def rest(self) -> None:
        """Release what was kept for further parts of the same trace."""

    def requests(self, parts: Sequence[Part]) -> Iterator[list[Part]]:
        """The parts of each request. In a request either all parts are planned, or none."""

    def body(self, parts: Sequence[Part]) -> bytes:
        """The body of a request with these parts."""

    def headers(self, parts: Sequence[Part]) -> Mapping[str, str]:
        """The headers that describe the parts of a request."""


class SpanForm:
    """The common part of the forms with Datadog's own spans. They differ in `chunk` and in how they group spans."""

    limit: int
    _last: tuple[Trace, Translation] | None = None

    def chunk(self, spans: Sequence[DatadogSpan]) -> bytes:
        """Encode some spans of one trace. The first has the tags of `trace.lead`."""
        raise NotImplementedError

    def body(self, parts: Sequence[Part]) -> bytes:
        """See Form."""
        raise NotImplementedError

    def headers(self, parts: Sequence[Part]) -> Mapping[str, str]:
        """See Form."""
        raise NotImplementedError

    def translated(self, trace: Trace) -> Translation:
        """The trace's Translation. The last one is kept until `rest`, because a trace may have many parts."""
        last = self._last
        if last is not None and last[0] is trace:
            return last[1]
        # Not the wall clock, so that a trace that is sent again is the same (law 3).
        now_ns = trace.last_ms * 1_000_000 if trace.last_ms >= 0 else NO_TIME
        rate, weighted = (trace.decision.rate, trace.decision.weighted) if trace.decision else (1.0, True)
        found = Translation(trace.payload, rate, now_ns, weighted=weighted)
        self._last = trace, found
        return found

    def rest(self) -> None:
        """See Form."""
        self._last = None

    def spans(self, translation: Translation, members: Sequence[int]) -> list[DatadogSpan]:
        """Some of the trace's spans, in the form in which they are sent."""
        return translation.spans(members)

    def origins(self, spans: Sequence[DatadogSpan]) -> Mapping[Origin, Sequence[int]]:
        """The numbers of the spans that share a chunk, by origin: here all spans have the origin of the root."""
        return {origin_of(root_of(spans)): range(len(spans))}

    def requests(self, parts: Sequence[Part]) -> Iterator[list[Part]]:
        """See Form. All parts of a request have the same origin."""
        groups: dict[Origin, list[Part]] = {}
        for part in parts:
            groups.setdefault(part.origin, []).append(part)
        for group in groups.values():
            yield from fill(group, self.limit)

    def parts(self, trace: Trace, room: int = ROOM_BYTES) -> list[Part]:
        """See Form. Raises NoTraceId."""
        if not any(trace.trace_id[-8:]):
            raise NoTraceId(
                "Datadog keeps the last 64 bits of a trace id, which are all zero here, and takes that for none"
            )
        translation = self.translated(trace)
        sizes = translation.sizes()
        whole = sum(sizes)
        check(whole, trace.payload_bytes)
        if whole <= room:
            return self._encoded(trace, translation, range(len(sizes)))
        [root] = self.spans(translation, [translation.root])
        [origin] = self.origins([root])
        plans = [
            Part(trace, b"", origin, members, sum(sizes[members.start : members.stop]))
            for members in _plan(sizes, min(self.limit, PLAN_BYTES))
        ]
        for plan in plans:
            if plan.size > self.limit:  # a single span; `encoded` raises TooLarge before any other span is sent
                self.encoded(plan)
        return plans

    def encoded(self, part: Part) -> list[Part]:
        """See Form."""
        return self._encoded(part.trace, self.translated(part.trace), part.members, part.origin)

    def halves(self, part: Part) -> list[Part]:
        """See Form."""
        middle = _middle(part)
        translation = self.translated(part.trace)
        return [
            half
            for members in (part.members[:middle], part.members[middle:])
            for half in self._cut(part.trace, self.spans(translation, members), part.origin, members)
        ]

    def _encoded(
        self, trace: Trace, translation: Translation, members: Sequence[int], told: Origin | None = None
    ) -> list[Part]:
        """`told` is the origin of the trace, if these are only some of its spans."""
        spans = self.spans(translation, members)
        found: list[Part] = []
        for origin, places in self.origins(spans).items() if spans else ():
            share = [spans[place] for place in places]
            which = [members[place] for place in places]
            found += self._cut(trace, share, self.shared(origin, told), which)
        return found

    def shared(self, _origin: Origin, told: Origin | None) -> Origin:
        """The origin of a chunk: here the trace's, if it is known."""
        return _origin if told is None else told

    def _cut(
        self, trace: Trace, spans: Sequence[DatadogSpan], origin: Origin, members: Sequence[int]
    ) -> Iterator[Part]:
        """One part, or several if one would be too long: Datadog accepts a trace in pieces."""
        lead(spans)
        part = Part(trace, self.chunk(spans), origin, members)
        if part.size + origin.max_bytes <= self.limit:
            yield part
            return
        middle = _middle(part)
        yield from self._cut(trace, spans[:middle], origin, members[:middle])
        yield from self._cut(trace, spans[middle:], origin, members[middle:])


def _plan(sizes: Sequence[int], limit: int) -> Iterator[range]:
    """Ranges of consecutive spans. The spans of a range together do not exceed the limit, unless it is one span."""
    first = held = 0
    for number, size in enumerate(sizes):
        if number > first and held + size > limit:
            yield range(first, number)
            first, held = number, 0
        held += size
    yield range(first, len(sizes))


def _middle(part: Part) -> int:
    if len(part.members) < 2:
        raise TooLarge(f"a span of {len(part.body):,} bytes is more than Datadog takes")
    return len(part.members) // 2


class OtlpForm:
    """OTLP as it arrived, record by record. A record that is too long for one request is cut between spans."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def parts(self, trace: Trace, room: int = ROOM_BYTES) -> list[Part]:
        """See Form. They are about as long as the trace, so none is planned."""
        found: list[Part] = []
        size, most = 0, OTLP_TIMES * trace.payload_bytes + self.limit
        for chunk in trace.chunks():
            for part in self._cut(Part(trace, chunk)):
                found.append(part)
                size += len(part.body)
                if size > most:
                    raise TooLarge(f"cut into requests, {trace.payload_bytes:,} bytes become more than {most:,}")
        return found

    def encoded(self, part: Part) -> list[Part]:
        """See Form. No part is planned."""
        return [part]

    def rest(self) -> None:
        """See Form."""

    def halves(self, part: Part) -> list[Part]:
        """See Form. Raises WireError if the bytes are not valid TracesData."""
        return [*self._halves(part)]

    def _halves(self, part: Part) -> Iterator[Part]:
        halves = halve(part.body)
        if len(halves) < 2:
            raise TooLarge(f"a span of {len(part.body):,} bytes is more than Datadog takes")
        for half in halves:
            yield from self._cut(Part(part.trace, half))

    def _cut(self, part: Part) -> Iterable[Part]:
        return [part] if part.size + part.origin.max_bytes <= self.limit else self._halves(part)

    def requests(self, parts: Sequence[Part]) -> Iterator[list[Part]]:
        """See Form."""
        return fill(parts, self.limit)

    def body(self, parts: Sequence[Part]) -> bytes:
        """See Form. Concatenated protobuf messages are one message."""
        return b"".join([part.body for part in parts])

    def headers(self, parts: Sequence[Part]) -> Mapping[str, str]:
        """See Form."""
        return {}


def fill(parts: Iterable[Part], limit: int) -> Iterator[list[Part]]:
    """The parts of one request after the other, each as full as possible. An origin counts once per request.

    Planned parts of one request together do not exceed PLAN_BYTES, because they are encoded at once.
    """
    held: list[Part] = []
    origins: set[Origin] = set()
    size = 0
    for part in parts:
        more = part.size + (0 if part.origin in origins else part.origin.max_bytes)
        most = min(limit, PLAN_BYTES) if part.is_planned else limit
        if held and (size + more > most or part.is_planned != held[0].is_planned):
            yield held
            held, origins, size = [], set(), 0
            more = part.size + part.origin.max_bytes
        held.append(part)
        origins.add(part.origin)
        size += more
    if held:
        yield held
