"""What a member does with callbacks that come in the middle of a batch: a scripted client in librdkafka's place."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, ClassVar

import attrs
import pytest
from confluent_kafka import OFFSET_END, KafkaError, KafkaException, TopicPartition
from structlog.testing import capture_logs

from tests.core.spans import message, rows, span
from tests.fakes.meter import FakeMeter
from tss.core import measures
from tss.core.errors import CannotConnect
from tss.core.health import Health, State
from tss.core.partition import Commit
from tss.core.startposition import StartPosition
from tss.edges.kafka.connection import BrokerConnection
from tss.edges.kafka.identity import NO_ID, TRIES, TopicIdentity
from tss.edges.kafka.member import BATCH_BYTES, UNREAD_TRIES, Member
from tss.edges.kafka_client.offset_metadata import to_metadata, topic_of
from tss.settings import Kafka


@attrs.frozen
class Note:
    """A message, of which only the coordinates matter."""

    at: tuple[int, int]
    failure: KafkaError | None = None

    def error(self) -> KafkaError | None:
        return self.failure

    def topic(self) -> str:
        return "t"

    def partition(self) -> int:
        return self.at[0]

    def offset(self) -> int:
        return self.at[1]

    def value(self) -> bytes:
        return b""

    def key(self) -> bytes | None:
        return None

    def headers(self) -> None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return 0, 0


class Script:
    """A client whose `consume` runs a callable, and which writes down where it is told to read."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.committed_at = 10
        self.first = 0
        self.end = 100
        self.partitions = 2
        self.standing: dict[int, tuple[int, str]] = {}  # what the group has, where that is not the same everywhere
        self.during: Callable[[], object] = lambda: None
        self.messages: list[Note] = []
        self.resumed: list[int] = []  # by the last call
        self.topic_id: str | None = NO_ID
        self.asked = 0
        self.ends_asked: dict[TopicPartition, Future[Any]] = {}

    def list_offsets(
        self, wanted: Mapping[TopicPartition, object], **_more: object
    ) -> dict[TopicPartition, Future[Any]]:
        self.ends_asked = {place: Future() for place in wanted}
        return self.ends_asked

    def consume(self, count: int, secs: float) -> list[Note]:
        messages, self.messages = self.messages, []
        self.during()
        return messages

    def _note(self, name: str, places: Sequence[TopicPartition]) -> None:
        self.calls.append((name, *((place.partition, place.offset) for place in places)))

    def committed(self, places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        known = {place.partition: self.standing.get(place.partition, (self.committed_at, "")) for place in places}
        return [TopicPartition("t", id, offset, metadata=metadata) for id, (offset, metadata) in known.items()]

    def list_topics(self, topic: str, timeout: float) -> Any:
        found = SimpleNamespace(error=None, partitions=dict.fromkeys(range(self.partitions)))
        return SimpleNamespace(topics={topic: found})

    def describe_topics(self, _topics: object, request_timeout: float) -> dict[str, Any]:
        self.asked += 1
        answer: Future[Any] = Future()
        if self.topic_id is None:
            answer.set_exception(KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)))
        else:
            answer.set_result(SimpleNamespace(topic_id=self.topic_id))
        return {"t": answer}

    def offsets_for_times(self, places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return [
            TopicPartition("t", place.partition, self.end if place.offset == OFFSET_END else self.first)
            for place in places
        ]

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> None:
        self._note("commit", offsets)
        self.standing |= {place.partition: (place.offset, place.metadata or "") for place in offsets}

    def incremental_assign(self, places: list[TopicPartition]) -> None:
        self._note("incremental_assign", places)

    def incremental_unassign(self, places: list[TopicPartition]) -> None:
        self._note("incremental_unassign", [TopicPartition("t", place.partition, 0) for place in places])

    def assign(self, places: list[TopicPartition]) -> None:
        self._note("assign", places)

    def unassign(self) -> None:
        self._note("unassign", [])

    def pause(self, places: list[TopicPartition]) -> None:
        self._note("pause", [TopicPartition("t", place.partition, 0) for place in places])

    def resume(self, places: list[TopicPartition]) -> None:
        self.resumed = [place.partition for place in places]


class Ears:
    """Group: hears, and may object."""

    def __init__(self) -> None:
        self.heard: list[tuple[object, ...]] = []
        self.objection: BaseException | None = None

    def assigned(self, starts: Mapping[int, StartPosition]) -> dict[int, Commit]:
        self.heard.append(("assigned", *sorted(starts)))
        self.starts = dict(starts)
        if self.objection:
            raise self.objection
        return {
            id: Commit(start.offset, start.offset, topic=start.topic)
            for id, start in starts.items()
            if not start.committed
        }

    def revoked(self, ids: Sequence[int]) -> dict[int, Commit]:
        self.heard.append(("revoked", *ids))
        return {id: Commit(10, 10) for id in ids}

    def lost(self, ids: Sequence[int]) -> None:
        self.heard.append(("lost", *ids))

    def identify(self, topic: str) -> None:
        self.heard.append(("identified", topic))

    def breathe(self) -> None: ...


class Scripted(Member):
    def _connect(self, config) -> Any:
        self.script = Script()
        return self.script

    def _admin_client(self, _kafka: Kafka, _client_id: str) -> Any:
        return self.script

    # What librdkafka would call.

    def assign(self, *ids: int) -> None:
        self._on_assign(self._client, places(*ids))

    def revoke(self, *ids: int) -> None:
        self._on_revoke(self._client, places(*ids))

    def lose(self, *ids: int) -> None:
        self._on_lost(self._client, places(*ids))


def member(strategy: str = "cooperative-sticky", poll_bytes: int = BATCH_BYTES) -> tuple[Scripted, Script, Ears]:
    ears = Ears()
    kafka = Kafka(brokers="b:1", input_topic="t", partition_assignment_strategy=strategy)
    made = Scripted(kafka, "me", ears, BrokerConnection("b:1", "t"), poll_bytes=poll_bytes)
    return made, made.script, ears


def places(*ids: int) -> list[TopicPartition]:
    return [TopicPartition("t", id) for id in ids]


def polled(made: Member) -> list[tuple[int, int]]:
    return [(row.partition, row.offset) for row in rows(made.poll().records)]


def joined(strategy: str = "cooperative-sticky", poll_bytes: int = BATCH_BYTES) -> tuple[Scripted, Script, Ears]:
    made, script, ears = member(strategy, poll_bytes)

    script.messages = [Note((0, 10)), Note((1, 10))]
    script.during = lambda: made.assign(0, 1)
    assert polled(made) == [(0, 10), (1, 10)], "of partitions that came in the call"
    script.during = lambda: None
    script.calls.clear()
    return made, script, ears


def test_messages_collected_before_a_revocation_are_dropped() -> None:
    made, script, ears = joined()

    script.messages = [Note((0, 11)), Note((1, 11)), Note((0, 12))]
    script.during = lambda: made.revoke(1)
    assert polled(made) == [(0, 11), (0, 12)]
    assert script.calls == [("commit", (1, 10)), ("incremental_unassign", (1, 0))]
    assert ears.heard[-1] == ("revoked", 1)


@pytest.mark.parametrize("strategy", ["cooperative-sticky", "range"])
def test_a_partition_that_goes_and_comes_back_in_a_call_is_read_again_from_its_start(strategy: str) -> None:
    made, script, _ = joined(strategy)

    script.messages = [Note((0, 11)), Note((0, 12))]
    script.during = lambda: [made.revoke(0, 1), made.assign(0, 1)]  # type: ignore[func-returns-value]
    assert polled(made) == []
    again = ("incremental_assign", (0, 10)) if strategy != "range" else ("assign", (0, 10), (1, 10))
    assert script.calls[-1] == again


def out_of_range(id: int) -> Note:
    return Note((id, 0), KafkaError(KafkaError._AUTO_OFFSET_RESET))


def lost(made: Member) -> dict[tuple[str, ...], float]:
    meter = FakeMeter()
    made._connection.tell(meter, Health(), 0.0)
    return meter.by_label(measures.RECORDS_LOST)


def test_real_loss_is_counted_where_reading_finds_it() -> None:
    made, script, _ = joined()
    assert lost(made) == {}
    script.first = 30
    script.messages = [out_of_range(0)]
    with capture_logs() as lines:
        made.poll()
    assert lost(made) == {("t", "0"): 19}, "11 was to come next"
    (line,) = [line for line in lines if "lost_offsets" in line]
    assert (line["log_level"], line["lost_offsets"], line["from_offset"], line["to_offset"]) == ("error", 19, 11, 30)
    assert lost(made) == {}, "it is counted once"


def test_real_loss_is_counted_where_a_start_finds_it() -> None:
    made, script, _ = member()
    script.first = 30
    script.during = lambda: made.assign(0, 1)
    made.poll()
    assert lost(made) == {("t", "0"): 20, ("t", "1"): 20}


def test_what_was_to_be_read_again_only_to_remember_it_is_no_loss() -> None:
    made, script, _ = member()
    script.standing = {0: (50, '{"v":1,"replay":20}')}
    script.during = lambda: made.assign(0)
    made.poll()
    script.during = lambda: None
    script.first = 40
    script.messages = [out_of_range(0)]
    made.poll()
    assert lost(made) == {}
    assert script.calls[-1] == ("incremental_assign", (0, 40))
    script.first = 60
    script.messages = [out_of_range(0)]
    made.poll()
    assert lost(made) == {("t", "0"): 20}, "40 to 50 was delivered before"


def test_law_4_what_the_client_passes_unread_is_counted_and_told() -> None:
    broken = KafkaError(KafkaError._BAD_MSG, "failed CRC32C check")
    made, script, _ = member()
    script.standing = {0: (11, '{"v":1,"replay":5}')}
    script.during = lambda: made.assign(0)
    made.poll()
    script.during = lambda: None
    script.messages = [Note((0, 5)), Note((0, 6), broken), Note((0, 8)), Note((0, 9), broken), Note((0, 14))]
    with capture_logs() as lines:
        made.poll()
    assert lost(made) == {("t", "0"): 3}, "below 11 all was delivered before"
    (line,) = [line for line in lines if "lost_offsets" in line]
    assert (line["log_level"], line["from_offset"], line["to_offset"]) == ("error", 11, 14)
    assert line["reason"] == "failed CRC32C check"
    script.messages = [Note((0, 15), broken)]
    made.poll()
    made.seek({0: 10})
    script.messages = [Note((0, 20))]
    made.poll()
    assert lost(made) == {}, "read from elsewhere"


def test_law_4_a_broken_batch_is_asked_for_again_and_then_passed_offset_by_offset() -> None:
    """After a wrong checksum librdkafka asks for an offset that it has read out of anything."""
    made, script, _ = joined()
    script.calls.clear()
    places = []
    for _ in range(UNREAD_TRIES + 3):
        broken = Note((0, 8), KafkaError(KafkaError._BAD_MSG, "failed CRC32C check"))
        script.messages = [broken, Note((0, 1 << 62), KafkaError(KafkaError._NOT_IMPLEMENTED)), out_of_range(0)]
        made.poll()
        places.append(script.calls[-1])
    assert places == [("incremental_assign", (0, max(11, 11 + over))) for over in range(1 - UNREAD_TRIES, 4)]
    assert lost(made) == {}
    script.messages = [Note((0, 14)), Note((0, 15))]
    assert polled(made) == [(0, 14), (0, 15)]
    assert lost(made) == {("t", "0"): 3}, "from 11, which was wanted next, to 14"


def test_lost_partitions_are_not_revoked() -> None:
    made, script, ears = joined()

    script.messages = [Note((0, 11))]
    script.during = lambda: made.lose(0, 1)
    assert polled(made) == []
    assert ears.heard[1:] == [("lost", 0, 1)] and not [call for call in script.calls if call[0] == "commit"]


def test_law_1_a_partition_that_went_while_paused_is_fetched_when_it_comes_back() -> None:
    """librdkafka remembers the pause."""
    made, script, _ = joined()
    made.pause()
    made.revoke(0)
    made.resume()
    made.assign(0)
    assert script.resumed == [0]


def test_partitions_held_are_paused_alone_and_stay_so() -> None:
    made, script, _ = joined()
    made.hold({1})
    assert script.calls[-1] == ("pause", (1, 0))
    made.pause()
    made.resume()
    assert script.resumed == [0]
    made.hold({1})
    made.hold(set())
    assert script.resumed == [1]


def test_eager_members_that_move_one_partition_leave_the_others_where_they_are() -> None:
    made, script, _ = joined("range")
    script.first = 40
    gone = KafkaError(KafkaError._AUTO_OFFSET_RESET, "Broker: Offset out of range")
    script.messages = [Note((1, 11)), Note((0, 11), gone), Note((1, 12))]
    assert polled(made) == [(1, 11), (1, 12)]
    assert script.calls == [("assign", (0, 40), (1, 13))]


def test_partitions_that_come_during_a_pause_are_paused() -> None:
    made, script, _ = member()
    made.pause()
    script.during = lambda: made.assign(0)
    made.poll()
    assert script.calls == [("incremental_assign", (0, 10)), ("pause", (0, 0))]


def test_what_a_callback_raises_comes_out_of_the_poll() -> None:
    made, script, ears = member()
    ears.objection = ValueError("boom")
    script.during = lambda: made.assign(0)
    with pytest.raises(ValueError, match="boom"):
        made.poll()


def test_a_fatal_error_comes_out_of_the_poll() -> None:
    made, script, _ = member()
    wrong = KafkaError(KafkaError._AUTHENTICATION, "SASL authentication error: no such user")
    script.during = lambda: made._on_error(wrong)
    with pytest.raises(CannotConnect, match=r"Failed to connect to Kafka: b:1: SASL .* check kafka.saslUsername"):
        made.poll()


def test_an_answer_is_heard_by_who_asked() -> None:
    made, script, _ = joined()
    heard: list[tuple[str, Exception | None]] = []
    made.commit_soon({0: Commit(11, 5), 1: Commit(12, 5)}, lambda error: heard.append(("first", error)))
    made.commit_soon({0: Commit(13, 5)}, lambda error: heard.append(("second", error)))
    away = KafkaError(KafkaError.REBALANCE_IN_PROGRESS, "rebalance in progress")
    script.during = lambda: made._on_commit(away, [TopicPartition("t", 0, 13)])
    made.poll()
    script.during = lambda: made._on_commit(None, [TopicPartition("t", 1, 12), TopicPartition("t", 0, 11)])
    made.poll()
    (second, refusal), first = heard
    assert second == "second" and str(refusal) == "all partitions: rebalance in progress"
    assert first == ("first", None)


def test_two_commits_that_say_the_same_are_both_answered() -> None:
    """As when a partition is revoked while a commit of the same offset is still under way."""
    made, script, _ = joined()
    heard: list[Exception | None] = []
    made.commit_soon({0: Commit(10, 10)}, heard.append)
    script.during = lambda: made.revoke(0)
    made.poll()

    def both() -> None:
        for _ in range(2):
            made._on_commit(None, [TopicPartition("t", 0, 10)])

    script.during = both
    made.poll()
    assert heard == [None]
    assert not made._unheard


def test_a_member_that_has_its_partitions_is_up() -> None:
    made, _, _ = member()
    health = Health()
    states = []
    for ids in ((), (0, 1)):
        if ids:
            made.assign(*ids)
        made._connection.tell(FakeMeter(), health, 0.0)
        states.append(health.components["kafka"].state)
    assert states == [State.STARTING, State.UP]


# -- where a partition without an offset begins


def test_a_group_without_any_offset_begins_at_the_ends_and_notes_how_many_there_were() -> None:
    made, script, ears = member()
    script.committed_at, script.partitions = -1001, 4
    made.assign(0, 1)
    assert [start.offset for start in ears.starts.values()] == [100, 100]
    assert script.standing[0] == (100, '{"v":1,"replay":100,"of":4}')


def test_law_1_a_partition_that_is_new_to_the_group_begins_at_its_start() -> None:
    made, script, ears = member()
    script.committed_at, script.partitions = -1001, 3
    script.standing = {0: (50, '{"v":1,"replay":50}'), 1: (60, "")}
    made.assign(0, 2)
    assert {id: start.offset for id, start in ears.starts.items()} == {0: 50, 2: 0}
    assert script.standing[2] == (0, '{"v":1,"replay":0}'), "or those that come next to it would count as old"


def test_law_1_where_nobody_noted_how_many_there_were_every_partition_without_an_offset_is_new() -> None:
    made, script, ears = member()
    script.committed_at, script.partitions = -1001, 2
    script.standing = {1: (60, "")}
    made.assign(0)
    assert ears.starts[0].offset == 0, "the offsets were committed by another program, so records may wait unread"


def test_members_that_begin_a_group_together_do_not_take_each_others_partitions_for_new_ones() -> None:
    made, script, ears = member()
    script.committed_at, script.partitions = -1001, 5
    script.standing = {0: (70, '{"v":1,"replay":70,"of":4}'), 1: (80, '{"v":1,"replay":80}')}
    made.assign(3, 4)
    assert {id: start.offset for id, start in ears.starts.items()} == {3: 100, 4: 0}, "the fifth came after the birth"


def test_an_offset_that_retention_took_is_no_birth() -> None:
    made, script, ears = member()
    script.first, script.partitions = 40, 2
    made.assign(0)
    assert ears.starts[0].offset == 40
    assert script.standing[0] == (40, '{"v":1,"replay":40}')


# -- a topic that was deleted, and made again


def of(topic: str, offset: int = 10, replay: int = 10) -> tuple[int, str]:
    return offset, to_metadata(Commit(offset, replay, topic=topic))


def test_what_is_committed_says_of_which_topic_it_is() -> None:
    made, script, _ = member()
    script.topic_id, script.committed_at = "one", -1
    made._reset = "earliest"
    made.assign(0, 1)
    assert topic_of(script.standing[0][1]) == "one"
    assert topic_of(to_metadata(Commit(1, 1))) == topic_of("keda") == topic_of('{"v":1,"topic":7}') == ""


@pytest.mark.parametrize("reset", ["earliest", "latest"])
def test_offsets_of_another_topic_of_the_name_are_void(reset: str) -> None:
    made, script, ears = member()
    made._reset = reset
    script.topic_id, script.first = "two", 3
    script.standing = {0: of("one", 50), 1: of("two", 60)}
    with capture_logs() as logs:
        made.assign(0, 1)
    assert {
        id: (start.offset, start.replay_from, start.committed, start.anew) for id, start in ears.starts.items()
    } == {
        0: (3, 3, False, True),
        1: (60, 10, True, False),
    }
    assert [line["offsets"] for line in logs if "deleted and made again" in line["event"]] == [{"0": 3}]
    assert topic_of(script.standing[0][1]) == "two"


@pytest.mark.parametrize("topic_id", [None, NO_ID])
def test_where_no_id_is_told_offsets_are_believed(topic_id: str | None) -> None:
    made, script, ears = member()
    script.topic_id, script.standing = topic_id, {0: of("one", 50)}
    made.assign(0)
    assert (ears.starts[0].offset, ears.starts[0].anew) == (50, False)
    assert script.asked == TRIES


def test_offsets_that_say_nothing_are_believed() -> None:
    made, script, ears = member()
    script.topic_id = "two"
    made.assign(0)
    assert (ears.starts[0].offset, ears.starts[0].anew, ears.starts[0].topic) == (10, False, "two")


def test_under_latest_all_of_a_topic_that_came_while_the_group_was_at_work_is_read() -> None:
    """The brokers delete the group's offsets with the topic, or some of them have not come to it yet."""
    for standing in ({}, {1: of("one", 50)}):
        made, script, ears = member()
        made._reset, script.topic_id, script.committed_at = "latest", "one", 40
        made.assign(0)
        made.lose(0)
        script.topic_id, script.committed_at, script.standing = "two", -1, dict(standing)
        made.assign(0)
        assert (ears.starts[0].offset, ears.starts[0].anew) == (0, True), "this process has read another"
        fresh, script, ears = member()
        fresh._reset, script.topic_id, script.committed_at, script.standing = "latest", "two", -1, dict(standing)
        fresh.assign(0)
        assert ears.starts[0].offset == (0 if standing else script.end), "the offsets of others may say so"


@pytest.mark.parametrize("strategy", ["cooperative-sticky", "range"])
def test_a_topic_that_is_replaced_while_it_is_read_is_begun_anew(strategy: str) -> None:
    made, script, ears = member(strategy)
    script.topic_id = "one"
    made.assign(0, 1)
    script.topic_id, script.committed_at = "two", -1
    made._identity._next_look = 0.0
    script.messages = [Note((0, 10))]
    assert polled(made) == [(0, 10)], "the question is on its way"
    script.calls.clear()
    script.messages = [Note((0, 0)), Note((1, 0))]
    assert polled(made) == [(0, 0), (1, 0)]
    assert ears.heard[-1] == ("assigned", 0, 1) and ears.starts[0].anew
    moves = [call for call in script.calls if call[0].startswith(("assign", "incremental"))]  # type: ignore[attr-defined]
    new = ("assign", (0, 0), (1, 0))
    assert moves == (
        [new]
        if strategy == "range"
        else [("incremental_unassign", (0, 0), (1, 0)), ("incremental_" + new[0], *new[1:])]
    )
    assert made._positions == {0: 1, 1: 1}


def test_a_position_beyond_the_end_is_asked_about_at_once() -> None:
    made, script, ears = joined()
    made._identity.known, script.topic_id, script.committed_at = "one", "two", -1
    out_of_range = KafkaError(KafkaError._AUTO_OFFSET_RESET)
    script.messages = [Note((0, 11)), Note((1, 0), out_of_range)]
    script.calls.clear()
    assert polled(made) == [(0, 11)], "what was read was of the old topic, and goes to its partition"
    assert script.calls == []
    assert polled(made) == []
    assert ears.starts[0].anew and made._positions == {0: 0, 1: 0}


def test_an_id_that_was_not_told_at_the_assignment_is_taken_over_when_it_is() -> None:
    made, script, ears = member()
    script.topic_id = ""
    made.assign(0)
    assert ears.starts[0].topic == ""
    script.topic_id = "one"
    made._identity._next_look = 0.0
    for offset in (10, 11):  # one poll asks, the next hears
        script.messages = [Note((0, offset))]
        assert polled(made) == [(0, offset)]
    assert ears.heard[-1] == ("identified", "one")
    script.topic_id = "two"
    made._identity._next_look = 0.0
    for offset in (12, 0):
        script.messages = [Note((0, offset))]
        polled(made)
    assert ears.starts[0].anew, "from then on it is known to be another one"


def test_an_answer_that_does_not_come_holds_up_nobody() -> None:
    asked: Future[Any] = Future()

    class Silent(Script):
        def describe_topics(self, _topics: object, request_timeout: float) -> dict[str, Any]:
            self.asked += 1
            return {"t": asked}

    script = Silent()
    identity = TopicIdentity("t", lambda: script)  # type: ignore[arg-type,return-value]
    identity.known = "one"
    assert [identity.has_changed() for _ in range(5)] == [False] * 5
    assert script.asked == 1
    asked.set_result(SimpleNamespace(topic_id="two"))
    assert identity.has_changed()


class Large(Note):
    """One that takes a good part of what a poll may hold, once it is scanned."""

    def value(self) -> bytes:
        return message([span(number, 0) for number in range(150)])


def crowded(*at: tuple[int, int], poll_bytes: int = 60_000) -> tuple[Scripted, Script]:
    """Each message takes some 50 kB, so two are read at once."""
    made, script, _ = joined(poll_bytes=poll_bytes)
    script.messages = [Large(each) for each in at]
    return made, script


def test_law_5_a_poll_ends_where_what_it_scanned_is_enough_and_the_rest_comes_in_order() -> None:
    made, script = crowded((0, 11), (0, 12), (1, 11), (0, 13), (1, 12))
    assert polled(made) == [(0, 11), (0, 12)]
    script.messages = [Note((1, 13))]
    read = made.poll()
    assert [(row.partition, row.offset) for row in rows(read.records)] == [(1, 11), (0, 13)]
    assert 60_000 <= read.held_bytes < 120_000
    assert read.waiting_bytes == len(Large((0, 0)).value())
    assert polled(made) == [(1, 12), (1, 13)]
    assert made.poll().waiting_bytes == 0


class Laden(Note):
    """One with next to nothing in its value, and much beside it."""

    def value(self) -> bytes:
        return message([span(1, 0)])

    def key(self) -> bytes:
        return bytes(1000)

    def headers(self) -> list[tuple[str, bytes]]:  # type: ignore[override]
        return [("tenant", bytes(20_000))]


def test_law_5_the_next_poll_asks_for_fewer_where_messages_are_large_beside_their_values() -> None:
    made, script, _ = joined(poll_bytes=60_000)
    script.messages = [Laden((0, offset)) for offset in range(11, 14)]
    made.poll()
    assert made._batch_records == 2
    script.messages = [Note((0, offset)) for offset in range(14, 17)]
    made.poll()
    assert made._batch_records == 4


def test_law_3_a_partition_of_which_messages_wait_is_not_at_its_end() -> None:
    """librdkafka has them no more, but nothing was read of them: the wall clock must not move that partition's time."""
    made, _ = crowded((0, 11), (0, 12), (1, 11))
    made._ends.read_to = lambda ids: dict.fromkeys(ids, 100)  # type: ignore[method-assign]
    made._ends.reached = lambda positions: dict.fromkeys(positions, 10**12)  # type: ignore[method-assign]
    assert set(made.poll().ends) == set(), "0 was read from, 1 waits"
    assert set(made.poll().ends) == {0}
    assert set(made.poll().ends) == {0, 1}


def test_a_member_that_lost_its_partitions_is_none_for_its_outbox() -> None:
    class Outbox:
        heard: ClassVar[list[bytes]] = []

        def is_member(self, membership: bytes) -> None:
            self.heard.append(membership)

    made, _, ears = joined()
    made._outbox = Outbox()  # type: ignore[assignment]
    made.lose(0, 1)
    assert Outbox.heard == [b""] and ears.heard[-1] == ("lost", 0, 1)


def test_law_5_what_the_outbox_holds_is_counted() -> None:
    class Outbox:
        held_bytes = 700

        def is_member(self, membership: bytes) -> None: ...

    made, script, _ = joined()
    script.memberid = lambda: ""  # type: ignore[attr-defined]
    script.consumer_group_metadata = lambda: b""  # type: ignore[attr-defined]
    before = made.poll().waiting_bytes
    made._outbox = Outbox()  # type: ignore[assignment]
    assert made.poll().waiting_bytes == before + 700


def test_what_waits_of_a_partition_that_goes_goes_with_it() -> None:
    made, script = crowded((0, 11), (0, 12), (1, 11), (0, 13), (1, 12))
    assert polled(made) == [(0, 11), (0, 12)]
    script.during = lambda: made.revoke(1)
    assert polled(made) == [(0, 13)]
    script.during = lambda: None
    assert polled(made) == []


@pytest.mark.parametrize("strategy", ["cooperative-sticky", "range"])
def test_law_1_what_waits_of_a_partition_that_goes_and_comes_back_is_fetched_again(strategy: str) -> None:
    """Even in the call that brought it: a later call does not know that it is old."""
    made, script, _ = joined(strategy, poll_bytes=60_000)
    script.messages = [Large((0, 11)), Large((0, 12)), Large((1, 11)), Large((1, 12))]
    script.during = lambda: [made.revoke(1), made.assign(1)]  # type: ignore[func-returns-value]
    assert polled(made) == [(0, 11), (0, 12)]
    assert (1, 10) in script.calls[-1]
    script.during = lambda: None
    script.messages = [Note((1, 10))]
    assert polled(made) == [(1, 10)]


def test_lags_while_paused_are_asked_without_waiting_for_the_answer() -> None:
    """The thread is the one that commits and keeps the membership."""
    made, script, _ = joined()
    made.pause()
    waited: list[TopicPartition] = []

    def wait(places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        waited.extend(places)
        return []

    script.offsets_for_times = wait  # type: ignore[method-assign]
    assert [made.poll().lags, made.poll().lags] == [{}, {}]
    assert sorted(place.partition for place in script.ends_asked) == [0, 1] and not waited
    for place, future in script.ends_asked.items():
        if place.partition == 0:
            future.set_result(SimpleNamespace(offset=100))
        else:
            future.set_exception(KafkaException(KafkaError(KafkaError._TIMED_OUT)))
    assert [made.poll().lags, made.poll().lags] == [{0: 100 - 11}, {}]


def test_an_answer_of_the_pause_before_counts_for_nothing() -> None:
    made, script, _ = joined()
    made.pause()
    made.poll()
    for future in script.ends_asked.values():
        future.set_result(SimpleNamespace(offset=100))
    made.resume()
    made.pause()
    assert made.poll().lags == {}


def test_what_waits_while_paused_is_read_once_that_is_over() -> None:
    made, _ = crowded((0, 11), (0, 12), (0, 13), (0, 14))
    assert polled(made) == [(0, 11), (0, 12)]
    made.pause()
    assert polled(made) == []
    made.resume()
    assert polled(made) == [(0, 13), (0, 14)]


def test_what_waits_of_a_partition_that_is_held_stops_no_other() -> None:
    made, script = crowded((0, 11), (1, 11), (0, 12), (1, 12), (0, 13), (1, 13))
    assert polled(made) == [(0, 11), (1, 11)]
    made.hold({0})
    assert polled(made) == [(1, 12), (1, 13)]
    script.messages = [Note((1, 14))]
    assert polled(made) == [(1, 14)]
    made.hold(set())
    assert polled(made) == [(0, 12), (0, 13)]


def test_a_seek_forgets_what_waits() -> None:
    made, script = crowded((0, 11), (0, 12), (0, 13))
    assert polled(made) == [(0, 11), (0, 12)]
    made.seek({0: 11})
    script.messages = [Note((0, 11))]
    assert polled(made) == [(0, 11)]
