"""What both implementations of scanner and lineage share: limits, the message in a record's value, texts of errors."""

from tss.core.otlp import jsonform
from tss.core.otlp.fragment import Encoding, ScanError, ScanErrorReason

# As a protobuf tag this byte starts a group numbered 15. OTLP has no groups and no field 15 at the top, so no OTLP
# message begins with it, while every OTLP JSON object does.
OPENING_BRACE = 0x7B

# Space may stand before it. A line end is a tag as well, the one that OTLP messages begin with, and then the brace is the
# length of a message of 123 bytes: such a record is protobuf if it is no JSON.
_LINE_END = 0x0A

# Protobuf's own bound; Kafka's is lower. Below it every position fits 32 bits.
MAX_MESSAGE_BYTES = 2**31 - 1

LINEAGE_SPANS = 65_536  # ids a lineage remembers: 0.8 MB; a trace beyond it is kept or dropped for other reasons

_RULES = {
    ScanErrorReason.INVALID_TRACE_ID: "trace id is not 16 bytes or is all zero",
    ScanErrorReason.INVALID_SPAN_ID: "span id is not 8 bytes or is all zero",
}


def message_of(value: bytes | None, encoding: Encoding, scan_errors: list[ScanError]) -> bytes | None:
    """The serialized `TracesData` in a record's value. None if there is none: why is then the last of `scan_errors`."""
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
    """What a fault says of `bad` spans out of `total` whose ids break a rule; `first` is the first such id."""
    return f"{bad} of {total} spans: {_RULES[reason]}; the first has {first[:48]!r} ({len(first)} bytes)"
