"""Kept traces cut into parts, and the parts put into as few requests as can be.

A part is some spans of one trace, in the form of one way to Datadog (a `Form`), and at most as long as a request there
may be. What is left of a trace after some of its parts were taken is then just the others.

Law 5: a Datadog span repeats what its resource and its scope say, so a trace may become a thousand times as long. Of a
batch only so much is encoded at once (`ROOM_BYTES`). The rest is planned: parts without a body, each made when its turn
comes. A trace that becomes longer than anybody's is refused.
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

# Encoded parts of a batch. Batches that are as usual (2 MiB of OTLP, three to five times as long as Datadog spans) hardly
# ever have more.
ROOM_BYTES = 16 * 1024 * 1024
# Of a planned part, where a request may be longer: beside it its spans are there as Python objects, several times as long.
PLAN_BYTES = 4 * 1024 * 1024
OTLP_TIMES = 4  # as many times as it came, where a resource is repeated for each piece of a trace only

_FRAME_BYTES = 64  # what surrounds a part in any form, and a request without parts, at most


class NoTraceId(Exception):
    """Datadog's spans have the last 64 bits of a trace id, where 0 is none: an agent and the intake answer that they took
    such a trace, and throw it away.
    """


@attrs.frozen(eq=False)
class Part:
    """Some spans of a trace, encoded; `members` says which of its spans, where they were translated.

    A planned part has no body yet, and its size is about right.
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
        """In a request, at most."""
        return (self.planned_bytes or len(self.body)) + _FRAME_BYTES


class Form(Protocol):
    """How traces are written for one of the ways to Datadog."""

    limit: int  # bytes of a request's body, before it is compressed

    def parts(self, trace: Trace, room: int = ROOM_BYTES) -> list[Part]:
        """All of a trace; planned, if they are longer than `room`. Raises TooLarge, NoTraceId, and whatever unfit bytes may
        raise."""

    def encoded(self, part: Part) -> list[Part]:
        """A planned part's spans. Raises as `parts`."""

    def halves(self, part: Part) -> list[Part]:
        """The same spans in smaller parts. Raises TooLarge when there is only one."""

    def rest(self) -> None:
        """Let go of what was kept for further parts of the same trace."""

    def requests(self, parts: Sequence[Part]) -> Iterator[list[Part]]:
        """Which parts go together: either all are planned, or none."""

    def body(self, parts: Sequence[Part]) -> bytes:
        """A request's body."""

    def headers(self, parts: Sequence[Part]) -> Mapping[str, str]:
        """What a request's headers say of its parts."""


class SpanForm:
    """What the forms of Datadog's own spans have in common; `chunk` and how spans are grouped make the difference."""

    limit: int
    _last: tuple[Trace, Translation] | None = None

    def chunk(self, spans: Sequence[DatadogSpan]) -> bytes:
        """Some spans of one trace, led by the first."""
        raise NotImplementedError

    def body(self, parts: Sequence[Part]) -> bytes:
        """See Form."""
        raise NotImplementedError

    def headers(self, parts: Sequence[Part]) -> Mapping[str, str]:
        """See Form."""
        raise NotImplementedError

    def translated(self, trace: Trace) -> Translation:
        """A trace's spans, to be translated. The last is kept until `rest`: it may have many parts."""
        last = self._last
        if last is not None and last[0] is trace:
            return last[1]
        # Not the wall's time: a trace that is sent again is the same then (law 3).
        now_ns = trace.last_ms * 1_000_000 if trace.last_ms >= 0 else NO_TIME
        found = Translation(trace.payload, trace.decision.rate if trace.decision else 1.0, now_ns)
        self._last = trace, found
        return found

    def rest(self) -> None:
        """See Form."""
        self._last = None

    def spans(self, translation: Translation, members: Sequence[int]) -> list[DatadogSpan]:
        """Some of them, as they are sent."""
        return translation.spans(members)

    def origins(self, spans: Sequence[DatadogSpan]) -> Mapping[Origin, Sequence[int]]:
        """Which of a trace's spans share a chunk: here all, and the root speaks for them."""
        return {origin_of(root_of(spans)): range(len(spans))}

    def requests(self, parts: Sequence[Part]) -> Iterator[list[Part]]:
        """Here a request says only once where its spans come from."""
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
            if plan.size > self.limit:  # a single span: it is refused before any other is sent
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
        """`told` is the origin of a trace of which these are not all spans."""
        spans = self.spans(translation, members)
        found: list[Part] = []
        for origin, places in self.origins(spans).items() if spans else ():
            share = [spans[place] for place in places]
            which = [members[place] for place in places]
            found += self._cut(trace, share, self.shared(origin, told), which)
        return found

    def shared(self, _origin: Origin, told: Origin | None) -> Origin:
        """The origin that a chunk has: here that of its trace, if it is known from elsewhere."""
        return _origin if told is None else told

    def _cut(
        self, trace: Trace, spans: Sequence[DatadogSpan], origin: Origin, members: Sequence[int]
    ) -> Iterator[Part]:
        """One part, or several when one would be too long: Datadog takes traces in pieces."""
        lead(spans)
        part = Part(trace, self.chunk(spans), origin, members)
        if part.size + origin.max_bytes <= self.limit:
            yield part
            return
        middle = _middle(part)
        yield from self._cut(trace, spans[:middle], origin, members[:middle])
        yield from self._cut(trace, spans[middle:], origin, members[middle:])


def _plan(sizes: Sequence[int], limit: int) -> Iterator[range]:
    """The numbers of spans that follow one another, and together are not longer than the limit."""
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
    """OTLP as it came, record by record; only what is too long for one request is cut, between spans."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def parts(self, trace: Trace, room: int = ROOM_BYTES) -> list[Part]:
        """See Form. These are about as long as the trace came, so none is planned."""
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
        """See Form. None is planned."""
        return [part]

    def rest(self) -> None:
        """See Form."""

    def halves(self, part: Part) -> list[Part]:
        """See Form. Raises WireError for bytes that are no spans."""
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
        """See Form: concatenated messages are one."""
        return b"".join([part.body for part in parts])

    def headers(self, parts: Sequence[Part]) -> Mapping[str, str]:
        """See Form."""
        return {}


def fill(parts: Iterable[Part], limit: int) -> Iterator[list[Part]]:
    """One request after the other, each as full as it may be; the parts of one origin share what is said of it.

    Planned parts are together as many as are encoded at once.
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
