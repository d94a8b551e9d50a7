"""What goes to Redis of a trace comes back as it was, and what does not is noticed."""

from __future__ import annotations

import json
import tracemalloc
from contextlib import suppress
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.programs import Is
from tests.core.spans import fragment, lone, record, trace_id
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.conditions.formula import Field, Leaf, OfRoot, OfSpans, Place
from tss.core.conditions.program import ASKS_NOTHING, Program
from tss.core.errors import Lost
from tss.core.memory import Memory
from tss.core.otlp import Lineage, reference
from tss.core.parked import NOWHERE, ParkingCheckpoint, Shelf, Summary, chain, to_frame
from tss.core.partition import Partition
from tss.core.trace import Trace

numbers = st.integers(0, 2**63 - 1)
counts = st.integers(0, 2**40 - 1)
ids = st.lists(st.binary(min_size=8, max_size=8), max_size=5).map(b"".join)
summaries = st.builds(
    Summary, numbers, numbers, counts, counts, counts, counts, numbers, numbers, st.booleans(),
    st.integers(-1, 2**62), st.integers(-1, 2**62), ids, ids, st.booleans(), st.binary(max_size=40),
    root_ms=st.integers(-1, 2**62), seen_bytes=counts,
)  # fmt: skip


@given(summaries)
def test_a_summary_comes_back(summary: Summary) -> None:
    assert Summary.from_bytes(summary.to_bytes()) == summary


@given(summaries, st.integers(0, 40))
def test_a_summary_that_is_cut_or_of_another_version_is_lost(summary: Summary, cut: int) -> None:
    data = summary.to_bytes()
    with pytest.raises(Lost):
        Summary.from_bytes(bytes([9]) + data[1:])
    with pytest.raises(Lost):
        Summary.from_bytes(data[:cut])


GOLDEN = Summary(
    1, 2, 3, 3, 4, 5, 6, 7, True, 8, 9, b"12345678", b"abcdefgh", False, b"\x01\x05", root_ms=9, seen_bytes=4,
)  # fmt: skip
GOLDEN_BYTES = (
    b"\x01\x00\x00\x00\xdf\x00\x00\x00\x08"
    b'{"first_offset":1,"parked_to":2,"spans":3,"held_spans":3,"payload_bytes":4,"errors":5,"start_ns":6,"end_ns":7,'
    b'"first_ms":8,"last_ms":9,"has_root":true,"overflown":false,"values":[],"root_ms":9,"seen_bytes":4,"facts":"0105"}'
    b"12345678abcdefgh"
)
BEFORE_BYTES = (  # of the version that stored values of attributes in place of facts, and no time of the root
    b"\x01\x00\x00\x00\xd3\x00\x00\x00\x08"
    b'{"first_offset":1,"parked_to":2,"spans":3,"held_spans":3,"payload_bytes":4,"errors":5,"start_ns":6,"end_ns":7,'
    b'"has_root":true,"first_ms":8,"last_ms":9,"overflown":false,"values":[["a",true,1,1.5],[["00ff"]],[]]}'
    b"12345678abcdefgh"
)


def test_the_bytes_of_a_summary_stay() -> None:
    """While a fleet is updated, or an update is taken back, both versions take over from each other."""
    assert Summary.from_bytes(GOLDEN_BYTES) == GOLDEN
    assert attrs.evolve(GOLDEN, program="00ff", unscanned=True).to_bytes() == GOLDEN_BYTES


def test_the_answers_to_force_rules_are_added_where_there_are_rules() -> None:
    ruled = attrs.evolve(GOLDEN, forced=b"\x01\x04", rules="0123456789abcdef")
    assert ruled.to_bytes()[9:-16] == GOLDEN_BYTES[9:-17] + b',"forced":"0104","rules":"0123456789abcdef"}'
    assert Summary.from_bytes(ruled.to_bytes()) == ruled


def test_the_version_before_finds_all_that_it_needs() -> None:
    """It refuses a summary without one of these, and passes over what it does not know."""
    told, before = (json.loads(data[9:-16]) for data in (GOLDEN_BYTES, BEFORE_BYTES))
    assert told | {"values": before["values"]} == before | {"root_ms": 9, "seen_bytes": 4, "facts": "0105"}
    assert told["values"] == []


def by_name(program: Program) -> dict[str, Program]:
    return {program.fingerprint: program}


def test_what_the_version_before_stored_is_read_and_its_facts_are_unknown() -> None:
    program = Program([OfSpans(Leaf(Field(Place.SPAN, "name"), Is("a")))])
    found = attrs.evolve(Summary.from_bytes(BEFORE_BYTES), program="014627fd6bc3aaa8")  # of its lookup
    assert attrs.evolve(found, program="", facts=GOLDEN.facts) == GOLDEN
    for ours in (program, ASKS_NOTHING):
        assert (found.under(by_name(ours)).facts, found.under(by_name(ours)).unscanned) == (b"", True)


def test_what_a_version_to_come_adds_is_passed_over() -> None:
    more = GOLDEN_BYTES.replace(b'"values"', b'"more":[{}],"values"').replace(b"\xdf", b"\xeb", 1)
    assert Summary.from_bytes(more) == GOLDEN


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from([*attrs.asdict(GOLDEN, recurse=False)])


@given(st.binary(max_size=300) | st.binary(max_size=100).map(lambda tail: GOLDEN_BYTES[:9] + tail))
def test_bytes_that_nobody_wrote_are_lost_or_a_summary(data: bytes) -> None:
    with suppress(Lost):
        Summary.from_bytes(data)


@given(st.dictionaries(names, json_values, max_size=3), st.booleans())
def test_facts_of_other_kinds_are_lost_and_no_trace_is_made_of_them(facts: dict[str, object], lists: bool) -> None:
    known = json.loads(GOLDEN_BYTES[9:-16]) | facts
    text = json.dumps([known] if lists else known).encode()
    data = GOLDEN_BYTES[:1] + len(text).to_bytes(4, "big") + GOLDEN_BYTES[5:9] + text + GOLDEN_BYTES[-16:]
    try:
        summary = Summary.from_bytes(data)
    except Lost:
        return
    for program in (ASKED, OTHER, ASKS_NOTHING):
        mine = attrs.evolve(summary, program=program.fingerprint).under(by_name(program))
        trace = Trace(trace_id(0), Partition(0, 0, 10**9), 0)
        trace.take_over(mine, program=program)
        assert all(program.answer(trace.facts, slot) < 4 for slot in range(len(program.asks)))
        trace.absorb(lone(fragment(0)), 0, program)


@pytest.mark.parametrize("nested", [b"[" * 100_000, b'{"values":' + b"[" * 100_000])
def test_nesting_without_end_is_lost(nested: bytes) -> None:
    with pytest.raises(Lost):
        Summary.from_bytes(b"\x01" + len(nested).to_bytes(4, "big") + bytes(4) + nested)


NAME = Leaf(Field(Place.SPAN, "name"), Is("a"))
ASKED = Program([OfSpans(NAME), OfRoot(NAME)])
OTHER = Program([OfRoot(NAME), OfSpans(NAME)])


def test_facts_of_another_program_are_never_read_as_ours() -> None:
    assert len({ASKED.fingerprint, OTHER.fingerprint, ASKS_NOTHING.fingerprint}) == 3
    told = attrs.evolve(GOLDEN, program=ASKED.fingerprint, facts=b"\x01\x01")
    assert told.under(by_name(ASKED)) == told
    for other in (OTHER, ASKS_NOTHING):
        assert (told.under(by_name(other)).facts, told.under(by_name(other)).unscanned) == (b"", True)
    assert GOLDEN.under(by_name(ASKED)).unscanned
    broken = attrs.evolve(told, facts=b"\x03\x01")
    assert broken.under(by_name(ASKED)).unscanned, "they have the form of the program, or they are somebody else's"


@pytest.mark.parametrize("name", ["spans", "held_spans", "payload_bytes", "errors"])
def test_numbers_that_are_added_up_are_those_of_a_trace(name: str) -> None:
    most: dict[str, Any] = {name: 2**40 - 1}
    assert getattr(Summary.from_bytes(attrs.evolve(GOLDEN, **most).to_bytes()), name) == 2**40 - 1
    too_many: dict[str, Any] = {name: 2**40}
    with pytest.raises(Lost):
        Summary.from_bytes(attrs.evolve(GOLDEN, **too_many).to_bytes())


def test_frames_of_attempts_that_were_made_again_are_left_out_and_gaps_are_noticed() -> None:
    one, two = to_frame(NOWHERE, 4, [b"a", b"b"]), to_frame(4, 9, [b"c"])
    unheard = to_frame(4, 7, [b"not heard"])
    assert [each.unpack() for each in chain([one, unheard, two], 9)] == [b"ab", b"c"]
    assert [each.unpack() for each in chain([one, unheard, two], 4)] == [b"ab"]
    for frames, up_to in (([two], 9), ([one, two], 8), ([], 4), ([b"", two], 9)):
        with pytest.raises(Lost):
            chain(frames, up_to)


def test_a_shelf_has_the_floor_of_what_has_not_settled_and_removes_what_a_commit_has_passed() -> None:
    shelf = Shelf("token", 3)
    shelf.put(b"a", 5)
    shelf.put(b"b", 8)
    assert shelf.checkpoint(20) == ParkingCheckpoint(5, "token", 3)
    shelf.end(b"a", 12)
    assert shelf.checkpoint(20) == ParkingCheckpoint(8, "token", 3)
    assert shelf.to_remove(12, 10) == []
    assert shelf.to_remove(13, 10) == [b"a"]
    assert shelf.to_tell(10) == {b"a": 12}
    shelf.end(b"b", 9)
    shelf.told({b"a": 12, b"b": 8})
    assert shelf.to_tell(10) == {b"b": 9}
    shelf.put(b"b", 14)
    assert shelf.to_tell(10) == {}, "another one with this id"
    shelf.removed([b"a"])
    assert shelf.to_remove(13, 10) == []


@pytest.mark.parametrize("make", [Lineage, reference.Lineage], ids=["chosen", "reference"])
@given(st.lists(st.tuples(*[st.lists(st.integers(0, 60), max_size=30)] * 2), max_size=9))
def test_a_lineage_comes_back(make: type[reference.Lineage], given_ids: list[tuple[list[int], list[int]]]) -> None:
    kept, again, measure = make(), make(), reference.Lineage()
    for spans, parents in given_ids:
        for each in (kept, measure):
            each.add(*(b"".join(id.to_bytes(8, "little") for id in some) for some in (spans, parents)))
    seen, missing, full = kept.known()
    again.add(seen, missing)
    assert not full
    assert again.open == kept.open == measure.open
    assert [_sorted(some) for some in (seen, missing)] == [_sorted(some) for some in measure.known()[:2]]


def _sorted(ids: bytes) -> list[bytes]:
    return sorted(ids[at : at + 8] for at in range(0, len(ids), 8))


def test_a_lineage_that_overflowed_stays_open() -> None:
    for make in (Lineage, reference.Lineage):
        kept = make()
        kept.overflow()
        kept.add(b"12345678", b"")
        assert (kept.open, kept.known()[2]) == (1, True)


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans(), st.booleans()), min_size=1, max_size=20))
def test_a_trace_parked_and_taken_over_anywhere_ends_as_one_that_never_was(
    steps: list[tuple[int, bool, bool]],
) -> None:
    """The same summary, deadline and spans; and its bytes are accounted all the while."""
    plain, parked = _buffer(), _buffer()
    one, other = Partition(0, 0, 10**9), Partition(0, 0, 10**9, shelf=Shelf("t"))
    frames: list[bytes] = []
    for offset, (parent, root, parks) in enumerate(steps):
        piece = fragment(0, [offset], root=root, parents=[parent], payload=b"%d." % offset)
        for buffer, home in ((plain, one), (parked, other)):
            buffer.add(home, record(offset, 100 + offset, piece), 10**12)
        if parks:
            trace = parked._open.all()[0]
            after = trace.parked_to
            summary, chunks = trace.leave()
            frames.append(to_frame(after, summary.parked_to, chunks))
            parked.park(trace)
            assert parked.open_bytes == trace.size
            parked = _buffer()  # the next owner
            other = Partition(0, offset + 1, 10**9, shelf=Shelf("t"))
            parked.take_over(other, {trace_id(0): Summary.from_bytes(summary.to_bytes())})
            assert parked.open_bytes == parked._open.all()[0].size
    mine, theirs = plain._open.all()[0], parked._open.all()[0]
    if theirs.parked_to >= 0:
        plain.reach(one, 10**9)
        other.time.observe(100_000 + len(steps), 10**12)
        parked.reach(other, 10**9)
        assert (mine.reason, mine.is_complete()) == (theirs.reason, theirs.is_complete())
        parked.come_back(theirs, chain(frames, theirs.parked_to))
    assert _facts(mine) == _facts(theirs)
    assert b"".join(theirs.chunks()) == b"".join(b"%d." % number for number in range(len(steps)))


def _buffer() -> Buffer:
    return Buffer(Limits(1 << 30, 10**6, 10**6, 10**6), Waits(30_000, 600_000, 10_800_000), Memory())


def _facts(trace: Trace) -> tuple[object, ...]:
    times = trace.first_ms, trace.last_ms, trace.start_ns, trace.end_ns
    return trace.spans, trace.held_spans, trace.payload_bytes, trace.errors, trace.has_root, trace.first_offset, *times


def test_law_5_a_parked_trace_that_lost_its_home_gives_back_what_it_held_there() -> None:
    """More of it is on a partition that is still ours, so it is decided all the same."""
    buffer, home, other = _buffer(), Partition(0, 0, 0, shelf=Shelf("t")), Partition(1, 0, 0)
    buffer.add(home, record(0, 100, fragment(1, size=50_000)), 10**12)
    buffer.add(other, record(0, 100, fragment(1, [1], size=7_000)), 10**12)
    buffer.reach(home, 10**9)
    [trace] = buffer.take()
    before = buffer.closed_bytes
    buffer.forget([home])
    assert not buffer.withdraw(trace)
    assert before - buffer.closed_bytes == pytest.approx(50_000, abs=100)
    assert sum(map(len, trace.chunks())) == 7_000
    buffer.settle(trace)
    assert buffer.closed_bytes == 0


def test_law_5_what_is_noted_of_parked_traces_takes_what_is_counted() -> None:
    ids = [number.to_bytes(16, "big") for number in range(20_000)]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    shelf = Shelf("t")
    for number, each in enumerate(ids):
        shelf.put(bytes(bytearray(each)), 10_000 + number)
    parked = tracemalloc.get_traced_memory()[0] - before
    assert parked == pytest.approx(shelf.held_bytes, rel=0.25)
    for number, each in enumerate(ids):
        shelf.end(bytes(bytearray(each)), 10_000 + number)
    ended = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert shelf.held_bytes <= 1.25 * ended and ended <= 2 * shelf.held_bytes, (
        "the dict of those that were parked stays"
    )
    shelf.removed(ids)
    assert shelf.held_bytes == 0


def test_law_5_it_counts_among_the_ledgers() -> None:
    buffer, home = _buffer(), Partition(0, 0, 0, shelf=Shelf("t"))
    buffer.adopt(home)
    before = buffer.held_by_kind()["ledgers"]
    assert home.shelf is not None
    for number in range(1000):
        home.shelf.end(number.to_bytes(16, "big"), number)
    assert buffer.held_by_kind()["ledgers"] - before == home.shelf.held_bytes > 0
