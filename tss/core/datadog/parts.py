"""Kept traces cut into parts, and the parts put into as few requests as can be.

A part is some spans of one trace, in the form of one way to Datadog (a `Form`), and at most as long as a request there
may be. What is left of a trace after some of its parts were taken is then just the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import attrs

from tss.core.datadog.origin import Origin, origin_of, root_of
from tss.core.datadog.trace import DatadogSpan, lead, to_spans
from tss.core.otlp.wire import halve
from tss.core.streamtime import NO_TIME
from tss.core.trace import Trace

_FRAME_BYTES = 64  # what surrounds a part in any form, and a request without parts, at most


class TooLarge(Exception):
    """One span is larger than what Datadog takes."""


class NoTraceId(Exception):
    """Datadog's spans have the last 64 bits of a trace id, where 0 is none: an agent and the intake answer that they took
    such a trace, and throw it away.
    """


@attrs.frozen(eq=False)
class Part:
    """Some spans of a trace, encoded; `members` says which of its spans, where they were translated."""

    trace: Trace
    body: bytes = attrs.field(repr=lambda body: f"<{len(body)} bytes>")
    origin: Origin = Origin()
    members: Sequence[int] = ()


class Form(Protocol):
    """How traces are written for one of the ways to Datadog."""

    limit: int  # bytes of a request's body, before it is compressed

    def parts(self, trace: Trace) -> list[Part]:
        """All of a trace. Raises TooLarge, NoTraceId, and whatever unfit bytes may raise."""

    def halves(self, part: Part) -> list[Part]:
        """The same spans in smaller parts. Raises TooLarge when there is only one."""

    def requests(self, parts: Sequence[Part]) -> Iterator[list[Part]]:
        """Which parts go together."""

    def body(self, parts: Sequence[Part]) -> bytes:
        """A request's body."""

    def headers(self, parts: Sequence[Part]) -> Mapping[str, str]:
        """What a request's headers say of its parts."""


class SpanForm:
    """What the forms of Datadog's own spans have in common; `chunk` and how spans are grouped make the difference."""

    limit: int

    def chunk(self, spans: Sequence[DatadogSpan]) -> bytes:
        """Some spans of one trace, led by the first."""
        raise NotImplementedError

    def body(self, parts: Sequence[Part]) -> bytes:
        """See Form."""
        raise NotImplementedError

    def headers(self, parts: Sequence[Part]) -> Mapping[str, str]:
        """See Form."""
        raise NotImplementedError

    def spans(self, trace: Trace) -> list[DatadogSpan]:
        """A trace's spans, as they are sent."""
        # Not the wall's time: a trace that is sent again is the same then (law 3).
        now_ns = trace.last_ms * 1_000_000 if trace.last_ms >= 0 else NO_TIME
        return to_spans(trace.payload, trace.decision.rate if trace.decision else 1.0, now_ns)

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

    def parts(self, trace: Trace) -> list[Part]:
        """See Form. Raises NoTraceId."""
        if not any(trace.trace_id[-8:]):
            raise NoTraceId(
                "Datadog keeps the last 64 bits of a trace id, which are all zero here, and takes that for none"
            )
        spans = self.spans(trace)
        origins = self.origins(spans) if spans else {}
        return [part for origin, members in origins.items() for part in self._cut(trace, spans, origin, members)]

    def halves(self, part: Part) -> list[Part]:
        """See Form."""
        spans, middle = self.spans(part.trace), _middle(part)
        pieces = part.members[:middle], part.members[middle:]
        return [half for piece in pieces for half in self._cut(part.trace, spans, part.origin, piece)]

    def _cut(
        self, trace: Trace, spans: Sequence[DatadogSpan], origin: Origin, members: Sequence[int]
    ) -> Iterator[Part]:
        """One part, or several when one would be too long: Datadog takes traces in pieces."""
        chosen = [spans[member] for member in members]
        lead(chosen)
        part = Part(trace, self.chunk(chosen), origin, members)
        if _size(part) + origin.max_bytes <= self.limit:
            yield part
            return
        middle = _middle(part)
        yield from self._cut(trace, spans, origin, members[:middle])
        yield from self._cut(trace, spans, origin, members[middle:])


def _middle(part: Part) -> int:
    if len(part.members) < 2:
        raise TooLarge(f"a span of {len(part.body):,} bytes is more than Datadog takes")
    return len(part.members) // 2


class OtlpForm:
    """OTLP as it came, record by record; only what is too long for one request is cut, between spans."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def parts(self, trace: Trace) -> list[Part]:
        """See Form."""
        return [part for chunk in trace.chunks() for part in self._cut(Part(trace, chunk))]

    def halves(self, part: Part) -> list[Part]:
        """See Form. Raises WireError for bytes that are no spans."""
        halves = halve(part.body)
        if len(halves) < 2:
            raise TooLarge(f"a span of {len(part.body):,} bytes is more than Datadog takes")
        return [smaller for half in halves for smaller in self._cut(Part(part.trace, half))]

    def _cut(self, part: Part) -> Sequence[Part]:
        return [part] if _size(part) + part.origin.max_bytes <= self.limit else self.halves(part)

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
    """One request after the other, each as full as it may be; the parts of one origin share what is said of it."""
    held: list[Part] = []
    origins: set[Origin] = set()
    size = 0
    for part in parts:
        more = _size(part) + (0 if part.origin in origins else part.origin.max_bytes)
        if held and size + more > limit:
            yield held
            held, origins, size = [], set(), 0
            more = _size(part) + part.origin.max_bytes
        held.append(part)
        origins.add(part.origin)
        size += more
    if held:
        yield held


def _size(part: Part) -> int:
    return len(part.body) + _FRAME_BYTES
