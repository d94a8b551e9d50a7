"""What a Datadog agent's or intake's answer says, to traces and to statistics alike."""

from __future__ import annotations

from tss.core.delivery import Accepted, Misconfigured
from tss.edges.http.posting import Answer, document_of, is_grpc, is_page, stranger

WHOSE = "Datadog"


def taken_by_datadog(answer: Answer) -> Accepted | Misconfigured:
    """What a 2xx says. One that neither an agent nor an intake sends is no success: a web page, gRPC, another service's JSON.

    An agent answers traces with its sampling rates, statistics with the word OK, and so do others that stand in for one. What the
    trace intake answers is documented nowhere. Datadog's other intakes answer with one of the three below.
    """
    if is_grpc(answer):
        return stranger(answer, WHOSE)
    if answer.says_nothing or answer.is_compressed:
        return Accepted()
    if is_page(answer):
        return stranger(answer, WHOSE)
    document = document_of(answer)
    if document is None or document == "OK":  # plain words; some that stand in for an agent say application/json
        return Accepted()
    if isinstance(document, dict) and (
        "rate_by_service" in document or document in ({}, {"status": "ok"}, {"errors": []})
    ):
        return Accepted()
    return stranger(answer, WHOSE)
