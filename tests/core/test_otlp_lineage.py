"""Which parents are missing, over any number of fragments: the same from both implementations."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tss.core.otlp import LINEAGE_SPANS, lineage, reference

both = pytest.mark.parametrize("make", [lineage.Lineage, reference.Lineage], ids=["compiled", "reference"])


def ids(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(8, "big") for number in numbers)


def many(start: int, stop: int) -> bytes:
    """Far apart, as random ones are."""
    return ids(*(number * 0x9E3779B97F4A7C15 % 2**64 for number in range(start, stop)))


pieces = st.lists(
    st.tuples(*[st.lists(st.integers(0, 60), max_size=12)] * 2), max_size=30
)  # enough to leave the small form and come back to known ids


@both
@settings(max_examples=100, deadline=None)
@given(given_ids=pieces)
def test_open_is_what_was_named_and_not_seen(
    make: type[reference.Lineage], given_ids: list[tuple[list[int], list[int]]]
) -> None:
    kept, seen, named = make(), set(), set()
    assert kept.open == 0
    for spans, missing in given_ids:
        kept.add(ids(*spans), ids(*missing))
        seen |= set(spans) - {0}
        named |= set(missing)
        assert kept.open == len(named - seen)


@both
def test_a_parent_of_another_length_is_never_seen(make: type[reference.Lineage]) -> None:
    kept = make()
    kept.add(ids(1), ids(0, 2))
    kept.add(ids(2, 0), ids(0))
    assert kept.open == 1


@both
def test_beyond_the_most_it_stays_open_and_takes_no_memory(make: type[reference.Lineage]) -> None:
    kept = make()
    kept.add(b"", b"")
    empty = kept.bytes
    kept.add(many(1, LINEAGE_SPANS), many(LINEAGE_SPANS, LINEAGE_SPANS + 1))
    kept.add(b"", ids(0))
    assert kept.open == 2
    kept.add(many(1, LINEAGE_SPANS + 1), b"")
    assert kept.open == 1
    kept.add(many(LINEAGE_SPANS + 1, LINEAGE_SPANS + 2), b"")
    assert kept.open == 1
    kept.add(many(1, LINEAGE_SPANS), b"")
    assert kept.open == 1
    assert kept.bytes == empty


@both
def test_only_whole_ids_are_taken(make: type[reference.Lineage]) -> None:
    with pytest.raises(ValueError, match="8 bytes each"):
        make().add(b"seven..", b"")
    with pytest.raises(ValueError, match="8 bytes each"):
        make().add(b"", b"nine bytes")
    assert repr(make()) == "Lineage(open=0)"


@pytest.mark.parametrize(("spans", "most"), [(8, 9), (30, 9), (100, 17), (1000, 17), (20_000, 17), (60_000, 17)])
def test_the_compiled_one_takes_few_bytes_a_span(spans: int, most: int) -> None:
    kept = lineage.Lineage()
    kept.add(b"", b"")
    empty = kept.bytes
    for start in range(1, spans + 1, 5):
        kept.add(many(start, min(start + 5, spans + 1)), b"")
    assert 8 * spans <= kept.bytes - empty <= most * spans
    assert kept.open == 0
