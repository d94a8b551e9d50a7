"""Facts of one program as those of another: what a wider program found is what the narrower one would have found."""

from __future__ import annotations

import random

import pytest

from tests.core.programs import Is
from tests.core.spans import message, scanned, span, trace_id
from tss.core.conditions.formula import Ask, Field, Leaf, OfRoot, OfSpans, Place, Window
from tss.core.conditions.program import ASKS_NOTHING, Program
from tss.core.otlp import Scanner
from tss.core.partition import Partition
from tss.core.trace import Trace

NAME = Field(Place.SPAN, "name")
ASKS: list[Ask] = [
    *(OfSpans(Leaf(NAME, Is(f"span {number}"))) for number in range(7)),
    *(OfRoot(Leaf(NAME, Is(f"span {number}"))) for number in range(5)),
    Window(3), Window(0, 9), Window(5, 10),
]  # fmt: skip


def records(chance: random.Random) -> list[bytes]:
    """Of one trace."""
    spans = [span(1, number, None if not number else 0, start_ms=chance.randint(1, 9)) for number in range(6)]
    chance.shuffle(spans)
    return [message(spans[:2]), message(spans[2:3]), message(spans[3:])]


def made(program: Program, values: list[bytes]) -> Trace:
    trace, scanner = Trace(trace_id(1), Partition(0, 0, 10**9), 0), Scanner(program)
    for value in values:
        trace.absorb(scanned(scanner, value), 0, program)
    return trace


@pytest.mark.parametrize("seed", range(40))
def test_translated_facts_are_those_that_would_have_been_found(seed: int) -> None:
    chance = random.Random(seed)
    wide = Program(chance.sample(ASKS, len(ASKS)))
    narrow = Program(chance.sample(ASKS, chance.randint(0, 9)))
    values = records(chance)
    assert wide.covers(narrow) and wide.covers(wide) and narrow.covers(ASKS_NOTHING)
    found, right = made(wide, values), made(narrow, values)
    assert found.can_tell(narrow) and not found.knows(narrow)
    size = found.size
    assert found.translate(narrow) == found.size - size
    assert found.knows(narrow)
    assert narrow.reads(found.facts)
    answers = [[narrow.answer(each.facts, slot) for slot in range(len(narrow.asks))] for each in (found, right)]
    assert answers[0] == answers[1]
    assert narrow.fold(found.facts, b"") == narrow.fold(right.facts, b"")


@pytest.mark.parametrize("seed", range(40))
def test_a_trace_of_two_programs_knows_what_both_asked_or_says_that_it_knows_nothing(seed: int) -> None:
    chance = random.Random(seed)
    one, two = Program(chance.sample(ASKS, 6)), Program(chance.sample(ASKS, chance.choice([6, 15])))
    values = records(chance)
    trace = Trace(trace_id(1), Partition(0, 0, 10**9), 0)
    for value, program in zip(values, (one, two, one), strict=True):
        trace.absorb(scanned(Scanner(program), value), 0, program)
    if not two.covers(one):
        assert trace.unscanned or one.covers(two)
    for program in (one, two):
        if trace.can_tell(program):
            trace.translate(program)
            right = made(program, values)
            slots = range(len(program.asks))
            assert [program.answer(trace.facts, slot) for slot in slots] == [
                program.answer(right.facts, slot) for slot in slots
            ]
            break


def test_programs_that_do_not_cover_each_other_are_scanned_again() -> None:
    one, two = Program(ASKS[:3]), Program(ASKS[2:5])
    values = records(random.Random(1))
    trace = Trace(trace_id(1), Partition(0, 0, 10**9), 0)
    trace.absorb(scanned(Scanner(one), values[0]), 0, one)
    trace.absorb(scanned(Scanner(two), values[1]), 0, two)
    assert trace.unscanned and not trace.can_tell(one) and not trace.can_tell(two)


def test_the_same_asks_in_another_order_need_no_scan() -> None:
    one, two = Program(ASKS[:5]), Program(ASKS[4::-1])
    assert one.fingerprint != two.fingerprint and one.covers(two) and two.covers(one)
