"""What goes to Redis of a trace comes back as it was, and what does not is noticed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.spans import fragment, record, trace_id
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.errors import Lost
from tss.core.memory import Memory
from tss.core.otlp import Lineage, reference
from tss.core.parked import NOWHERE, Place, Shelf, Summary, chain, to_frame
from tss.core.partition import Partition
from tss.core.trace import Trace

numbers = st.integers(0, 2**63 - 1)
ids = st.lists(st.binary(min_size=8, max_size=8), max_size=5).map(b"".join)
values = st.one_of(st.text(), st.booleans(), numbers, st.floats(allow_nan=False), st.binary())
summaries = st.builds(
    Summary, numbers, numbers, numbers, numbers, numbers, numbers, numbers, numbers, st.booleans(),
    st.integers(-1, 2**62), st.integers(-1, 2**62), ids, ids, st.booleans(),
    st.lists(st.lists(values, max_size=3).map(tuple), max_size=3).map(tuple),
)  # fmt: skip


@given(summaries)
def test_a_summary_comes_back_with_the_kinds_of_its_values(summary: Summary) -> None:
    back = Summary.from_bytes(summary.to_bytes())
    assert back == summary
    kinds = [[type(value) for value in some] for some in summary.values]
    assert [[type(value) for value in some] for some in back.values] == kinds


@given(summaries, st.integers(0, 40))
def test_a_summary_that_is_cut_or_of_another_version_is_lost(summary: Summary, cut: int) -> None:
    data = summary.to_bytes()
    with pytest.raises(Lost):
        Summary.from_bytes(bytes([9]) + data[1:])
    with pytest.raises(Lost):
        Summary.from_bytes(data[:cut])


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
    assert shelf.place(20) == Place(5, "token", 3)
    shelf.end(b"a", 12)
    assert shelf.place(20) == Place(8, "token", 3)
    assert shelf.to_remove(12, 10) == []
    assert shelf.to_remove(13, 10) == [b"a"]
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
