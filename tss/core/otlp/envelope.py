"""Shared by both implementations of scanner and lineage: limits, the message in a record's value, texts of errors."""

import json

from tss.core.otlp import jsonform
from tss.core.otlp.fragment import Encoding, ScanError, ScanErrorReason

# As a protobuf tag this byte starts a group numbered 15. OTLP has no groups and no field 15 at the top, so no OTLP
# message begins with it, while every OTLP JSON object does.
OPENING_BRACE = 0x7B

# White space may precede the brace. A line feed is also the tag with which OTLP messages begin; the brace after it is then
# the length of a message of 123 bytes. Such a record is read as protobuf if it is not valid JSON.
_LINE_END = 0x0A

# Protobuf's own limit; Kafka's is lower. Below it every position fits into 32 bits.
MAX_MESSAGE_BYTES = 2**31 - 1

LINEAGE_SPANS = (
    65_536  # ids that a lineage stores, in 0.8 MB; a trace with more is never complete, and ends for another reason
)

_SHOWN_BYTES = 48  # of an id that is invalid
_RULES = {
    ScanErrorReason.INVALID_TRACE_ID: "trace id is not 16 bytes or is all zero",
    ScanErrorReason.INVALID_SPAN_ID: "span id is not 8 bytes or is all zero",
}


def message_of(value: bytes | None, encoding: Encoding, scan_errors: list[ScanError]) -> bytes | None:
    """The serialized `TracesData` in a record's value. None if it cannot be read: the cause is appended to `scan_errors`."""
    if not value:
        scan_errors.append(ScanError(ScanErrorReason.EMPTY, "the record has no value", b""))
        return None
    if encoding is Encoding.OTLP_JSON or (encoding is Encoding.AUTO and jsonform.is_json(value)):
        try:
            return jsonform.read(value)
        except jsonform.JsonError as error:
            if encoding is Encoding.AUTO and value[0] == _LINE_END:
                return value
            scan_errors.append(ScanError(ScanErrorReason.UNREADABLE, str(error), value))
            return None
    return value


def bad_spans(reason: ScanErrorReason, bad: int, total: int, first: bytes) -> str:
    """The detail of a ScanError: `bad` of `total` spans have an invalid id; `first` is the first such id."""
    return f"{bad} of {total} spans: {_RULES[reason]}; the first {_id_in_words(first)}"


def _id_in_words(id: bytes) -> str:
    if id.startswith(jsonform.NOT_HEX):
        text = id.removeprefix(jsonform.NOT_HEX)[:_SHOWN_BYTES].decode("utf-8", "replace")
        return f"is not hexadecimal: {json.dumps(text)}"
    if not any(id):
        return "is all zero" if id else "is empty"
    return f"has {len(id)} bytes: {id[:_SHOWN_BYTES].hex()}"
