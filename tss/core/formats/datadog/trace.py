"""Translates the OTLP bytes of one trace to Datadog spans, in the form of the agent's v0.4 endpoint."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import attrs
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status, TracesData

from tss.core.formats.datadog import naming
from tss.core.formats.datadog.naming import Subject
from tss.core.formats.datadog.values import (
    MAX_META_KEY,
    MAX_META_VALUE,
    MAX_SERVICE,
    Value,
    attributes,
    cut,
    is_http_status,
    json_array,
    json_object,
    plain,
    quoted,
    shortened,
    shortened_keys,
    tag,
    text,
    to_json,
)
from tss.core.formats.datadog.weight import kept_share
from tss.core.head import SAMPLE_RATE
from tss.core.otlp.reading import read
from tss.core.spantime import start_and_duration
from tss.core.streamtime import NO_TIME

DatadogSpan = dict[str, Any]

USER_KEEP = 2.0
MANUAL = "-4"  # the sampling mechanism "manual", so that no sampler downstream decides again

# Datadog's names for OpenTelemetry's HTTP attributes, both for tags and for metrics.
RENAMED: Mapping[str, str] = {
    "client.address": "http.client_ip",
    "http.response.body.size": "http.response.content_length",
    "http.response.status_code": "http.status_code",
    "http.request.body.size": "http.request.content_length",
    "http.request.header.referrer": "http.referrer",
    "http.request.method": "http.method",
    "http.route": "http.route",
    "network.protocol.version": "http.version",
    "server.address": "http.server_name",
    "url.full": "http.url",
    "user_agent.original": "http.useragent",
}
_HEADER, _DATADOG_HEADER = "http.request.header.", "http.request.headers."

# These attributes become fields of the span.
_FIELDS = frozenset(("service.name", "operation.name", "resource.name", "span.type", ""))
# The values from a tracer or another sampler are replaced: this daemon knows the whole trace.
_OURS = frozenset(
    (
        *("sampling.priority", "_sampling_priority_v1", "_sample_rate", "_dd.p.dm", "_dd.p.tid"),
        *("_top_level", "_dd.top_level"),
    )
)
_NOT_COPIED = _FIELDS | _OURS
_APP_ANALYTICS = "analytics.event", "_dd1.sr.eausr"

_STATUS_NAMES = {Status.STATUS_CODE_OK: "Ok", Status.STATUS_CODE_ERROR: "Error"}

_EXCEPTION: Mapping[str, str] = {
    "exception.message": "error.msg",
    "exception.type": "error.type",
    "exception.stacktrace": "error.stack",
}


def to_spans(payload: bytes, rate: float = 1.0, now_ns: int = NO_TIME) -> list[DatadogSpan]:
    """All spans of one trace, in the order of the payload (see `Translation`)."""
    translation = Translation(payload, rate, now_ns)
    return translation.spans(range(len(translation)))


class Translation:
    """The spans of one trace, each translated on demand.

    A translated span repeats its resource and its scope, so all of them may be a thousand times as long as the trace.

    `rate` is the probability with which traces like this one are kept, `weighted` as in `Decision`. `now_ns` is used as the end of a span that has no
    valid times (see `start_and_duration`). Raises WireError (a ValueError) for bytes that `scan` rejects.
    """

    def __init__(self, payload: bytes, rate: float = 1.0, now_ns: int = NO_TIME, *, weighted: bool = True) -> None:
        self._rate, self._now_ns, self._weighted = rate, now_ns, weighted
        self._sources: list[tuple[Span, _Place, _Scope]] = []
        self._services: dict[int, str] = {}  # by span id
        for resource_spans in read(TracesData, payload).resource_spans:
            place = _Place.of(resource_spans.resource)
            for scope_spans in resource_spans.scope_spans:
                scope = _Scope.of(scope_spans.scope)
                for span in scope_spans.spans:
                    self._sources.append((span, place, scope))
                    self._services[int.from_bytes(span.span_id, "big")] = _service(span, place)

    def __len__(self) -> int:
        return len(self._sources)

    @property
    def root(self) -> int:
        """The number of the root: the first span without a parent, else the first span."""
        roots = (number for number, (span, _, _) in enumerate(self._sources) if not _parent(span))
        return next(roots, 0)

    def sizes(self) -> list[int]:
        """An estimate of each span's serialized size in bytes, without translating it."""
        return [_FIXED_BYTES + place.size + scope.size + span.ByteSize() for span, place, scope in self._sources]

    def spans(self, members: Iterable[int]) -> list[DatadogSpan]:
        """The spans with these numbers, translated."""
        return [self._span(*self._sources[member]) for member in members]

    def _span(self, source: Span, place: _Place, scope: _Scope) -> DatadogSpan:
        """The translated span. A service entry span gets `_top_level`; a local root also gets `_sample_rate`.

        A span whose parent is missing counts as a service entry: the parent presumably belongs to another service. The
        agent multiplies a chunk's APM statistics by 1 / `_sample_rate` of its root.
        """
        span = _convert(source, place, scope, self._now_ns)
        parent_service = self._services.get(span["parent_id"]) if span["parent_id"] else None
        if parent_service != span["service"]:
            span["metrics"]["_top_level"] = 1.0
        if parent_service is None:
            kept = kept_share(_sample_rate(source), source.trace_state, self._rate, weighted=self._weighted)
            if 0 < kept < 1:
                span["metrics"]["_sample_rate"] = kept
        return span


def lead(chunk: Sequence[DatadogSpan]) -> None:
    """Give the first span of a chunk the tags that the agent reads once per chunk.

    No other span has them, so the agent finds them whichever span it checks first.
    """
    first = chunk[0]
    first["metrics"]["_sampling_priority_v1"] = USER_KEEP
    first["meta"]["_dd.p.dm"] = MANUAL
    first["meta"]["_dd.p.tid"] = first["meta"]["otel.trace_id"][:16]


@attrs.frozen
class _Place:
    """What the spans of a resource take from it."""

    texts: Mapping[str, str]
    wholes: Mapping[str, int]
    tags: Sequence[tuple[str, str]]
    service: str
    size: int  # bytes of the tags in a span

    @classmethod
    def of(cls, resource: Resource) -> _Place:
        found = attributes(resource.attributes)
        named = [(_renamed(key), text(value)) for key, value in found.items()]
        tags = [(name, value) for name, value in named if name]
        texts = naming.texts(found)
        service = naming.service(Subject(0, "", {}, texts, {}))
        return cls(texts, naming.wholes(found), tags, service, _written_bytes(tags))


@attrs.frozen
class _Scope:
    """What the spans of a scope take from it."""

    names: Mapping[str, str]
    tags: Mapping[str, str]
    size: int  # bytes of both in a span

    @classmethod
    def of(cls, scope: InstrumentationScope) -> _Scope:
        names: dict[str, str] = {}
        for where in ("scope", "library"):  # "library" is deprecated, but dashboards still use it
            if scope.name:
                names[f"otel.{where}.name"] = scope.name
            if scope.version:
                names[f"otel.{where}.version"] = scope.version
        found = attributes(scope.attributes) if scope.attributes else {}
        tags = {key: text(value) for key, value in found.items() if key not in _OURS}
        return cls(names, tags, _written_bytes([*names.items(), *tags.items()]))


_FIXED_BYTES = 512  # a span without attributes: the names of its fields, and the tags that every span has
_TAG_BYTES = 8  # the overhead of a tag in any form


def _written_bytes(tags: Iterable[tuple[str, str]]) -> int:
    return sum(
        [
            min(len(name.encode()), MAX_META_KEY) + min(len(value.encode()), MAX_META_VALUE) + _TAG_BYTES
            for name, value in tags
        ]
    )


def _convert(span: Span, place: _Place, scope: _Scope, now_ns: int) -> DatadogSpan:
    own = attributes(span.attributes)
    texts = {**place.texts, **naming.texts(own)}
    subject = Subject(span.kind, span.name, own, texts, {**place.wholes, **naming.wholes(own)})
    tags = _Tags()
    _set_first(tags, span, subject)
    tags.add(own)
    _set_over(tags.meta, span, scope, subject)
    _set_error(tags, span)
    for name, value in place.tags:
        tags.add_text(name, value)
    tags.meta.update(scope.tags)
    _set_last(tags.meta, subject)
    start, duration = start_and_duration(span.start_time_unix_nano, span.end_time_unix_nano, now_ns)
    return {
        "service": naming.service(subject),
        "name": naming.operation(subject),
        "resource": naming.resource(subject),
        "type": naming.span_type(subject),
        "trace_id": int.from_bytes(span.trace_id[-8:], "big"),
        "span_id": int.from_bytes(span.span_id, "big"),
        "parent_id": _parent(span),
        "start": start,
        "duration": duration,
        "error": int(span.status.code == Status.STATUS_CODE_ERROR),
        "meta": shortened(tags.meta),
        "metrics": shortened_keys(tags.metrics),
    }


class _Tags:
    """A span's tags: texts and numbers. If a name occurs twice, the first value is kept, unless it is an empty text."""

    __slots__ = ("meta", "metrics")

    def __init__(self) -> None:
        self.meta: dict[str, str] = {}
        self.metrics: dict[str, float] = {}

    def add(self, own: Mapping[str, Value]) -> None:
        """Add a span's attributes under Datadog's names. Numbers become metrics; booleans become text."""
        for key, value in own.items():
            if not (name := _renamed(key)):
                continue
            if type(value) is int or type(value) is float:
                # Metrics are doubles: an integer beyond 2**53 becomes the nearest double, as in the agent's own OTLP
                # intake (`float64(v.Int())`). An id that needs all its digits has to be sent as text.
                self.metrics.setdefault(name, float(value))
            else:
                self.add_text(name, text(value))

    def add_text(self, name: str, value: str) -> None:
        if self.meta.get(name):
            return
        if name != _APP_ANALYTICS[0]:
            self.meta[name] = value
        elif (choice := _truth(value)) is not None:
            self.metrics.setdefault(_APP_ANALYTICS[1], choice)


_MAX_REMEMBERED = 200  # characters; longer keys are not cached (law 5)


def _renamed(key: str) -> str:
    """The tag's name for an attribute; empty if the attribute is not copied."""
    return _renaming(key) if len(key) <= _MAX_REMEMBERED else _renaming.__wrapped__(key)


@lru_cache(4096)
def _renaming(key: str) -> str:
    if key in _NOT_COPIED:
        return ""
    if (name := RENAMED.get(key)) is not None:
        return name
    return _DATADOG_HEADER + key.removeprefix(_HEADER) if key.startswith(_HEADER) else key


def _truth(word: str) -> float | None:
    """The values that Go's ParseBool accepts; None for any other."""
    if word in ("1", "t", "T", "true", "TRUE", "True"):
        return 1.0
    return 0.0 if word in ("0", "f", "F", "false", "FALSE", "False") else None


def _set_first(tags: _Tags, span: Span, subject: Subject) -> None:
    """Set the tags that no attribute may replace."""
    tags.meta["span.kind"] = naming.KIND_NAMES.get(span.kind, "unspecified")
    if span.trace_state:
        tags.meta["w3c.tracestate"] = span.trace_state
    if (status := naming.http_status(subject)) is not None:
        tags.metrics["http.status_code"] = float(status)
    if grpc := naming.grpc_status(subject):
        tags.meta["rpc.grpc.status_code"] = grpc
    if naming.measured(subject):
        tags.metrics["_dd.measured"] = 1.0


def _set_over(meta: dict[str, str], span: Span, scope: _Scope, subject: Subject) -> None:
    """Set the tags that replace an attribute of the same name, then those used only if there is no such attribute."""
    meta["otel.trace_id"] = span.trace_id.hex()
    meta["otel.status_code"] = _STATUS_NAMES.get(span.status.code, "Unset")
    if span.status.message:
        meta["otel.status_description"] = span.status.message
    if span.events:
        meta["events"] = json_array(span.events, _event)
        if _exceptions(span):
            meta["_dd.span_events.has_exception"] = "true"
    if span.links:
        meta["_dd.span_links"] = json_array(span.links, _link)
    meta.update(scope.names)
    for key in ("version", "env"):
        if key not in meta and (value := tag(subject.find(key))):
            meta[key] = value


def _event(event: Span.Event, longest: int) -> str:
    members: list[tuple[str, str]] = []
    if event.time_unix_nano:
        members.append(("time_unix_nano", str(event.time_unix_nano)))
    if event.name:
        members.append(("name", quoted(event.name)))
    if event.attributes:
        found = attributes(event.attributes).items()
        members.append(("attributes", json_object((key, to_json(_within(value, longest))) for key, value in found)))
    if event.dropped_attributes_count:
        members.append(("dropped_attributes_count", str(event.dropped_attributes_count)))
    return json_object(members)


def _link(link: Span.Link, longest: int) -> str:
    members = [("trace_id", quoted(link.trace_id.hex())), ("span_id", quoted(link.span_id.hex()))]
    if link.trace_state:
        members.append(("tracestate", quoted(link.trace_state)))
    if link.attributes:
        found = attributes(link.attributes).items()
        members.append(
            ("attributes", json_object((key, quoted(text(_within(text(value), longest)))) for key, value in found))
        )
    if link.flags:
        members.append(("flags", str(link.flags)))
    if link.dropped_attributes_count:
        members.append(("dropped_attributes_count", str(link.dropped_attributes_count)))
    return json_object(members)


def _within(value: Value, longest: int) -> Value:
    """The value; if its text is longer than `longest` characters, the beginning of the text."""
    if isinstance(value, str) and len(value) <= longest:
        return value
    written = text(value)
    return value if len(written) <= longest else written[:longest] + "..."


def _exceptions(span: Span) -> list[Span.Event]:
    return [event for event in span.events if event.name == "exception"]


def _set_error(tags: _Tags, span: Span) -> None:
    """Set the error tags of a span with status ERROR. The message comes from the first source that has one: an attribute, the
    last exception, the status message, the HTTP status."""
    if span.status.code != Status.STATUS_CODE_ERROR:
        return
    meta = tags.meta
    for event in _exceptions(span)[-1:]:
        found = attributes(event.attributes)
        for key, name in _EXCEPTION.items():
            if key in found:
                meta.setdefault(name, text(found[key]))
    message = meta.get("error.msg") or meta.get("error.message") or span.status.message or _http_message(tags)
    if message:
        # Most of Datadog's own libraries write error.message, some error.msg.
        meta.setdefault("error.msg", message)
        meta.setdefault("error.message", message)


_PHRASES = {status.value: status.phrase for status in HTTPStatus}


def _http_message(tags: _Tags) -> str:
    if (code := tags.metrics.get("http.status_code")) is None:
        return tags.meta.get("http.status_code", "")
    if not math.isfinite(code):
        return ""
    return f"{int(code)} {_PHRASES.get(int(code), '')}".rstrip()


# Tags that Datadog treats as names of services and environments, with their maximum length.
_NAMES = (("env", MAX_META_VALUE), ("peer.service", MAX_SERVICE), ("_dd.base_service", MAX_SERVICE))


def _set_last(meta: dict[str, str], subject: Subject) -> None:
    """Normalise the tags that the agent normalises in every span it receives."""
    if "db.name" not in meta and (namespace := subject.find("db_namespace")):
        meta["db.name"] = namespace
    for key, limit in _NAMES:
        if value := meta.get(key):
            meta[key] = tag(cut(value, limit))
    status = meta.get("http.status_code")
    if status is not None and not is_http_status(status):
        del meta["http.status_code"]


_SERVICE_KEYS = frozenset(naming.KEYS["service"])


def _service(span: Span, place: _Place) -> str:
    """The service name, as in `_convert`, but without reading the rest of the span."""
    own = [pair for pair in span.attributes if pair.key in _SERVICE_KEYS]
    if not own:
        return place.service
    found = attributes(own)
    return naming.service(Subject(span.kind, span.name, found, {**place.texts, **naming.texts(found)}, {}))


def _parent(span: Span) -> int:
    return int.from_bytes(span.parent_span_id[-8:], "big")


def _sample_rate(span: Span) -> Value:
    return next((plain(pair.value) for pair in span.attributes if pair.key == SAMPLE_RATE), None)
