"""Facts of a trace are the same whatever records its spans come in, compiled and interpreted."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from random import Random

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.core.programs import TRACE, Is, a_program, a_trace, cut, record_of
from tss.core.conditions import formula
from tss.core.conditions.formula import (
    ERROR,
    FALSE,
    TRUE,
    All,
    Any,
    Field,
    Fold,
    Leaf,
    Not,
    OfRoot,
    OfSpans,
    Place,
    Window,
)
from tss.core.conditions.program import ASKS_NOTHING, Program, Root, whole_ms
from tss.core.otlp import Encoding, Scanner, reference
from tss.core.tracestate import SAW_OT, SAW_RV, SAW_TH


def _interpreted():
    spec = spec_from_file_location("program_interpreted", Path(formula.__file__).with_name("program.py"))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


plain = _interpreted()
seeds = st.integers(0, 2**32)

NAME, KIND, K = Field(Place.SPAN, "name"), Field(Place.SPAN, "kind"), Field(Place.SPAN, "attributes", "k")


def facts_of(program, spans, *, resource_last=False):
    return reference.facts_by_trace(program, record_of(spans, resource_last=resource_last))[TRACE]


def folded(program, fragments):
    facts = b""
    for each in fragments:
        facts = program.fold(facts, each)
    return facts


def answers(program, facts):
    asked = [program.answer(facts, slot) for slot in range(len(program.asks))]
    return asked, program.randomness(facts), program.marks(facts)


@settings(deadline=None)
@given(seeds)
def test_cutting_a_trace_into_records_changes_no_fact(seed):
    rng = Random(seed)
    program, trace = a_program(rng), a_trace(rng)
    whole = program.fold(b"", facts_of(program, trace))
    pieces = [facts_of(program, each, resource_last=rng.random() < 0.5) for each in cut(rng, trace)]
    assert folded(program, pieces) == whole
    assert program.reads(whole)
    assert all(map(program.reads, pieces))


@settings(deadline=None)
@given(seeds)
def test_the_fold_of_two_parts_is_the_fold_of_the_second_into_the_first(seed):
    """A part is what several records told: fold(a·b) = fold(fold(a), b)."""
    rng = Random(seed)
    program, trace = a_program(rng), a_trace(rng)
    at = rng.randrange(len(trace) + 1)
    first = [facts_of(program, each) for each in cut(rng, trace[:at])]
    second = [facts_of(program, each) for each in cut(rng, trace[at:])]
    carried = folded(program, first)
    for each in second:
        carried = program.fold(carried, each)
    assert carried == folded(program, first + second)


@settings(deadline=None)
@given(seeds)
def test_compiled_and_interpreted_programs_fold_and_answer_alike(seed):
    rng = Random(seed)
    program, trace = a_program(rng), a_trace(rng)
    twin = plain.Program(program.asks)
    assert twin.fingerprint == program.fingerprint
    facts = b""
    for each in cut(rng, trace):
        further = facts_of(program, each)
        assert facts_of(twin, each) == further
        assert twin.fold(facts, further) == program.fold(facts, further)
        facts = program.fold(facts, further)
        assert answers(twin, facts) == answers(program, facts)


@settings(deadline=None)
@given(seeds)
def test_both_scanners_write_the_same_facts(seed):
    rng = Random(seed)
    program, trace = a_program(rng), a_trace(rng)
    record = record_of(trace, resource_last=rng.random() < 0.5)
    found = [
        scanner(program=program).fragments(record, Encoding.OTLP_PROTO, []) for scanner in (Scanner, reference.Scanner)
    ]
    assert found[0] == found[1]
    assert found[0][0].facts == facts_of(program, trace)


@settings(deadline=None)
@given(seeds)
def test_facts_answer_as_the_spans_do_one_by_one(seed):
    """The plainest reading of each ask, over the whole trace."""
    rng = Random(seed)
    program, trace = a_program(rng), a_trace(rng)
    facts = folded(program, [facts_of(program, each) for each in cut(rng, trace)])
    for slot, ask in enumerate(program.asks):
        if isinstance(ask, OfSpans) and ask.each is Place.SPAN and ask.events is None:
            alone = Program([ask])
            each = [alone.answer(facts_of(alone, [one]), 0) for one in trace]
            assert program.answer(facts, slot) == _joined(ask.fold, each)
        elif isinstance(ask, Window):
            assert program.answer(facts, slot) == _window(ask, trace)


def _joined(fold, found):
    if fold is Fold.FIRST:
        return next((answer for answer in found if answer != FALSE), FALSE)
    return TRUE if TRUE in found else ERROR if ERROR in found else FALSE


def _window(ask, trace):
    low = high = 0
    for one in trace:
        start, end = one.span.start_time_unix_nano, one.span.end_time_unix_nano
        if low == 0 or start < low:
            low = start
        if high == 0 or end > high:
            high = end
        duration = whole_ms(low, high)
        if ask.threshold_ms < duration and (ask.upper_ms == 0 or duration <= ask.upper_ms):
            return TRUE
    return FALSE


# -- the layout, byte by byte: stored facts of this version must stay readable


def test_the_bytes_of_facts():
    leaves = [OfSpans(Leaf(NAME, Is(str(number)))) for number in range(5)]
    program = Program([*leaves, OfRoot(Leaf(NAME, Is("a"))), Window(3), Window(0, 9)])
    nothing = [FALSE] * 5
    assert Program(leaves).make(nothing, None, 0, -1, [(1, 2)]) == b""
    assert Program(leaves).make([TRUE, ERROR, FALSE, FALSE, TRUE], None, 0, -1, [(1, 2)]).hex() == "010901"
    root = Root(0x0102, b"span-001", [TRUE])
    facts = program.make(nothing, root, SAW_OT | SAW_RV, 0xAB, [(1, 5_000_000), (2, 3), (0, 3)])
    assert facts.hex() == (
        "0e" + "0201000000000000" + b"span-001".hex() + "01" + "05" + "000000000000ab"
        + "0000000000000000" + "404b4c0000000000" + "03" + "02000000" + "0100000000000000" + "404b4c0000000000"
        + "0000000000000000" + "0300000000000000"
    )  # fmt: skip
    assert program.fold(b"", facts).hex() == facts.hex()[: -2 * 36] + "00000000"


def test_the_fingerprint_of_this_version_stays():
    """Facts in Redis are believed by it: whoever changes it lets a rolling update scan everything again."""
    program = Program([OfSpans(Leaf(K, Is("a"))), OfRoot(Leaf(NAME, Is("b"))), Window(5, 10)])
    assert program.fingerprint == "2e72ced751f15095"
    assert ASKS_NOTHING.fingerprint == "080a9ed428559ef6"


def test_equal_asks_have_one_slot_and_the_order_counts():
    one, two = OfSpans(Leaf(NAME, Is("a"))), OfSpans(Leaf(NAME, Is("b")))
    assert Program([one, two, one]).asks == (one, two)
    assert Program([one, two]).fingerprint == Program([one, two, one]).fingerprint != Program([two, one]).fingerprint
    assert Program([one, two]).slot(two) == 1
    with pytest.raises(KeyError):
        Program([one]).slot(two)


def test_without_a_root_its_fields_are_missing():
    program = Program([OfRoot(Leaf(NAME, Is(None))), OfRoot(Not(Leaf(NAME, Is("a")))), OfRoot(Leaf(NAME, Is("")))])
    assert [program.answer(b"", slot) for slot in range(3)] == [TRUE, TRUE, FALSE]


def test_a_formula_stops_at_the_first_member_that_settles_it():
    yes, no, fails = Leaf(NAME, Is("a")), Leaf(NAME, Is("b")), Leaf(K, Is("x"))
    trace = [seen for seen in a_trace(Random(3)) if not seen.span.attributes][:1]
    trace[0].span.name = "a"
    trace[0].span.attributes.add(key="k").value.double_value = 2.5
    for asked, expected in (
        (All(()), TRUE), (Any(()), FALSE), (fails, ERROR), (Not(fails), ERROR), (All((yes, fails)), ERROR),
        (All((no, fails)), FALSE), (All((fails, no)), ERROR), (Any((yes, fails)), TRUE), (Any((fails, yes)), ERROR),
        (Any((no, fails)), ERROR), (Any((no, no)), FALSE), (Any((All((yes, no)), Not(no))), TRUE),
    ):  # fmt: skip
        program = Program([OfSpans(asked)])
        assert program.answer(facts_of(program, trace), 0) == expected, asked


def test_an_event_is_asked_of_events_only():
    name = Leaf(Field(Place.EVENT, "name"), Is("a"))
    with pytest.raises(ValueError, match="is asked of a span"):
        Program([OfSpans(name)])
    with pytest.raises(ValueError, match="is asked of a span"):
        Program([OfRoot(name)])
    with pytest.raises(ValueError, match="is not a field"):
        Program([OfSpans(Leaf(Field(Place.SPAN, "nmae"), Is("a")))])


def test_the_events_of_a_span_come_after_it_and_before_the_next_span():
    own, of_event = Leaf(KIND, Is(2)), Leaf(Field(Place.EVENT, "name"), Is("a"))
    failing = Any(
        (
            of_event,
            Leaf(Field(Place.EVENT, "event_index"), Is(None)),
            Leaf(Field(Place.EVENT, "attributes", "k"), Is("x")),
        )
    )
    trace = a_trace(Random(5))[:1] * 3
    trace = [attrs.evolve(seen, span=type(seen.span).FromString(seen.span.SerializeToString())) for seen in trace]
    for seen in trace:
        seen.span.kind = Span.SPAN_KIND_INTERNAL
        seen.span.ClearField("events")
    program = Program([OfSpans(own, fold=Fold.FIRST, events=failing)])
    assert program.answer(facts_of(program, trace), 0) == FALSE
    trace[1].span.kind = Span.SPAN_KIND_SERVER
    trace[1].span.events.add().attributes.add(key="k").value.double_value = 2.5
    assert program.answer(facts_of(program, trace), 0) == TRUE
    trace[0].span.events.add().attributes.add(key="k").value.double_value = 2.5
    assert program.answer(facts_of(program, trace), 0) == ERROR
    trace[0].span.events.insert(0, type(trace[0].span.events[0])(name="a"))
    assert program.answer(facts_of(program, trace), 0) == TRUE


def test_the_answers_for_a_value_come_as_masks():
    program = Program([OfSpans(All((Leaf(K, Is("a")), Leaf(KIND, Is(2)), Leaf(K, Is("b")), Leaf(K, Is(None)))))])
    assert program.fields == (K, KIND)
    assert program.tests_of_field == ((0, 2, 3), (1,))
    assert [program.answers(0, value) for value in ("a", "b", None, 1.5)] == [(1, 0), (2, 0), (4, 0), (0, 7)]


def test_a_condition_that_raises_is_an_error():
    class Broken(Is):
        def answer(self, value):
            raise RuntimeError

    program = Program([OfSpans(Leaf(NAME, Broken("a")))])
    assert program.answers(0, "a") == (0, 1)


def test_small_facts_are_one_object():
    program = Program([OfSpans(Leaf(NAME, Is("a")))])
    one, two = (program.make([TRUE], None, 0, -1, []) for _ in range(2))
    assert one is two
    assert program.fold(one, two) is one
    assert program.fold(b"", one) is one
    assert program.fold(one, b"") is one


def test_the_first_randomness_stays_and_the_marks_add_up():
    program = ASKS_NOTHING
    one, two, three = (
        program.make([], None, marks, rv, []) for marks, rv in ((SAW_OT | SAW_TH, -1), (SAW_OT | SAW_RV, 7), (SAW_OT | SAW_RV, 9))
    )  # fmt: skip
    facts = folded(program, [one, two, three])
    assert program.randomness(facts) == 7
    assert program.marks(facts) == SAW_OT | SAW_TH | SAW_RV
    assert program.randomness(one) == -1
    assert program.marks(b"") == 0


@pytest.mark.parametrize(
    ("low", "high", "ms"),
    [(0, 999_999, 0), (0, 1_000_000, 1), (5_000_000, 0, -5), (1_500_000, 0, -1), (2**63, 2**63 - 1, 9223372036854),
     (2**63 - 1, 2**63, -9223372036854), (2**64 - 1, 1_000_000, 1)],
)  # fmt: skip
def test_durations_in_whole_milliseconds_are_gos(low, high, ms):
    assert whole_ms(low, high) == ms


def test_bytes_of_another_form_are_not_read():
    program = Program([OfSpans(Leaf(NAME, Is("a"))), OfRoot(Leaf(NAME, Is("a"))), Window(1)])
    facts = program.make([TRUE], Root(1, bytes(8), [TRUE]), SAW_OT | SAW_RV, 1, [(1, 2), (0, 3)])
    assert program.reads(facts)
    assert not any(program.reads(facts[:size]) for size in range(1, len(facts)))
    assert not program.reads(facts + b"\0")
    assert not program.reads(b"\0")
    assert not Program([Window(1)]).reads(facts)
