"""What was decided on a case, in few letters: for golden files, for comparing, and for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tests.oracles.otel import Answer, Case

Json = Any
REFUSED, CRASHED, HUNG = "refused", "crashes", "hangs"
_LETTERS = {"sampled": "s", "not_sampled": "n", "dropped": "d"}


def trace_ids(case: Case) -> list[str]:
    """In the order of their first spans."""
    return list(dict.fromkeys(span["traceId"] for request in case["traces"] for span in spans_of(request)))


def spans_of(request: Json) -> Iterator[Json]:
    """All spans of a request."""
    for resource in request["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            yield from scope["spans"]


def verdicts(answer: Mapping[str, Json]) -> dict[str, str]:
    """By trace id "sampled", "not_sampled" or "dropped", with " by" and the policy where it is told. Of the empty id: why there
    are no verdicts, as one word."""
    if answer.get("error"):
        return {"": REFUSED}
    if answer.get("crash"):
        return {"": CRASHED}
    if answer.get("hang"):
        return {"": HUNG}
    return {one["trace_id"]: _told(one) for one in answer.get("decisions") or ()}


def _told(decision: Mapping[str, str]) -> str:
    policy = decision.get("policy")
    return f"{decision['decision']} by {policy}" if policy else decision["decision"]


def line(case: Case, answer: Answer) -> str:
    """The verdicts in the order of the case's traces: "s" is sampled, "n" not sampled, "d" dropped, "-" is none; then the
    policy, where it is told."""
    found = verdicts(answer)
    if "" in found:
        return found[""]
    return " ".join(_short(found.get(id, "")) for id in trace_ids(case))


def _short(told: str) -> str:
    decision, _, policy = told.partition(" by ")
    return f"{_LETTERS.get(decision, '-')}{policy}"


def read(case: Case, told: str) -> dict[str, str]:
    """The verdicts of a case from its `line`."""
    if told in {REFUSED, CRASHED, HUNG}:
        return {"": told}
    words = {letter: word for word, letter in _LETTERS.items()}
    pairs = zip(trace_ids(case), told.split(" "), strict=True)
    return {id: words[short[0]] + (f" by {short[1:]}" if short[1:] else "") for id, short in pairs}
