"""Random cases: a configuration, and traces near its limits. From a seed and a number always the same one."""

from __future__ import annotations

from tests.oracles import policies
from tests.oracles.chance import Chance
from tests.oracles.otel import Case
from tests.oracles.traces import Traces
from tests.oracles.words import Hints

TRACES = 10  # of a case
WRONG = 0.15  # this part of the configurations is changed by one mistake


def case(seed: str, number: int) -> Case:
    """The case of this number."""
    chance, hints = Chance(f"{seed}/{number}"), Hints()
    body = policies.section(chance, hints)
    gates = [gate for gate in ("usetracestate", "recordpolicy") if chance.maybe(0.4)]
    if chance.maybe(0.03):
        gates.append(
            chance.one(
                [
                    "metricstatcountspanssampled",
                    "no_such",
                    "processor.tailsamplingprocessor.usetracestate",
                    "UseTraceState",
                    "",
                ]
            )
        )
    requests = Traces(chance, hints).requests(TRACES)
    while body and chance.maybe(WRONG):
        policies.wrong(body, chance)
    return Case(id=f"{seed}/{number}", config=body, gates=gates, traces=requests)


def cases(seed: str, count: int) -> list[Case]:
    """The first ones of a seed."""
    return [case(seed, number) for number in range(count)]
