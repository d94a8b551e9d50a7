"""The scanner in protobuf's words: slow but plainly right, the measure for the compiled one.

All spans of a record are parsed, in order; what is not of one trace with good ids throughout is then split on the wire,
so that protobuf never writes a byte that is sent on.
"""

from collections.abc import Sequence

from google.protobuf.message import DecodeError
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status, TracesData

from tss.core.otlp import wire
from tss.core.otlp.fragment import Fault, FaultReason, Fragment, Scan

_ZERO_TRACE_ID = bytes(16)
_ZERO_SPAN_ID = bytes(8)
_NO_PARENT = frozenset((b"", _ZERO_SPAN_ID))
_SPAN_ID_LENGTHS = {8}
_ERROR = Status.STATUS_CODE_ERROR
_parse = TracesData.FromString  # looked up once: it is on the path of every record

# A span goes by its trace id, or by what is wrong with it.
_Label = bytes | FaultReason


def scan_message(message: bytes, arrived: bytes) -> Scan:
    """Scan one serialized `TracesData`; `arrived` is the record's value as it came, to put aside if need be.

    A string that is not UTF-8 and a nesting of more than 100 messages are faults to protobuf, and so they are here.
    """
    try:
        data = _parse(message)
    except DecodeError as error:
        return _put_aside(FaultReason.UNREADABLE, str(error), arrived)
    spans = [span for resource in data.resource_spans for scope in resource.scope_spans for span in scope.spans]
    if not spans:
        return _put_aside(FaultReason.EMPTY, "the message has no span", arrived)
    trace_ids = [span.trace_id for span in spans]
    span_ids = [span.span_id for span in spans]
    trace_id = trace_ids[0]
    if (
        trace_ids.count(trace_id) == len(spans)
        and len(trace_id) == 16
        and trace_id != _ZERO_TRACE_ID
        and set(map(len, span_ids)) == _SPAN_ID_LENGTHS
        and _ZERO_SPAN_ID not in span_ids
    ):
        return Scan((_fragment(trace_id, message, spans, frozenset(span_ids)),), ())
    try:
        return _scan_mixed(message, spans, [*map(_label, trace_ids, span_ids)])
    except wire.SplitTooLarge as error:
        return _put_aside(FaultReason.SPLIT_TOO_LARGE, str(error), arrived)
    except wire.WireError as error:
        return _put_aside(FaultReason.UNREADABLE, str(error), arrived)


def _put_aside(reason: FaultReason, detail: str, arrived: bytes) -> Scan:
    return Scan((), (Fault(reason, detail, arrived),))


def _label(trace_id: bytes, span_id: bytes) -> _Label:
    if len(trace_id) != 16 or trace_id == _ZERO_TRACE_ID:
        return FaultReason.INVALID_TRACE_ID
    if len(span_id) != 8 or span_id == _ZERO_SPAN_ID:
        return FaultReason.INVALID_SPAN_ID
    return trace_id


def _scan_mixed(message: bytes, spans: Sequence[Span], labels: Sequence[_Label]) -> Scan:
    spans_of: dict[_Label, list[Span]] = {}
    for label, span in zip(labels, spans, strict=True):
        spans_of.setdefault(label, []).append(span)
    fragments, faults = [], []
    for label, payload in wire.split(message, labels).items():
        members = spans_of[label]
        if isinstance(label, FaultReason):
            faults.append(Fault(label, _detail(label, members, len(spans)), payload))
        else:
            fragments.append(_fragment(label, payload, members, frozenset([span.span_id for span in members])))
    return Scan(tuple(fragments), tuple(faults))


def _detail(reason: FaultReason, bad: Sequence[Span], total: int) -> str:
    if reason is FaultReason.INVALID_TRACE_ID:
        rule, found = "trace id is not 16 bytes or is all zero", bad[0].trace_id
    else:
        rule, found = "span id is not 8 bytes or is all zero", bad[0].span_id
    return f"{len(bad)} of {total} spans: {rule}; the first has {found[:48]!r} ({len(found)} bytes)"


def _fragment(trace_id: bytes, payload: bytes, spans: Sequence[Span], span_ids: frozenset[bytes]) -> Fragment:
    # One column at a time: a comprehension pays for no call per span, and min, max and count run in C.
    starts = [span.start_time_unix_nano for span in spans]
    parents = frozenset([span.parent_span_id for span in spans])
    return Fragment(
        trace_id,
        payload,
        len(spans),
        [span.status.code for span in spans].count(_ERROR),
        min(starts) or min(filter(None, starts), default=0),
        max([span.end_time_unix_nano for span in spans]),
        not parents.isdisjoint(_NO_PARENT),
        span_ids,
        parents - span_ids - _NO_PARENT,
    )
