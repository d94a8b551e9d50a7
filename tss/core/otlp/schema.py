"""A protobuf schema with only the OTLP fields that a scan reads.

Protobuf skips all other fields as unknown, without reading their content. Strings are `bytes` here, so that a string that
is not UTF-8 does not make the record unreadable. Source: opentelemetry-proto, `trace/v1/trace.proto`,
`common/v1/common.proto` and `resource/v1/resource.proto`.
"""

from tss.core.protobuf_classes import classes_of

_CLASSES = classes_of(
    "tss.seen",
    {
        "TracesData": (("resource_spans", 1, "*ResourceSpans"),),
        # Protobuf merges a resource that occurs twice: the attributes of both count.
        "ResourceSpans": (("resource", 1, "*bytes"), ("scope_spans", 2, "*ScopeSpans"), ("schema_url", 3, "bytes")),
        "ScopeSpans": (("scope", 1, "*bytes"), ("spans", 2, "*Span"), ("schema_url", 3, "bytes")),
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
            ("dropped_attributes_count", 10, "uint32"),
            ("events", 11, "*bytes"),
            ("dropped_events_count", 12, "uint32"),
            ("links", 13, "*bytes"),
            ("dropped_links_count", 14, "uint32"),
            ("status", 15, "Status"),
            ("flags", 16, "fixed32"),
        ),
        "Status": (("message", 2, "bytes"), ("code", 3, "int32")),
        "Event": (
            ("time_unix_nano", 1, "fixed64"),
            ("name", 2, "bytes"),
            ("attributes", 3, "*bytes"),
            ("dropped_attributes_count", 4, "uint32"),
        ),
        "Resource": (("attributes", 1, "*bytes"), ("dropped_attributes_count", 2, "uint32")),
        "InstrumentationScope": (
            ("name", 1, "bytes"),
            ("version", 2, "bytes"),
            ("attributes", 3, "*bytes"),
            ("dropped_attributes_count", 4, "uint32"),
        ),
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
        "ArrayValue": (("values", 1, "*bytes"),),
        "KeyValueList": (("values", 1, "*bytes"),),
    },
)
TracesData, ResourceSpans, ScopeSpans = _CLASSES["TracesData"], _CLASSES["ResourceSpans"], _CLASSES["ScopeSpans"]
Span, Event, KeyValue = _CLASSES["Span"], _CLASSES["Event"], _CLASSES["KeyValue"]
ArrayValue, KeyValueList = _CLASSES["ArrayValue"], _CLASSES["KeyValueList"]
AnyValue, Resource, InstrumentationScope = _CLASSES["AnyValue"], _CLASSES["Resource"], _CLASSES["InstrumentationScope"]
