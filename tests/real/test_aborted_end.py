"""A transaction that was aborted at the log's end: nothing is left to read, and the scaler sees no lag."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.real.brokers import Broker
from tests.real.daemon import until
from tests.real.test_lifecycle import World, make_world, some_traces
from tests.real.test_rebalances import read_positions


def write(place: World, *, commits: bool) -> None:
    producer = Producer({"bootstrap.servers": place.broker.bootstrap, "transactional.id": place.topic, "log_level": 0})
    producer.init_transactions(30)
    producer.begin_transaction()
    for message in some_traces(1)[0].messages:
        producer.produce(place.topic, message.value, message.key, partition=0)
    assert producer.flush(30) == 0
    (producer.commit_transaction if commits else producer.abort_transaction)(30)


@pytest.mark.parametrize("commits", [False, True], ids=["aborted", "committed"])
def test_the_scalers_group_stands_at_the_end(apache: Broker, tmp_path: Path, commits: bool) -> None:
    scaler = f"scaler {commits}"
    place = make_world(apache, tmp_path, kafka={"scalerGroup": scaler})
    place.send(*some_traces(3))
    write(place, commits=commits)
    with place.daemon as daemon, place.group() as group:
        daemon.ready()
        ends = group.ends()
        assert ends[0] > place.sent, "the transaction is there"
        until(lambda: read_positions(apache, scaler) == ends, 30, lambda: f"{read_positions(apache, scaler)} of {ends}")
        daemon.stop()
        assert read_positions(apache, scaler) == ends
