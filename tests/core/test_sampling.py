"""Policies, and how the highest rate decides."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.programs import Is
from tests.core.spans import fragment, lone, message, record, span, trace_id
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.combining import Sampler
from tss.core.conditions.formula import FALSE, TRUE, Field, Leaf, OfSpans, Place
from tss.core.conditions.program import Program
from tss.core.decision import Decision, Reason, Verdict
from tss.core.errors import LawBroken
from tss.core.evaluation import evaluate
from tss.core.memory import Memory
from tss.core.otlp import Encoding, Scanner
from tss.core.partition import Partition
from tss.core.policies import policies
from tss.core.policies.policy import ABSTAIN, DROP, Policy
from tss.core.policies.probability import SPACE, randomness, threshold
from tss.core.policies.rest import Rest
from tss.core.trace import Trace
from tss.settings import Sampling

RATES = st.floats(0, 1, allow_nan=False)


def trace(id: bytes = trace_id(1), *, errors: int = 0, ms: int = 1) -> Trace:
    made = Trace(id, Partition(0, 0, 0), 0)
    made.absorb(lone(fragment(1, errors=errors, ms=ms)), 0)
    made.reason = Reason.ROOT_QUIET
    return made


# From OTEP 235 and the specification's tables: probability -> threshold, here to all 56 bits.
@pytest.mark.parametrize(
    ("rate", "hexadecimal"),
    [
        (1, "00000000000000"),
        (0.5, "80000000000000"),
        (0.25, "c0000000000000"),
        (0.1, "e6666666666666"),
        (0.01, "fd70a3d70a3d71"),
    ],
)
def test_thresholds_are_those_of_the_specification(rate: float, hexadecimal: str) -> None:
    assert abs(threshold(rate) - int(hexadecimal, 16)) <= 16  # a double has 53 bits


def test_randomness_is_the_last_seven_bytes() -> None:
    assert randomness(bytes.fromhex("ffffffffffffffffff00000000000001")) == 1
    assert randomness(b"\xff" * 16) == SPACE - 1


@given(RATES, RATES, st.binary(min_size=16, max_size=16))
def test_what_a_lower_rate_keeps_a_higher_one_keeps(one: float, other: float, id: bytes) -> None:
    low, high = sorted((one, other))
    assert randomness(id) < threshold(low) or randomness(id) >= threshold(high)


def test_none_is_none_and_all_is_all() -> None:
    extremes = (b"\0" * 16, b"\xff" * 16)
    assert all(randomness(id) >= threshold(1) for id in extremes)
    assert not any(randomness(id) >= threshold(0) for id in extremes)


def test_a_rate_keeps_its_share() -> None:
    kept = sum(randomness(trace_id(number)) >= threshold(0.1) for number in range(10_000))
    assert kept == pytest.approx(1000, rel=0.02)


def test_the_guides_defaults_keep_errors_and_a_tenth_of_the_slow() -> None:
    sampler = Sampler(policies(Sampling()))
    high, low = b"\xff" * 16, b"\xff" * 8 + b"\0" * 8
    assert sampler.decide(trace(low, errors=1)).policy == "errors"
    assert sampler.decide(trace(low, errors=1)).verdict is Verdict.KEEP
    slow = sampler.decide(trace(high, ms=5000))
    assert (slow.policy, slow.verdict, slow.rate) == ("latency", Verdict.KEEP, 0.1)
    assert sampler.decide(trace(low, ms=5000)).verdict is Verdict.DROP
    assert sampler.decide(trace(high, ms=4999)).policy == "default"
    assert sampler.decide(trace(high, ms=4999)).verdict is Verdict.DROP


@given(RATES, RATES, RATES, st.booleans(), st.booleans(), st.binary(min_size=16, max_size=16))
def test_kept_if_and_only_if_any_policy_alone_would_keep(
    error: float, slow: float, rest: float, has_error: bool, is_slow: bool, id: bytes
) -> None:
    settings = Sampling(error_sample_rate=error, latency_sample_rate=slow, default_sample_rate=rest)
    decision = Sampler(policies(settings)).decide(trace(id, errors=int(has_error), ms=6000 if is_slow else 1))
    asked = [rest] + [error] * has_error + [slow] * is_slow
    assert decision.keeps == any(randomness(id) >= threshold(rate) for rate in asked)
    assert decision.rate == max(asked)


def test_policies_can_be_switched_off() -> None:
    off = Sampling(always_sample_errors=False, sample_latency=False)
    assert Sampler(policies(off)).decide(trace(b"\xff" * 16, errors=1, ms=9999)).policy == "default"


def test_law_2_an_open_trace_is_not_decided() -> None:
    open_trace = trace()
    open_trace.reason = None
    with pytest.raises(LawBroken, match="law 2"):
        Sampler([]).decide(open_trace)


class Says(Policy):
    """Votes the same on every trace."""

    def __init__(self, vote: float, name: str, *, shadow: bool = False) -> None:
        super().__init__(name, says=vote, shadow=shadow)

    def vote(self, trace: Trace) -> float:
        return self.says


VOTES = st.lists(st.just(ABSTAIN) | st.just(DROP) | st.sampled_from([0.0, 0.25, 0.5, 1.0]) | RATES, max_size=6)


def saying(votes: list[float]) -> list[Policy]:
    return [Says(vote, f"policy {place}") for place, vote in enumerate(votes)]


@given(VOTES, st.binary(min_size=16, max_size=16))
def test_a_drop_wins_else_it_is_kept_if_any_policy_alone_would_keep_it(votes: list[float], id: bytes) -> None:
    decision = Sampler(saying(votes)).decide(trace(id))
    alone = [Sampler([policy]).decide(trace(id)).keeps for policy in saying(votes)]
    assert decision.keeps == (DROP not in votes and any(alone))
    assert decision.rate == (0.0 if DROP in votes else max([0.0, *votes]))


@given(VOTES, st.randoms(), st.binary(min_size=16, max_size=16))
def test_the_order_of_the_policies_only_names_one_of_equals(votes: list[float], chance: Random, id: bytes) -> None:
    some = saying(votes)
    other = chance.sample(some, len(some))
    one, two = Sampler(some).decide(trace(id)), Sampler(other).decide(trace(id))
    assert (one.keeps, one.rate, one.weighted) == (two.keeps, two.rate, two.weighted)
    by_name = {policy.name: vote for policy, vote in zip(some, votes, strict=True)} | {"none": ABSTAIN}
    assert by_name[one.policy] == by_name[two.policy]
    firsts = {vote: policy.name for policy, vote in reversed([*zip(some, votes, strict=True)])} | {ABSTAIN: "none"}
    assert one.policy == firsts[by_name[one.policy]]


@given(VOTES, st.binary(min_size=16, max_size=16))
def test_with_first_the_first_vote_decides(votes: list[float], id: bytes) -> None:
    decision = Sampler(saying(votes), first=True).decide(trace(id))
    place, vote = next(((place, vote) for place, vote in enumerate(votes) if vote != ABSTAIN), (-1, DROP))
    assert decision.policy == (f"policy {place}" if place >= 0 else "none")
    assert decision.keeps == (vote != DROP and randomness(id) >= threshold(vote))


@given(VOTES, st.data(), st.booleans(), st.binary(min_size=16, max_size=16))
def test_a_shadow_policy_never_acts_and_tells_what_it_would_have_done(
    votes: list[float], data: st.DataObject, first: bool, id: bytes
) -> None:
    shadows = data.draw(st.lists(st.booleans(), min_size=len(votes), max_size=len(votes)))
    made = [
        Says(vote, f"policy {place}", shadow=shadow)
        for place, (vote, shadow) in enumerate(zip(votes, shadows, strict=True))
    ]
    sampler = Sampler(made, first=first)
    acting = [policy for policy in made if not policy.shadow]
    assert sampler.decide(trace(id)) == Sampler(acting, first=first).decide(trace(id))
    would = []
    for policy in made:
        if policy.shadow and policy.says != ABSTAIN:
            with_it = [Says(each.says, each.name) for each in made if each is policy or not each.shadow]
            would.append((policy.name, Sampler(with_it, first=first).decide(trace(id)).keeps))
    assert sampler.shadowed(trace(id)) == would
    assert sampler.shadows == any(shadows)


def test_equal_decisions_are_one_object() -> None:
    sampler = Sampler(saying([0.5, ABSTAIN]))
    low, high = b"\0" * 16, b"\xff" * 16
    first = [sampler.decide(trace(id)) for id in (low, high)]
    assert all(
        sampler.decide(trace(id)) is decision for _ in range(2) for id, decision in zip((low, high), first, strict=True)
    )


class Tenant(Policy):
    """Asks 1 for the traces of one tenant: what a policy on attributes looks like."""

    def __init__(self, tenant: str) -> None:
        super().__init__("tenant", (OfSpans(Leaf(Field(Place.SPAN, "attributes", "tenant"), Is(tenant))), SEEN))

    def bind(self, program: Program) -> None:
        self.program, self.slot = program, program.slot(self.asks[0])

    def vote(self, trace: Trace) -> float:
        return 1.0 if self.program.answer(trace.facts, self.slot) == TRUE else ABSTAIN


SEEN = OfSpans(Leaf(Field(Place.SPAN, "name"), Is("span 2")))


def test_what_policies_ask_is_answered_in_the_scan_and_gathered_over_all_fragments() -> None:
    acme, other = Tenant("acme"), Tenant("other")
    sampler = Sampler([acme, other, Rest(0.0)])
    assert sampler.program.asks == (acme.asks[0], SEEN, other.asks[0])  # each once
    scanner = Scanner(sampler.program)
    made = Trace(trace_id(1), Partition(0, 0, 0), 0)
    for number, tenant in enumerate(["nobody", "acme", "nobody"]):
        one = span(1, number)
        one.attributes.add(key="tenant").value.string_value = tenant
        (found,) = scanner.fragments(message([one]), Encoding.OTLP_PROTO, [])
        made.absorb(lone(found), 0, sampler.program)
    made.reason = Reason.ROOT_QUIET
    assert [sampler.program.answer(made.facts, slot) for slot in range(3)] == [TRUE, TRUE, FALSE]
    assert (sampler.decide(made).policy, sampler.decide(made).keeps) == ("tenant", True)


@given(st.integers(0, 2**56 - 1), st.floats(0, 1))
def test_law_7_a_randomness_that_came_with_a_span_decides_in_place_of_the_trace_id(rv: int, rate: float) -> None:
    sampler = Sampler([Rest(rate)])
    made = Trace(trace_id(1), Partition(0, 0, 0), 0)
    for number, state in enumerate(("", f"v=1,ot=rv:{rv:014x}", "ot=rv:00000000000000")):
        one = span(1, number)
        one.trace_state = state
        (found,) = Scanner(sampler.program).fragments(message([one]), Encoding.OTLP_PROTO, [])
        made.absorb(lone(found), 0, sampler.program)
    made.reason = Reason.ROOT_QUIET
    assert sampler.randomness(made) == rv
    assert sampler.decide(made).keeps == (rv >= threshold(rate))


def test_a_shadow_is_counted_once_for_each_trace_that_the_policies_decide() -> None:
    """Not for a trace that was settled before this start, and not for one that a force rule decided."""
    shadow = Says(1.0, "new", shadow=True)
    sampler, buffer = Sampler([shadow, Rest(0.5)]), Buffer(Limits(1 << 30, 1000, 1000, 1000), Waits(1, 1, 1), Memory())
    home = Partition(0, 0, 10**15)
    for number in range(60):
        buffer.add(home, record(number, 1, fragment(number, root=True)), 10**15)
    buffer.add(home, record(60, 1000, fragment(60)), 10**15)  # closes the others
    batch = buffer.take()
    for trace in batch[:10]:
        sampler.decide(trace)  # the unparker asks beforehand
    found = evaluate(batch, sampler, buffer)
    kept = sum(trace.decision is not None and trace.decision.keeps for trace in batch)
    assert 0 < kept < len(batch) == 60
    assert found.shadowed == {("new", True, True): kept, ("new", False, True): 60 - kept}
    assert {decision.policy for decision in found.decided} == {"default"}


def test_a_shadow_is_not_counted_where_a_force_rule_decides() -> None:
    sampler, buffer = (
        Sampler([Says(1.0, "new", shadow=True)]),
        Buffer(Limits(1 << 30, 9, 9, 9), Waits(1, 1, 1), Memory()),
    )
    home, enforcer = Partition(0, 0, 10**15), Forcing()
    buffer.add(home, record(0, 1, fragment(0, root=True)), 10**15)
    buffer.add(home, record(1, 1000, fragment(1)), 10**15)
    found = evaluate(buffer.take(), sampler, buffer, enforcer)  # type: ignore[arg-type]
    assert [decision.policy for decision in found.decided] == ["force:why"]
    assert found.shadowed == {}


class Forcing:
    """A force rule that fits every trace."""

    def decide(self, trace: Trace, sampler: Sampler) -> Decision:
        return sampler.forced(trace, "force:why", keep=False)
