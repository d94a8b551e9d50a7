"""How a Datadog agent or intake answers, to traces and to APM statistics."""

from __future__ import annotations

import attrs

from tss.core.delivery import Accepted
from tss.edges.http.answers import Answer, AnswerRules, document_of, is_page
from tss.edges.http.otlp_answers import message


def _read(answer: Answer) -> Accepted | None:
    """An agent answers traces with its sampling rates and statistics with the word OK; so do servers that stand in for one.

    The trace intake's answers are not documented. Datadog's other intakes send one of the three documents below.
    """
    if is_page(answer):
        return None
    document = document_of(answer)
    if document is None or document == "OK":  # plain words; some stand-ins for an agent send "OK" as application/json
        return Accepted()
    if isinstance(document, dict) and (
        "rate_by_service" in document or document in ({}, {"status": "ok"}, {"errors": []})
    ):
        return Accepted()
    return None


INTAKE = AnswerRules(
    server="Datadog",
    again=frozenset((408, 429, 502, 503, 504)),
    # 415 comes from something in between that takes no msgpack or zstd. It says nothing about the data.
    misconfigured=frozenset((401, 402, 403, 404, 405, 407, 415)),
    read=_read,
    message=message,
    credentials="the exporter's apiKey and site",
    address="the exporter's site and intakeUrl",
)
AGENT = attrs.evolve(
    INTAKE, credentials="the agent's own API key and site", address="the exporter's agentUrl and traceApi"
)
