"""Both scanners find the same in whatever bytes; `python -m fuzz` does this millions of times."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.__main__ import batch
from fuzz.comparing import CASES, DivergenceError, compare
from fuzz.making import Maker, mutated
from tests.core.otlp_records import Record, damaged, records
from tss.core.otlp import Encoding

cases = st.sampled_from(range(len(CASES)))


@settings(max_examples=50, deadline=None)
@given(records(), cases)
def test_the_same_in_odd_records(record: Record, case: int) -> None:
    compare(record.raw, case)


@settings(max_examples=50, deadline=None)
@given(damaged(), cases)
def test_the_same_in_damaged_records(value: bytes, case: int) -> None:
    compare(value, case, Encoding.AUTO)


@settings(max_examples=100, deadline=None)
@given(st.integers(), st.integers(0, 3), cases)
def test_the_same_in_records_with_attributes(seed: int, mutations: int, case: int) -> None:
    rng = Random(seed)
    value = Maker(rng).message()
    for _ in range(mutations):
        value = mutated(rng, value, value)
    compare(value, case)


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=60), cases)
def test_the_same_in_arbitrary_bytes(value: bytes, case: int) -> None:
    compare(value, case, Encoding.AUTO)


def test_the_same_in_a_batch_of_the_fuzzer() -> None:
    assert batch("a seed", []) > 100


def test_the_fuzzer_sees_concentrators_that_count_otherwise(monkeypatch):
    """Here the reference takes every span for a root; and only after the first flush."""
    batch("planted", [])
    monkeypatch.setattr("tss.core.formats.apm_stats.reference._parent", lambda span: b"")
    with pytest.raises(DivergenceError, match="statistics: "):
        batch("planted", [])


def test_the_fuzzer_sees_a_duplicate_that_stays(monkeypatch):
    monkeypatch.setattr("fuzz.comparing.without_duplicates", lambda payload: (payload, 0))
    with pytest.raises(DivergenceError, match="without duplicates"):
        batch("planted", [])


def test_the_fuzzer_sees_other_facts(monkeypatch):
    """Here the reference takes no answer for an error."""
    monkeypatch.setattr("tss.core.otlp.reference._fold", lambda fold, before, answer: before or answer % 2)
    with pytest.raises(DivergenceError, match="facts"):
        batch("planted", [])
