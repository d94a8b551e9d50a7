"""What a replica tells of a trace is true, or it says that it does not know: also after restarts, of parked and late traces."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import pytest

from tests.core.spans import fragment, record, trace_id
from tests.tasks.parking import Owner, World
from tss.core.decision import Verdict
from tss.core.decision_log import Entry
from tss.core.otlp import Records
from tss.core.policies.policy import ABSTAIN, Policy
from tss.core.trace import Trace
from tss.state.traces import TraceLookup

END = 5_000.0


class Failed(Policy):
    """Keeps the traces with an error: a part of a trace may have none."""

    def __init__(self) -> None:
        super().__init__("failed", says=1.0)

    def vote(self, trace: Trace) -> float:
        return 1.0 if trace.errors else ABSTAIN


@attrs.frozen
class Piece:
    """One fragment of a trace."""

    trace: int
    at: float
    number: int
    fails: bool

    @property
    def is_root(self) -> bool:
        return self.number == 0


def pieces(chance: random.Random, traces: int) -> list[Piece]:
    """Short and long traces, some without a root, some with late spans; an error is mostly in one span alone."""
    found = []
    for trace in range(traces):
        begins, lasts = chance.uniform(0, 900), chance.choice((1, 20, 50, 100, 300))
        times = [begins, *(begins + chance.uniform(0, lasts) for _ in range(chance.randint(0, 4))), begins + lasts]
        if chance.random() < 0.3:
            times += [begins + lasts + chance.uniform(31, 400) for _ in range(chance.randint(1, 3))]
        failing = chance.choice([-1, 0, chance.randrange(len(times)), len(times) - 1])
        root = chance.choice((0, len(times) - 1, -1)) if len(times) < 4 else len(times) // 2
        for place, at in enumerate(times):
            number = 0 if place == root else place + 1
            found.append(Piece(trace, at, number, place == failing))
    return sorted(found, key=lambda each: each.at)


def topic(of: Sequence[Piece], traces: int) -> list[Records]:
    records = [
        record(
            offset, each.at,
            attrs.evolve(
                fragment(each.trace, [each.number], root=each.is_root, parents=[] if each.is_root else [0], errors=int(each.fails)),
                start_ns=round(each.at * 1e9), end_ns=round(each.at * 1e9) + 1,
            ),
        )
        for offset, each in enumerate(of)
    ]  # fmt: skip
    last = len(records)
    return [*records, record(last, END, fragment(traces, root=True))]


def told(owner: Owner, trace: int) -> Mapping[str, Any]:
    lookup = TraceLookup("one", lambda: 0.0)
    lookup.begin(owner.buffer, owner.assignments)
    return lookup.look(trace_id(trace))


async def without_parking(owner: Owner) -> None:
    await owner.decide()
    await owner.commit()


@pytest.mark.parametrize("parks", [True, False])
@pytest.mark.parametrize("seed", range(9))
async def test_an_answer_is_true_or_unknown(seed: int, parks: bool) -> None:
    chance, traces = random.Random(seed), 60
    world = World(topic(pieces(chance, traces), traces))
    verdicts: dict[bytes, Entry] = {}  # of those who decided: the first one counts
    certain = unknown = 0

    def note(owner: Owner) -> None:
        for trace in range(traces):
            for each in reversed(owner.buffer.log.find(trace_id(trace))):
                if not each.is_replayed and each.votes:
                    verdicts.setdefault(each.trace_id, each)

    stops = sorted(chance.sample(range(len(world.records)), 3))
    for stop in [*stops, len(world.records)]:
        owner = Owner(world, policy=Failed(), turn_after_secs=60 if parks else 10**6)
        if not parks:
            owner.partition.shelf = None
        while owner.position < stop:
            owner.read(min(stop, owner.position + 3))
            await (owner.turn() if parks else without_parking(owner))
            note(owner)
            for trace in range(traces):
                answer = told(owner, trace)
                for decision in answer.get("decisions", ()):
                    first = verdicts.get(trace_id(trace))
                    if decision["origin"] != "replayed":
                        continue
                    certain += 1
                    assert first is not None, (trace, answer)
                    assert decision["verdict"] == first.decision.verdict.value, (trace, answer, first)
                    assert decision["spans"] == first.spans, (trace, answer, first)
                unknown += answer["state"] == "unknown"
        if chance.random() < 0.5:
            await owner.leave()
    assert bool(certain) is not parks, "records that were parked are not read again: what is left is not the trace"
    assert unknown
    assert {each.decision.verdict for each in verdicts.values()} == {Verdict.KEEP, Verdict.DROP}
