"""Which rules count when and in which order, what changes of them are, and what a forced decision says."""

from __future__ import annotations

import itertools
import json
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.spans import fragment, lone, message, record, span, trace_id, whole
from tests.core.test_force_matching import rule
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.combining import Sampler
from tss.core.decision import Decision, Reason, Verdict
from tss.core.errors import LawBroken
from tss.core.evaluation import evaluate
from tss.core.force import Action, Enforcer, Matcher, Op, Rule, Rulebook, Where
from tss.core.force.changes import Bounds, add, extend, living, replace, switch
from tss.core.force.document import draft, duration, expiry, shown, stored
from tss.core.force.errors import WrongRule
from tss.core.memory import Memory
from tss.core.partition import Partition
from tss.core.policies.policy import Policy
from tss.core.routing import Match, Router
from tss.core.trace import Trace

ANY = Matcher(Where.NAME, "", Op.EXISTS, value=True)
ERROR = Matcher(Where.STATUS, "", Op.EQ, "error")
BOUNDS = Bounds(60, 600, 5)


def trace_of(number: int, *, error: bool = False) -> Trace:
    """A closed trace of one span."""
    payload = message([span(number, 0, error=error)])
    part = fragment(number, root=True, payload=payload, errors=int(error))
    trace = Trace(part.trace_id, Partition(0, 0, 300_000), number)
    trace.home.ledger.read(number)
    trace.absorb(lone(part), 0)
    trace.hold(trace.home, number, lone(part), 0)
    trace.reason = Reason.ROOT_QUIET
    return trace


class Half(Policy):
    """Keeps half of all."""

    def vote(self, trace: Trace) -> float:
        return 0.5


def sampler(**matches: Match) -> Sampler:
    return Sampler([Half("half")], Router(matches) if matches else None)


# -- order and time


def test_priority_then_keep_then_age_then_id() -> None:
    low = rule(ANY, id="low", priority=-1)
    drop = rule(ANY, id="drop", action=Action.DROP, created=0)
    older, younger = rule(ANY, id="b", created=1), rule(ANY, id="a", created=2)
    same = rule(ANY, id="c", created=2)
    high = rule(ANY, id="high", priority=3, action=Action.DROP, created=9)
    wanted = [high, older, younger, same, drop, low]
    payload = message([span(1, 0)])
    for order in itertools.permutations(wanted):
        assert Enforcer(order).rules == wanted
    for place, first in enumerate(wanted):
        assert Enforcer(reversed(wanted[place:])).rule_of(whole(payload)) is first


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=6), st.lists(st.integers(0, 22), max_size=8))
def test_a_rule_counts_until_it_expires_and_while_it_is_enabled(ends: list[tuple[int, bool]], looks: list[int]) -> None:
    """Asked at rising times, as the book remembers when it has to look anew."""
    rules = [rule(ANY, id=str(place), expires=float(end), enabled=on) for place, (end, on) in enumerate(ends)]
    book = Rulebook(rules, 0)
    for now in sorted(looks):
        enforcer = book.active(now)
        wanted = {each.id for each in rules if each.enabled and now < each.expires}
        assert ({each.id for each in enforcer.rules} if enforcer else set()) == wanted
        assert {each.id for each in book.rules(now)} == {each.id for each in rules if now < each.expires}


def test_a_new_set_counts_at_once() -> None:
    book = Rulebook()
    assert book.is_empty and book.active(0) is None
    assert book.replace([rule(ANY)], 1)
    first = book.active(1)
    assert first is not None and book.active(2) is first  # made once, not for each batch
    assert not book.replace([rule(ANY)], 2)
    assert book.replace([rule(ERROR)], 3) and book.active(3) is not first
    assert book.replace([], 4) and book.is_empty


# -- decisions


@pytest.mark.parametrize(
    ("action", "verdict", "rate"), [(Action.KEEP, Verdict.KEEP, 1.0), (Action.DROP, Verdict.DROP, 0.0)]
)
def test_law_7_traces_like_it_are_all_kept_or_none(action: Action, verdict: Verdict, rate: float) -> None:
    enforcer = Enforcer([rule(ERROR, action=action, name="why")])
    for number in range(50):
        decision = enforcer.decide(trace_of(number, error=True), sampler())
        assert decision == Decision(verdict, "force:why", Reason.ROOT_QUIET, rate)


def test_what_no_rule_fits_is_left_to_the_policies() -> None:
    """Before them where one fits: of a batch each has the decision that it has alone."""
    enforcer = Enforcer([rule(ERROR, action=Action.DROP, name="why")])
    buffer, home = Buffer(Limits(1 << 30, 1000, 1000, 1000), Waits(1, 1, 1), Memory()), Partition(0, 0, 10**15)
    for number in range(60):
        payload = message([span(number, 0, error=number % 3 == 0)])
        part = fragment(number, root=True, payload=payload, errors=int(number % 3 == 0))
        buffer.add(home, record(number, 1, part), 10**15)
    buffer.add(home, record(60, 1000, fragment(60)), 10**15)  # closes the others
    batch = buffer.take()
    assert len(batch) == 60
    found = evaluate(batch, sampler(), buffer, enforcer)
    policies = {(each.policy, each.verdict): count for each, count in found.decided.items()}
    assert policies["force:why", Verdict.DROP] == 20
    assert policies["half", Verdict.KEEP] + policies["half", Verdict.DROP] == 40
    plain = sampler()
    for trace in batch:
        assert trace.errors or trace.decision == plain.decide(trace)


def test_exporters_can_take_what_rules_kept() -> None:
    ways = sampler(errors=Match(policies=("half",)), forced=Match(policies=("force",)), all=Match())
    decision = ways.forced(trace_of(1), "force:why", keep=True)
    assert decision.destinations == ("forced", "all")
    assert ways.forced(trace_of(1), "force:why", keep=False).destinations is None


def test_law_2_an_open_trace_is_not_forced() -> None:
    trace = trace_of(1)
    trace.reason = None
    with pytest.raises(LawBroken):
        sampler().forced(trace, "force:why", keep=True)


def test_a_trace_that_holds_nothing_fits_nothing() -> None:
    """It was decided and settled before this start."""
    trace = Trace(trace_id(1), Partition(0, 0, 300_000), 1)
    trace.reason = Reason.ROOT_QUIET
    assert Enforcer([rule(ANY)]).decide(trace, sampler()) is None


# -- changes and documents


def asked(**values: Any) -> Any:
    matchers = [{"on": "span", "key": "a", "op": "in", "value": [1, "b", 0.5, True]}]
    return {"name": "one", "action": "keep", "matchers": matchers} | values


@given(st.integers(0, 2_000_000_000_000), st.integers(1, 600_000))
def test_what_is_stored_is_what_is_read(created_ms: int, last_ms: int) -> None:
    made = add(draft(asked(priority=-5, enabled=False, description="\u00e4")), "1", BOUNDS, created_ms / 1000)({})["1"]
    made = attrs.evolve(made, expires=round(made.created + last_ms / 1000, 3))
    document = json.dumps(shown(made))
    found = stored(json.loads(document))
    assert attrs.evolve(found, created=0, expires=0) == attrs.evolve(made, created=0, expires=0)
    assert abs(found.created - made.created) < 0.001 and abs(found.expires - made.expires) < 0.001
    assert abs(expiry(document.encode()) - made.expires) < 0.001
    assert shown(found) == shown(made), "a replica that writes what it read must not move it"


@given(st.integers(1, 600), st.integers(1, 600), st.integers(0, 600))
def test_no_rule_outlasts_its_bound(first: int, more: int, passed: int) -> None:
    now = 1000
    rules = add(draft(asked(durationSecs=first)), "1", BOUNDS, now)({})
    now += passed
    assert ("1" in living(rules, now)) == (first > passed)
    if passed < first + more <= BOUNDS.max_secs + passed:
        assert extend("1", more, BOUNDS, now, None)(rules)["1"].expires == 1000 + first + more
    else:
        with pytest.raises(WrongRule) as refused:
            extend("1", more, BOUNDS, now, None)(rules)
        assert [*refused.value.fields] == ["durationSecs"]


def test_a_change_keeps_what_it_does_not_name() -> None:
    rules = add(draft(asked(durationSecs=30)), "1", BOUNDS, 100)({})
    rules = add(draft(asked(name="two")), "2", BOUNDS, 100)(rules)
    changed = replace(draft(asked(action="drop")), "1", BOUNDS, 110, 1)(rules)
    assert changed["1"] == attrs.evolve(rules["1"], action=Action.DROP, revision=2)
    assert switch("1", enabled=False, revision=2)(changed)["1"] == attrs.evolve(changed["1"], enabled=False, revision=3)
    assert changed["2"] is rules["2"]


def test_how_long_to_extend() -> None:
    assert duration({}) is None and duration({"durationSecs": 5}) == 5
    wrongs: list[Any] = [[], {"durationSecs": -1}, {"durationSec": 5}, {"durationSecs": True}, {"durationSecs": 1e999}]
    for wrong in wrongs:
        with pytest.raises(WrongRule):
            duration(wrong)


def test_no_rule_without_an_end() -> None:
    assert add(draft(asked()), "1", BOUNDS, 100)({})["1"].expires == 160
    with pytest.raises(WrongRule):
        stored({name: value for name, value in shown(rule(ANY)).items() if name != "expires"})


@pytest.mark.parametrize("wrong", [{"expires": "9999-12-31T23:59:59-14:00"}, {"created": "0001-01-01T00:00:00+14:00"}])
def test_a_time_that_cannot_be_shown_in_utc_is_none(wrong: dict[str, str]) -> None:
    with pytest.raises(WrongRule):
        stored(shown(rule(ANY)) | wrong)


def test_the_same_rule_says_the_same() -> None:
    assert isinstance(stored(shown(rule(ERROR))), Rule)
