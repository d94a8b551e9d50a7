"""`python -m tests.policies [--pieces SEED] < cases.jsonl`: the verdicts of a Collector's section, for checks from outside.

A line is `{"id", "config": <body of a tail_sampling section>, "gates": [...], "as": "0.161", "traces": [<OTLP JSON>, ...]}`; `gates` and
`as` may be absent. The answer to it is `{"id", "decisions": [{"trace_id", "decision", "policy"}]}` with a decision for each trace, in
the order in which the traces were met, or `{"id", "error"}` for a section that is refused. A decision is sampled, not_sampled or
dropped; a trace that is not sampled has the policy "".

With `--pieces`, each trace is first cut into records of 1 to 3 spans, with its resource before or after its spans on the wire. That
must change nothing.

The traces take the daemon's own way: scanner, buffer, facts, sampler.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from random import Random
from typing import Any, TextIO

from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, TracesData

from tss.core.buffer import Buffer, Limits, Waits
from tss.core.collector import VERSIONS, Plan, WrongSection, read
from tss.core.combining import Sampler
from tss.core.decision import Decision
from tss.core.evaluation import evaluate
from tss.core.memory import Memory
from tss.core.otlp import Encoding, ScanError, Scanner
from tss.core.otlp.jsonform import read as read_json
from tss.core.otlp.wire import varint_bytes
from tss.core.partition import Partition

NOW_MS = 1_800_000_000_000
LATER_MS = NOW_MS + 10**12  # after every wait
PLENTY = 1 << 40

Wire = tuple[bytes, Encoding]


def answers(lines: Iterable[str], pieces: int | None = None) -> Iterator[dict[str, Any]]:
    """The answer to each line that is not empty."""
    for line in lines:
        if line.strip():
            yield answer(json.loads(line), pieces)


def answer(case: Mapping[str, Any], pieces: int | None = None) -> dict[str, Any]:
    """The answer to one case. ``pieces`` is the seed by which its traces are cut, None: they stay whole."""
    version = case.get("as", VERSIONS[0])
    if version not in VERSIONS:
        return {"id": case["id"], "error": f"as: found {version!r}; allowed: {', '.join(VERSIONS)}"}
    try:
        plan = read(case["config"], case.get("gates") or (), version)
    except WrongSection as refused:
        return {"id": case["id"], "error": str(refused)}
    requests = list(records_of(case.get("traces") or ()))
    records = requests if pieces is None else cut(requests, Random(f"{pieces} {case['id']}"))
    found = verdicts(plan, plan.sampler(), records)
    ids = found if pieces is None else [id for id in places(joined(requests)) if id in found]
    told = [{"trace_id": id.hex(), **_told(plan, found[id])} for id in ids]
    return {"id": case["id"], "decisions": told}


def records_of(traces: Iterable[Any]) -> Iterator[Wire]:
    """Each request as a record."""
    for each in traces:
        yield json.dumps(each).encode(), Encoding.OTLP_JSON


def verdicts(plan: Plan, sampler: Sampler, records: Iterable[Wire]) -> dict[bytes, Decision]:
    """The decision about each trace in these records, in the order in which the traces were met."""
    scanner, home = Scanner(sampler.program), Partition(0, 0, 10**9)
    buffer = Buffer(
        Limits(PLENTY, PLENTY, PLENTY, PLENTY, plan.max_trace_bytes),
        Waits(PLENTY, PLENTY, PLENTY, plan.decision_wait_ms, plan.root_wait_ms),
        Memory(),
        program=sampler.program,
    )
    dead_letters: list[ScanError] = []  # spans without a valid id; no trace has them
    met: dict[bytes, None] = {}
    for offset, (value, encoding) in enumerate(records):
        record = scanner.records()
        record.add(0, offset, NOW_MS)
        scanner.read(value, encoding, record, dead_letters)
        met |= dict.fromkeys(trace_id for trace_id, _ in record.pieces(0) if trace_id not in met)
        buffer.add(home, record, NOW_MS)
    buffer.reach(home, LATER_MS)
    found = evaluate(buffer.take(), sampler, buffer)
    decided = {trace.trace_id: trace.decision for trace in (*found.kept, *found.ended) if trace.decision is not None}
    return {trace_id: decided[trace_id] for trace_id in met}


def _told(plan: Plan, decision: Decision) -> dict[str, str]:
    """A decision in the Collector's words."""
    if decision.keeps:
        return {"decision": "sampled", "policy": decision.policy}
    if any(policy.type == "drop" and policy.name == decision.policy for policy in plan.section.policies):
        return {"decision": "dropped", "policy": decision.policy}
    return {"decision": "not_sampled", "policy": ""}


# ---- pieces


def joined(requests: Iterable[Wire]) -> TracesData:
    """All requests as one."""
    data = TracesData()
    for request, _ in requests:
        data.MergeFromString(read_json(request))
    return data


def places(data: TracesData) -> dict[bytes, list[tuple[int, int, int]]]:
    """The spans of each trace: the numbers of the resource, of the scope in it, and of the span in that."""
    spans: dict[bytes, list[tuple[int, int, int]]] = {}
    for group, resource in enumerate(data.resource_spans):
        for place, scope in enumerate(resource.scope_spans):
            for number, span in enumerate(scope.spans):
                spans.setdefault(span.trace_id, []).append((group, place, number))
    return spans


def cut(requests: Iterable[Wire], chance: Random) -> Iterator[Wire]:
    """The same spans as many small records. Those of one trace keep their order."""
    data = joined(requests)
    waiting = list(places(data).values())
    while waiting:
        trace = chance.choice(waiting)
        size = chance.randint(1, 3)
        yield piece(data, trace[:size], chance), Encoding.OTLP_PROTO
        del trace[:size]
        if not trace:
            waiting.remove(trace)


def piece(data: TracesData, spans: Iterable[tuple[int, int, int]], chance: Random) -> bytes:
    """A serialized TracesData with these spans. Each resource and scope comes before or after its spans."""
    made = b""
    at: tuple[int, int] | None = None
    group = ResourceSpans()
    for resource, scope, number in spans:
        source = data.resource_spans[resource]
        if at is None or at[0] != resource:
            made += b"" if at is None else _written(group, chance)
            group = ResourceSpans(resource=source.resource, schema_url=source.schema_url)
            at = None
        if at is None or at[1] != scope:
            within = source.scope_spans[scope]
            group.scope_spans.add(schema_url=within.schema_url).scope.CopyFrom(within.scope)
        at = resource, scope
        group.scope_spans[-1].spans.append(source.scope_spans[scope].spans[number])
    return made + _written(group, chance)


def _written(group: ResourceSpans, chance: Random) -> bytes:
    """A field `resource_spans` of a TracesData, with its parts in any order."""
    scopes = []
    for within in group.scope_spans:
        parts = [
            _field(1, within.scope.SerializeToString()),
            b"".join(_field(2, each.SerializeToString()) for each in within.spans),
        ]
        chance.shuffle(parts)
        scopes.append(_field(2, b"".join(parts) + _field(3, within.schema_url.encode())))
    parts = [_field(1, group.resource.SerializeToString()), b"".join(scopes)]
    chance.shuffle(parts)
    return _field(1, b"".join(parts) + _field(3, group.schema_url.encode()))


def _field(number: int, content: bytes) -> bytes:
    return varint_bytes(number << 3 | 2) + varint_bytes(len(content)) + content


def main(arguments: list[str], source: TextIO = sys.stdin) -> None:
    """Print the answers."""
    parser = argparse.ArgumentParser(prog="python -m tests.policies", description=__doc__)
    parser.add_argument("--pieces", type=int, metavar="SEED", help="cut each trace into records of 1 to 3 spans")
    options = parser.parse_args(arguments)
    for each in answers(source, options.pieces):
        print(json.dumps(each, separators=(",", ":")), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
