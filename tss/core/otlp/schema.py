"""The few fields of OTLP that a scan looks at, as a protobuf schema of its own.

What it does not name is an unknown field to protobuf: framed, passed over, not looked into. All text is `bytes` here,
so that one string that is not UTF-8 puts no record aside. Source: opentelemetry-proto, `trace/v1/trace.proto`,
`common/v1/common.proto` and `resource/v1/resource.proto`.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto
_KINDS = {
    "bytes": _Field.TYPE_BYTES,
    "bool": _Field.TYPE_BOOL,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "double": _Field.TYPE_DOUBLE,
    "fixed64": _Field.TYPE_FIXED64,
}

# Message, then its fields: name, number, type; "*" is a repeated one, "|" one of the oneof.
_MESSAGES = {
    "TracesData": (("resource_spans", 1, "*ResourceSpans"),),
    # A resource given twice is merged by protobuf, which is to say that the attributes of both count.
    "ResourceSpans": (("resource", 1, "*bytes"), ("scope_spans", 2, "*ScopeSpans")),
    "ScopeSpans": (("scope", 1, "*bytes"), ("spans", 2, "*Span")),
    "Span": (
        ("trace_id", 1, "bytes"),
        ("span_id", 2, "bytes"),
        ("trace_state", 3, "bytes"),
        ("parent_span_id", 4, "bytes"),
        ("name", 5, "bytes"),
        ("kind", 6, "int32"),
        ("start_time_unix_nano", 7, "fixed64"),
        ("end_time_unix_nano", 8, "fixed64"),
        ("attributes", 9, "*bytes"),
        ("status", 15, "Status"),
    ),
    "Status": (("code", 3, "int32"),),
    "Resource": (("attributes", 1, "*bytes"),),
    "InstrumentationScope": (("attributes", 3, "*bytes"),),
    "KeyValue": (("key", 1, "bytes"), ("value", 2, "AnyValue")),
    "AnyValue": (
        ("string_value", 1, "|bytes"),
        ("bool_value", 2, "|bool"),
        ("int_value", 3, "|int64"),
        ("double_value", 4, "|double"),
        ("array_value", 5, "|bytes"),
        ("kvlist_value", 6, "|bytes"),
        ("bytes_value", 7, "|bytes"),
    ),
}
_PACKAGE = "tss.seen"


def _add(file: descriptor_pb2.FileDescriptorProto, name: str, fields: tuple[tuple[str, int, str], ...]) -> None:
    message = file.message_type.add(name=name)
    if any(kind.startswith("|") for _, _, kind in fields):
        message.oneof_decl.add(name="value")
    for field_name, number, kind in fields:
        field = message.field.add(name=field_name, number=number)
        field.label = _Field.LABEL_REPEATED if kind.startswith("*") else _Field.LABEL_OPTIONAL
        if kind.startswith("|"):
            field.oneof_index = 0
        plain = kind.lstrip("*|")
        field.type = _KINDS.get(plain, _Field.TYPE_MESSAGE)
        if field.type == _Field.TYPE_MESSAGE:
            field.type_name = f".{_PACKAGE}.{plain}"


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="tss/seen.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        _add(file, name, fields)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


_CLASSES = _classes()
TracesData, Span, KeyValue = _CLASSES["TracesData"], _CLASSES["Span"], _CLASSES["KeyValue"]
AnyValue, Resource, InstrumentationScope = _CLASSES["AnyValue"], _CLASSES["Resource"], _CLASSES["InstrumentationScope"]
