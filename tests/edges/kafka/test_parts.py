"""The parts of the Kafka edge that need no broker: starts, ends, errors, properties."""

import pytest
from confluent_kafka import KafkaError, TopicPartition
from structlog.testing import capture_logs

from tests.fakes.meter import FakeMeter
from tss.core import measures
from tss.core.errors import LawBroken
from tss.core.health import Health, State
from tss.core.partition import Commit
from tss.core.startposition import StartPosition
from tss.edges.kafka.connection import BrokerConnection
from tss.edges.kafka.ends import PartitionEnds
from tss.edges.kafka.starts import start_of
from tss.edges.kafka_client.config import (
    client_config,
    connection_config,
    is_incremental,
    unreadable_file,
    without_secrets,
)
from tss.edges.kafka_client.errors import is_fatal
from tss.edges.kafka_client.offset_metadata import from_metadata, metadata_of, partitions_at_birth, to_metadata
from tss.settings import Kafka

# -- starts


def test_metadata_comes_back() -> None:
    assert to_metadata(Commit(200, 123)) == '{"v":1,"replay":123}'
    assert from_metadata(to_metadata(Commit(200, 123))) == (123, None, None)


def test_how_many_partitions_there_were_at_birth_comes_back() -> None:
    assert partitions_at_birth(to_metadata(Commit(200, 123), 4)) == 4
    assert from_metadata(to_metadata(Commit(200, 123), 4)) == (123, None, None)
    assert partitions_at_birth(to_metadata(Commit(200, 123))) is None
    assert partitions_at_birth("keda") is None and partitions_at_birth('{"v":2,"of":4}') is None


@pytest.mark.parametrize(
    "text",
    [None, "", "NONE", "7", "[]", "{", '{"v":2,"replay":1}', '{"v":1}', '{"v":1,"replay":-1}', '{"v":1,"replay":true}',
     '{"v":1,"replay":"1"}', '{"v":1,"replay":1.5}', '{"replay":1}', "null"],
)  # fmt: skip
def test_foreign_metadata_is_no_replay(text: str | None) -> None:
    assert from_metadata(text)[0] is None
    assert start_of(50, text, 0, 100, "latest") == StartPosition(50, 50, committed=True)


@pytest.mark.parametrize("value", ["-1", "9223372036854775808", "1" + 30 * "0", "true", "[]"])
def test_a_number_that_no_offset_can_be_is_none(value: str) -> None:
    assert from_metadata(f'{{"v":1,"replay":{value},"since":{value},"parked":[{value},"x",1]}}') == (None, None, None)
    assert from_metadata(f'{{"v":1,"parked":[1,"x",{value}]}}')[2] is None


@pytest.mark.parametrize("error", [UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), SystemError("NULL")])
def test_metadata_that_is_no_text_is_none(error: Exception) -> None:
    class Foreign:
        @property
        def metadata(self) -> str:
            raise error

    assert metadata_of(Foreign()) is None  # type: ignore[arg-type]
    assert metadata_of(TopicPartition("t", 0, 1, metadata="x")) == "x"


def test_starts() -> None:
    replay = to_metadata(Commit(50, 20))
    assert start_of(50, replay, 0, 100, "latest") == StartPosition(50, 20, committed=True)
    assert start_of(50, replay, 30, 100, "latest") == StartPosition(50, 30, committed=True), "the log begins later"
    assert start_of(50, to_metadata(Commit(0, 70)), 0, 100, "latest") == StartPosition(50, 50, committed=True)
    assert start_of(50, replay, 60, 100, "latest") == StartPosition(60, 60, committed=False), (
        "retention took the offset"
    )
    assert start_of(None, None, 5, 100, "latest") == StartPosition(100, 100, committed=False)
    assert start_of(None, None, 5, 100, "earliest") == StartPosition(5, 5, committed=False)
    assert start_of(150, None, 0, 100, "latest") == StartPosition(150, 150, committed=True), "only a fetch can tell"


@pytest.mark.parametrize(
    ("committed", "first", "end", "told"),
    [(50, 0, 100, 100), (50, 0, 50, 50), (None, 0, 100, 100), (50, 60, 100, 100), (150, 0, 100, None), (50, 0, None, None),
     (50, 0, -1, None)],
)  # fmt: skip
def test_an_end_that_is_too_low_or_not_told_is_none(
    committed: int | None, first: int, end: int | None, told: int | None
) -> None:
    """It says up to where somebody else may have read."""
    assert start_of(committed, None, first, end, "earliest").end == told


def test_law_1_nothing_is_begun_at_an_end_that_nobody_told() -> None:
    with pytest.raises(LawBroken):
        start_of(None, None, 0, None, "latest")


# -- ends


def partition(high: int = 10, fetched: int = 10, **other: object) -> dict[str, object]:
    known: dict[str, object] = {
        "broker": 1, "fetch_state": "active", "hi_offset": high, "ls_offset": high, "next_offset": fetched, "fetchq_cnt": 0,
    }  # fmt: skip
    return known | other


def broker(fetches: int, **other: object) -> dict[str, object]:
    return {"nodeid": 1, "state": "UP", "rxidle": 400_000, "req": {"Fetch": fetches}} | other


class Shore:
    """One partition and its broker, snapshot by snapshot."""

    def __init__(self) -> None:
        self.ends = PartitionEnds()
        self.now_ms = 0

    def see(self, topic: dict[str, object], leader: dict[str, object], position: int = 10) -> dict[int, int]:
        self.now_ms += 1000
        self.ends.see([0], {"0": topic, "-1": {}}, {"a": leader}, self.now_ms)
        return self.ends.reached({0: position})


def test_an_end_is_known_once_two_fetches_were_sent_since() -> None:
    shore = Shore()
    assert [shore.see(partition(), broker(fetches)) for fetches in (7, 8, 9, 10)] == [{}, {}, {0: 2600}, {0: 3600}]
    shore.ends.begin([0])
    assert shore.ends.reached({0: 10}) == {}
    assert [shore.see(partition(), broker(fetches)) for fetches in (10, 11, 12)] == [{}, {}, {0: 6600}]


@pytest.mark.parametrize(
    ("topic", "leader", "reached"),
    [
        (partition(), broker(20), True),
        (partition(), broker(20, state="DOWN"), False),
        (partition(), broker(20, rxidle=-1), False),
        (partition(), broker(20, nodeid=2), False),
        (partition(broker=-1), broker(20), False),
        (partition(fetch_state="stopped"), broker(20), False),
        (partition(fetchq_cnt=1), broker(20), False),
        (partition(fetched=9), broker(20), True),  # by the position: the snapshot of the offset is a second old
        (partition(high=11), broker(20), False),
        (partition(high=12, fetched=12), broker(20), True),  # a marker of a transaction, which nobody sees
        (partition(high=12, ls_offset=10), broker(20), False),  # an open transaction
        (partition(high=-1001), broker(20), False),
    ],
)
def test_ends(topic: dict[str, object], leader: dict[str, object], reached: bool) -> None:
    shore = Shore()
    shore.see(partition(), broker(10))
    assert bool(shore.see(topic, leader)) is reached


def test_the_end_is_the_logs_and_not_that_of_the_last_record() -> None:
    """A transaction's marker, and what was aborted, is read by nobody."""
    shore = Shore()
    shore.see(partition(), broker(10))
    assert shore.see(partition(high=14, fetched=14), broker(20)).keys() == {0}
    assert shore.ends.read_to([0]) == {0: 14}


def test_lags() -> None:
    shore = Shore()
    shore.see(partition(), broker(1))
    shore.see(partition(high=25, fetched=20, fetchq_cnt=8), broker(5))
    assert shore.ends.lags({0: 12}) == {0: 13}
    shore.see(partition(high=25, fetched=25), broker(7))
    assert shore.ends.lags({0: 12}) == {0: 0}, "what is left are markers"
    shore.ends.clear()
    assert shore.ends.lags({0: 12}) == {}


# -- errors


def test_table() -> None:
    fatal = [
        KafkaError(KafkaError._AUTHENTICATION, "SASL authentication error: Invalid username or password"),
        KafkaError(KafkaError._SSL, "SSL handshake failed: certificate verify failed"),
        KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED),
        KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED),
        KafkaError(KafkaError._FATAL, "fenced"),
        KafkaError(KafkaError.REQUEST_TIMED_OUT, "any", fatal=True),
    ]
    passing = [
        KafkaError(KafkaError._TRANSPORT),
        KafkaError(KafkaError._ALL_BROKERS_DOWN),
        KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART),
        KafkaError(KafkaError.REBALANCE_IN_PROGRESS),
        KafkaError(KafkaError.ILLEGAL_GENERATION),
        KafkaError(KafkaError._SSL, "SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker listener?"),
        KafkaError(
            KafkaError._AUTHENTICATION,
            "SASL authentication error: SaslAuthenticateRequest failed: Local: Broker transport failure",
        ),
    ]
    assert all(map(is_fatal, fatal)) and not any(map(is_fatal, passing))


def statistics(*, up: bool) -> dict[str, object]:
    state = "UP" if up else "TRY_CONNECT"
    return {"brokers": {"a": {"nodeid": 1, "state": state}}, "cgrp": {"state": "up" if up else "query-coord"}}


def test_trouble_is_told_once_and_every_half_minute() -> None:
    connection, meter, health = BrokerConnection("b:9092", "t"), FakeMeter(), Health()

    def pass_second(now: float, *, up: bool) -> State:
        if not up:
            connection.note(KafkaError(KafkaError._TRANSPORT, f"refused at {now}"))
        connection.see(statistics(up=up), {1}, now)
        connection.tell(meter, health, now)
        return health.components["kafka"].state

    with capture_logs() as lines:
        connection.tell(meter, health, 0)
        assert health.components["kafka"].state is State.STARTING
        connection.join(has_partitions=True)
        assert pass_second(1, up=True) is State.UP
        assert {pass_second(2 + now, up=False) for now in range(45)} == {State.DOWN}
        assert pass_second(50, up=True) is State.UP
        assert pass_second(51, up=False) is State.DOWN
    assert [line["event"] for line in lines] == [
        "Failed to connect to Kafka",
        "Failed to connect to Kafka",
        "connected to Kafka again",
        "Failed to connect to Kafka",
    ]
    assert lines[0]["reason"] == "refused at 2"
    assert meter.counted(measures.KAFKA_ERRORS, "_TRANSPORT") == 46


def test_a_leader_that_is_away_is_trouble_even_when_the_group_is_well() -> None:
    connection, meter, health = BrokerConnection("b:9092", "t"), FakeMeter(), Health()
    connection.join(has_partitions=True)
    connection.note(KafkaError(KafkaError._TRANSPORT, "broker 2 is away"))
    connection.see(statistics(up=True), {1, 2}, 0)
    connection.tell(meter, health, 0)
    assert health.components["kafka"].detail == "broker 2 is away"


def test_brokers_that_say_nothing_are_trouble_after_a_while() -> None:
    connection, meter, health = BrokerConnection("b:9092", "t"), FakeMeter(), Health()
    connection.tell(meter, health, 0)
    for now in range(9):
        connection.see(statistics(up=False), set(), now)
        connection.tell(meter, health, now)
        assert health.components["kafka"].state is State.STARTING
    connection.tell(meter, health, 11)
    assert health.components["kafka"].detail == "no answer"


def test_brokers_that_answer_but_not_for_the_group_may_not_know_its_protocol() -> None:
    """librdkafka says nothing of one that has never heard of KIP-848, and asks it for ever."""
    silent = statistics(up=False) | {"brokers": {"a": {"nodeid": 1, "state": "UP"}}}
    for protocol, detail in (("classic", "no answer"), ("consumer", "check kafka.groupProtocol")):
        connection, meter, health = BrokerConnection("b:9092", "t", protocol), FakeMeter(), Health()
        for now in (0, 11):
            connection.see(silent, set(), now)
        connection.tell(meter, health, 11)
        assert detail in health.components["kafka"].detail


@pytest.mark.parametrize(
    ("said", "check"),
    [
        ("Fatal error: Broker: Static consumer fenced by other consumer with same group.instance.id", "app.instanceId"),
        ("Broker: The instance ID is still used by another member in the consumer group", "app.instanceId"),
        ("ConsumerGroupHeartbeat fatal error: Broker: API version not supported", "kafka.groupProtocol"),
        ("anything else", "the kafka section"),
    ],
)
def test_what_ended_the_client_is_in_its_text(said: str, check: str) -> None:
    connection = BrokerConnection("b:9092", "t")
    connection.note(KafkaError(KafkaError._FATAL, said))
    assert "check" in str(connection.refused) and check in str(connection.refused)


# -- properties


def test_properties() -> None:
    kafka = Kafka(brokers="b:1", session_timeout_ms=6000, properties={"fetch.wait.max.ms": "100"})
    config = client_config(kafka, "me")
    assert config["heartbeat.interval.ms"] == 600 and config["fetch.wait.max.ms"] == "100"
    assert config["security.protocol"] == "plaintext" and not any("ssl." in name or "sasl" in name for name in config)
    assert is_incremental(kafka)
    assert not is_incremental(Kafka(brokers="b:1", partition_assignment_strategy="range"))


def test_brokers_that_assign_are_not_told_how() -> None:
    kafka = Kafka(brokers="b:1", partition_assignment_strategy="range", group_protocol="consumer")
    assert is_incremental(kafka)
    named = {"partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms"}
    config = client_config(kafka, "me")
    assert not named & config.keys() and config["group.protocol"] == "consumer"


def test_a_static_member_goes_by_its_name_and_a_long_session_is_allowed() -> None:
    assert "group.instance.id" not in client_config(Kafka(brokers="b:1"), "tss-0")
    kafka = Kafka(brokers="b:1", static_membership=True, session_timeout_ms=600_000)
    config = client_config(kafka, "tss-0")
    assert config["group.instance.id"] == "tss-0"
    assert config["max.poll.interval.ms"] == 600_000, "librdkafka refuses a session that is longer than that"


def test_what_is_no_member_is_told_of_the_connection_only() -> None:
    kafka = Kafka(brokers="b:1", sasl_username="u", sasl_password="p", static_membership=True, scaler_group="keda")
    assert sorted(connection_config(kafka, "me")) == [
        "bootstrap.servers",
        "client.id",
        "enable.ssl.certificate.verification",
        "sasl.mechanism",
        "sasl.password",
        "sasl.username",
        "security.protocol",
        "socket.timeout.ms",
    ]


def test_secrets_and_files(tmp_path: object) -> None:
    kafka = Kafka(brokers="b:1", sasl_username="u", sasl_password="hush", ssl_ca_location=f"{tmp_path}/none.pem")
    config = client_config(kafka, "me")
    assert config["security.protocol"] == "sasl_ssl"
    assert without_secrets("wrong: hush", config) == "wrong: ***"
    assert unreadable_file(config) == f"ssl.ca.location {tmp_path}/none.pem: No such file or directory"
    assert unreadable_file(config | {"ssl.ca.location": str(tmp_path)}) == ""


@pytest.mark.parametrize(("made", "said"), [
    (start_of(None, None, 3, 120, "latest"), "no committed offset, end of the partition: starting at 120"),
    (start_of(None, None, 3, 120, "earliest"), "no committed offset, first record there is: starting at 3"),
    (start_of(4711, '{"v":1,"replay":4000}', 3, 5000, "latest"), "committed offset: starting at 4711, replay from 4000"),
    (start_of(4711, None, 3, 5000, "latest"), "committed offset: starting at 4711"),
    (start_of(2, None, 3, 5000, "latest"), "committed offset 2 is deleted, first record that is left: starting at 3"),
])  # fmt: skip
def test_an_assignment_says_where_it_begins_and_why(made: StartPosition, said: str) -> None:
    assert made.told() == said
