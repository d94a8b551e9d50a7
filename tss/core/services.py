"""The services of a trace, read from its bytes, for texts that people read. Called rarely, so it uses protobuf."""

from __future__ import annotations

from collections.abc import Iterable

from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

from tss.core.otlp.reading import read
from tss.core.otlp.wire import fields

_RESOURCE_SPANS = 1 << 3 | 2  # TracesData.resource_spans
_RESOURCE = 1 << 3 | 2  # ResourceSpans.resource
MOST_SERVICES = 3
MOST_LOOKS = 16  # the most resources of one trace that are read


def services(chunks: Iterable[bytes]) -> list[str]:
    """The first service names in their order, each once, within both limits. Raises ValueError for broken bytes."""
    found: dict[str, None] = {}
    looks = 0
    for chunk in chunks:
        for tag, _, start, stop in fields(chunk, 0, len(chunk)):
            if tag != _RESOURCE_SPANS:
                continue
            looks += 1
            found |= dict.fromkeys(_names(chunk, start, stop))
            if len(found) >= MOST_SERVICES or looks >= MOST_LOOKS:
                return [*found][:MOST_SERVICES]
    return [*found]


def _names(chunk: bytes, start: int, stop: int) -> list[str]:
    """The name of one ResourceSpans. Its scopes are skipped."""
    envelope = b"".join([chunk[begin:after] for tag, begin, _, after in fields(chunk, start, stop) if tag == _RESOURCE])
    attributes = read(ResourceSpans, envelope).resource.attributes
    return [each.value.string_value for each in attributes if each.key == "service.name"][:1]
