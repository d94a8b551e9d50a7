"""Automata answer as RE2 does, for patterns and texts drawn at random, or do not answer."""

import time
from random import Random

import pytest

from fuzz.asking import pattern
from tss.core.conditions import automaton
from tss.core.conditions.automaton import Automaton, Maker, Texts
from tss.core.conditions.expressions import exactly, literal
from tss.core.patterns import expression

LETTERS = "aabbkKSs/.\n x0-_f{}[]()*$^\\GET"
BEYOND = "é\u212a\u017f\ufffd"  # in another case the second and the third are k and s


def made(*patterns: str) -> list[Automaton]:
    return Maker().automata([Texts((each,)) for each in patterns])


def a_text(rng: Random) -> str:
    letters = LETTERS + (BEYOND if rng.random() < 0.1 else "")
    return "".join(rng.choice(letters) for _ in range(rng.randrange(1, 10)))


@pytest.mark.parametrize("seed", range(4))
def test_they_answer_as_re2(seed: int) -> None:
    rng, answered = Random(seed), 0
    for _ in range(150):
        patterns = [pattern(rng) for _ in range(rng.randrange(1, 5))]
        re2 = [expression(each) for each in patterns]
        for each in made(*patterns):
            for text in [a_text(rng) for _ in range(30)]:
                found = each.answer(text.encode())
                if found is None:
                    assert not text.isascii()
                    continue
                for bit, test in enumerate(each.tests):
                    assert bool(found >> bit & 1) == (re2[test].search(text) is not None), (patterns[test], text)
                    answered += 1
    assert answered > 5000  # most patterns have an automaton


@pytest.mark.parametrize("text", ["/api/orders", "a.b*c", "[x]{2}", "", "\\", "a\nb", "^$", "\udcff", "é"])
def test_a_literal_is_found_and_nothing_else(text: str) -> None:
    contains, alone = made(literal(text))[0], made(exactly(text))[0]
    for other in ("/api/orders", "x/api/orders/", "a.b*c", "axbbc", "[x]{2}", "xx", "\\", "a\nb", "^$", "a"):
        assert bool(contains.answer(other.encode())) == (text in other)
        assert bool(alone.answer(other.encode())) == (text == other)


def test_what_can_change_no_more_is_not_read() -> None:
    (found,) = made("^/admin/")
    assert found.answer("/api/é".encode()) == 0
    assert found.answer("/admin/é".encode()) == 1
    assert found.answer("/admé".encode()) is None


def test_the_usual_patterns_have_one_automaton() -> None:
    usual = [
        "^/admin/",
        "^/internal/debug/",
        "/(export|report)s?/[0-9a-f]+$",
        r"(?i)\.(png|jpe?g|css)$",
        r"^/v\d+/users/[^/]+$",
    ]
    (found,) = made(*usual)
    assert found.tests == (0, 1, 2, 3, 4)
    assert len(found.table) <= automaton.MOST_CELLS // 2


@pytest.mark.parametrize(
    "refused", [r"\bword\b", r"\pL", "(?m)^a", "(?-i:a)", "(?i)é", r"\Qa\E", "(?U)a*", "(?i)[é]", r"\07"]
)
def test_what_it_does_not_know_is_left_to_re2(refused: str) -> None:
    assert made(refused, "a")[0].tests == (1,)


def test_too_large_ones_are_left_to_re2_in_bounded_time() -> None:
    large = [rf"[ab]*a[ab]{{{size}}}c|x{size}" for size in range(11, 60)]
    began = time.process_time()
    found = made(*large, "small")
    assert time.process_time() - began < 10
    assert len(found) <= 4
    for each in found:
        assert len(each.table) <= automaton.MOST_CELLS


def test_one_too_large_does_not_take_the_others_with_it() -> None:
    found = made("^/a/", "[ab]*a[ab]{14}c", "^/b/")
    assert sorted(test for each in found for test in each.tests) == [0, 2]
