"""OTLP: bytes to fragments and back. The only place that knows the wire.

A `Scanner` takes Kafka records' values apart into one `Fragment` per trace, and a `Lineage` tells when a trace's parents
have all come; `join` puts payloads together for export; `to_json_line` writes one for people and files. Source:
opentelemetry-proto, `trace/v1/trace.proto`, and the JSON rules of `docs/specification.md`.
"""

from tss.core.otlp.fragment import Encoding, Fragment, Scan, ScanError, ScanErrorReason
from tss.core.otlp.jsonform import to_json_line
from tss.core.otlp.lookup import MAX_VALUES, NOTHING, Ask, Location, Lookup, Value, Values
from tss.core.otlp.scanning import LINEAGE_SPANS, SCANNER, Lineage, Scanner, scan
from tss.core.otlp.wire import join

__all__ = [
    "LINEAGE_SPANS",
    "MAX_VALUES",
    "NOTHING",
    "SCANNER",
    "Ask",
    "Encoding",
    "Fragment",
    "Lineage",
    "Location",
    "Lookup",
    "Scan",
    "ScanError",
    "ScanErrorReason",
    "Scanner",
    "Value",
    "Values",
    "join",
    "scan",
    "to_json_line",
]  # fmt: skip
"""`SCANNER` says which implementation is at work, "compiled" or "protobuf": shown in /health and a metric."""
