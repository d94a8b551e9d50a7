"""A record's value, in whatever encoding, to its fragments and faults."""

from tss.core.otlp import jsonform, reference
from tss.core.otlp.fragment import Encoding, Fault, FaultReason, Scan

# As a protobuf tag this byte starts a group numbered 15. OTLP has no groups and no field 15 at the top, so no OTLP
# message begins with it, while every OTLP JSON object does.
_OPENING_BRACE = 0x7B


def scan(value: bytes | None, encoding: Encoding) -> Scan:
    """Take a record's value apart by trace. Never raises, whatever the bytes."""
    if not value:
        return Scan((), (Fault(FaultReason.EMPTY, "the record has no value", b""),))
    if encoding is Encoding.OTLP_JSON or (encoding is Encoding.AUTO and value[0] == _OPENING_BRACE):
        try:
            message = jsonform.read(value)
        except jsonform.JsonError as error:
            return Scan((), (Fault(FaultReason.UNREADABLE, str(error), value),))
        return reference.scan_message(message, value)
    return reference.scan_message(value, value)
