"""Reading the output topic back: all that it has of what is wanted, and no more; by a scripted client in librdkafka's place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from confluent_kafka import OFFSET_END, KafkaError, KafkaException, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from tests.core.spans import trace_id
from tss.core.decision import Decision, Reason, Verdict
from tss.core.errors import CannotConnect
from tss.core.startposition import StartPosition
from tss.edges.kafka_client import asking
from tss.edges.kafka_output import readback
from tss.edges.kafka_output.output_records import ConsumedTopic, Output, records
from tss.edges.kafka_output.readback import MARGIN_MS, Readback

KEEP = Decision(Verdict.KEEP, "latency", Reason.INACTIVE, 0.25)
SOURCE = ConsumedTopic("group", "spans")
Known = dict[int, dict[bytes, list[int]]]


@attrs.frozen
class Message:
    """A record of the output topic, or what the client says of it."""

    place: tuple[int, int]
    trace: int = 0
    covers: Mapping[int, Sequence[int]] = attrs.field(factory=dict)
    failure: KafkaError | None = None
    topic_id: str = ""

    def error(self) -> KafkaError | None:
        return self.failure

    def partition(self) -> int:
        return self.place[0]

    def offset(self) -> int:
        return self.place[1]

    def key(self) -> bytes:
        return trace_id(self.trace).hex().encode()

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        if not self.covers:
            return None
        ((_, headers),) = records(
            Output(trace_id(self.trace), b"", KEEP, dict(self.covers), self.topic_id), SOURCE, 1 << 20
        )
        return [*headers]


@attrs.define
class Topic:
    """What the brokers have of it."""

    messages: list[Message] = attrs.field(factory=list)
    times_ms: dict[int, int] = attrs.field(factory=dict)  # by partition, of its one record that is found by its time
    partitions: int = 2
    ends: dict[int, int] | None = None  # where transactions are under way they lie above the last message
    missing: KafkaError | None = None
    refusals: list[KafkaError] = attrs.field(factory=list)
    asked_ms: list[int] = attrs.field(factory=list)
    clients: int = 0

    def end(self, id: int) -> int:
        if self.ends is not None:
            return self.ends.get(id, 0)
        return 1 + max((message.offset() for message in self.messages if message.partition() == id), default=-1)


class Client:
    """A consumer that gives a few messages at a time."""

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.waiting: Iterator[list[Message]] = iter(())
        topic.clients += 1

    def list_topics(self, name: str, timeout: float) -> Any:
        found = SimpleNamespace(error=self.topic.missing, partitions=dict.fromkeys(range(self.topic.partitions)))
        return SimpleNamespace(topics={name: found})

    def offsets_for_times(self, places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        if self.topic.refusals:
            raise KafkaException(self.topic.refusals.pop(0))
        return [TopicPartition(place.topic, place.partition, self._offset(place)) for place in places]

    def _offset(self, place: TopicPartition) -> int:
        if place.offset == OFFSET_END:
            return self.topic.end(place.partition)
        self.topic.asked_ms.append(place.offset)
        mine = [each.offset() for each in self.topic.messages if each.partition() == place.partition]
        return min(mine, default=-1)

    def assign(self, places: list[TopicPartition]) -> None:
        begin = {place.partition: place.offset for place in places}
        mine = [each for each in self.topic.messages if each.offset() >= begin[each.partition()]]
        ends = [
            Message((id, self.topic.end(id)), failure=KafkaError(KafkaError._PARTITION_EOF)) for id in begin
        ]  # as after a transaction that was aborted, whose records nobody is given
        self.waiting = iter([mine[:1], [], mine[1:], ends])

    def consume(self, count: int, secs: float) -> list[Message]:
        return next(self.waiting, [])

    def close(self) -> None:
        self.topic.clients -= 1


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> Topic:
    found = Topic()
    monkeypatch.setattr(readback, "Consumer", lambda config: Client(found))
    monkeypatch.setattr(asking, "PAUSE_SECS", 0.0)
    return found


def breathe() -> None: ...


def read(wanted: Mapping[int, int]) -> Known:
    known = Readback({}, "kept", SOURCE).read(0, wanted, breathe)
    return {id: {trace: sorted(told.offsets) for trace, told in of_it.items()} for id, of_it in known.items()}


def test_law_1_a_trace_whose_last_record_is_the_first_wanted_is_found(topic: Topic) -> None:
    """One offset on either side: it would be produced twice, or, where it is not there, taken for delivered."""
    topic.messages = [Message((0, number), number, {3: [50, 50 + number]}) for number in range(1, 4)]
    assert read({3: 52}) == {3: {trace_id(2): [50, 52], trace_id(3): [50, 53]}}
    assert read({3: 53}) == {3: {trace_id(3): [50, 53]}}
    assert read({3: 54}) == {}
    assert read({4: 0}) == {}


def test_a_trace_and_what_came_late_of_it_are_one(topic: Topic) -> None:
    topic.messages = [Message((0, 0), 1, {3: [1]}), Message((1, 0), 1, {3: [9], 4: [2]})]
    assert read({3: 0, 4: 0}) == {3: {trace_id(1): [1, 9]}, 4: {trace_id(1): [2]}}


@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.integers(1, 4),
            st.dictionaries(
                st.integers(0, 2), st.lists(st.integers(0, 9), min_size=1, unique=True).map(sorted), min_size=1
            ),
        ),
        max_size=12,
    ),
    st.dictionaries(st.integers(0, 2), st.integers(0, 10)),
)
def test_all_that_is_wanted_is_found(
    written: list[tuple[int, int, dict[int, list[int]]]], wanted: dict[int, int]
) -> None:
    topic, offsets = Topic(), [0, 0]
    for id, trace, covers in written:
        topic.messages.append(Message((id, offsets[id]), trace, covers))
        offsets[id] += 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readback, "Consumer", lambda config: Client(topic))
        found = read(wanted)
    right: dict[int, dict[bytes, set[int]]] = defaultdict(lambda: defaultdict(set))
    for _, trace, covers in written:
        for partition, known in covers.items():
            if partition in wanted and known[-1] >= wanted[partition]:
                right[partition][trace_id(trace)] |= set(known)
    assert found == {id: {trace: sorted(known) for trace, known in of_it.items()} for id, of_it in right.items()}
    assert topic.clients == 0


def test_it_reads_from_a_margin_before_the_earliest_time_that_was_noted(topic: Topic) -> None:
    topic.messages = [Message((0, 5), 1, {3: [7]})]
    starts = {
        3: StartPosition(7, 7, True, since_ms=90_000),
        4: StartPosition(1, 1, True, since_ms=80_000),
        5: StartPosition(2, 2, True),
    }
    found = Readback({}, "kept", SOURCE).with_output_traces(starts, breathe)
    assert set(topic.asked_ms) == {80_000 - MARGIN_MS}
    assert [sorted(start.output_traces) for start in found.values()] == [[trace_id(1)], [], []]
    assert found == {id: attrs.evolve(start, output_traces=found[id].output_traces) for id, start in starts.items()}


def test_law_1_what_it_has_of_a_topic_that_was_deleted_is_not_delivered_of_the_new_one(topic: Topic) -> None:
    topic.messages = [Message((0, 5), 1, {3: [7]}, topic_id="old"), Message((0, 6), 2, {3: [8]}, topic_id="new")]
    topic.messages.append(Message((0, 7), 3, {3: [9]}))
    for now, traces in (("new", [2, 3]), ("old", [1, 3]), ("", [1, 2, 3])):
        found = Readback({}, "kept", SOURCE).with_output_traces(
            {3: StartPosition(7, 7, True, since_ms=90_000, topic=now)}, breathe
        )
        assert sorted(found[3].output_traces) == sorted(map(trace_id, traces)), now


def test_nothing_is_asked_where_nothing_was_noted(topic: Topic) -> None:
    topic.messages = [Message((0, 5), 1, {3: [7]})]
    starts = {3: StartPosition(7, 7, committed=True)}
    assert Readback({}, "kept", SOURCE).with_output_traces(starts, breathe) == starts
    assert not topic.asked_ms


def test_brokers_that_are_busy_are_asked_again_and_those_that_refuse_are_not(topic: Topic) -> None:
    breaths: list[None] = []
    topic.messages = [Message((0, 5), 1, {3: [7]})]
    topic.refusals = [KafkaError(KafkaError.LEADER_NOT_AVAILABLE)] * 2
    assert Readback({}, "kept", SOURCE).read(0, {3: 0}, lambda: breaths.append(None)).keys() == {3}
    assert len(breaths) >= 2
    topic.refusals = [KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)]
    with pytest.raises(CannotConnect, match="the output topic could not be read back"):
        read({3: 0})
    assert topic.clients == 0


def test_records_that_may_not_be_read_are_said(topic: Topic) -> None:
    topic.messages = [Message((0, 5), failure=KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))]
    topic.ends = {0: 6}
    with pytest.raises(CannotConnect, match=r"kept: .* check the ACLs of the topic"):
        read({3: 0})


def test_a_topic_that_does_not_exist_has_nothing(topic: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readback, "MISSING_SECS", 0.05)
    topic.missing = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
    assert read({3: 0}) == {}


def test_an_end_that_never_comes_is_not_waited_for_without_end(topic: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that somebody has left open."""
    monkeypatch.setattr(readback, "IN_ALL_SECS", 0.05)
    monkeypatch.setattr(Client, "consume", lambda self, count, secs: [])
    topic.messages = [Message((0, 5), 1, {3: [7]})]
    with pytest.raises(CannotConnect, match=r"kept could not be read back in 0.05 s"):
        read({3: 0})
