"""A topic deleted and made again, at a real broker: all of the new one is read, whatever was committed of the old one."""

from __future__ import annotations

import json
import time
from pathlib import Path

import attrs
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition

from tests.contracts.source import Sent
from tests.core.spans import message, span, trace_id
from tests.real import output
from tests.real.brokers import Broker
from tests.real.daemon import Daemon, file_spans, until
from tests.real.test_lifecycle import World, make_world, some_traces, spans
from tss.core.partition import Commit
from tss.edges.kafka_client.offset_metadata import to_metadata

OLD = 20  # traces


def delete(place: World) -> None:
    admin = place.broker.admin()  # held: what it is asked dies with it
    admin.delete_topics([place.topic], operation_timeout=20)[place.topic].result(30)
    place.sent = 0


def make(place: World) -> None:
    """Deletion is not over when it is answered."""
    until(lambda: _made(place), 30, "the topic cannot be made again")


def _made(place: World) -> bool:
    try:
        place.broker.create_topic(place.topic)
    except KafkaException as error:
        if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
            raise
        time.sleep(0.05)
        return False
    return True


def commit(place: World, offset: int, metadata: str) -> None:
    group = place.config["kafka"]["consumerGroup"]
    wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(place.topic, 0, offset, metadata=metadata)])
    admin = place.broker.admin()  # as above
    admin.alter_consumer_group_offsets([wanted])[group].result(20)


def old_offsets(place: World) -> tuple[int, str]:
    with place.group() as group:
        [found] = group.consumer.committed([TopicPartition(place.topic, 0)], timeout=10)
    assert '"topic":' in (found.metadata or ""), found
    return found.offset, found.metadata or ""


def anew(daemon: Daemon) -> list[dict[str, object]]:
    return daemon.said("the topic was deleted and made again")


@pytest.mark.parametrize("reset", ["earliest", "latest"])
@pytest.mark.parametrize("new", [3, 2 * OLD], ids=["fewer", "more"])
def test_law_1_offsets_of_the_old_topic_are_void_after_a_restart(
    apache: Broker, tmp_path: Path, new: int, reset: str
) -> None:
    """Apache Kafka deletes the offsets with the topic. But a commit of the old owner may come after that, and other
    brokers keep them."""
    place = make_world(apache, tmp_path)
    place.send(*some_traces(OLD))
    with place.daemon as daemon:
        place.run_until_done(daemon)
        offset, metadata = old_offsets(place)
        assert offset == place.sent
        delete(place)
        make(place)
        commit(place, offset, metadata)
        traces = some_traces(new)
        place.send(*traces)
        place.config["kafka"]["autoOffsetReset"] = reset
        daemon.start()
        place.run_until_done(daemon)
        assert [line["offsets"] for line in anew(daemon)] == [{"0": 0}]
        assert {*file_spans(place.kept)} >= spans(traces)
        before = len(file_spans(place.kept))
        daemon.start()
        daemon.ready()
        place.run_until_done(daemon)
        assert not anew(daemon), "said once"
        assert len(file_spans(place.kept)) == before, "nor is it read twice"


@pytest.mark.parametrize("reset", ["earliest", "latest"])
@pytest.mark.parametrize("new", [3, 2 * OLD], ids=["fewer", "more"])
def test_law_1_all_of_the_new_topic_is_read_by_who_is_reading_the_old_one(
    apache: Broker, tmp_path: Path, new: int, reset: str
) -> None:
    place = make_world(apache, tmp_path)
    place.send(*some_traces(OLD))
    with place.daemon as daemon:
        daemon.ready()
        with place.group() as group:
            group.wait_until_done(20, daemon.tail, {0: place.sent})
            daemon.stop()
            place.config["kafka"]["autoOffsetReset"] = reset
            daemon.start()
            daemon.ready()
            delete(place)
            make(place)
            traces = some_traces(new)
            place.send(*traces)
            until(lambda: {*file_spans(place.kept, written=False)} >= spans(traces), 40, daemon.tail)
            group.wait_until_done(20, daemon.tail, {0: place.sent})
        assert anew(daemon)
        daemon.stop()


def test_law_1_under_latest_what_is_written_before_a_topic_that_was_away_is_found_is_read(
    apache: Broker, tmp_path: Path
) -> None:
    place = make_world(apache, tmp_path, kafka={"autoOffsetReset": "latest"})
    with place.daemon as daemon:
        daemon.ready()
        until(lambda: daemon.said("partitions assigned"), 20, daemon.tail)
        delete(place)
        until(lambda: daemon.get("/health/ready")[0] == 503, 60, daemon.tail)
        make(place)
        traces = some_traces(3)
        place.send(*traces)
        until(lambda: {*file_spans(place.kept, written=False)} >= spans(traces), 60, daemon.tail)
        daemon.stop()


def test_offsets_that_do_not_say_whose_they_are_are_believed(apache: Broker, tmp_path: Path) -> None:
    """As versions before wrote them, or an operator's tool."""
    place = make_world(apache, tmp_path)
    first, second = some_traces(2), some_traces(3)
    place.send(*first)
    before = place.sent
    place.send(*second)
    for metadata in ("", to_metadata(Commit(before, before))):
        commit(place, before, metadata)
        with place.daemon as daemon:
            daemon.ready()
            place.run_until_done(daemon)
            assert not anew(daemon)
        assert not {*file_spans(place.kept)} & spans(first)


def failed(trace: int, number: int) -> Sent:
    """A record with one span, which is a root and an error, so that its trace is kept."""
    return Sent(message([span(trace, number, error=True)]), key=trace_id(trace).hex().encode())


def test_law_1_what_the_output_topic_has_of_the_old_topic_is_not_taken_for_delivered_of_the_new_one(
    apache: Broker, tmp_path: Path
) -> None:
    """Another span of the same trace stands in the new topic where its first one stood in the old topic."""
    place = make_world(apache, tmp_path)
    kept = f"{place.topic}-kept"
    place.config["exporters"] = [{"name": "topic", "type": "kafka", "topic": kept, "batchTimeoutSecs": 0.05}]
    apache.create_topic(kept)
    with place.daemon as daemon:
        place.produce(failed(1, 0), failed(2, 0))
        place.run_until_done(daemon)
        delete(place)
        make(place)
        place.produce(failed(3, 0))
        daemon.start()
        place.run_until_done(daemon)
        place.produce(failed(2, 5))
        daemon.start()
        place.run_until_done(daemon)
        assert daemon.said("read back what the output topic has")
    messages = output.committed(apache.bootstrap, kept)
    wanted = [(trace_id(each), span(each, number).span_id) for each, number in ((1, 0), (2, 0), (3, 0), (2, 5))]
    assert output.counts(messages) == dict.fromkeys(wanted, 1)
    covers = [json.loads(dict(each.headers() or [])["tss-covers"] or b"") for each in messages]
    assert len({each["id"] for each in covers}) == 2, covers


@pytest.mark.parametrize("running", [False, True])
def test_law_1_all_of_a_topic_that_was_made_again_is_split_by_trace(
    apache: Broker, tmp_path: Path, running: bool
) -> None:
    place = make_world(apache, tmp_path, kafka={"rekey": {"enabled": True}})
    with place.daemon as daemon:
        daemon.ready()
        old = some_traces(5)
        place.send(*old)
        until(lambda: {*file_spans(place.kept, written=False)} >= spans(old), 40, daemon.tail)
        if not running:
            daemon.stop()
        delete(place)
        make(place)
        new = some_traces(2 * len(old))
        place.send(*new)
        if not running:
            daemon.start()
        until(lambda: {*file_spans(place.kept, written=False)} >= spans(new), 60, daemon.tail)
        daemon.stop()
    assert spans(old) | spans(new) == {*file_spans(place.kept)}


def test_a_keyed_topic_that_is_deleted_is_made_again(apache: Broker, tmp_path: Path) -> None:
    """What was in it goes with it; what comes then goes on, without a restart."""
    place = make_world(apache, tmp_path, kafka={"rekey": {"enabled": True}})
    keyed = attrs.evolve(place, topic=f"{place.topic}.by-trace")
    with place.daemon as daemon:
        daemon.ready()
        old = some_traces(5)
        place.send(*old)
        until(lambda: {*file_spans(place.kept, written=False)} >= spans(old), 40, daemon.tail)
        made = len(daemon.said("topic created"))
        delete(keyed)
        new = some_traces(2 * len(old))
        place.send(*new)
        until(lambda: len(daemon.said("topic created")) > made, 60, daemon.tail)
        until(lambda: {*file_spans(place.kept, written=False)} >= spans(new), 60, daemon.tail)
        daemon.stop()
