"""A policy that matches nothing for a day is told once a day, until it matches or is changed."""

from __future__ import annotations

import json
from collections.abc import Mapping

import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from tests.core.spans import fragment, lone, trace_id
from tests.rulesets import rulesets
from tss.core.combining import Sampler
from tss.core.decision import Reason
from tss.core.idle_policies import IDLE_SECS, IdlePolicies, Votes
from tss.core.names import Names
from tss.core.partition import Partition
from tss.core.policies.errors import Errors
from tss.core.policies.policy import ABSTAIN, FAILED, Policy
from tss.core.policies.rest import Rest
from tss.core.ruleset import Ruleset, fingerprint_of
from tss.core.tally import Tally
from tss.core.trace import Trace
from tss.tasks import idle_policies

HOUR = 3600.0


class Fixed(Policy):
    """Votes the same on each trace."""

    def __init__(self, name: str, vote: float) -> None:
        super().__init__(name)
        self._vote = vote

    def vote(self, trace: Trace) -> float:
        return self._vote


def ruleset(written: Mapping[str, object], **keys: object) -> Ruleset:
    """With policies that are written so, and those of the keys."""
    text = json.dumps({"policies": [{"name": name, "when": when} for name, when in written.items()], **keys})
    policies = [*(Fixed(name, ABSTAIN) for name in written), Errors(1.0), Rest(0.1)]
    return Ruleset(fingerprint_of(text), text, Sampler(policies))


def test_only_who_is_asked_for_a_day_and_matches_nothing() -> None:
    idle, told = IdlePolicies(), {}
    rules = ruleset(dict.fromkeys(["never", "often", "unasked", "until noon"], ""))
    for hour in range(60):
        votes = {
            "never": Votes(hour, 0),
            "often": Votes(hour, hour),
            "until noon": Votes(hour, min(hour, 12)),
            "default": Votes(hour, hour),
        }
        told[hour] = idle.look(rules, votes, hour * HOUR)
    assert {hour: names for hour, names in told.items() if names} == {24: ["never"], 36: ["until noon"], 48: ["never"]}
    assert idle.idle == ["never", "until noon"]
    assert idle.look(rules, {"never": Votes(61, 1), "until noon": Votes(60, 12)}, 59.5 * HOUR) == []
    assert idle.idle == ["until noon"]


def test_new_and_changed_policies_begin_anew_and_the_others_go_on() -> None:
    idle = IdlePolicies()

    def look(rules: Ruleset, hour: int) -> list[str]:
        votes = {name: Votes(hour, 0) for name in ("same", "changed", "gone", "new", "errors")}
        return idle.look(rules, votes, hour * HOUR)

    first = ruleset({"same": 1, "changed": 1, "gone": 1}, errorSampleRate=1.0)
    second = ruleset({"new": 1, "same": 1, "changed": 2}, errorSampleRate=1.0)
    third = ruleset({"new": 1, "same": 1, "changed": 2}, errorSampleRate=0.5)
    assert look(first, 0) == look(second, 12) == []
    assert look(second, 24) == ["same", "errors"]
    assert look(second, 36) == ["new", "changed"]
    assert look(third, 37) == [] and idle.idle == ["changed", "new", "same"], "errors have another rate"
    assert look(ruleset({}), 38) == [] and idle.idle == []


async def test_it_is_in_the_log_once_a_day(autojump_clock: MockClock) -> None:
    sampler = Sampler([Fixed("never", ABSTAIN), Fixed("fails", FAILED), Rest(1.0)])
    idle, tally = IdlePolicies(), Tally(Names())

    async def decide() -> None:
        trace = Trace(trace_id(1), Partition(0, 0, 0), 0)
        trace.absorb(lone(fragment(1)), 0)
        trace.reason = Reason.INACTIVE
        while True:
            sampler.decide(trace)
            tally.take_votes(sampler.policies)
            await trio.sleep(HOUR)

    with capture_logs() as logs, trio.move_on_after(2.5 * IDLE_SECS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(decide)
            nursery.start_soon(idle_policies.run, idle, rulesets(sampler), tally)
    assert [each["policies"] for each in logs] == [["never", "fails"]] * 2
    assert idle.idle == ["fails", "never"]
