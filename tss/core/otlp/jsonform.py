"""OTLP's JSON form, read and written.

It is protobuf's JSON mapping but for the ids, which are hexadecimal instead of base64, and the enums, which are
integers. Source: opentelemetry-proto, `docs/specification.md`, "JSON Protobuf Encoding".
"""

import base64
import binascii
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

_SPAN = Span.DESCRIPTOR.fields_by_name
_LINK = Span.Link.DESCRIPTOR.fields_by_name
_ID_FIELDS = (_SPAN["trace_id"], _SPAN["span_id"], _SPAN["parent_span_id"], _LINK["trace_id"], _LINK["span_id"])

# An own id that is not hexadecimal must fail its span alone, and be found again in what is put aside. With this in
# front it is longer than any valid id, so the span counts as one with an invalid id.
_NOT_HEX = b"not hexadecimal: "


class JsonError(ValueError):
    """These bytes are no OTLP JSON."""


def read(value: bytes) -> bytes:
    """One OTLP JSON object to a serialized `TracesData`. Unknown fields are ignored, as the specification asks.

    The `traceId` or `spanId` of a span that is not hexadecimal comes out as an id of the wrong length, which is a fault
    of that span. Everything else that is wrong raises `JsonError`.
    """
    try:
        document = json.loads(value)
        if not isinstance(document, dict):
            raise TypeError(f"the outermost value is no object but {type(document).__name__}")
        _unhex(document)
        data = json_format.ParseDict(document, TracesData(), ignore_unknown_fields=True)
        return data.SerializeToString(deterministic=True)
    # Both libraries raise whatever their inner parts raise (UnicodeError, RecursionError, OverflowError, AttributeError
    # for a list in an object's place, ...), and the record, never the daemon, is at fault.
    except Exception as error:
        detail = f"not OTLP JSON: {type(error).__name__}: {error}"[:500]
        # It may quote half a surrogate pair, which no log or metric could encode.
        raise JsonError(detail.encode("utf-8", "backslashreplace").decode("utf-8")) from error


def _unhex(document: dict[str, Any]) -> None:
    """Turn the hexadecimal ids into the base64 that `json_format` reads, in place."""
    for resource in _objects(document, "resourceSpans", "resource_spans"):
        for scope in _objects(resource, "scopeSpans", "scope_spans"):
            for span in _objects(scope, "spans"):
                _unhex_fields(span, ("traceId", "trace_id", "spanId", "span_id"), strict=False)
                _unhex_fields(span, ("parentSpanId", "parent_span_id"), strict=True)
                for link in _objects(span, "links"):
                    _unhex_fields(link, ("traceId", "trace_id", "spanId", "span_id"), strict=True)


def _objects(parent: dict[str, Any], *names: str) -> Iterator[dict[str, Any]]:
    """The objects in these lists of `parent`. What is of another shape is left for `json_format` to complain about."""
    for name in names:
        members = parent.get(name)
        if isinstance(members, list):
            yield from (member for member in members if isinstance(member, dict))


def _unhex_fields(parent: dict[str, Any], names: tuple[str, ...], *, strict: bool) -> None:
    for name in names:
        text = parent.get(name)
        if isinstance(text, str):
            parent[name] = base64.b64encode(_id_bytes(name, text, strict=strict)).decode("ascii")


def _id_bytes(name: str, text: str, *, strict: bool) -> bytes:
    try:
        return binascii.unhexlify(text)  # unlike bytes.fromhex it allows no spaces
    except ValueError:
        if strict:
            raise ValueError(f"{name} is not hexadecimal: {text[:48]!r}") from None
        return _NOT_HEX + text.encode("utf-8", "backslashreplace")


def to_json_line(payload: bytes) -> bytes:
    """A payload as one line of OTLP JSON, as the Collector's file exporter writes it. Unknown fields are not in it.

    The line is ASCII, with escapes, so that no reader splits it at one of Unicode's other line ends. Raises protobuf's
    `DecodeError` for bytes that `scan` would not have let through.
    """
    document = _to_object(TracesData.FromString(payload))
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"


def _to_object(message: Message) -> dict[str, Any]:
    document = {}
    for field, value in message.ListFields():
        name, convert, repeated = _WRITERS[field]
        document[name] = [convert(item) for item in value] if repeated else convert(value)
    return document


def _as_is(value: Any) -> Any:
    return value


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _double(value: float) -> float | str:
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


_BY_TYPE: dict[int, Callable[[Any], Any]] = {
    FieldDescriptor.TYPE_MESSAGE: _to_object,
    FieldDescriptor.TYPE_BYTES: _base64,
    FieldDescriptor.TYPE_DOUBLE: _double,
    # JSON numbers are doubles to most readers; beyond 2**53 only text is exact.
    FieldDescriptor.TYPE_INT64: str,
    FieldDescriptor.TYPE_UINT64: str,
    FieldDescriptor.TYPE_FIXED64: str,
}

_Writer = tuple[str, Callable[[Any], Any], bool]


def _writers(descriptor: Descriptor, found: dict[FieldDescriptor, _Writer]) -> dict[FieldDescriptor, _Writer]:
    for field in descriptor.fields:
        if field not in found:
            convert = bytes.hex if field in _ID_FIELDS else _BY_TYPE.get(field.type, _as_is)
            repeated = isinstance(field.default_value, list)  # protobuf 5 and 7 share no plainer question
            found[field] = (field.json_name, convert, repeated)
            if field.message_type is not None:
                _writers(field.message_type, found)
    return found


# Made once from the schema, so that what a newer opentelemetry-proto adds is written without a change here.
_WRITERS = _writers(TracesData.DESCRIPTOR, {})
