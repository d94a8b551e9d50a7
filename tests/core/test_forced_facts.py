"""Force rules are answered while records are scanned: the same verdicts as by a look at the whole trace, whatever happened
to it meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.spans import message, scanned, span, trace_id, whole
from tests.core.test_force_matching import MESSAGES, matchers, payload, rule
from tss.core.combining import Sampler
from tss.core.decision import Reason
from tss.core.force import Action, Enforcer, Matcher, Op, Rule, Rulebook, Where
from tss.core.force.changes import Bounds, add
from tss.core.force.document import draft, shown, stored
from tss.core.force.errors import WrongRule
from tss.core.otlp import Scanner
from tss.core.packing import Packer
from tss.core.parked import Summary, chain, to_frame
from tss.core.partition import Partition
from tss.core.policies.rest import Rest
from tss.core.trace import Trace

BOUNDS = Bounds(60, 600, 5)
RULES = st.lists(st.lists(matchers(), min_size=1, max_size=3), min_size=1, max_size=3)
SAMPLER = Sampler([Rest(1.0)])


def book_of(rules: list[list[Matcher]]) -> Rulebook:
    return Rulebook(
        [rule(*each, id=str(place), name=str(place), created=float(place)) for place, each in enumerate(rules)], 0
    )


def grown(scanner: Scanner, pieces: list[bytes], trace: Trace | None = None) -> Trace:
    """A trace, one record for each piece."""
    trace = trace or Trace(trace_id(1), Partition(0, 0, 300_000), 0)
    first = len(trace.holds())
    for offset, piece in enumerate(pieces, first):
        records = scanned(scanner, piece)
        trace.home.ledger.read(offset)
        trace.absorb(records, 0)
        trace.hold(trace.home, offset, records, 0)
    return trace


def verdict(trace: Trace, book: Rulebook) -> str | None:
    trace.reason = Reason.ROOT_QUIET
    enforcer = book.active(1)
    assert enforcer is not None
    decision = enforcer.decide(trace, SAMPLER)
    return None if decision is None else decision.policy


def wanted(pieces: list[bytes], book: Rulebook) -> str | None:
    enforcer = book.active(1)
    assert enforcer is not None
    found = enforcer.rule_of(whole(b"".join(pieces)))
    return None if found is None else found.policy


def pieces_of(groups: Any) -> list[bytes]:
    return [payload((resource, [one])) for resource, spans in groups for one in spans]


@settings(deadline=None)
@given(MESSAGES, RULES)
def test_the_answers_of_the_scan_are_those_of_the_whole_trace(groups: Any, rules: list[list[Matcher]]) -> None:
    book, pieces = book_of(rules), pieces_of(groups)
    scanner = Scanner()
    scanner.use(book.program)
    trace = grown(scanner, pieces)
    assert trace.rules is book.program is not None
    assert verdict(trace, book) == wanted(pieces, book)


@settings(deadline=None)
@given(MESSAGES, RULES, RULES, st.data())
def test_a_trace_that_was_open_when_rules_changed_is_scanned_again(
    groups: Any, before: list[list[Matcher]], after: list[list[Matcher]], data: st.DataObject
) -> None:
    book, pieces = book_of(before), pieces_of(groups)
    at = data.draw(st.integers(0, len(pieces)))
    had_rules, packed = data.draw(st.booleans()), data.draw(st.booleans())
    scanner = Scanner()
    scanner.use(book.program if had_rules else None)
    trace = grown(scanner, pieces[:at])
    book.replace(book_of(after).rules(0), 1)
    scanner.use(book.program)
    grown(scanner, pieces[at:], trace)
    if packed:
        trace.pack(Packer())
    assert verdict(trace, book) == wanted(pieces, book)


@settings(deadline=None)
@given(MESSAGES, RULES, RULES, st.data())
def test_a_parked_trace_keeps_its_answers_if_the_next_owner_has_the_same_rules(
    groups: Any, before: list[list[Matcher]], after: list[list[Matcher]], data: st.DataObject
) -> None:
    book, pieces = book_of(before), pieces_of(groups)
    at = data.draw(st.integers(1, len(pieces)))
    scanner = Scanner()
    scanner.use(book.program)
    trace = grown(scanner, pieces[:at])
    summary, chunks = trace.leave()
    frames = chain([to_frame(-1, summary.parked_to, chunks)], summary.parked_to)
    theirs = book_of(after if data.draw(st.booleans()) else before)
    assert theirs.program is not None
    scanner.use(theirs.program)
    taken = Trace(trace.trace_id, Partition(0, at, 300_000), 0)
    taken.take_over(Summary.from_bytes(summary.to_bytes()), theirs.program)
    for offset, piece in enumerate(pieces[at:], at):
        records = scanned(scanner, piece)
        taken.home.ledger.read(offset)
        taken.absorb(records, 0)
        taken.hold(taken.home, offset, records, 0)
    enforcer = theirs.active(1)
    assert enforcer is not None and book.program is not None
    assert enforcer.knows(taken) == (theirs.program.fingerprint == book.program.fingerprint)
    if not enforcer.knows(taken):
        taken.come_back(frames)
    assert verdict(taken, theirs) == wanted(pieces, theirs)


ERROR = Matcher(Where.STATUS, "", Op.EQ, "error")
PAY = Matcher(Where.SPAN, "route", Op.EQ, "/pay")


def test_a_rule_that_ends_or_is_switched_off_leaves_the_answers_of_open_traces_as_they_are() -> None:
    one, two = rule(ERROR, id="1", expires=5.0), rule(PAY, id="2", expires=50.0)
    book = Rulebook([one, two], 0)
    program = book.program
    assert program is not None and len(program.asks) == 2
    assert book.active(1) is not book.active(10)
    assert book.replace([two], 10)
    assert book.program is program
    assert book.replace([rule(PAY, id="2", expires=50.0, enabled=False)], 10)
    assert book.program is program
    assert book.replace([two, rule(Matcher(Where.NAME, "", Op.EQ, "a"), id="3")], 10)
    assert book.program is not program
    assert book.replace([], 11)
    assert book.program is None


def test_more_than_64_values_and_rules_are_no_limit() -> None:
    values = [
        rule(Matcher(Where.SPAN, "user", Op.EQ, number), id=str(number), created=float(number)) for number in range(100)
    ]
    enforcer = Enforcer(values)
    spans = [span(1, number, 0) for number in range(200)]
    for number, each in enumerate(spans):
        each.attributes.add(key="user").value.int_value = number + 99
    assert enforcer.rule_of(whole(message(spans))) is values[99]


# -- conditions


def asked(condition: object, **more: object) -> Rule:
    document = {"name": "one", "action": "keep", "condition": condition} | more
    return add(draft(document), "1", BOUNDS, 0)({})["1"]


@pytest.mark.parametrize(
    ("condition", "fits"),
    [
        ('attributes["route"] == "/pay" and status.code == STATUS_CODE_ERROR', True),
        ('attributes["route"] == "/pay" and name == "span 1"', False),  # not one and the same span
        ('IsMatch(name, "^span [01]$") and not (status.code == 2)', True),
        ('root.name == "span 1"', True),
        ('root.attributes["route"] == "/pay"', False),
        ('resource.attributes["absent"] != nil', False),
        ("trace.spans == 2 and trace.errors >= 1", True),
        ("trace.spans > 2 or trace.errors == 0", False),
        ('root.name == "span 1" and status.code == STATUS_CODE_ERROR', True),  # the error is another span's
        ('trace.duration_ms * 2 == 2 and not (root.name == "span 0")', True),
        ('trace.duration_ms > 1 and name == "span 1"', False),
    ],
)
def test_a_condition_in_ottl_takes_the_place_of_matchers(condition: str, fits: bool) -> None:
    pay, root = span(1, 0, 1, error=True), span(1, 1)
    pay.attributes.add(key="route").value.string_value = "/pay"
    made = asked(condition)
    assert (Enforcer([made]).rule_of(whole(message([pay, root]))) is made) is fits


def test_a_rule_with_a_condition_is_stored_as_it_was_given() -> None:
    made = asked('name == "a"')
    assert shown(made)["condition"] == 'name == "a"'
    assert stored(shown(made)) == made
    assert draft(shown(made) | {"durationSecs": 5, "expires": None}).condition == made.condition
    assert "condition" not in shown(rule(ERROR)), "the version before refuses a field that it does not know"


@pytest.mark.parametrize(
    ("more", "field", "said"),
    [
        ({"condition": "name =="}, "condition", "1:8"),
        ({"condition": "trace.spans > name"}, "condition", "in one comparison"),
        ({"condition": 'nmae == "a" or kind == SERVR'}, "condition", "; and 1:24: found `SERVR`"),
        ({"condition": 'name == "a"', "matchers": [{"on": "name", "op": "eq", "value": "a"}]}, "condition", "only one"),
        ({"condition": 5}, "condition", "must be a string"),
        ({}, "matchers", "a list of matchers, or a condition"),
        ({"matchers": []}, "matchers", "1 to 20"),
    ],
)
def test_what_is_no_condition_is_refused_by_its_place(more: dict[str, object], field: str, said: str) -> None:
    with pytest.raises(WrongRule) as refused:
        draft({"name": "one", "action": Action.KEEP.value, **more})
    assert said in refused.value.fields[field]
    assert [*refused.value.fields] == [field]
