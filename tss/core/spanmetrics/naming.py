"""Which series a span belongs to, and what that is called: by protobuf, for it is done once for each series."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.message import DecodeError

from tss.core.otlp import Value, schema
from tss.core.spanmetrics.series import KINDS, MAX_LABEL_CHARS, OVERFLOWS, STATUSES, UNKNOWN_SERVICE, Labels, Shape

Attributes = Mapping[bytes, Value]

_SERVICE = b"service.name"


class Names:
    """The series by their labels. Numbers are given in the order of appearance, the overflow's first."""

    def __init__(self, shape: Shape) -> None:
        self._keys = [each.key.encode() for each in shape.dimensions]
        self._defaults = [_cut(each.default or "") or None for each in shape.dimensions]
        self._numbers: dict[Labels, int] = {}
        self._most = shape.max_series
        self.labels: list[Labels] = list(OVERFLOWS)

    def __len__(self) -> int:
        return len(self._numbers)

    def number(self, span: Any, own: Attributes, resource: Attributes) -> int:
        """The series of a `schema.Span` with these attributes; where there is no room for a new one, an overflow's."""
        status = span.status.code if 0 <= span.status.code < len(STATUSES) else 0
        kind = span.kind if 0 <= span.kind < len(KINDS) else 0
        labels = (
            _label(resource.get(_SERVICE)) or UNKNOWN_SERVICE,
            _cut(span.name.decode("utf-8", "replace")),
            KINDS[kind],
            STATUSES[status],
            *(
                _label(own.get(key, resource.get(key))) or default
                for key, default in zip(self._keys, self._defaults, strict=True)
            ),
        )
        number = self._numbers.get(labels)
        if number is not None:
            return number
        if len(self._numbers) == self._most:
            return int(status)
        number = self._numbers[labels] = len(self.labels)
        self.labels.append(labels)
        return number


def _label(value: Value | None) -> str | None:
    """A value as the Collector writes it. Arrays, maps and bytes tell nothing apart that anyone would ask for."""
    match value:
        case None | bytes() | "":  # to Prometheus a label that is empty is one that is not there
            return None
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer() and abs(value) < 1e21:
            return str(int(value))
    return _cut(str(value))


def _cut(text: str) -> str:
    return text[:MAX_LABEL_CHARS]


def resource_attributes(resources: Iterable[bytes]) -> Attributes:
    """Those of a resource; one that cannot be parsed has none."""
    found: dict[bytes, Value] = {}
    for resource in resources:
        try:
            parsed = schema.Resource.FromString(resource)
        except DecodeError:
            continue
        found.update(attributes(parsed.attributes))
    return found


def attributes(pairs: Iterable[bytes]) -> Attributes:
    """By key. OTLP forbids a key twice; where it is, the last counts."""
    found: dict[bytes, Value] = {}
    for each in pairs:
        try:
            pair = schema.KeyValue.FromString(each)
        except DecodeError:
            continue
        kind = pair.value.WhichOneof("value")
        if kind is not None:
            value = getattr(pair.value, kind)
            found[pair.key] = value.decode("utf-8", "replace") if kind == "string_value" else value
    return found
