"""The Datadog agent's own Go modules as a judge of ours: what it makes of OTLP spans, what it reads in our bytes.

Built once with Go into .cache/, by the hash of its source: when first asked, or by `python -m tests.real.oracle`.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from toolchain.programs import built

JUDGE_SECS = 120

Json = Any


class NoOracle(RuntimeError):
    """It does not take these bytes: the message says why."""


def spans(otlp: bytes, *, top_level_by_kind: bool = False) -> list[dict[str, Json]]:
    """TracesData to Datadog spans by the agent's own transform, in their order, in the words of v0.4.

    Naming is version 2, as the newest agent's; `_top_level` is set over all spans of a trace id.
    """
    found = _ask("spans", otlp, _flags(top_level_by_kind=top_level_by_kind))
    return [_with_floats(span) for span in found]


def processed(v04: bytes, *, env: str = "none", obfuscate: bool = False) -> list[dict[str, Json]]:
    """A v0.4 body through the whole agent (normalised, obfuscated, truncated, marked): the payloads it would send on.

    Without `obfuscate` only what its library cannot but do: statements, resources of redis, users in URLs.
    """
    flags = _flags(obfuscate=obfuscate)
    return [_chunks(payload) for payload in _ask("processed", v04, [*flags, "-env", env])]


def received(otlp: bytes, *, hostname: str = "", env: str = "none") -> list[dict[str, Json]]:
    """TracesData into the agent's OTLP receiver and through the whole agent: the payloads it would send on.

    One for each resource, with the hostname, container and language that the agent finds in it.
    """
    return [_chunks(payload) for payload in _ask("received", otlp, ["-hostname", hostname, "-env", env])]


def agent_payload(body: bytes) -> dict[str, Json]:
    """The body of `/api/v0.2/traces`, decompressed."""
    found: dict[str, Json] = _ask("traces", body)
    for payload in found["tracer_payloads"]:
        _chunks(payload)
    return found


def v04(body: bytes) -> list[list[dict[str, Json]]]:
    """The traces of a v0.4 body, as lists of spans."""
    return [[_with_floats(span) for span in trace] for trace in _ask("v04", body)]


def v07(body: bytes) -> dict[str, Json]:
    """The tracer's payload of a v0.7 body."""
    return _chunks(_ask("v07", body))


def stats(body: bytes) -> dict[str, Json]:
    """A StatsPayload (the body of `/api/v0.2/stats`) by its msgpack names.

    `OkSummary` and `ErrorSummary` are what sketches-go reads in them: count, min, max, p50, p75, p90, p95, p99.
    """
    found: dict[str, Json] = _ask("stats", body)
    return found


def client_stats(body: bytes) -> dict[str, Json]:
    """A ClientStatsPayload (the body of `/v0.6/stats`), as in `stats`."""
    found: dict[str, Json] = _ask("clientstats", body)
    return found


def concentrate(
    otlp: bytes, *, hostname: str = "", env: str = "none", top_level_by_kind: bool = False, obfuscate: bool = False
) -> dict[str, Json]:
    """TracesData through the agent's concentrator, all buckets flushed, as in `stats`.

    Buckets of 10 s, statistics by span kind, the agent's own peer tags. No span is late; one that ends after this very
    moment counts as now. Fractions that come of `_sample_rate` are rounded by chance, in the agent too.
    """
    flags = _flags(top_level_by_kind=top_level_by_kind, obfuscate=obfuscate)
    found: dict[str, Json] = _ask("concentrate", otlp, [*flags, "-hostname", hostname, "-env", env])
    return found


def tables(*concepts: str) -> dict[str, Json]:
    """What the agent maps by: `peer_tags` (in its order), `renamed` attributes, types of `databases`, and for each
    concept of `semantics/mappings.json` that is asked for the attributes it is read from, with their types."""
    found: dict[str, Json] = _ask("tables", "\n".join(concepts).encode())
    return found


def peer_tags() -> list[str]:
    """The attributes that the agent takes for peer tags, in its order."""
    found: list[str] = tables()["peer_tags"]
    return found


def _flags(**chosen: bool) -> list[str]:
    return [f"-{name.replace('_', '-')}" for name, on in chosen.items() if on]


def _ask(command: str, body: bytes, flags: list[str] | None = None) -> Json:
    call = [str(binary()), *(flags or []), command]
    answer = subprocess.run(call, input=body, capture_output=True, check=False, timeout=JUDGE_SECS)
    if answer.returncode:
        raise NoOracle(f"{command}: {answer.stderr.decode(errors='replace').strip()}")
    return json.loads(answer.stdout)


def _chunks(payload: dict[str, Json]) -> dict[str, Json]:
    for chunk in payload["chunks"]:
        chunk["spans"] = [_with_floats(span) for span in chunk["spans"]]
    return payload


def _with_floats(span: dict[str, Json]) -> dict[str, Json]:
    """JSON does not tell 1.0 from 1, nor has it infinity."""
    span["metrics"] = {key: float(value) for key, value in span["metrics"].items()}
    return span


def binary() -> Path:
    """It, built if it is not there yet. Raises programs.Unbuilt, and toolchain.pip.Failed without Go."""
    return built(Path(__file__).parent, "oracle")
