"""The Collector's own `tail_sampling`, its language of conditions and its thresholds, run as a library: a judge of ours.

A small Go program around contrib v0.161.0, with a clock that jumps when everybody waits: 30 s of decision_wait cost no time.
Built once with Go into .cache/, by the hash of its source: when first asked, or by `python -m tests.oracles.otel`.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypedDict

from toolchain.programs import built

VERSION = "0.161.0"
JUDGE_SECS = 600

Json = Any


class Case(TypedDict):
    """What is asked: a line for the oracle, and for `python -m tests.policies`."""

    id: str
    config: dict[str, Json]  # the body of a Collector's `tail_sampling` section
    gates: list[str]  # short names: "usetracestate", "recordpolicy"
    traces: list[dict[str, Json]]  # OTLP JSON requests, in the order of their arrival


class Decision(TypedDict, total=False):
    """The verdict on a trace: "sampled", "not_sampled" or "dropped"; `policy` is the one that sampled or dropped it."""

    trace_id: str
    decision: str
    policy: str


class Answer(TypedDict, total=False):
    """Either `decisions`, by trace id, or why there are none.

    `error`: the config is refused. `crash`, `hang`: the Collector would end, or wait for ever.
    """

    id: str
    decisions: list[Decision]
    states: dict[str, dict[str, str]]
    error: str
    crash: str
    hang: bool


class Refused(RuntimeError):
    """The program did not answer: the message says why."""


def verdicts(cases: Iterable[Case], *, emit: bool = False) -> list[Answer]:
    """What the processor decides on each case. With `emit` also `states`: the tracestates it sends on, by trace and span id."""
    answers: list[Answer] = _ask("verdicts", [dict(case) | {"emit": emit} for case in cases])
    unread = [answer["unread"] for answer in answers if "unread" in answer]  # type: ignore[typeddict-item]
    if unread:
        raise Refused(f"a request is no OTLP JSON: {unread[0]}")
    return answers


def conditions(questions: Iterable[dict[str, Json]]) -> list[dict[str, Json]]:
    """For each `{"context": "span"|"spanevent", "condition", "traces": <OTLP JSON>}` its `results`, one for each span or event.

    "true", "false" or "error: ..."; in their place `refused` with the parser's words.
    """
    return _ask("conditions", questions)


def thresholds(operations: Iterable[dict[str, Json]]) -> list[dict[str, Json]]:
    """Answers of pkg/sampling, one for each operation; `error` where it refuses.

    `{"op": "threshold", "probability" [, "precision"] | "th"}`: `th`, `probability`.
    `{"op": "randomness", "trace_id" | "rv"}`: `rv`. `{"op": "decide", "th", "trace_id" | "rv"}`: `sampled`.
    `{"op": "state", "state"}`: `th`, `probability` and `rv` that it has, and `state` as it is written again.
    `{"op": "update", "state", "th"}`: the same after a sampler at `th`; `refused` where that would lower a threshold.
    """
    return _ask("thresholds", operations)


def functions() -> list[str]:
    """The names of the functions that a span's condition may call."""
    found: list[str] = _ask("functions", [])[0]
    return found


def _ask(command: str, questions: Iterable[Json]) -> list[Json]:
    asked = [json.dumps(question, separators=(",", ":")) for question in questions]
    answer = subprocess.run(
        [str(binary()), command],
        input="".join(f"{line}\n" for line in asked).encode(),
        capture_output=True,
        check=False,
        timeout=JUDGE_SECS,
    )
    if answer.returncode:
        raise Refused(f"{command}: {answer.stderr.decode(errors='replace').strip()}")
    # Not splitlines: a text may hold what Python takes for the end of a line.
    return _as_many([json.loads(line) for line in answer.stdout.split(b"\n") if line], asked or [""])


def _as_many(answers: list[Json], asked: Sequence[str]) -> list[Json]:
    if len(answers) != len(asked):
        raise Refused(f"{len(answers)} answers to {len(asked)} questions")
    return answers


def binary() -> Path:
    """It, built if it is not there yet. Raises programs.Unbuilt, and toolchain.pip.Failed without Go."""
    return built(Path(__file__).parent, "otel")
