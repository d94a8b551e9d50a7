"""Datadog's own spans in the three forms in which they are sent.

Source: datadog-agent, `pkg/proto/pbgo/trace` (v0.4 and v0.7 to an agent, AgentPayload to the intake) and `pkg/trace/api/api.go`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgpack

from tss import __version__
from tss.core.formats.datadog import DatadogSpan
from tss.core.formats.datadog.obfuscation import obfuscate
from tss.core.formats.datadog.origin import Origin, origin_of, root_of
from tss.core.formats.datadog.parts import Part, SpanForm, fill
from tss.core.formats.datadog.schema import AgentPayload, Span, TraceChunk, TracerPayload
from tss.core.formats.datadog.trace import MANUAL, USER_KEEP, Translation

AGENT_BYTES = 25 * 1024 * 1024  # the agent's MaxRequestBytes
INTAKE_BYTES = (
    3_200_000  # the agent's MaxPayloadSize, "the maximum allowed by the Datadog API"; used for the OTLP intake too
)

_PRIORITY = int(USER_KEEP)


class V04(SpanForm):
    """msgpack: an array of traces, each an array of spans.

    The agent takes the environment and version of a whole request from its first trace that has them (`Agent.Process`), so
    only traces with the same environment and version share a request.
    """

    def __init__(self, limit: int = AGENT_BYTES) -> None:
        self.limit = limit

    def origins(self, spans: Sequence[DatadogSpan]) -> Mapping[Origin, Sequence[int]]:
        """All spans of a trace under one origin: only the environment and version, which the agent reads."""
        root = origin_of(root_of(spans))
        return {Origin(root.env, root.app_version): range(len(spans))}

    def chunk(self, spans: Sequence[DatadogSpan]) -> bytes:
        """An array of spans."""
        packed: bytes = msgpack.packb(spans)
        return packed

    def body(self, parts: Sequence[Part]) -> bytes:
        """An array of chunks."""
        return _array(parts)

    def headers(self, parts: Sequence[Part]) -> Mapping[str, str]:
        """The agent uses this count for the traces that it had to drop."""
        return {"X-Datadog-Trace-Count": str(len(parts))}


class V07(V04):
    """msgpack: a TracerPayload, which has one origin for all its chunks.

    So each origin needs a request of its own: many requests if traces come from many hosts and containers.
    """

    def origins(self, spans: Sequence[DatadogSpan]) -> Mapping[Origin, Sequence[int]]:
        """All spans of a trace under one origin: the agent computes APM statistics from whole chunks."""
        return SpanForm.origins(self, spans)

    def chunk(self, spans: Sequence[DatadogSpan]) -> bytes:
        """A TraceChunk."""
        packed: bytes = msgpack.packb(
            {"priority": _PRIORITY, "origin": "", "spans": spans, "tags": {}, "dropped_trace": False}
        )
        return packed

    def body(self, parts: Sequence[Part]) -> bytes:
        """A map whose last entry is the array of chunks."""
        fields = parts[0].origin.fields() if parts else {}
        packer = msgpack.Packer()
        header = packer.pack_map_header(len(fields) + 1)
        entries = [packer.pack(each) for field in fields.items() for each in field]
        return b"".join((header, *entries, packer.pack("chunks"), _array(parts)))


def _array(parts: Sequence[Part]) -> bytes:
    header: bytes = msgpack.Packer().pack_array_header(len(parts))
    return b"".join((header, *(part.body for part in parts)))


class Intake(SpanForm):
    """protobuf: an AgentPayload with a TracerPayload for each origin, as the agent itself sends them.

    The payload's own host name and environment stay empty: Datadog would use them for each span that has none.
    """

    def __init__(self, limit: int = INTAKE_BYTES) -> None:
        self.limit = limit

    def spans(self, translation: Translation, members: Sequence[int]) -> list[DatadogSpan]:
        """Without the values that an agent would obfuscate."""
        return [obfuscate(span) for span in super().spans(translation, members)]

    def origins(self, spans: Sequence[DatadogSpan]) -> Mapping[Origin, Sequence[int]]:
        """A trace's spans by origin: after the agent, nothing looks at whole chunks."""
        found: dict[Origin, list[int]] = {}
        for place, span in enumerate(spans):
            found.setdefault(origin_of(span), []).append(place)
        return found

    def shared(self, origin: Origin, told: Origin | None) -> Origin:
        """The chunk's own origin."""
        return origin

    def requests(self, parts: Sequence[Part]) -> Iterator[list[Part]]:
        """A request has room for any number of origins."""
        return fill(parts, self.limit)

    def chunk(self, spans: Sequence[DatadogSpan]) -> bytes:
        """A TraceChunk."""
        packed = [Span(**span).SerializeToString() for span in spans]
        # An agent copies this tag from the first span.
        message: bytes = TraceChunk(priority=_PRIORITY, spans=packed, tags={"_dd.p.dm": MANUAL}).SerializeToString()
        return message

    def body(self, parts: Sequence[Part]) -> bytes:
        """An AgentPayload."""
        chunks: dict[Origin, list[bytes]] = {}
        for part in parts:
            chunks.setdefault(part.origin, []).append(part.body)
        payloads = [
            TracerPayload(**origin.fields(), chunks=bodies).SerializeToString() for origin, bodies in chunks.items()
        ]
        message: bytes = AgentPayload(tracer_payloads=payloads, agent_version=__version__).SerializeToString()
        return message

    def headers(self, parts: Sequence[Part]) -> Mapping[str, str]:
        """The header that the agent's trace writer sends."""
        languages = sorted({part.origin.language_name for part in parts} - {""})
        return {"X-Datadog-Reported-Languages": "|".join(languages)} if languages else {}
