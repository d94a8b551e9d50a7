"""Both scanners find the same in whatever bytes; `python -m fuzz` does this millions of times."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.__main__ import batch
from fuzz.comparing import LOOKUPS, compare
from fuzz.making import Maker, mutated
from tests.core.otlp_records import Record, damaged, records
from tss.core.otlp import Encoding

lookups = st.sampled_from(range(len(LOOKUPS)))


@settings(max_examples=50, deadline=None)
@given(records(), lookups)
def test_the_same_in_odd_records(record: Record, lookup: int) -> None:
    compare(record.raw, lookup)


@settings(max_examples=50, deadline=None)
@given(damaged(), lookups)
def test_the_same_in_damaged_records(value: bytes, lookup: int) -> None:
    compare(value, lookup, Encoding.AUTO)


@settings(max_examples=100, deadline=None)
@given(st.integers(), st.integers(0, 3), lookups)
def test_the_same_in_records_with_attributes(seed: int, mutations: int, lookup: int) -> None:
    rng = Random(seed)
    value = Maker(rng).message()
    for _ in range(mutations):
        value = mutated(rng, value, value)
    compare(value, lookup)


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=60), lookups)
def test_the_same_in_arbitrary_bytes(value: bytes, lookup: int) -> None:
    compare(value, lookup, Encoding.AUTO)


def test_the_same_in_a_batch_of_the_fuzzer() -> None:
    assert batch("a seed", []) > 100
