"""The condition language: what it answers, what it refuses and how it says so."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

import fuzz.conditions
from tests.core.formulas import answer_of
from tests.core.ottl_answers import ANSWERS as GIVEN
from tests.core.ottl_answers import SPAN
from tests.core.ottl_cases import ANSWERS, View, questions, views
from tss.core.conditions import formula
from tss.core.conditions.errors import MOST_ERRORS
from tss.core.conditions.formula import ERROR, FALSE, TRUE, Compare, Field, Leaf, Place
from tss.core.conditions.functions import FUNCTIONS, LEFT_OUT, TABLE
from tss.core.conditions.language import ConditionError, Of, parse
from tss.core.conditions.page import page
from tss.core.conditions.paths import TARGETS
from tss.core.conditions.splitting import to_formula


def answer(text: str) -> str:
    try:
        condition = parse(text)
    except ConditionError:
        return "REFUSED"
    return ANSWERS[condition.evaluator()(View(SPAN))]


@pytest.mark.parametrize(("text", "given"), GIVEN)
def test_the_answer_is_that_of_pkg_ottl(text: str, given: str) -> None:
    if text == "Len(attributes) == 2":  # of a smaller span
        text = "Len(attributes) == 5"
    assert answer(text) == given


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('attributes["k"] = "v"', "1:17: found `=`, expected a comparison (== != < <= > >=); did you mean `==`?"),
        ("attributes[\"k\"] == 'v'", "1:20: found `'v'`, expected a string in double quotes: \"...\""),
        ('name == "a"\n  && true', "2:3: found `&&`, expected `and`"),
        ('name == "a" AND true', "1:13: found `AND`, expected `and`, `or` or the end of the condition; did you mean `and`?"),
        ("kind == SPAN_KIND_SEVER", "1:9: found `SPAN_KIND_SEVER`, expected an enum like STATUS_CODE_ERROR; did you mean `SPAN_KIND_SERVER`?"),
        ("nmae == 1", "1:1: found `nmae`, expected a path of a span; did you mean `name`?"),
        ('resorce.attributes["a"] == 1', "1:1: found `resorce.attributes`, expected a path of a span; did you mean `resource`?"),
        ('attributes.k == "v"', '1:12: found `.k`, expected nothing after `attributes`; did you mean `attributes["k"]`?'),
        ('IsMtach(name, "a")', "1:1: found `IsMtach`, expected a function; did you mean `IsMatch`?"),
        ("Now() > end_time", "1:1: found `Now`, expected another function; it depends on the clock or on chance, but the same records have to give the same decisions"),
        ('Substring(name, 1) == "a"', "1:1: found 2 arguments, expected 3 to 4: Substring(target, start, length, utf8_safe?)"),
        ('name == "a\\d"', '1:11: found `\\d` in a string, expected one of \\\\ \\" \\n \\t \\r \\u00e9; write \\\\ for one backslash'),
        ("", "1:1: found the end of the condition, expected a value: a path, a literal or a function"),
    ],
)  # fmt: skip
def test_an_error_says_where_it_is_what_was_found_and_what_was_expected(text: str, error: str) -> None:
    with pytest.raises(ConditionError) as raised:
        parse(text)
    assert str(raised.value) == error


def test_all_errors_of_a_condition_are_told_if_they_are_in_different_parts() -> None:
    text = 'nmae == "a" or not (kind == SERVR and IsMtach(name, "x")) or IsMatch(nam, atributes["x"]) or attributes["a"] > strat_time + 1'
    with pytest.raises(ConditionError) as raised:
        parse(text)
    named = [text[each.column - 1 :].split(maxsplit=1)[0].rstrip('",(') for each in raised.value.all]
    assert [each[:6] for each in named] == ["nmae", "SERVR", "IsMtac", "nam", "atribu", "strat_"]
    assert str(raised.value).count("; and 1:") == 5
    with pytest.raises(ConditionError) as raised:
        parse(" or ".join(['nmae == "a"'] * 500))
    assert len(raised.value.all) == MOST_ERRORS


@pytest.mark.parametrize("seed", range(8))
def test_a_formula_answers_as_the_evaluator(seed: int) -> None:
    asked = set()
    for text, context, trace in questions(Random(seed), 250):
        try:
            condition = parse(text, context)
        except ConditionError:
            continue
        split, whole = to_formula(condition), condition.evaluator()
        for view in views(trace, context):
            assert answer_of(split, view) == whole(view), text
            asked.add(whole(view))
    assert asked == {FALSE, TRUE, ERROR}


@pytest.mark.parametrize("seed", range(4))
def test_the_canonical_text_is_the_same_condition(seed: int) -> None:
    read = 0
    for text, context, _ in questions(Random(seed), 250):
        try:
            told = parse(text, context).told
        except ConditionError:
            continue
        assert parse(told, context).told == told, text
        read += 1
    assert read > 50


@pytest.mark.parametrize(
    ("text", "leaf"),
    [
        ('5 < attributes["n"]', Leaf(Field(Place.SPAN, "attributes", "n"), Compare(">", 5))),
        ('end_time - start_time > Duration("5ms")', Leaf(Field(Place.SPAN, "duration"), Compare(">", 5_000_000))),
        ("end_time_unix_nano - start_time_unix_nano >= 7", Leaf(Field(Place.SPAN, "duration"), Compare(">=", 7))),
        ("IsRootSpan()", Leaf(Field(Place.SPAN, "parent_span_id"), Compare("==", bytes(8)))),
        ('kind.string == "Server"', Leaf(Field(Place.SPAN, "kind"), Compare("==", 2))),
        ('span_id.string != "00f067aa0ba902b7"', Leaf(Field(Place.SPAN, "span_id"), Compare("!=", bytes.fromhex("00f067aa0ba902b7")))),
        ('resource.attributes["a"] != nil', Leaf(Field(Place.RESOURCE, "attributes", "a"), Compare("!=", None))),
        ('IsMatch(name, "a+")', Leaf(Field(Place.SPAN, "name"), formula.Matches("a+"))),
        ("start_time < Unix(5)", Leaf(Field(Place.SPAN, "start_time_unix_nano"), Compare("<", 5_000_000_000))),
    ],
)  # fmt: skip
def test_a_comparison_with_a_constant_is_one_that_the_scanner_does_without_python(text: str, leaf: Leaf) -> None:
    assert to_formula(parse(text)) == leaf


def test_a_condition_says_which_fields_it_reads() -> None:
    condition = parse('attributes["a"] == resource.attributes["b"] and start_time == end_time and Len(attributes) > 1')
    assert [field.told for field in condition.fields] == [
        'span.attributes["a"]', 'resource.attributes["b"]', "span.start_time_unix_nano", "span.end_time_unix_nano",
        'span.attributes[""]',
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["(" * 5000, "[" * 9000, "not " * 4000, "-" * 9000, "a" * 20_000, "1+" * 8000 + "1 == 1", "F(" * 3000]
)
def test_a_condition_of_any_depth_ends_in_an_error_of_the_language(text: str) -> None:
    with pytest.raises(ConditionError):
        parse(text)


def test_broken_conditions_raise_nothing_else() -> None:
    assert 0.1 < fuzz.conditions.run(Random(5), 1500) / 1500 < 0.9


PAGE = Path(__file__).parents[2] / "docs" / "conditions.md"


def test_the_page_of_conditions_is_fresh() -> None:
    assert PAGE.read_text() == page(), "make docs"


def test_every_function_of_pkg_ottl_is_there_or_refused_with_a_reason() -> None:
    assert len(FUNCTIONS) == len(TABLE)
    assert not FUNCTIONS.keys() & LEFT_OUT.keys()
    for name, reason in LEFT_OUT.items():
        with pytest.raises(ConditionError, match=f"1:1: found `{name}`, expected another function; {reason}"):
            parse(f"{name}(name) == 1")


OURS = [
    ('root.attributes["x"] == "a"', {Of.ROOT}, 'root.attributes["x"] == "a"'),
    ('root.resource.attributes["service.name"] == "a"', {Of.ROOT}, 'root.resource.attributes["service.name"] == "a"'),
    ('root.duration > Duration("2s")', {Of.ROOT}, 'root.duration > Duration("2s")'),
    ("trace.duration_ms > 5 and name != nil", {Of.TRACE, Of.SPAN}, "(trace.duration_ms > 5 and span.name != nil)"),
    ("trace.errors >= 1 or not (root.kind == 2)", {Of.TRACE, Of.ROOT}, "(trace.errors >= 1 or not (root.kind == 2))"),
]


@pytest.mark.parametrize(("text", "owners", "told"), OURS)
def test_ours_knows_the_root_the_trace_and_durations(text: str, owners: set[Of], told: str) -> None:
    condition = parse(text, ours=True)
    assert condition.owners == owners
    assert condition.told == told
    with pytest.raises(ConditionError):
        parse(text)


@pytest.mark.parametrize(
    "text", ["root.name == name", "trace.spans > root.kind", 'HasPrefix(root.name, attributes["a"])']
)
def test_one_comparison_reads_the_span_the_root_or_the_trace(text: str) -> None:
    with pytest.raises(ConditionError, match=r"1:1: found .* in one comparison, expected paths of one of them"):
        parse(text, ours=True)


def test_a_root_that_is_missing_has_no_value_at_all() -> None:
    class Nothing:
        def value(self, *_: object) -> None:
            return None

    for path in TARGETS[Place.SPAN]:
        if path in {"status", "events", "links"}:
            continue
        found = to_formula(parse(f"root.{path} == nil", ours=True))
        assert answer_of(found, Nothing()) == TRUE, path


@pytest.mark.parametrize(
    ("pattern", "is_refused"),
    [(r"\\C", True), (r"a\\C+", True), (r"\\QC\\C", False), (r"\\Q\\E\\C", True), (r"\\\\C", False), ("C", False)],
)
def test_one_byte_of_a_character_is_no_pattern_as_in_the_collector(pattern: str, is_refused: bool) -> None:
    assert (answer(f'IsMatch(name, "{pattern}")') == "REFUSED") is is_refused


def test_minus_zero_is_empty() -> None:
    assert answer("IsEmpty(-0.0)") == answer("IsEmpty(0.0)") == "True"


@pytest.mark.parametrize("pattern", [r"^\\pL{1,200}$", r"[\\pL\\pN]{1,100}", r"(?i)\\pL{1,1000}"])
def test_a_pattern_that_the_collector_takes_is_not_too_large(pattern: str) -> None:
    assert answer(f'IsMatch(name, "{pattern}")') == "True"
