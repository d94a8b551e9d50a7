"""What an OTLP server's answer says, whichever signal was sent.

Source: opentelemetry-proto, `docs/specification.md`, "OTLP/HTTP Response".
"""

from __future__ import annotations

from typing import Any

import attrs
from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from tss.core.delivery import Accepted, Misconfigured
from tss.core.otlp.wire import WireError, fields
from tss.edges.http.posting import Answer, document_of, is_grpc, is_json, is_page, is_text, plain_message, stranger

PROTOBUF = "application/x-protobuf"
WHOSE = "an OTLP server"

_STATUS_MESSAGE = 2 << 3 | 2  # google.rpc.Status: string message = 2
_MOST = 2**63  # one more than an int64 can be


@attrs.frozen
class Response:
    """A signal's Export...ServiceResponse. Its only field is the partial success, which counts what was rejected."""

    message: Any  # the protobuf class
    rejected: str  # the field's name
    json_rejected: str  # and its name in JSON


TRACES = Response(ExportTraceServiceResponse, "rejected_spans", "rejectedSpans")
METRICS = Response(ExportMetricsServiceResponse, "rejected_data_points", "rejectedDataPoints")


def success(answer: Answer, response: Response) -> Accepted | Misconfigured:
    """What a 2xx says. One that no OTLP server sends is no success: a wrong port would else eat everything in silence.

    Taken are: an empty body; protobuf that can be read; a JSON object of this response's fields; plain words, as some
    proxies answer; and what was compressed unasked.
    """
    if is_grpc(answer):
        return stranger(answer, WHOSE)
    if answer.says_nothing or answer.is_compressed:
        return Accepted()
    # Protobuf first: a partial success of 91 bytes begins with a line feed and a bracket.
    if not is_json(answer.media_type) and not is_text(answer.media_type):
        found = _of_protobuf(answer, response)
        if found is not None:
            return found
    if is_page(answer):
        return stranger(answer, WHOSE)
    document = document_of(answer)
    if document is not None:
        return _of_json(answer, document, response)
    words = is_text(answer.media_type) or not answer.media_type
    return Accepted() if words else stranger(answer, WHOSE)


def _of_protobuf(answer: Answer, response: Response) -> Accepted | None:
    try:
        partial_success = response.message.FromString(answer.body).partial_success
    except DecodeError:
        return None
    rejected = getattr(partial_success, response.rejected)
    return Accepted(max(0, rejected), plain_message(partial_success.error_message.encode()))


def _of_json(answer: Answer, found: object, response: Response) -> Accepted | Misconfigured:
    """Proto3's JSON: camel case or the names of the fields, null is absent."""
    if not isinstance(found, dict) or found.keys() - {"partialSuccess", "partial_success"}:
        return stranger(answer, WHOSE)
    told = found.get("partialSuccess") or found.get("partial_success") or {}
    if not isinstance(told, dict):
        return stranger(answer, WHOSE)
    try:
        rejected = _whole(told.get(response.json_rejected) or told.get(response.rejected) or 0)
    except (ValueError, TypeError, OverflowError):
        return stranger(answer, WHOSE)
    text = str(told.get("errorMessage") or told.get("error_message") or "")
    return Accepted(max(0, rejected), plain_message(text.encode("utf-8", "replace")))


def _whole(value: Any) -> int:
    """An int64 of proto3's JSON: a number or a text, either of them also with an exponent. Raises for what is none."""
    try:
        number = int(value)
    except ValueError:
        number = int(float(value))
    if not -_MOST <= number < _MOST:
        raise OverflowError(f"{number} is no int64")
    return number


def message(answer: Answer) -> str:
    """The message of the google.rpc.Status that the specification asks for, or whatever stands there instead."""
    if answer.media_type != PROTOBUF:
        return plain_message(answer.body)
    try:
        for tag, _, start, stop in fields(answer.body, 0, len(answer.body)):
            if tag == _STATUS_MESSAGE:
                return plain_message(answer.body[start:stop])
    except WireError:
        pass
    return ""
