"""OTLP: bytes to fragments and back. The only place that knows the wire.

`scan` takes a Kafka record's value apart into one `Fragment` per trace; `join` puts payloads together for export;
`to_json_line` writes one for people and files. Source: opentelemetry-proto, `trace/v1/trace.proto`, and the JSON rules
of `docs/specification.md`.
"""

from tss.core.otlp.fragment import Encoding, Fault, FaultReason, Fragment, Scan
from tss.core.otlp.jsonform import to_json_line
from tss.core.otlp.record import scan
from tss.core.otlp.wire import join

SCANNER = "protobuf"  # which implementation `scan` is: shown in /health and a metric

__all__ = ["SCANNER", "Encoding", "Fault", "FaultReason", "Fragment", "Scan", "join", "scan", "to_json_line"]
