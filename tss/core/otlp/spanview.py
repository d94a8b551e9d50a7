"""The fields of a span, of its resource and scope, and of one of its events, as conditions see them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any

from google.protobuf.message import DecodeError

from tss.core.conditions.fields import ATTRIBUTES
from tss.core.conditions.formula import Field, Found, Place, Truth
from tss.core.conditions.program import Program
from tss.core.otlp import anyvalue, schema
from tss.core.otlp.anyvalue import text

_NO_PARENT = bytes(8)


class Holder:
    """The resource of a `schema.ResourceSpans`, or the scope of a `schema.ScopeSpans`.

    One that occurs twice is merged, as protobuf does it; the first of two equal keys counts. One that cannot be parsed is
    left out.
    """

    def __init__(self, kind: Any, pieces: list[bytes], schema_url: bytes) -> None:
        self._kind = kind
        self._pieces = pieces
        self.schema_url = schema_url

    @cached_property
    def message(self) -> Any:
        """The merged `schema.Resource` or `schema.InstrumentationScope`."""
        merged = self._kind()
        for piece in self._pieces:
            try:
                self._kind.FromString(piece)
            except DecodeError:
                continue
            merged.MergeFromString(piece)
        return merged

    @cached_property
    def values(self) -> dict[bytes, Any]:
        """The AnyValue of each attribute."""
        return anyvalue.first_values(self.message.attributes)

    @cached_property
    def attributes(self) -> dict[str, Found]:
        """The value of each attribute."""
        return anyvalue.by_text(self.values)


def resource_of(group: Any) -> Holder:
    """The resource of a `schema.ResourceSpans`."""
    return Holder(schema.Resource, list(group.resource), group.schema_url)


def scope_of(within: Any) -> Holder:
    """The scope of a `schema.ScopeSpans`."""
    return Holder(schema.InstrumentationScope, list(within.scope), within.schema_url)


class View:
    """A span, or one of its events: a `SpanView`. `span` is a `schema.Span`, `event` a `schema.Event` or None, and `index` the
    event's place among the span's events."""

    def __init__(self, span: Any, resource: Holder, scope: Holder, event: Any = None, index: int = 0) -> None:
        self.span = span
        self.resource = resource
        self.scope = scope
        self.event = event
        self.index = index

    @cached_property
    def span_values(self) -> dict[bytes, Any]:
        """The AnyValue of each attribute of the span."""
        return anyvalue.first_values(self.span.attributes)

    @cached_property
    def event_values(self) -> dict[bytes, Any]:
        """The AnyValue of each attribute of the event."""
        return {} if self.event is None else anyvalue.first_values(self.event.attributes)

    def of_event(self, event: Any, index: int) -> View:
        """The view of one of the span's events."""
        view = View(self.span, self.resource, self.scope, event, index)
        view.__dict__["span_values"] = self.span_values
        return view

    def value(self, place: Place, name: str) -> Found:
        """See SpanView."""
        if name == ATTRIBUTES:
            return self._attributes(place)
        if place is Place.EVENT and self.event is None:
            return None
        read = _PLAIN.get((place, name))
        return None if read is None else read(self)

    def field(self, field: Field) -> Found:
        """The value of a field; None if an attribute is missing or has no value."""
        if field.name != ATTRIBUTES:
            return self.value(field.place, field.name)
        value = self._values(field.place).get(field.key.encode("utf-8", "surrogatepass"))
        return None if value is None else anyvalue.decoded(value)

    def has_no_value(self, field: Field) -> bool:
        """Whether a field is an attribute that is there without a value."""
        if field.name != ATTRIBUTES:
            return False
        value = self._values(field.place).get(field.key.encode("utf-8", "surrogatepass"))
        return value is not None and value.WhichOneof("value") is None

    def _values(self, place: Place) -> dict[bytes, Any]:
        if place is Place.SPAN:
            return self.span_values
        if place is Place.EVENT:
            return self.event_values
        return self.resource.values if place is Place.RESOURCE else self.scope.values

    def _attributes(self, place: Place) -> Found:
        if place is Place.RESOURCE:
            return self.resource.attributes
        if place is Place.SCOPE:
            return self.scope.attributes
        if place is Place.EVENT and self.event is None:
            return None
        return anyvalue.by_text(self._values(place))


def events_of(span: Any) -> list[tuple[int, Any]]:
    """The events of a `schema.Span` with their places. One that cannot be parsed is left out."""
    found = []
    for index, serialized in enumerate(span.events):
        try:
            found.append((index, schema.Event.FromString(serialized)))
        except DecodeError:
            continue
    return found


def general(
    program: Program,
    number: int,
    span: bytes,
    resource: bytes,
    scope: bytes,
    event: bytes | None = None,
    index: int = 0,
) -> Truth:
    """The answer of a general condition for a span, or for one of its events. The compiled scanner asks it.

    `span` is a serialized Span, `resource` a serialized ResourceSpans without its ScopeSpans, `scope` a serialized ScopeSpans
    without its spans, `event` a serialized Event. All of them must be readable.
    """
    seen = None if event is None else schema.Event.FromString(event)
    view = View(schema.Span.FromString(span), _resource(resource), _scope(scope), seen, index)
    return program.general(number, view)


@lru_cache(16)  # the spans of a record have few resources and scopes, one after the other
def _resource(serialized: bytes) -> Holder:
    return resource_of(schema.ResourceSpans.FromString(serialized))


@lru_cache(16)
def _scope(serialized: bytes) -> Holder:
    return scope_of(schema.ScopeSpans.FromString(serialized))


def _int64(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number


def _duration(view: View) -> int:
    """The end minus the start, as Go's time.Time computes it: saturated to 64 bits."""
    duration = _int64(view.span.end_time_unix_nano) - _int64(view.span.start_time_unix_nano)
    return min(max(duration, -1 << 63), (1 << 63) - 1)


_PLAIN: dict[tuple[Place, str], Callable[[View], Found]] = {
    (Place.SPAN, "trace_id"): lambda view: bytes(view.span.trace_id),
    (Place.SPAN, "span_id"): lambda view: bytes(view.span.span_id),
    (Place.SPAN, "parent_span_id"): lambda view: bytes(view.span.parent_span_id) or _NO_PARENT,
    (Place.SPAN, "trace_state"): lambda view: text(view.span.trace_state),
    (Place.SPAN, "name"): lambda view: text(view.span.name),
    (Place.SPAN, "kind"): lambda view: int(view.span.kind),
    (Place.SPAN, "status.code"): lambda view: int(view.span.status.code),
    (Place.SPAN, "status.message"): lambda view: text(view.span.status.message),
    (Place.SPAN, "flags"): lambda view: int(view.span.flags),
    (Place.SPAN, "start_time_unix_nano"): lambda view: _int64(view.span.start_time_unix_nano),
    (Place.SPAN, "end_time_unix_nano"): lambda view: _int64(view.span.end_time_unix_nano),
    (Place.SPAN, "duration"): _duration,
    (Place.SPAN, "dropped_attributes_count"): lambda view: int(view.span.dropped_attributes_count),
    (Place.SPAN, "events"): lambda view: list(view.span.events),  # serialized: only their number is asked
    (Place.SPAN, "links"): lambda view: list(view.span.links),
    (Place.SPAN, "dropped_events_count"): lambda view: int(view.span.dropped_events_count),
    (Place.SPAN, "dropped_links_count"): lambda view: int(view.span.dropped_links_count),
    (Place.EVENT, "name"): lambda view: text(view.event.name),
    (Place.EVENT, "time_unix_nano"): lambda view: _int64(view.event.time_unix_nano),
    (Place.EVENT, "dropped_attributes_count"): lambda view: int(view.event.dropped_attributes_count),
    (Place.EVENT, "event_index"): lambda view: view.index,
    (Place.RESOURCE, "dropped_attributes_count"): lambda view: int(view.resource.message.dropped_attributes_count),
    (Place.RESOURCE, "schema_url"): lambda view: text(view.resource.schema_url),
    (Place.SCOPE, "name"): lambda view: text(view.scope.message.name),
    (Place.SCOPE, "version"): lambda view: text(view.scope.message.version),
    (Place.SCOPE, "dropped_attributes_count"): lambda view: int(view.scope.message.dropped_attributes_count),
    (Place.SCOPE, "schema_url"): lambda view: text(view.scope.schema_url),
}
