"""Conditions asked of pkg/ottl and of ours: each span's answer, or that the condition is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

from tests.core.ottl_cases import otlp_json, ours, questions
from tests.oracles import otel

Json = Any
WORDS = {"true": "True", "false": "False"}


def conditions(rng: Random, count: int) -> Iterator[str]:
    """What differs, one text for each condition."""
    asked = list(questions(rng, count))
    theirs = otel.conditions(
        {"context": context.value, "condition": text, "traces": otlp_json(trace)} for text, context, trace in asked
    )
    for (text, context, trace), answer in zip(asked, theirs, strict=True):
        its, mine = _of(answer), ours(text, context, trace)
        # `otelcol.client` is of the request by which a span came to the Collector: no record says it, so we refuse it.
        if mine != its and not (mine is None and "otelcol." in text):
            told = {"context": context.value, "condition": text, "tss": mine, "the Collector": its}
            why = answer.get("refused") or answer.get("results")
            yield f"{json.dumps(told, ensure_ascii=False)}\n  it said: {why}\n  of: {json.dumps(otlp_json(trace), ensure_ascii=False)}"


def _of(answer: Mapping[str, Json]) -> list[str] | None:
    """Its answers in our words; None if it refuses the condition."""
    assert "error" not in answer, answer
    if "refused" in answer:
        return None
    return [WORDS.get(result, "ERROR") for result in answer.get("results") or ()]
