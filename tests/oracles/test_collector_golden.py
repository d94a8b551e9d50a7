"""The Collector's verdicts on 3,000 sections and 30,000 traces, and ours: whole, in pieces, and parked at a random record."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from copy import deepcopy
from random import Random
from typing import Any

import pytest

from tests import policies
from tests.interpreted import ASKED
from tests.oracles import golden, parking
from tests.oracles.answers import read, trace_ids, verdicts
from tests.oracles.comparing import difference
from tests.oracles.otel import Case
from tss.core.collector import WrongSection
from tss.core.collector import read as plan_of

Json = Any
AT_ONCE = 100
# The interpreted source is ten times slower, and other Pythons have no other verdicts: they see every tenth hundred.
STEP = 10 if os.environ.get(ASKED) or "EXAMPLES" in os.environ else 1
HUNDREDS = range(0, golden.COUNT, AT_ONCE * STEP)


@pytest.mark.parametrize("first", HUNDREDS)
def test_the_verdicts_are_the_collectors(first: int) -> None:
    for case, told in golden.cases(first, first + AT_ONCE):
        theirs = read(case, told)
        assert not difference(case, theirs, verdicts(policies.answer(case))), case["id"]
        assert not difference(case, theirs, verdicts(policies.answer(case, first))), f"{case['id']}, in pieces"


@pytest.mark.parametrize("first", HUNDREDS)
def test_the_verdicts_are_the_collectors_after_parking_and_replay(first: int) -> None:
    chance = Random(first)
    parked = 0
    for case, told in golden.cases(first, first + AT_ONCE):
        try:
            plan = plan_of(case["config"], case["gates"])
        except WrongSection:
            continue
        if plan.max_trace_bytes:
            continue  # which trace is too large shows before it could be parked
        records = list(policies.cut(policies.records_of(case["traces"]), chance))
        cut = chance.randrange(len(records) + 1)
        found = parking.verdicts(plan, records, cut)
        kept = (
            {id: verdict.startswith("sampled") for id, verdict in read(case, told).items()} if told[0] in "snd" else {}
        )
        for id, keeps in kept.items():
            assert found[bytes.fromhex(id)].keeps == keeps, f"{case['id']}, parked after {cut} records"
        parked += bool(cut and kept)
    assert parked > AT_ONCE // 2


# ---- whether the cases would notice: each mistake is made in what we are asked, and must change a verdict

Change = Callable[[dict[str, Json]], bool]  # of a policy; says whether it did


def _adding(block: str, key: str, add: float) -> Change:
    def change(policy: dict[str, Json]) -> bool:
        own = policy.get(block) if policy.get("type") == block else None
        value = own.get(key) if isinstance(own, dict) else None
        if isinstance(value, int | float) and not isinstance(value, bool) and value:
            policy[block][key] = value + add
            return True
        return False

    return change


def _setting(block: str, key: str, before: object, after: object) -> Change:
    def change(policy: dict[str, Json]) -> bool:
        own = policy.get(block) if policy.get("type") == block else None
        if isinstance(own, dict) and own.get(key) == before:
            own[key] = after
            return True
        return False

    return change


def _typed(before: str, after: str) -> Change:
    def change(policy: dict[str, Json]) -> bool:
        if policy.get("type") != before:
            return False
        policy["type"] = after
        return True

    return change


def _without_members(kind: str) -> Change:
    def change(policy: dict[str, Json]) -> bool:
        block = policy.get(kind) if policy.get("type") == kind else None
        members = block.get(f"{kind}_sub_policy") if isinstance(block, dict) else None
        return bool(isinstance(members, list) and members and (members.pop() or True))

    return change


MISTAKES: dict[str, Change] = {
    "latency from a millisecond later": _adding("latency", "threshold_ms", 1),
    "latency from a millisecond earlier": _adding("latency", "threshold_ms", -1),
    "latency up to a millisecond later": _adding("latency", "upper_threshold_ms", 1),
    "latency without its upper bound": lambda policy: bool(policy.get("latency", {}).pop("upper_threshold_ms", 0))
    if policy.get("type") == "latency" and isinstance(policy.get("latency"), dict) else False,
    "numbers from one more": _adding("numeric_attribute", "min_value", 1),
    "numbers up to one less": _adding("numeric_attribute", "max_value", -1),
    "numbers not inverted": _setting("numeric_attribute", "invert_match", True, False),
    "texts not inverted": _setting("string_attribute", "invert_match", True, False),
    "expressions as texts": _setting("string_attribute", "enabled_regex_matching", True, False),
    "the other truth value": _setting("boolean_attribute", "value", True, False),
    "truth values not inverted": _setting("boolean_attribute", "invert_match", True, False),
    "one more span": _adding("span_count", "min_spans", 1),
    "one span less": _adding("span_count", "max_spans", -1),
    "a failure is no end": _setting("ottl_condition", "error_mode", "propagate", "ignore"),
    "a failure is an end": _setting("ottl_condition", "error_mode", "ignore", "propagate"),
    "other hashes": _setting("probabilistic", "hash_salt", "salt", "pepper"),
    "a rate a little higher": _adding("probabilistic", "sampling_percentage", 1e-9),
    "drop is and": _without_members("drop"),
    "and of less": _without_members("and"),
    "flags are nothing": _typed("trace_flags", "span_count"),
}  # fmt: skip
"""What is a mistake in the section here would be one in our code: the cases see both."""


@pytest.mark.skipif(STEP > 1, reason="a tenth of the cases notices fewer mistakes")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_cases_would_notice(mistake: str) -> None:
    assert any(_changed(case, told, MISTAKES[mistake]) for case, told in golden.cases(0, golden.COUNT))


def _changed(case: Case, told: str, mistake: Change) -> bool:
    """Whether the verdicts are others with this mistake."""
    other = deepcopy(case)
    changed = [mistake(policy) for policy in _policies(other["config"])]
    if not any(changed) or told[0] not in "snd":
        return False
    return bool(difference(case, read(case, told), verdicts(policies.answer(other))))


def _policies(value: Json) -> Iterator[dict[str, Json]]:
    if isinstance(value, dict) and "type" in value:
        yield value
    for member in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _policies(member)


def test_the_verdicts_in_the_file_are_of_all_kinds() -> None:
    told = " ".join(told for _, told in golden.cases(0, 300))
    for word in ("n", "sp0", "sp1", "dp0", "dp1", "refused", "crashes"):
        assert f" {word} " in f" {told} ", word
    assert sum(len(trace_ids(case)) for case, _ in golden.cases(0, 100)) == 1000
