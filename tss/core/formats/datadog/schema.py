"""The protobuf messages of Datadog's trace intake (`POST /api/v0.2/traces`).

Source: `pkg/proto/datadog/trace/` in github.com/DataDog/datadog-agent (`agent_payload.proto`, `tracer_payload.proto` and
`span.proto`). Here nested messages are fields of type bytes, which is the same on the wire, so that each message can be
serialized and measured separately. Measured on spans with 25 tags: 4.8 us per span; encoding by hand took 8 us, and
translating OTLP to such a span takes 37 us.
"""

from tss.core.protobuf_classes import classes_of

_CLASSES = classes_of(
    "tss.datadog",
    # The span's fields have the names of the msgpack form, so that the same dict serves both.
    {
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
    },
)
AgentPayload, TracerPayload = _CLASSES["AgentPayload"], _CLASSES["TracerPayload"]
TraceChunk, Span = _CLASSES["TraceChunk"], _CLASSES["Span"]
