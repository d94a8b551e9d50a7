"""What Datadog's trace intake reads (`POST /api/v0.2/traces`), as a protobuf schema of its own.

Source: `shared/reference/wire-protocols.md` 1.b (the Datadog agent's `agent_payload.proto`, `tracer_payload.proto` and
`span.proto`). Whatever holds other messages holds them as bytes here, which is the same on the wire: so each can be
written, measured and put into a payload on its own. Measured on spans with 25 tags: 4.8 us a span; encoding by hand took
8 us, and turning OTLP into such a span takes 37.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto
_KINDS = {
    "str": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
    "bool": _Field.TYPE_BOOL,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "uint64": _Field.TYPE_UINT64,
    "double": _Field.TYPE_DOUBLE,
}

# Message, then its fields: name, number, type; "*" is a repeated one, "map" one from text. The span's are named as in
# msgpack, so that one dict serves both.
_MESSAGES = {
    "AgentPayload": (
        ("host_name", 1, "str"),
        ("env", 2, "str"),
        ("tracer_payloads", 5, "*bytes"),
        ("tags", 6, "map str"),
        ("agent_version", 7, "str"),
        ("target_tps", 8, "double"),
        ("error_tps", 9, "double"),
    ),
    "TracerPayload": (
        ("container_id", 1, "str"),
        ("language_name", 2, "str"),
        ("language_version", 3, "str"),
        ("tracer_version", 4, "str"),
        ("runtime_id", 5, "str"),
        ("chunks", 6, "*bytes"),
        ("tags", 7, "map str"),
        ("env", 8, "str"),
        ("hostname", 9, "str"),
        ("app_version", 10, "str"),
    ),
    "TraceChunk": (
        ("priority", 1, "int32"),
        ("origin", 2, "str"),
        ("spans", 3, "*bytes"),
        ("tags", 4, "map str"),
        ("dropped_trace", 5, "bool"),
    ),
    "Span": (
        ("service", 1, "str"),
        ("name", 2, "str"),
        ("resource", 3, "str"),
        ("trace_id", 4, "uint64"),
        ("span_id", 5, "uint64"),
        ("parent_id", 6, "uint64"),
        ("start", 7, "int64"),
        ("duration", 8, "int64"),
        ("error", 9, "int32"),
        ("meta", 10, "map str"),
        ("metrics", 11, "map double"),
        ("type", 12, "str"),
    ),
}
_PACKAGE = "tss.datadog"


def _add(file: descriptor_pb2.FileDescriptorProto, name: str, fields: tuple[tuple[str, int, str], ...]) -> None:
    message = file.message_type.add(name=name)
    for field_name, number, kind in fields:
        field = message.field.add(name=field_name, number=number)
        if kind.startswith("map "):
            entry = _entry(message, field_name, kind.removeprefix("map "))
            field.label, field.type = _Field.LABEL_REPEATED, _Field.TYPE_MESSAGE
            field.type_name = f".{_PACKAGE}.{name}.{entry}"
        else:
            field.label = _Field.LABEL_REPEATED if kind.startswith("*") else _Field.LABEL_OPTIONAL
            field.type = _KINDS[kind.removeprefix("*")]


def _entry(message: descriptor_pb2.DescriptorProto, field_name: str, kind: str) -> str:
    """The message that protobuf wants for a map's entries."""
    name = "".join(word.capitalize() for word in field_name.split("_")) + "Entry"
    entry = message.nested_type.add(name=name)
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=_Field.LABEL_OPTIONAL, type=_Field.TYPE_STRING)
    entry.field.add(name="value", number=2, label=_Field.LABEL_OPTIONAL, type=_KINDS[kind])
    return name


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="tss/datadog.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        _add(file, name, fields)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


_CLASSES = _classes()
AgentPayload, TracerPayload = _CLASSES["AgentPayload"], _CLASSES["TracerPayload"]
TraceChunk, Span = _CLASSES["TraceChunk"], _CLASSES["Span"]
