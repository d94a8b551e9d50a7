"""OTLP: reads and writes its bytes. No other package knows the wire format.

A `Scanner` splits the values of Kafka records by trace, into fragments. `Records` has them. A `Lineage` knows whether all parents of a
trace's spans have arrived. `join` joins payloads for export; `to_json_line` writes a payload as a line of JSON. Source:
opentelemetry-proto, `trace/v1/trace.proto`, and the JSON rules of `docs/specification.md`.
"""

from tss.core.otlp.attributes import Value
from tss.core.otlp.fragment import Encoding, Fragment, Scan, ScanError, ScanErrorReason
from tss.core.otlp.jsonform import to_json_line
from tss.core.otlp.scanning import LINEAGE_SPANS, SCANNER, Lineage, Records, Scanner, scan
from tss.core.otlp.wire import join

__all__ = [
    "LINEAGE_SPANS",
    "SCANNER",
    "Encoding",
    "Fragment",
    "Lineage",
    "Records",
    "Scan",
    "ScanError",
    "ScanErrorReason",
    "Scanner",
    "Value",
    "join",
    "scan",
    "to_json_line",
]  # fmt: skip
"""`SCANNER` is the implementation in use, "compiled" or "protobuf". /health and a metric show it."""
