"""The labels of a span's series. It is done once per series, so it may use protobuf and Python."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from tss.core.formats.spanmetrics.series import KINDS, MAX_LABEL_CHARS, STATUSES, UNKNOWN_SERVICE, Labels, Shape
from tss.core.otlp import Value, schema
from tss.core.otlp.attributes import Attributes, by_key
from tss.core.otlp.valuetext import as_text

_SERVICE = b"service.name"


class Naming:
    """Finds the labels of spans."""

    def __init__(self, shape: Shape) -> None:
        self._keys = [each.key.encode() for each in shape.dimensions]
        self._defaults = [_cut(each.default or "") or None for each in shape.dimensions]

    def of_bytes(self, span: bytes, resource: Attributes) -> Labels:
        """The labels for a serialized Span and its resource's attributes."""
        found = schema.Span.FromString(span)
        return self.of(found, by_key(found.attributes), resource)

    def of(self, span: Any, own: Attributes, resource: Attributes) -> Labels:
        """The labels for a `schema.Span`, its attributes and its resource's attributes."""
        kind = span.kind if 0 <= span.kind < len(KINDS) else 0
        return (
            _label(resource.get(_SERVICE)) or UNKNOWN_SERVICE,
            _cut(span.name.decode("utf-8", "replace")),
            KINDS[kind],
            STATUSES[status_of(span.status.code)],
            *(
                _label(own.get(key, resource.get(key))) or default
                for key, default in zip(self._keys, self._defaults, strict=True)
            ),
        )


def status_of(code: int) -> int:
    """The status code; 0 for an unknown one. It is also the number of the overflow series for this status."""
    return code if 0 <= code < len(STATUSES) else 0


def _label(value: Value | None) -> str | None:
    """A value as a label. None for bytes, arrays and maps, and for an empty text, which Prometheus takes for a missing
    label."""
    if value is None:
        return None
    if isinstance(value, float) and abs(value) >= 1e21:
        return _cut(str(value))  # the Collector writes such numbers with an exponent
    return _cut(as_text(value) or "") or None


def _cut(text: str) -> str:
    return text[:MAX_LABEL_CHARS]


def resource_attributes(resource: bytes) -> Attributes:
    """The attributes of a serialized Resource. A Resource that cannot be parsed counts as one without attributes."""
    try:
        return by_key(schema.Resource.FromString(resource).attributes)
    except DecodeError:
        return {}
