"""Both scanners write the same facts, for programs and records drawn at random and in each corner. What the facts must be is
tested in test_program.py, with the reference; here the reference is the law."""

from collections.abc import Sequence
from random import Random

import attrs
import pytest

from fuzz.asking import program as random_program
from fuzz.making import Maker, mutated
from tests.core.otlp_records import COMPILED, FIXED64, SPANS, TRACES, VARINT, blob, tag, varint
from tests.core.test_otlp_values import attribute, double, text, whole
from tss.core.conditions import formula
from tss.core.conditions.formula import (
    ERROR,
    FALSE,
    TRUE,
    All,
    Any,
    Ask,
    Compare,
    Field,
    Fold,
    Found,
    Leaf,
    Not,
    OfRoot,
    OfSpans,
    Place,
    SpanView,
    Truth,
    Window,
)
from tss.core.conditions.program import Program
from tss.core.otlp import Encoding, Fragment, ScanError, reference, to_json_line

KEYS = {Place.SPAN: 9, Place.RESOURCE: 1, Place.SCOPE: 3, Place.EVENT: 3}
MOST_HELD_BYTES = 24 * 131_072


def facts(value: bytes, program: Program, encoding: Encoding = Encoding.OTLP_PROTO) -> list[bytes]:
    """What both scanners find."""
    found = [_scanned(module.Scanner(program), value, encoding) for module in (COMPILED, reference)]
    assert found[0] == found[1]
    return [fragment.facts for fragment in found[0]]


def _scanned(scanner: reference.Scanner, value: bytes, encoding: Encoding) -> tuple[Fragment, ...]:
    scan_errors: list[ScanError] = []
    return scanner.fragments(value, encoding, scan_errors)


def answers(value: bytes, *asks: Ask) -> list[Truth]:
    """Of a record of one trace."""
    program = Program(asks)
    (found,) = facts(value, program)
    return [program.answer(found, program.slot(ask)) for ask in asks]


def leaf(place: Place, key: str, test: formula.Test) -> Leaf:
    return Leaf(Field(place, "attributes", key), test)


def is_text(place: Place, key: str, constant: str) -> OfSpans:
    return OfSpans(leaf(place, key, Compare("==", constant)), Place.EVENT if place is Place.EVENT else Place.SPAN)


def span(number: int, *attributes: bytes, trace: int = 0, rest: bytes = b"") -> bytes:
    own = b"".join(blob(9, each) for each in attributes)
    return blob(2, blob(1, TRACES[trace]) + blob(2, SPANS[number]) + own + rest)


def record(*spans: bytes, resources: Sequence[bytes] = (), scopes: Sequence[bytes] = (), late: bool = False) -> bytes:
    """A ResourceSpans. With `late` the resources and scopes come after what they hold."""
    inner = [b"".join(spans), *(blob(1, scope) for scope in scopes)]
    outer = [blob(2, b"".join(inner if late else reversed(inner))), *(blob(1, resource) for resource in resources)]
    return blob(1, b"".join(outer if late else [*outer[1:], outer[0]]))


@pytest.mark.parametrize("seed", range(12))
def test_the_same_facts_for_random_programs_and_records(seed: int) -> None:
    rng = Random(seed)
    maker, seen = Maker(rng), 0
    for _ in range(12):
        program = random_program(rng)
        both = [module.Scanner(program) for module in (COMPILED, reference)]
        for _ in range(8):
            value = maker.message()
            for each in (value, mutated(rng, value, value)):
                ours, theirs = (_scanned(scanner, each, Encoding.OTLP_PROTO) for scanner in both)
                assert ours == theirs, f"{each.hex()} {program.asks}"
                seen += sum(bool(fragment.facts) for fragment in ours)
    assert seen > 50


@pytest.mark.parametrize("seed", range(3))
def test_the_same_facts_from_json(seed: int) -> None:
    rng = Random(seed)
    value = b"".join(record(span(n, attribute(b"k", text(b"a")), trace=n % 2), resources=[]) for n in range(4))
    line = to_json_line(value)
    program = random_program(rng)
    assert facts(line, program, Encoding.AUTO) == facts(value, program)


@pytest.mark.parametrize("late", [False, True])
def test_resources_that_occur_twice_are_merged_and_the_first_of_a_key_counts(late: bool) -> None:
    first, second = (blob(1, attribute(b"k", text(letter))) for letter in (b"a", b"b"))
    only_second = blob(1, attribute(b"j", text(b"c")))
    value = record(span(0), resources=[first, second + only_second], scopes=[], late=late)
    asks = [is_text(Place.RESOURCE, key, constant) for key, constant in (("k", "a"), ("k", "b"), ("j", "c"))]
    assert answers(value, *asks) == [TRUE, FALSE, TRUE]


def test_the_first_of_equal_keys_counts_in_spans_with_many_asks() -> None:
    keys = [f"key {number}" for number in range(100)]
    pairs = [attribute(key.encode(), text(value)) for value in (b"a", b"b") for key in keys]
    asks = [is_text(Place.SPAN, key, constant) for key in keys for constant in ("a", "b")]
    assert answers(record(span(0, *pairs)), *asks) == [TRUE, FALSE] * 100


def test_more_tests_of_a_field_than_a_word_has_bits() -> None:
    asks = [is_text(Place.SPAN, "k", str(number)) for number in range(300)]
    asks += [OfSpans(leaf(Place.SPAN, "k", Compare("!=", str(number)))) for number in range(300)]
    expected = [TRUE if number == 255 else FALSE for number in range(300)]
    found = answers(record(span(0, attribute(b"k", text(b"255")))), *asks)
    assert found == [*expected, *(TRUE - answer for answer in expected)]


def test_each_type_of_value_and_each_comparison() -> None:
    values = [
        None, b"", text(b""), text(b"b"), text(b"\xff"), text("\ufffd".encode()), tag(2, VARINT) + b"\0", tag(2, VARINT) + b"\1",
        *map(whole, (0, 1, -1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63))), *map(double, (0.0, -0.0, 1.5, float(2**53), float("nan"))),
        blob(7, b""), blob(7, b"b"), blob(7, b"\xff"), blob(5, b""), blob(5, blob(1, text(b"b"))), blob(6, b""), blob(5, b"\xff"),
        blob(6, blob(1, attribute(b"k", text(b"b")))),
    ]  # fmt: skip
    constants: list[str | bool | float | bytes | None] = [
        None, "", "b", "\ufffd", "\udcff", "c" * 200, True, False, 0, 1, -1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 0.0, 1.5,
        float(2**53), float("nan"), float("-inf"), b"", b"b", b"\xff",
    ]  # fmt: skip
    tests = [Compare(sign, constant) for sign in ("==", "!=", "<", "<=", ">", ">=") for constant in constants]
    program = Program([OfSpans(leaf(Place.SPAN, "k", test)) for test in tests])
    for value in values:
        facts(record(span(0, *([] if value is None else [attribute(b"k", value)]))), program)


@pytest.mark.parametrize("place", [Place.SPAN, Place.RESOURCE, Place.SCOPE, Place.EVENT])
def test_each_place_has_its_own(place: Place) -> None:
    pair = attribute(b"k", text(b"here"))
    holders = {each: blob(KEYS[each], pair) if each is place else b"" for each in Place}
    value = record(
        span(0, rest=holders[Place.SPAN] + blob(11, holders[Place.EVENT])),
        resources=[holders[Place.RESOURCE]],
        scopes=[holders[Place.SCOPE]],
    )
    asks = [is_text(each, "k", "here") for each in Place]
    assert answers(value, *asks) == [TRUE if each is place else FALSE for each in Place]


def test_a_value_that_is_nested_reaches_a_test_decoded() -> None:
    deep = text(b"x")
    for _ in range(60):
        deep = blob(5, blob(1, deep))

    @attrs.frozen
    class Deep:
        told: str = "is 60 lists deep"

        def answer(self, value: Found) -> Truth:
            depth = 0
            while isinstance(value, list):
                (value,), depth = value, depth + 1
            return TRUE if (value, depth) == ("x", 60) else FALSE

    assert answers(record(span(0, attribute(b"k", deep))), OfSpans(leaf(Place.SPAN, "k", Deep()))) == [TRUE]


def test_the_trace_states_of_all_spans_are_weighed_without_any_ask() -> None:
    states = (b"", b"v=1", b"ot=th:8", b"v=1,ot=rv:00000000000001", b"ot=rv:00000000000002")
    program = Program(())
    (found,) = facts(record(*(span(0, rest=blob(3, state)) for state in states)), program)
    assert (program.marks(found), program.randomness(found)) == (7, 1)
    assert facts(record(span(0, rest=blob(3, b"not=valid ot="))), program) == [b""]


def test_windows_have_a_stair_for_each_span_that_moves_a_bound() -> None:
    times = [(5, 9), (0, 3), (2, 2**63), (2**64 - 1, 1), (4, 4)] * 30  # more than are written on the stack

    def nanos(start: int, end: int) -> bytes:
        return b"".join(tag(number, FIXED64) + time.to_bytes(8, "little") for number, time in ((7, start), (8, end)))

    for count in range(1, len(times), 7):
        facts(
            record(*(span(n % 5, rest=nanos(*time)) for n, time in enumerate(times[:count]))),
            Program([Window(0), Window(1, 5)]),
        )


def test_the_root_is_the_one_with_the_least_start_and_then_the_least_id() -> None:
    def root(number: int, start: int, name: bytes) -> bytes:
        return span(number, rest=blob(5, name) + tag(7, FIXED64) + start.to_bytes(8, "little"))

    ask = OfRoot(Leaf(Field(Place.SPAN, "name"), Compare("==", "least")))
    for spans in (
        [root(0, 7, b"other"), root(2, 5, b"least"), root(3, 5, b"other")],
        [root(3, 5, b"other"), root(2, 5, b"least"), root(2, 5, b"twin")],
    ):
        assert answers(record(*spans), ask) == [TRUE]
    child = span(0, rest=blob(4, SPANS[1]) + blob(5, b"least"))
    assert answers(record(child), ask) == [FALSE]


@attrs.frozen
class Counts:
    """A general condition that notes how often it is asked."""

    told: str
    truth: Truth
    asked: list[object] = attrs.field(factory=list, eq=False)
    places: frozenset[Place] = frozenset((Place.SPAN, Place.SCOPE))

    def answer_of(self, view: SpanView) -> Truth:
        self.asked.append(view.value(Place.SPAN, "name"))
        return self.truth


@pytest.mark.skipif(COMPILED is reference, reason="the reference asks each span")
def test_python_is_asked_only_where_the_answer_depends_on_it() -> None:
    name = Leaf(Field(Place.SPAN, "name"), Compare("==", "asked"))
    general = Counts("general", TRUE)
    value = record(*(span(0, rest=blob(5, letter)) for letter in (b"a", b"b", b"asked", b"asked")))
    program = Program([OfSpans(All((name, general)))])
    scanner = COMPILED.Scanner(program)
    (fragment,) = _scanned(scanner, value, Encoding.OTLP_PROTO)
    assert general.asked == ["asked"], "the second is not asked: nothing would change"
    assert fragment.facts == facts(value, program)[0]


@pytest.mark.parametrize("truth", [FALSE, TRUE, ERROR])
@pytest.mark.parametrize("fold", Fold)
def test_a_general_condition_has_all_three_answers(truth: Truth, fold: Fold) -> None:
    general = Counts(f"says {truth}", truth)
    told: list[Ask] = [
        OfSpans(general, fold=fold),
        OfSpans(Not(general), fold=fold),
        OfRoot(Any((general, Not(general)))),
    ]
    opposite = truth if truth == ERROR else TRUE - truth
    assert answers(record(span(0), span(1)), *told)[:2] == [truth, opposite]


def test_a_test_that_raises_is_an_error_of_the_condition_and_not_of_the_scanner() -> None:
    @attrs.frozen
    class Broken:
        told: str = "broken"

        def answer(self, value: Found) -> Truth:
            if value is None:
                return FALSE
            raise ValueError(value)

    value = record(span(0, attribute(b"k", text(b"a"))))
    program = Program([ask := OfSpans(leaf(Place.SPAN, "k", Broken()))])
    (fragment,) = _scanned(COMPILED.Scanner(program), value, Encoding.OTLP_PROTO)
    assert program.answer(fragment.facts, program.slot(ask)) == ERROR


@attrs.frozen
class Counted:
    """A test that notes the values it is asked about."""

    asked: list[Found] = attrs.field(factory=list, eq=False)
    told: str = "ends with 7"

    def answer(self, value: Found) -> Truth:
        self.asked.append(value)
        return TRUE if str(value).endswith("7") else FALSE


@pytest.mark.skipif(COMPILED is reference, reason="the reference remembers nothing")
def test_a_value_is_asked_about_once() -> None:
    test = Counted()
    scanner = COMPILED.Scanner(Program([OfSpans(leaf(Place.SPAN, "k", test))]))
    test.asked.clear()
    for _ in range(3):
        for value in (text(b"a7"), text(b"b"), whole(7), whole(300), double(7.0), blob(5, blob(1, text(b"7")))):
            _scanned(scanner, record(span(0, attribute(b"k", value))), Encoding.OTLP_PROTO)
    assert test.asked == ["a7", "b", 7, 300, 7.0, ["7"]]


@attrs.frozen
class Ends:
    told: str = "ends with 7"

    def answer(self, value: Found) -> Truth:
        return TRUE if isinstance(value, str) and value.endswith("7") else FALSE


@pytest.mark.skipif(COMPILED is reference, reason="the reference remembers nothing")
def test_law_5_the_memory_of_answers_is_bounded_and_stays_right() -> None:
    """More values than it can have: it forgets some, and its answers stay right."""
    program = Program([ask := OfSpans(leaf(Place.SPAN, "k", Ends()))])
    scanner = COMPILED.Scanner(program)
    assert scanner.held_bytes() == 0
    for first in range(0, 150_000, 500):
        spans = [span(0, attribute(b"k", text(b"%d" % number))) for number in range(first, first + 500)]
        (fragment,) = _scanned(scanner, record(*spans), Encoding.OTLP_PROTO)
        assert program.answer(fragment.facts, program.slot(ask)) == TRUE
        assert scanner.held_bytes() <= MOST_HELD_BYTES
    assert scanner.held_bytes() == MOST_HELD_BYTES
    for number in range(0, 150_000, 997):
        (fragment,) = _scanned(scanner, record(span(0, attribute(b"k", text(b"%d" % number)))), Encoding.OTLP_PROTO)
        assert program.answer(fragment.facts, program.slot(ask)) == (TRUE if number % 10 == 7 else FALSE)


@pytest.mark.skipif(COMPILED is reference, reason="the reference remembers nothing")
def test_law_5_a_small_limit_has_a_small_memory_for_both_programs() -> None:
    program = Program([OfSpans(leaf(Place.SPAN, "k", Ends()))])
    scanner = COMPILED.Scanner(program, program, memo_bytes=20_000)
    for first in range(0, 5_000, 500):
        spans = [span(0, attribute(b"k", text(b"%d" % number))) for number in range(first, first + 500)]
        _scanned(scanner, record(*spans), Encoding.OTLP_PROTO)
    one = 24 * 512  # bytes of an entry, and the largest power of two that fits
    assert scanner.held_bytes() == 2 * one
    scanner.use(None)
    assert scanner.held_bytes() == one


@pytest.mark.parametrize("late", [False, True])
def test_two_programs_with_the_same_and_with_other_fields_are_answered_in_one_pass(late: bool) -> None:
    asks = [is_text(place, key, "a") for place in (Place.SPAN, Place.RESOURCE, Place.EVENT) for key in ("k", "j", "i")]
    first, second = Program(asks[:6]), Program([asks[8], *asks[3:], asks[0]])
    resource = blob(1, attribute(b"k", text(b"a")))
    event = blob(11, blob(3, attribute(b"i", text(b"a"))))
    value = record(span(0, attribute(b"k", text(b"a")), rest=event), span(1), resources=[resource], late=late)
    (both,) = _scanned(COMPILED.Scanner(first, second), value, Encoding.OTLP_PROTO)
    assert both == _scanned(reference.Scanner(first, second), value, Encoding.OTLP_PROTO)[0]
    assert both.facts == facts(value, first)[0]
    assert both.forced == facts(value, second)[0]


def test_rules_come_and_go_between_records() -> None:
    program, rules = (Program([is_text(Place.SPAN, key, "a")]) for key in ("k", "j"))
    value = record(span(0, attribute(b"k", text(b"a")), attribute(b"j", text(b"a"))))
    scanner = COMPILED.Scanner(program)
    found = []
    for used in (None, rules, program, None, rules):
        scanner.use(used)
        (fragment,) = _scanned(scanner, value, Encoding.OTLP_PROTO)
        assert fragment.facts == facts(value, program)[0]
        found.append(fragment.forced)
    assert found == [b"", *[facts(value, each)[0] for each in (rules, program)], b"", facts(value, rules)[0]]


@pytest.mark.skipif(COMPILED is reference, reason="the reference remembers nothing")
def test_ids_and_times_are_not_remembered() -> None:
    test = Counted()
    scanner = COMPILED.Scanner(Program([OfSpans(Leaf(Field(Place.SPAN, "span_id"), test))]))
    _scanned(scanner, record(span(0), span(1)), Encoding.OTLP_PROTO)
    assert scanner.held_bytes() == 0


def test_small_facts_are_one_object_for_many_traces() -> None:
    program = Program([OfSpans(Leaf(Field(Place.SPAN, "name"), Compare("==", "a")))])
    scanner = COMPILED.Scanner(program)
    value = record(*(span(0, rest=blob(5, b"a"), trace=trace) for trace in range(3)))
    found = _scanned(scanner, value, Encoding.OTLP_PROTO)
    assert len({id(fragment.facts) for fragment in found}) == 1


def test_each_trace_of_a_record_has_its_own_facts() -> None:
    value = record(
        *(span(0, attribute(b"k", text(b"%d" % trace)), trace=trace) for trace in range(3)), span(1, trace=1)
    )
    program = Program(asks := [is_text(Place.SPAN, "k", str(trace)) for trace in range(3)])
    found = facts(value, program)
    told = [[program.answer(each, program.slot(ask)) for ask in asks] for each in found]
    assert told == [[TRUE, FALSE, FALSE], [FALSE, TRUE, FALSE], [FALSE, FALSE, TRUE]]


def test_a_record_of_many_spans_and_traces() -> None:
    """More of everything than has room on the stack."""
    rng = Random(3)
    spans = [
        blob(2, blob(1, rng.choice(range(1, 60)).to_bytes(16, "big")) + blob(2, rng.randbytes(8)) + blob(9, attribute(b"k", whole(n))))
        for n in range(400)
    ]  # fmt: skip
    value = b"".join(
        record(*spans[first : first + 9], resources=[blob(1, attribute(b"k", whole(first)))])
        for first in range(0, 400, 9)
    )
    tests: list[formula.Test] = [Compare("==", number) for number in range(0, 400, 3)]
    asks: list[Ask] = [
        OfSpans(All((leaf(Place.SPAN, "k", test), leaf(Place.RESOURCE, "k", Compare("<", 200))))) for test in tests
    ]
    assert len(facts(value, Program([*asks, Window(1), OfRoot(leaf(Place.SPAN, "k", tests[3]))]))) == 59


def test_varints_longer_than_need_be_and_values_given_twice() -> None:
    pair = blob(1, b"k") + blob(2, text(b"no") + tag(3, VARINT) + varint(5, 10))
    value = record(span(0, pair, rest=tag(6, VARINT) + varint(3, 7) + tag(6, VARINT) + varint(2, 3)))
    kind = OfSpans(Leaf(Field(Place.SPAN, "kind"), Compare("==", 2)))
    assert answers(value, OfSpans(leaf(Place.SPAN, "k", Compare("==", 5))), kind) == [TRUE, TRUE]


@pytest.mark.parametrize("seed", range(10))
def test_facts_are_folded_alike_in_c_and_in_python(seed: int) -> None:
    rng = Random(f"folding {seed}")
    maker, folds = Maker(rng), 0
    for _ in range(10):
        program = random_program(rng)
        scanner, ours, theirs = COMPILED.Scanner(program=program), b"", b""
        for _ in range(20):
            for fragment in _scanned(scanner, maker.message(), Encoding.OTLP_PROTO):
                ours, theirs = program.fold(ours, fragment.facts), program.folded(theirs, fragment.facts)
                assert ours == theirs, f"{fragment.facts.hex()} {program.asks}"
                folds += bool(fragment.facts)
    assert folds > 50


@pytest.mark.skipif(
    COMPILED is reference, reason="stored facts are checked by `Program.reads`; C checks them once more"
)
@pytest.mark.parametrize(
    "wrong", [b"\x01", b"\x02short", b"\x04", b"\x08" + bytes(19), b"\x08" + bytes(17) + b"\xff" * 4, b"\x0fx"]
)
def test_facts_of_another_form_are_never_read(wrong: bytes) -> None:
    program = Program([is_text(Place.SPAN, "k", "a"), OfRoot(leaf(Place.SPAN, "k", Compare("==", "a"))), Window(5)])
    good = facts(record(span(0)), program)[0]
    for pair in ((wrong, good), (good, wrong)):
        with pytest.raises(ValueError, match="facts of another program"):
            program.fold(*pair)


def test_a_list_of_a_thousand_patterns_costs_each_test_once_for_a_new_value() -> None:
    asked = 0

    @attrs.frozen
    class Counted:
        number: int

        @property
        def told(self) -> str:
            return f"counted {self.number}"

        def answer(self, value: Found) -> Truth:
            nonlocal asked
            asked += 1
            return TRUE if value == str(self.number) else FALSE

    field = Field(Place.SPAN, "name")
    program = Program([OfSpans(Any(tuple(Leaf(field, Counted(number)) for number in range(1000))))])
    scanner = COMPILED.Scanner(program)
    asked = 0
    [fragment] = scanner.fragments(record(span(1, rest=blob(5, b"777"))), Encoding.OTLP_PROTO, [])
    assert program.answer(fragment.facts, 0) == TRUE
    assert asked <= 1100, "each of the thousand once, and no more than a word of them twice"
