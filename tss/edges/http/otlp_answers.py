"""How an OTLP server answers, to traces and to metrics.

Source: opentelemetry-proto, `docs/specification.md`, "OTLP/HTTP Response".
"""

from __future__ import annotations

from functools import partial
from typing import Any

import attrs
from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from tss.core.delivery import Accepted
from tss.core.otlp.wire import WireError, fields
from tss.edges.http.answers import Answer, AnswerRules, document_of, is_json, is_page, is_text, plain_message

PROTOBUF = "application/x-protobuf"

_STATUS_MESSAGE = 2 << 3 | 2  # google.rpc.Status: string message = 2
_INT64_END = 2**63


@attrs.frozen
class OtlpResponse:
    """A signal's Export...ServiceResponse. Its only field is the partial success, which counts the rejected items."""

    message: Any  # the protobuf class
    rejected: str  # the field's name
    json_rejected: str  # its name in JSON


def _read(answer: Answer, response: OtlpResponse) -> Accepted | None:
    """Accepts protobuf that can be read, a JSON object of this response's fields, and plain words (some proxies send them)."""
    # Protobuf first: a partial success of 91 bytes begins with a line feed and a bracket.
    if not is_json(answer.media_type) and not is_text(answer.media_type):
        found = _of_protobuf(answer, response)
        if found is not None:
            return found
    if is_page(answer):
        return None
    document = document_of(answer)
    if document is not None:
        return _of_json(document, response)
    return Accepted() if is_text(answer.media_type) or not answer.media_type else None


def _of_protobuf(answer: Answer, response: OtlpResponse) -> Accepted | None:
    try:
        partial_success = response.message.FromString(answer.body).partial_success
    except DecodeError:
        return None
    rejected = getattr(partial_success, response.rejected)
    return Accepted(max(0, rejected), plain_message(partial_success.error_message.encode()))


def _of_json(document: object, response: OtlpResponse) -> Accepted | None:
    """Proto3's JSON: keys in camel case or with the fields' own names; null means absent."""
    if not isinstance(document, dict) or document.keys() - {"partialSuccess", "partial_success"}:
        return None
    success = document.get("partialSuccess") or document.get("partial_success") or {}
    if not isinstance(success, dict):
        return None
    try:
        rejected = _int64(success.get(response.json_rejected) or success.get(response.rejected) or 0)
    except (ValueError, TypeError, OverflowError):
        return None
    text = str(success.get("errorMessage") or success.get("error_message") or "")
    return Accepted(max(0, rejected), plain_message(text.encode("utf-8", "replace")))


def _int64(value: Any) -> int:
    """An int64 of proto3's JSON: a number or a string, either with or without an exponent. Raises for anything else."""
    try:
        number = int(value)
    except ValueError:
        number = int(float(value))
    if not -_INT64_END <= number < _INT64_END:
        raise OverflowError(f"{number} is no int64")
    return number


def message(answer: Answer) -> str:
    """The message of the google.rpc.Status that the specification asks for, or the text that is there instead."""
    if answer.media_type != PROTOBUF:
        return plain_message(answer.body)
    try:
        for tag, _, start, stop in fields(answer.body, 0, len(answer.body)):
            if tag == _STATUS_MESSAGE:
                return plain_message(answer.body[start:stop])
    except WireError:
        pass
    return ""


def _rules(response: OtlpResponse, credentials: str, address: str) -> AnswerRules:
    return AnswerRules(
        server="an OTLP server",
        # The specification has only these tried again. Other statuses are tried again here too, a few times: a sick server may
        # send any status, and only tries show whether the data is wrong (core/evidence.py).
        again=frozenset((429, 502, 503, 504)),
        # A wrong token, path or compression says nothing about the data, so the data must not be dead-lettered.
        misconfigured=frozenset((401, 403, 404, 405, 407, 415)),
        read=partial(_read, response=response),
        message=message,
        credentials=credentials,
        address=address,
    )


TRACES = _rules(
    OtlpResponse(ExportTraceServiceResponse, "rejected_spans", "rejectedSpans"),
    "the exporter's bearerToken and headers",
    "the exporter's endpoint, to which the daemon adds /v1/traces",
)
METRICS = _rules(
    OtlpResponse(ExportMetricsServiceResponse, "rejected_data_points", "rejectedDataPoints"),
    "spanMetrics.otlpHeaders",
    "spanMetrics.otlpEndpoint, to which the daemon adds /v1/metrics",
)
