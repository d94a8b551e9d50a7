"""The compiled span metrics count what the reference counts, whatever bytes the scanner has let through."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.comparing import has_sound_resources
from fuzz.making import Maker, mutated
from tests.core.otlp_records import Record, damaged, records
from tests.core.test_spanmetrics import message, spans_of
from tss.core.formats.spanmetrics import Dimension, Shape, counting, reference
from tss.core.otlp import Encoding, scan

MS = 1_000_000
SHAPES = [
    Shape(),
    Shape((Dimension("host"), Dimension("region", "eu")), (MS, 5 * MS, 500 * MS)),
    Shape((Dimension("http.route"), Dimension("service.name"), Dimension("_sample_rate", "x")), max_series=2),
    Shape((), (1,), max_series=1, exemplars=False),
]
shapes = st.sampled_from(SHAPES)


def told(metrics: Any) -> list[Any]:
    """All there is to see."""
    return [metrics.spans, len(metrics), [(labels, metrics.point(at)) for at, labels in enumerate(metrics.labels)]]


def compare(values: list[bytes], shape: Shape) -> int:
    """Both over these records; how many spans they had."""
    both = [module.SpanMetrics(shape) for module in (reference, counting)]
    for number, value in enumerate(values):
        for fragment in scan(value, Encoding.OTLP_PROTO).fragments:
            if not has_sound_resources(fragment.payload):
                continue
            for metrics in both:
                metrics.add(fragment.trace_id, [fragment.payload], number % 2 == 0)
    assert told(both[1]) == told(both[0])
    return int(both[0].spans)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(spans_of(), max_size=8), max_size=5), shapes)
def test_the_same_of_usual_spans(found, shape):
    compare([message(*spans) for spans in found], shape)


@settings(max_examples=50, deadline=None)
@given(st.lists(records(), max_size=3), shapes)
def test_the_same_of_odd_records(found: list[Record], shape: Shape) -> None:
    compare([record.raw for record in found], shape)


@settings(max_examples=60, deadline=None)
@given(damaged(), shapes)
def test_the_same_of_damaged_records(value: bytes, shape: Shape) -> None:
    compare([value], shape)


@settings(max_examples=200, deadline=None)
@given(st.integers(), st.integers(0, 3), shapes)
def test_the_same_of_records_with_attributes(seed: int, mutations: int, shape: Shape) -> None:
    rng = Random(seed)
    values = []
    for _ in range(3):
        value = Maker(rng).message()
        for _ in range(mutations):
            value = mutated(rng, value, value)
        values.append(value)
    compare(values, shape)


def test_there_is_something_to_compare() -> None:
    rng = Random(1)
    assert sum(compare([Maker(rng).message()], SHAPES[1]) for _ in range(100)) > 100
