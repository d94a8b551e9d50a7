"""What the answers of a destination say: never a trace given up without a witness, and the guilty found exactly."""

from __future__ import annotations

from collections.abc import Callable, Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tss.core.delivery import Again, Misconfigured, Rejected
from tss.core.evidence import KNOCKS, TRIES, WAY_SECS, Evidence, NextStep, Piece

Answer = Rejected | Again | Misconfigured

BLAMING = Rejected("http_400", "bad", blames_data=True)
FAILING = Rejected("http_500", "oops")
BUSY = Again("http_503", "busy")
FORBIDDEN = Misconfigured("http_403", "a firewall says no")
ANSWERS: list[Answer] = [BLAMING, FAILING, BUSY, FORBIDDEN]


def piece(*numbers: int) -> Piece[int]:
    """Of traces that are just numbers here: nothing looks into them."""
    return Piece(numbers or (0,))


def refuse(
    evidence: Evidence,
    each: Piece[int],
    answer: Answer,
    now: float = 0,
    *,
    knocked: bool = False,
    probes: int | None = None,
) -> NextStep:
    counts = evidence.refuses(each, answer, now, knocked=knocked)
    return evidence.next_step(each, now, counts=counts, probes=probes)


class Server:
    """Refuses some traces, and sometimes all; what it is sent is tried in rounds, with other traffic between."""

    def __init__(self, answer: Answer, guilty: Collection[int]) -> None:
        self.evidence = Evidence()
        self.answer = answer
        self.guilty = frozenset(guilty)
        self.requests = 0
        self.taken: list[int] = []
        self.given_up: list[int] = []
        self.now = 0.0

    def round(self, pieces: list[Piece[int]], *, sick: bool = False) -> list[Piece[int]]:
        """Try each once; what is left to be tried."""
        left: list[Piece[int]] = []
        for each in pieces:
            self.requests += 1
            self.now += 1
            numbers = each.items
            if not sick and self.guilty.isdisjoint(numbers):
                self.evidence.takes()
                self.taken += numbers
                continue
            match refuse(self.evidence, each, self.answer, self.now, probes=len(left) if sick else None):
                case NextStep.GIVE_UP:
                    self.given_up += numbers
                case NextStep.HALVE:
                    left += each.halves()
                case NextStep.HOLD:
                    left.append(each)
        return left


@given(
    st.sampled_from(ANSWERS),
    st.lists(st.tuples(st.integers(0, 7), st.booleans(), st.floats(0, 1000)), max_size=300),
)
def test_where_nothing_is_taken_nothing_is_given_up(answer: Answer, tries: list[tuple[int, bool, float]]) -> None:
    """However often it is refused, for however long, and whatever else is refused meanwhile."""
    evidence = Evidence()
    pieces = [piece(number) for number in range(8)]
    now = 0.0
    for which, open_, secs in tries:
        now += secs
        assert refuse(evidence, pieces[which], answer, now, probes=0 if open_ else None) is NextStep.HOLD


@given(st.sampled_from(ANSWERS), st.lists(st.booleans(), max_size=60))
def test_five_refusals_with_a_witness_between_each(answer: Answer, taken: list[bool]) -> None:
    """Of a single trace; True is something else that is taken, False a refusal of this one. A minute passes with each."""
    evidence, each = Evidence(), piece()
    counted, fresh = 0, True
    for place, other in enumerate(taken):
        if other:
            evidence.takes()
            fresh = True
            continue
        counted += fresh
        fresh = False
        given_up = refuse(evidence, each, answer, place * 60.0) is NextStep.GIVE_UP
        if answer in (BLAMING, FAILING):
            assert given_up is (counted >= TRIES)
        else:
            assert not given_up or counted >= TRIES
        if given_up:
            return


@given(
    st.sampled_from([BLAMING, FAILING]),
    st.integers(1, 300),
    st.data(),
)
def test_the_guilty_are_found_exactly(answer: Answer, size: int, data: st.DataObject) -> None:
    """Whichever they are, in a number of requests that grows with them and not with the batch."""
    guilty = data.draw(st.sets(st.integers(0, size - 1), max_size=4))
    server = Server(answer, guilty)
    pieces = [piece(*range(size))]
    rounds = 0
    while pieces:
        rounds += 1
        assert rounds < 60, "it does not end"
        pieces = server.round(pieces)
        server.evidence.takes()  # other traffic
    assert sorted(server.given_up) == sorted(guilty)
    assert sorted([*server.taken, *server.given_up]) == [*range(size)]
    assert server.requests <= TRIES + len(guilty) * (2 * size.bit_length() + TRIES + 1)


@given(st.sampled_from(ANSWERS), st.integers(1, 200), st.lists(st.booleans(), max_size=100))
def test_a_server_that_is_sick_and_then_well_has_nothing_given_up(answer: Answer, size: int, sick: list[bool]) -> None:
    """While it is sick it refuses everything, from one round to the next: in no round is one piece taken and one not."""
    server = Server(answer, ())
    pieces = [piece(*range(size)), piece(*range(size, 2 * size))]
    for is_sick in sick:
        if is_sick:
            pieces = server.round(pieces[:1], sick=True) + pieces[1:]  # one probe
            pieces = pieces[1:] + pieces[:1]
    pieces = server.round(pieces)
    assert pieces == [] and server.given_up == []
    assert sorted(server.taken) == [*range(2 * size)]


def test_a_batch_that_is_blamed_is_halved_at_once_and_another_after_five_tries() -> None:
    assert refuse(Evidence(), piece(1, 2), BLAMING) is NextStep.HALVE
    evidence, each = Evidence(), piece(1, 2)
    for _ in range(TRIES - 1):
        assert refuse(evidence, each, FAILING) is NextStep.HOLD
        evidence.takes()
    assert refuse(evidence, each, FAILING) is NextStep.HALVE


def test_a_half_needs_one_more_witness_to_be_halved_and_five_tries_to_be_given_up() -> None:
    evidence, whole = Evidence(), piece(1, 2, 3, 4)
    for _ in range(TRIES):
        evidence.takes()
        refuse(evidence, whole, FAILING)
    half, _ = whole.halves()
    assert refuse(evidence, half, FAILING) is NextStep.HOLD, "nothing was taken since the whole was refused"
    evidence.takes()
    assert refuse(evidence, half, FAILING) is NextStep.HALVE
    single, _ = half.halves()
    for _ in range(TRIES - 1):
        evidence.takes()
        assert refuse(evidence, single, FAILING) is NextStep.HOLD
    evidence.takes()
    assert refuse(evidence, single, FAILING) is NextStep.GIVE_UP


def test_a_blamed_trace_that_was_found_by_halving_has_two_tries_of_its_own() -> None:
    """All that counted against its batch counts against it, but the batch may have been refused for another one."""
    evidence, each = Evidence(), piece(*range(64))
    while len(each.items) > 1:
        assert refuse(evidence, each, BLAMING) is NextStep.HALVE
        each, _ = each.halves()
        evidence.takes()
    assert each.counted >= TRIES
    assert refuse(evidence, each, BLAMING) is NextStep.HOLD
    evidence.takes()
    assert refuse(evidence, each, BLAMING) is NextStep.GIVE_UP


@pytest.mark.parametrize("answer", [BUSY, FORBIDDEN])
def test_what_blames_the_way_is_also_refused_for_five_minutes_beside_others(answer: Answer) -> None:
    evidence, each = Evidence(), piece()
    refuse(evidence, each, answer, 0)
    evidence.takes()
    for now in range(1000, 1000 + round(WAY_SECS), 10):  # from the first witness on
        assert refuse(evidence, each, answer, now) is NextStep.HOLD
        evidence.takes()
    assert refuse(evidence, each, answer, 1000 + WAY_SECS) is NextStep.GIVE_UP


def test_a_probe_is_halved_for_the_sake_of_a_witness_but_not_without_end() -> None:
    assert refuse(Evidence(), piece(1, 2), FAILING, probes=0) is NextStep.HALVE
    assert refuse(Evidence(), piece(1, 2), FAILING, probes=1000) is NextStep.HOLD


@pytest.mark.parametrize("answer", [BUSY, FORBIDDEN])
def test_a_probe_whose_answer_blames_the_way_is_halved_after_five_in_a_row(answer: Answer) -> None:
    evidence, each = Evidence(), piece(1, 2)
    found = [refuse(evidence, each, answer, probes=0) for _ in range(TRIES)]
    assert found == [NextStep.HOLD] * (TRIES - 1) + [NextStep.HALVE]
    assert refuse(evidence, each, answer, probes=None) is NextStep.HOLD, "others are taken: that may be a witness"


def knock_until(verdict: NextStep, evidence: Evidence, each: Piece[int], answer: Answer) -> int:
    """How many knocks it takes; 0 when it never comes to this."""
    for knocks in range(20):
        knocked = evidence.wants_knock(each)
        if refuse(evidence, each, answer, knocks * 100.0, knocked=knocked) is verdict:
            return knocks
    return 0


def test_an_empty_request_is_a_witness_for_what_blames_the_data_only() -> None:
    assert knock_until(NextStep.GIVE_UP, Evidence(), piece(), BLAMING) == TRIES - 1
    for answer in (FAILING, BUSY, FORBIDDEN):
        assert knock_until(NextStep.GIVE_UP, Evidence(), piece(), answer) == 0
    each, evidence = piece(), Evidence()
    for _ in range(20):  # whoever knocks all the same learns nothing by it
        assert refuse(evidence, each, FAILING, knocked=True) is NextStep.HOLD


def test_nobody_knocks_where_it_would_tell_nothing() -> None:
    evidence, each = Evidence(), piece()
    wants: Callable[[Piece[int]], bool] = evidence.wants_knock
    assert not wants(each), "it was never tried"
    refuse(evidence, each, BLAMING)
    assert wants(each)
    evidence.takes()
    assert not wants(each), "there is a better witness"


def test_by_knocking_alone_so_many_are_given_up_until_data_is_taken_again() -> None:
    evidence = Evidence()
    found = [knock_until(NextStep.GIVE_UP, evidence, piece(number), BLAMING) for number in range(KNOCKS + 5)]
    assert [bool(each) for each in found] == [True] * KNOCKS + [False] * 5
    evidence.takes()
    assert knock_until(NextStep.GIVE_UP, evidence, piece(), BLAMING)


def takes_after(evidence: Evidence, refusals: int, times: int = 1) -> None:
    """Pieces that it refuses so often, and takes then."""
    for _ in range(times):
        each = piece()
        for _ in range(refusals):
            refuse(evidence, each, FAILING)
            evidence.takes()
        evidence.takes(each)


def tries_of(evidence: Evidence, answer: Answer = FAILING) -> int:
    """Until a trace is given up, with other traffic between."""
    each, tries = piece(), 1
    while refuse(evidence, each, answer) is not NextStep.GIVE_UP:
        evidence.takes()
        tries += 1
    return tries


@pytest.mark.parametrize("answer", [BLAMING, FAILING])
def test_the_more_it_refuses_for_nothing_the_more_refusals_are_needed(answer: Answer) -> None:
    steady, moody = Evidence(), Evidence()
    takes_after(steady, 0, times=500)
    takes_after(moody, 2, times=500)
    assert tries_of(steady, answer) == TRIES
    assert tries_of(moody, answer) > 8
    takes_after(moody, 0, times=4000)
    assert tries_of(moody, answer) == TRIES, "it is well again"


def test_the_refusals_of_a_batch_were_for_nothing_only_if_all_of_it_is_taken_in_parts() -> None:
    found = []
    for guilty in (False, True):
        evidence, whole = Evidence(), piece(1, 2, 3, 4)
        for _ in range(TRIES):
            refuse(evidence, whole, FAILING)
            evidence.takes()
        left, right = whole.halves()
        for quarter in left.halves():
            evidence.takes(quarter)
        if not guilty:
            evidence.takes(right)
        found.append(evidence.random_refusal_rate)
    assert found[0] > 0.3
    assert found[1] == 0
