"""Protobuf classes from a table of their fields, for schemas of our own that have only the fields that are read."""

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Fields = tuple[tuple[str, int, str], ...]

_Field = descriptor_pb2.FieldDescriptorProto
_KINDS = {
    "str": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
    "bool": _Field.TYPE_BOOL,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
    "fixed32": _Field.TYPE_FIXED32,
    "fixed64": _Field.TYPE_FIXED64,
    "double": _Field.TYPE_DOUBLE,
}


def classes_of(package: str, messages: Mapping[str, Fields]) -> dict[str, Any]:
    """A class for each message. A field has a name, a number and a kind.

    A kind may have a prefix: "*" for a repeated field, "|" for a member of the message's oneof, "map " for a map from
    text. A kind that `_KINDS` does not have is a message of the same package.
    """
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for name, fields in messages.items():
        _add(file, name, fields)
    pool = descriptor_pool.DescriptorPool()  # a pool of its own: the default pool already has some of these names
    pool.AddSerializedFile(file.SerializeToString())
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in messages}


def _add(file: descriptor_pb2.FileDescriptorProto, name: str, fields: Fields) -> None:
    message = file.message_type.add(name=name)
    if any(kind.startswith("|") for _, _, kind in fields):
        message.oneof_decl.add(name="value")
    for field_name, number, kind in fields:
        field = message.field.add(name=field_name, number=number)
        field.label = _Field.LABEL_REPEATED if kind.startswith(("*", "map ")) else _Field.LABEL_OPTIONAL
        if kind.startswith("|"):
            field.oneof_index = 0
        plain = kind.lstrip("*|")
        if kind.startswith("map "):
            plain = f"{name}.{_entry(message, field_name, kind.removeprefix('map '))}"
        field.type = _KINDS.get(plain, _Field.TYPE_MESSAGE)
        if field.type == _Field.TYPE_MESSAGE:
            field.type_name = f".{file.package}.{plain}"


def _entry(message: descriptor_pb2.DescriptorProto, field_name: str, kind: str) -> str:
    """The message of a map's entries, which protobuf requires."""
    name = "".join(word.capitalize() for word in field_name.split("_")) + "Entry"
    entry = message.nested_type.add(name=name)
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=_Field.LABEL_OPTIONAL, type=_Field.TYPE_STRING)
    entry.field.add(name="value", number=2, label=_Field.LABEL_OPTIONAL, type=_KINDS[kind])
    return name
