"""A condition asked of OTLP records by a program answers as the evaluator does for the same spans."""

from __future__ import annotations

from random import Random

import pytest

from tests.core.ottl_cases import Cases, otlp_bytes, ours, questions
from tss.core.conditions.formula import ERROR, FALSE, TRUE, Formula, OfSpans, Place
from tss.core.conditions.language import ConditionError, Context, parse
from tss.core.conditions.program import Program
from tss.core.conditions.splitting import to_formula
from tss.core.otlp import Encoding, Scanner, reference

NAMES = {"False": FALSE, "True": TRUE, "ERROR": ERROR}


def asked(formula: Formula, context: Context) -> Program:
    return Program([OfSpans(formula, Place.EVENT if context is Context.SPAN_EVENT else Place.SPAN)])


@pytest.mark.parametrize("seed", range(6))
def test_a_program_answers_as_the_evaluator(seed: int) -> None:
    found = []
    for text, context, trace in questions(Random(seed), 120):
        try:
            formula = to_formula(parse(text, context))
        except ConditionError:
            continue
        program = asked(formula, context)
        for span in trace[Place.SPAN]:
            alone = trace | {Place.SPAN: [span]}
            answers = {NAMES[each] for each in ours(text, context, alone) or []}
            wanted = TRUE if TRUE in answers else ERROR if ERROR in answers else FALSE
            record = otlp_bytes(alone)
            facts = reference.facts_by_trace(program, record)
            scanned = Scanner(program=program).fragments(record, Encoding.OTLP_PROTO, [])
            assert [program.answer(each, 0) for each in facts.values()] == [wanted], text
            assert [program.answer(fragment.facts, 0) for fragment in scanned] == [wanted], text
            found.append(wanted)
    assert {FALSE, TRUE, ERROR} == set(found)


def test_events_and_links_of_a_span_are_counted() -> None:
    cases = Cases(Random(1))
    trace = cases.trace()
    trace[Place.SPAN] = [cases.span() | {"events": [cases.event(), cases.event()]}]
    program = asked(to_formula(parse("Len(events) == 2 and Len(links) == 0")), Context.SPAN)
    assert [program.answer(each, 0) for each in reference.facts_by_trace(program, otlp_bytes(trace)).values()] == [TRUE]
