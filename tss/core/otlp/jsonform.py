"""Reads and writes OTLP's JSON form.

It is protobuf's JSON mapping, except that ids are hexadecimal instead of base64, and enums are integers. Source:
opentelemetry-proto, `docs/specification.md`, "JSON Protobuf Encoding". Everything that the Collector accepts is accepted
here with the same meaning (its `pdata` is more liberal than protobuf), and so are protobuf's own spellings.
"""

import base64
import binascii
import json
import math
import re
import struct
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from opentelemetry.proto.common.v1.common_pb2 import ArrayValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from tss.core.otlp.nesting import MAX_VALUE_DEPTH
from tss.core.otlp.reading import read as read_message
from tss.core.otlp.wire import varint_bytes

_SPAN = Span.DESCRIPTOR.fields_by_name
_LINK = Span.Link.DESCRIPTOR.fields_by_name
_OWN_IDS = (_SPAN["trace_id"], _SPAN["span_id"])
_ID_FIELDS = (*_OWN_IDS, _SPAN["parent_span_id"], _LINK["trace_id"], _LINK["span_id"])
_CONTAINERS = (ArrayValue.DESCRIPTOR, KeyValueList.DESCRIPTOR)

# A span's own id that is not hexadecimal must only reject this span, and must be visible in the dead letter. With this
# prefix it is longer than any valid id, so the span counts as one with an invalid id.
NOT_HEX = b"not hexadecimal: "

_SPACE = b" \t\n\r"
_SURROGATES = re.compile("[\ud800-\udfff]")

_KINDS = {list: "an array", str: "a text", bool: "true or false", int: "a number", float: "a number"}

_Members = list[tuple[str, Any]]


class JsonError(ValueError):
    """The bytes are not valid OTLP JSON."""


class _Object:
    """A JSON object with its members in order, including duplicate names."""

    __slots__ = ("members",)

    def __init__(self, members: _Members) -> None:
        self.members = members


def _kind(value: object) -> str:
    """What a value of JSON is, in JSON's words."""
    if isinstance(value, _Object):
        return "an object"
    return _KINDS.get(type(value), "null")


def is_json(value: bytes) -> bool:
    """Whether the bytes look like a JSON object: the first character after white space is a brace."""
    return value.lstrip(_SPACE)[:1] == b"{"


def read(value: bytes) -> bytes:
    """Translate one OTLP JSON object to a serialized `TracesData`. Unknown fields are ignored, as the specification requires.

    A span's `traceId` or `spanId` that is not hexadecimal becomes an id of invalid length, so that only this span is
    rejected. U+FFFD replaces unpaired surrogates and bytes that are not UTF-8. If a field or several members of a oneof are
    given, the last one counts; null is an absent field. Everything else that is wrong raises `JsonError`.
    """
    try:
        text = value.decode(json.detect_encoding(value), "replace")
        document = json.loads(text, object_pairs_hook=_Object, strict=False)
        if not isinstance(document, _Object):
            raise TypeError(f"the outermost value is no object but {_kind(document)}")
        return _message(TracesData.DESCRIPTOR, document, 0)
    # The functions called here raise many errors (UnicodeError, RecursionError, OverflowError, ...). The cause is always
    # the record, never the daemon.
    except RecursionError as error:
        raise JsonError(f"not OTLP JSON: values nested more than {MAX_VALUE_DEPTH} deep") from error
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise JsonError(f"not JSON: {error.msg[:1].lower()}{error.msg[1:]}, at {line}column {error.colno}") from error
    except Exception as error:
        detail = f"not OTLP JSON: {error}"[:500]
        # The text may contain an unpaired surrogate, which logs and metrics cannot encode.
        raise JsonError(detail.encode("utf-8", "backslashreplace").decode("utf-8")) from error


def _message(descriptor: Descriptor, document: Any, depth: int) -> bytes:
    """Serialize a message from its JSON object, with fields sorted by number. `depth` is the number of arrays and maps around
    it."""
    if document is None:  # null as an element or as a message is a message without fields
        return b""
    if not isinstance(document, _Object):
        raise TypeError(f"{descriptor.name} is no object but {_kind(document)}")
    depth += descriptor in _CONTAINERS
    if depth > MAX_VALUE_DEPTH:
        raise ValueError(f"values nested more than {MAX_VALUE_DEPTH} deep")
    found = _together(descriptor, document.members)
    return b"".join([_field(field, found[field], depth) for field in sorted(found, key=_number)])


def _number(field: FieldDescriptor) -> int:
    return int(field.number)


def _together(descriptor: Descriptor, members: _Members) -> dict[FieldDescriptor, Any]:
    """The value of each known field. If a field occurs twice, lists and objects are merged; else the last one counts."""
    fields = _FIELDS[descriptor]
    found: dict[FieldDescriptor, Any] = {}
    for name, value in members:
        field = fields.get(name)
        if field is None or _is_absent(field, value):
            continue
        if field.containing_oneof is not None:
            found = {field: value}  # AnyValue has only this oneof
        else:
            found[field] = _both(found.get(field), value)
    return found


def _both(before: Any, value: Any) -> Any:
    if isinstance(before, list) and isinstance(value, list):
        return before + value
    if isinstance(before, _Object) and isinstance(value, _Object):
        return _Object(before.members + value.members)
    return value


def _is_absent(field: FieldDescriptor, value: Any) -> bool:
    """Whether null stands for an absent field. In a oneof it is the empty text, list or map, as in the Collector."""
    return value is None and (field.containing_oneof is None or field.type not in _LENGTHS)


def _field(field: FieldDescriptor, value: Any, depth: int) -> bytes:
    try:
        if not _is_repeated(field):
            return _one(field, value, depth)
        if not isinstance(value, list):
            raise TypeError(f"no list but {_kind(value)}")
        return b"".join([_one(field, each, depth) for each in value])
    except WrongValue:
        raise
    except (TypeError, ValueError) as error:
        raise WrongValue(f"{field.json_name}: {error}") from error


def _is_repeated(field: FieldDescriptor) -> bool:
    return isinstance(field.default_value, list)  # no simpler check works in both protobuf 5 and 7


class WrongValue(ValueError):
    """The message already names the field."""


def _one(field: FieldDescriptor, value: Any, depth: int) -> bytes:
    """Serialize a field with this value. As in protobuf, a default value such as zero is left out, unless its presence
    matters."""
    if field.message_type is not None:
        return _delimited(field, _message(field.message_type, value, depth))
    if field in _ID_FIELDS:
        content = _id_bytes(value, strict=field not in _OWN_IDS)
        return _delimited(field, content) if content else b""
    content, is_something = _SCALARS[field.type](field, value)
    if not is_something and field.containing_oneof is None and not _is_repeated(field):
        return b""
    if field.type in _LENGTHS:
        return _delimited(field, content)
    return varint_bytes(field.number << 3 | _FIXED.get(field.type, 0)) + content


def _delimited(field: FieldDescriptor, content: bytes) -> bytes:
    return varint_bytes(field.number << 3 | 2) + varint_bytes(len(content)) + content


def _id_bytes(value: Any, *, strict: bool) -> bytes:
    text = _text(value)
    try:
        return binascii.unhexlify(text)  # unlike bytes.fromhex it rejects spaces
    except ValueError:
        if strict:
            raise ValueError(f"not hexadecimal: {json.dumps(text[:48])}") from None
        return NOT_HEX + text.encode("utf-8", "backslashreplace")


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError(f"no text but {_kind(value)}")
    return value


def _string(_: FieldDescriptor, value: Any) -> tuple[bytes, bool]:
    text = _text(value)
    return _SURROGATES.sub("\ufffd", text).encode(), bool(text)


def _bytes(_: FieldDescriptor, value: Any) -> tuple[bytes, bool]:
    text = _text(value).translate(_STANDARD)
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise ValueError("no text in base64") from None
    return content, bool(content)


_STANDARD = str.maketrans("-_", "+/", "\r\n")  # the URL alphabet is accepted; Go ignores line ends


def _bool(_: FieldDescriptor, value: Any) -> tuple[bytes, bool]:
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"no truth value but {_kind(value)}")
    return (b"\1" if value else b"\0"), bool(value)


def _double(_: FieldDescriptor, value: Any) -> tuple[bytes, bool]:
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        raise TypeError(f"no number but {_kind(value)}")
    try:
        number = 0.0 if value is None else float(value)
    except ValueError:
        raise ValueError(f"no number but the text {json.dumps(value)}"[:100]) from None
    return struct.pack("<d", number), bool(number) or math.copysign(1, number) < 0


def _integer(field: FieldDescriptor, value: Any) -> int:
    """An integer, or an integer as text, within the range of the field's type; for an enum, its number or its name."""
    number = 0 if value is None else value
    if isinstance(number, str):
        named = field.enum_type.values_by_name.get(number) if field.enum_type else None
        try:
            number = int(number) if named is None else named.number
        except ValueError:
            raise ValueError(f"no whole number but the text {json.dumps(number)}"[:100]) from None
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"no whole number but {number if isinstance(number, float) else _kind(number)}")
    if not _BOUNDS[field.type][0] <= number < _BOUNDS[field.type][1]:
        raise ValueError(f"{number} is out of range"[:100])
    return number


def _varint(field: FieldDescriptor, value: Any) -> tuple[bytes, bool]:
    number = _integer(field, value)
    return varint_bytes(number % 2**64), bool(number)


def _fixed(field: FieldDescriptor, value: Any) -> tuple[bytes, bool]:
    number = _integer(field, value)
    return number.to_bytes(8 if field.type == FieldDescriptor.TYPE_FIXED64 else 4, "little"), bool(number)


_Scalar = Callable[[FieldDescriptor, Any], tuple[bytes, bool]]
"""The content of a field, and whether it differs from the default (zero or empty)."""

_SCALARS: dict[int, _Scalar] = {
    FieldDescriptor.TYPE_STRING: _string,
    FieldDescriptor.TYPE_BYTES: _bytes,
    FieldDescriptor.TYPE_BOOL: _bool,
    FieldDescriptor.TYPE_DOUBLE: _double,
    FieldDescriptor.TYPE_INT32: _varint,
    FieldDescriptor.TYPE_UINT32: _varint,
    FieldDescriptor.TYPE_INT64: _varint,
    FieldDescriptor.TYPE_ENUM: _varint,
    FieldDescriptor.TYPE_FIXED32: _fixed,
    FieldDescriptor.TYPE_FIXED64: _fixed,
}
_LENGTHS = frozenset((FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_MESSAGE))
_FIXED = {FieldDescriptor.TYPE_DOUBLE: 1, FieldDescriptor.TYPE_FIXED64: 1, FieldDescriptor.TYPE_FIXED32: 5}
_BOUNDS = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31),
    FieldDescriptor.TYPE_ENUM: (-(2**31), 2**31),
    FieldDescriptor.TYPE_UINT32: (0, 2**32),
    FieldDescriptor.TYPE_FIXED32: (0, 2**32),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63),
    FieldDescriptor.TYPE_FIXED64: (0, 2**64),
}


def _names(descriptor: Descriptor, found: dict[Descriptor, dict[str, FieldDescriptor]]) -> Any:
    """The fields of a message, and of all messages within it, by both of their JSON names."""
    if descriptor not in found:
        found[descriptor] = {name: field for field in descriptor.fields for name in (field.json_name, field.name)}
        for field in descriptor.fields:
            if field.message_type is not None:
                _names(field.message_type, found)
    return found


_FIELDS: dict[Descriptor, dict[str, FieldDescriptor]] = _names(TracesData.DESCRIPTOR, {})


def to_json_line(payload: bytes) -> bytes:
    """A payload as one line of OTLP JSON, as the Collector's file exporter writes it. Unknown fields are left out.

    The line is ASCII with escapes, so that no reader splits it at one of Unicode's other line ends. Raises WireError (a
    ValueError) for bytes that `scan` rejects.
    """
    document = _to_object(read_message(TracesData, payload))
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


def _finite(value: float) -> float | str:
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


_BY_TYPE: dict[int, Callable[[Any], Any]] = {
    FieldDescriptor.TYPE_MESSAGE: _to_object,
    FieldDescriptor.TYPE_BYTES: _base64,
    FieldDescriptor.TYPE_DOUBLE: _finite,
    # Most readers take JSON numbers for doubles; beyond 2**53 only text is exact.
    FieldDescriptor.TYPE_INT64: str,
    FieldDescriptor.TYPE_UINT64: str,
    FieldDescriptor.TYPE_FIXED64: str,
}

_Writer = tuple[str, Callable[[Any], Any], bool]


def _writers(descriptor: Descriptor, found: dict[FieldDescriptor, _Writer]) -> dict[FieldDescriptor, _Writer]:
    for field in descriptor.fields:
        if field not in found:
            convert = bytes.hex if field in _ID_FIELDS else _BY_TYPE.get(field.type, _as_is)
            found[field] = (field.json_name, convert, _is_repeated(field))
            if field.message_type is not None:
                _writers(field.message_type, found)
    return found


# Made once from the schema, so that fields of a newer opentelemetry-proto are written without a change here.
_WRITERS = _writers(TracesData.DESCRIPTOR, {})
