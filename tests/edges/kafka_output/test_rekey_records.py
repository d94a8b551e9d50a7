"""A fragment as a record of the topic between the stages, and back."""

from __future__ import annotations

from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.spans import message, span, trace_id
from tss.core.delivery import Accepted
from tss.core.otlp import Encoding, scan
from tss.core.startposition import StartPosition
from tss.edges.kafka_output.output_records import ConsumedTopic
from tss.edges.kafka_output.rekey_records import SOURCE, entry_of, output_traces_of, with_source
from tss.edges.kafka_output.rekey_topic import RekeyTopic
from tss.edges.kafka_output.transactions import Transaction
from tss.settings import Kafka

HOME = ConsumedTopic("group.rekey", "spans")


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), min_size=1, max_size=20))
def test_law_6_split_by_trace_every_span_keeps_its_bytes(spans: list[tuple[int, int]]) -> None:
    made = [span(trace, number) for trace, number in spans]
    found = scan(message(made), Encoding.AUTO)
    assert not found.scan_errors
    pieces = [entry_of(each.trace_id, each.payload, 3, 7, 1000, []) for each in found.fragments]
    assert {piece.trace_id for piece in pieces} == {trace_id(trace) for trace, _ in spans}
    for piece in pieces:
        ((value, _),) = piece.records
        ours = [each for each, (trace, _) in zip(made, spans, strict=True) if trace_id(trace) == piece.trace_id]
        assert value == message(ours)
        assert piece.covers == {3: (7,)}


def test_headers_go_on_and_say_where_from() -> None:
    headers = with_source((("a", b"1"), (SOURCE, b"of another stage"), ("empty", None)), HOME, 3, 7)
    assert headers == [("a", b"1"), ("empty", None), (SOURCE, b"group.rekey spans 3 7")]


def test_what_it_was_made_of_comes_back() -> None:
    found = output_traces_of(trace_id(1).hex().encode(), dict(with_source((), HOME, 3, 7)), HOME)
    assert found is not None
    id, delivered = found
    assert (id, {partition: [*each.offsets] for partition, each in delivered.items()}) == (trace_id(1), {3: [7]})


@pytest.mark.parametrize(
    "value", [None, b"", b"x", b"other.rekey spans 3 7", b"group.rekey other 3 7", b"group.rekey spans x 7", b"\xff"]
)
def test_what_is_not_ours_is_let_be(value: bytes | None) -> None:
    assert output_traces_of(trace_id(1).hex().encode(), {SOURCE: value}, HOME) is None
    assert output_traces_of(None, {}, HOME) is None
    assert output_traces_of(b"no id", dict(with_source((), HOME, 3, 7)), HOME) is None


def test_the_offsets_of_a_transaction_are_those_of_the_topic_that_was_assigned() -> None:
    class Noting:
        works: ClassVar[list[Transaction]] = []

        def run(self, work: Transaction) -> Accepted:
            self.works.append(work)
            return Accepted()

    topic = RekeyTopic(Kafka(brokers="b:1", input_topic="spans"), HOME, Noting(), {})  # type: ignore[arg-type]
    topic.read_back({0: StartPosition(5, 5, committed=True, topic="one")}, lambda: None)
    topic._run([], {0: 9}, b"member")
    topic.identify("two")
    topic._run([], {0: 9}, b"member")
    assert [work.commits[0].topic for work in Noting.works] == ["one", "two"]
