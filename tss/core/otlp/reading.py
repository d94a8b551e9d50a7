"""Reads OTLP as messages. Everything that the scanner accepts can be read here, by every destination and every counter.

Only the scanner decides which bytes are valid. Protobuf is stricter: it refuses a whole message because of one text that
is not UTF-8, values nested deeper than about 30, or one invalid attribute. Such messages are read field by field here:
U+FFFD replaces bytes that are not UTF-8, and invalid parts of an attribute, event, link, resource or scope are left out.
The bytes themselves are never changed (law 6).
"""

from __future__ import annotations

import struct
from functools import cache
from typing import Any, TypeVar, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from tss.core.otlp.nesting import MAX_VALUE_DEPTH
from tss.core.otlp.wire import WireError, fields, varint_at

M = TypeVar("M", bound=Message)

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_WIRE_TYPES = {
    FieldDescriptor.TYPE_MESSAGE: _LENGTH,
    FieldDescriptor.TYPE_STRING: _LENGTH,
    FieldDescriptor.TYPE_BYTES: _LENGTH,
    FieldDescriptor.TYPE_DOUBLE: _FIXED64,
    FieldDescriptor.TYPE_FIXED64: _FIXED64,
    FieldDescriptor.TYPE_FIXED32: _FIXED32,
}  # the others are varints
_CONTAINERS = frozenset(("ArrayValue", "KeyValueList"))
# The scanner has checked that these can be read, so a span is never left out. An attribute without a value is left out.
_NEEDED = frozenset(("resource_spans", "scope_spans", "spans", "value"))


def read(kind: type[M], serialized: bytes) -> M:
    """An OTLP message, or the readable parts of it.

    Raises WireError (a ValueError) for bytes that the scanner rejects.
    """
    try:
        return kind.FromString(serialized)
    except DecodeError:
        return cast("M", Readable(cast("Descriptor", kind.DESCRIPTOR), serialized))


class Readable:
    """The readable parts of a message that protobuf refuses. For reading it has the interface of a protobuf message."""

    __slots__ = ("_depth", "_descriptor", "_serialized", "_values")

    def __init__(self, descriptor: Descriptor, serialized: bytes, depth: int = 0) -> None:
        """`depth` is the number of arrays and maps around the message. Raises WireError."""
        self._descriptor = descriptor
        self._serialized = serialized
        self._depth = depth + (descriptor.name in _CONTAINERS)
        self._values: dict[FieldDescriptor, Any] = {}
        if self._depth <= MAX_VALUE_DEPTH:
            for field, pieces in self._pieces().items():
                self._set(field, pieces)

    def __repr__(self) -> str:
        return f"<Readable {self._descriptor.name}, {len(self._serialized)} bytes>"

    def __getattr__(self, name: str) -> Any:
        field = self._descriptor.fields_by_name.get(name)
        if field is None:
            raise AttributeError(name)
        if field in self._values:
            return self._values[field]
        if _is_repeated(field):
            return []
        return Readable(field.message_type, b"") if field.message_type is not None else field.default_value

    def ByteSize(self) -> int:  # noqa: N802  # protobuf's name, like the next two
        """The serialized length in bytes."""
        return len(self._serialized)

    def ListFields(self) -> list[tuple[FieldDescriptor, Any]]:  # noqa: N802
        """The fields that are present, sorted by number."""
        found = [(field, value) for field, value in self._values.items() if _is_there(field, value)]
        return sorted(found, key=lambda pair: int(pair[0].number))

    def WhichOneof(self, name: str) -> str | None:  # noqa: N802
        """The member of a oneof that is set."""
        members = self._descriptor.oneofs_by_name[name].fields
        return next((member.name for member in members if member in self._values), None)

    def _pieces(self) -> dict[FieldDescriptor, list[bytes]]:
        """The contents of each known field. Of a oneof only the last member counts."""
        known, found = _fields_of(self._descriptor), dict[FieldDescriptor, list[bytes]]()
        for tag, _, start, stop in fields(self._serialized, 0, len(self._serialized)):
            field = known.get(tag)
            if field is None:
                continue
            for other in field.containing_oneof.fields if field.containing_oneof else ():
                if other != field:
                    found.pop(other, None)
            found.setdefault(field, []).append(self._serialized[start:stop])
        return found

    def _set(self, field: FieldDescriptor, pieces: list[bytes]) -> None:
        if field.message_type is None:
            values = [_scalar(field, piece) for piece in pieces]
            self._values[field] = values if _is_repeated(field) else values[-1]
        elif _is_repeated(field):
            self._values[field] = [inner for piece in pieces if (inner := self._inner(field, piece)) is not None]
        elif (inner := self._inner(field, b"".join(pieces))) is not None:  # several occurrences are merged
            self._values[field] = inner

    def _inner(self, field: FieldDescriptor, serialized: bytes) -> Readable | None:
        assert field.message_type is not None, "called for messages"  # noqa: S101
        try:
            return Readable(field.message_type, serialized, self._depth)
        except WireError:
            if field.name in _NEEDED:
                raise
            return None


@cache  # one entry per message type of OTLP
def _fields_of(descriptor: Descriptor) -> dict[int, FieldDescriptor]:
    """The fields of a message by their tags."""
    return {field.number << 3 | _WIRE_TYPES.get(field.type, _VARINT): field for field in descriptor.fields}


def _is_repeated(field: FieldDescriptor) -> bool:
    return isinstance(field.default_value, list)  # no simpler check works in both protobuf 5 and 7


def _is_there(field: FieldDescriptor, value: Any) -> bool:
    """Whether protobuf lists the field: it is not the default value, or its presence is tracked."""
    if field.containing_oneof is not None or (field.message_type is not None and not _is_repeated(field)):
        return True
    return bool(value)


def _scalar(field: FieldDescriptor, content: bytes) -> Any:
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return content.decode("utf-8", "replace")
        case FieldDescriptor.TYPE_BYTES:
            return content
        case FieldDescriptor.TYPE_DOUBLE:
            return struct.unpack("<d", content)[0]
        case FieldDescriptor.TYPE_FIXED64 | FieldDescriptor.TYPE_FIXED32:
            return int.from_bytes(content, "little")
    return _whole(field.type, varint_at(content, 0))


def _whole(kind: int, number: int) -> int | bool:
    """The value of a varint. Like protobuf, it uses as many bits as the type has."""
    if kind == FieldDescriptor.TYPE_BOOL:
        return number % 2**64 != 0
    bits = 64 if kind in (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT64) else 32
    number %= 2**bits
    signed = kind in (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_ENUM)
    return number - 2**bits if signed and number >> (bits - 1) else number
