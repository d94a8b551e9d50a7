"""The Kafka edge at real brokers: the contract of Source and Offsets, and what is Kafka's own."""

import pytest
import trio
from confluent_kafka import Producer
from confluent_kafka.admin._resource import ResourceType
from structlog.testing import capture_logs

from tests.contracts.source import CONTRACT, Check, Notebook, sent
from tests.real.brokers import PASSWORD, STRANGER, STRANGER_PASSWORD, USER, ApacheKafka, Broker, free_ports
from tests.real.kafka_world import KafkaWorld
from tss.core import measures
from tss.core.errors import CannotCommit, CannotConnect
from tss.core.health import State
from tss.core.partition import Commit
from tss.core.startposition import StartPosition
from tss.edges.kafka.source import KafkaSource
from tss.settings import Kafka


@pytest.fixture
def world(broker: Broker) -> KafkaWorld:
    return KafkaWorld(broker)


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
async def test_contract(check: Check, world: KafkaWorld) -> None:
    await check(world)


# -- Apache Kafka only: what a broker from a wheel does not have


@pytest.fixture
def real(apache: Broker) -> KafkaWorld:
    assert isinstance(apache, ApacheKafka)
    return KafkaWorld(apache)


def secured(world: KafkaWorld, topic: str, **settings: object) -> Kafka:
    broker = world.broker
    assert isinstance(broker, ApacheKafka)
    known: dict[str, object] = {
        "brokers": f"127.0.0.1:{broker.sasl_ssl_port}",
        "sasl_username": USER,
        "sasl_password": PASSWORD,
        "ssl_ca_location": str(broker.certificates.ca),
    }
    return world.kafka(topic, **known | settings)


async def refused(world: KafkaWorld, kafka: Kafka) -> str:
    """What the daemon ends with."""
    book = Notebook()
    with pytest.raises(CannotConnect) as caught, trio.fail_after(20):
        async with KafkaSource.open(kafka, "test", book, world.meter, world.health) as book.member:
            await book.poll_until(lambda: False)
    assert PASSWORD not in str(caught.value)
    assert world.health.components["kafka"].state is State.DOWN
    return str(caught.value)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
async def test_reads_over_sasl_and_tls(real: KafkaWorld, mechanism: str) -> None:
    topic, book = await real.make_topic(), Notebook()
    await real.produce(topic, [sent(0)])
    kafka = secured(real, topic, sasl_mechanism=mechanism)
    async with KafkaSource.open(kafka, "test", book, real.meter, real.health) as book.member:
        await book.poll_until(lambda: len(book.records) == 1)
        assert real.health.components["kafka"].state is State.UP


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
async def test_wrong_password_ends_it(real: KafkaWorld, mechanism: str) -> None:
    kafka = secured(real, await real.make_topic(), sasl_mechanism=mechanism, sasl_password="wrong")
    reason = await refused(real, kafka)
    assert reason.startswith(f"Failed to connect to Kafka: {kafka.brokers}: ")
    assert "uthentication failed" in reason and "check kafka.saslUsername" in reason


async def test_unknown_mechanism_ends_it(real: KafkaWorld) -> None:
    reason = await refused(real, secured(real, await real.make_topic(), sasl_mechanism="SCRAM-SHA-512"))
    assert "check kafka.saslUsername" in reason and "SCRAM-SHA-512" in reason


async def test_certificate_that_is_not_trusted_ends_it(real: KafkaWorld) -> None:
    assert isinstance(real.broker, ApacheKafka)
    other = str(real.broker.certificates.other_ca)
    reason = await refused(real, secured(real, await real.make_topic(), ssl_ca_location=other))
    assert "certificate verify failed" in reason and "check kafka.sslCaLocation" in reason


async def test_untrusted_certificate_is_fine_when_not_verified(real: KafkaWorld) -> None:
    assert isinstance(real.broker, ApacheKafka)
    topic, book = await real.make_topic(), Notebook()
    other = str(real.broker.certificates.other_ca)
    kafka = secured(real, topic, ssl_ca_location=other, ssl_verify=False)
    async with KafkaSource.open(kafka, "test", book, real.meter, real.health) as book.member:
        await book.poll_until(lambda: bool(book.starts))


async def test_settings_that_the_client_refuses_end_it(real: KafkaWorld) -> None:
    for settings in ({"ssl_ca_location": "/no/such/file"}, {"properties": {"no.such.property": "1"}}):
        with pytest.raises(CannotConnect, match=r"Failed to connect to Kafka: .*(no/such/file|no\.such\.property)"):
            async with KafkaSource.open(secured(real, "t", **settings), "test", Notebook(), real.meter, real.health):
                pass


@pytest.mark.parametrize("kind", [ResourceType.TOPIC, ResourceType.GROUP])
async def test_what_an_acl_denies_ends_it(real: KafkaWorld, kind: ResourceType) -> None:
    assert isinstance(real.broker, ApacheKafka)
    topic = await real.make_topic()
    kafka = secured(real, topic, sasl_username=STRANGER, sasl_password=STRANGER_PASSWORD)
    name = topic if kind is ResourceType.TOPIC else kafka.consumer_group
    await trio.to_thread.run_sync(real.broker.deny, STRANGER, kind, name)
    reason = await refused(real, kafka)
    key = "kafka.inputTopic" if kind is ResourceType.TOPIC else "kafka.consumerGroup"
    assert "uthorization failed" in reason and f"check {key}" in reason


async def test_missing_topic_is_said_and_awaited(real: KafkaWorld) -> None:
    book = Notebook()
    kafka = real.kafka("comes-later", properties={"topic.metadata.refresh.interval.ms": "500"})
    with capture_logs() as lines:
        async with KafkaSource.open(kafka, "test", book, real.meter, real.health) as book.member:
            await book.poll_until(lambda: real.health.components["kafka"].state is State.DOWN)
            assert "topic comes-later does not exist" in real.health.components["kafka"].detail
            await book.poll_for(3)
            await trio.to_thread.run_sync(real.broker.create_topic, "comes-later")
            await real.produce("comes-later", [sent(0)])
            await book.poll_until(lambda: len(book.records) == 1)
            await book.poll_until(lambda: real.health.components["kafka"].state is State.UP)
    said = [line for line in lines if line["event"] == "Failed to connect to Kafka"]
    assert len(said) == 1, "once, not at every try"
    assert real.meter.counted(measures.KAFKA_ERRORS, "UNKNOWN_TOPIC_OR_PART") >= 1


async def test_without_a_broker_it_waits_and_says_so_once(real: KafkaWorld) -> None:
    book = Notebook()
    kafka = real.kafka("t", brokers=f"127.0.0.1:{free_ports(1)[0]}")
    with capture_logs() as lines:
        async with KafkaSource.open(kafka, "test", book, real.meter, real.health) as book.member:
            await book.poll_for(4)
            assert real.health.components["kafka"].state is State.DOWN
            assert "Connection refused" in real.health.components["kafka"].detail
            began = trio.current_time()
        assert trio.current_time() - began < 6, "closing is bounded"
    assert len([line for line in lines if line["event"] == "Failed to connect to Kafka"]) == 1
    assert real.meter.counted(measures.KAFKA_ERRORS, "_TRANSPORT") >= 1


async def test_a_broker_that_hangs_stops_neither_polls_nor_the_end(real: KafkaWorld) -> None:
    """A commit at such a broker never ends by itself."""
    topic, book = await real.make_topic(), Notebook()
    try:
        async with KafkaSource.open(
            real.kafka(topic), "test", book, real.meter, real.health, close_secs=1
        ) as book.member:
            await book.poll_until(lambda: bool(book.starts))
            real.broker.freeze()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(book.poll_for_ever)
                polls, began = len(book.polls), trio.current_time()
                with pytest.raises(CannotCommit, match=r"no answer in 5 s"):
                    await book.member.commit({0: Commit(0, 0)})
                with pytest.raises(CannotCommit, match=r"not ours any more|without an answer"):
                    await book.member.commit({0: Commit(0, 0)})
                assert trio.current_time() - began < 6
                assert len(book.polls) - polls > 20
                with trio.fail_after(30):
                    while real.health.components["kafka"].state is not State.DOWN:
                        await trio.sleep(0.1)
                nursery.cancel_scope.cancel()
            began = trio.current_time()
        assert trio.current_time() - began < 1.5
    finally:
        real.broker.thaw()


async def test_partitions_are_lost_when_not_polled_in_time(real: KafkaWorld) -> None:
    topic, book = await real.make_topic(), Notebook()
    await real.produce(topic, [sent(0)])
    kafka = real.kafka(topic, properties={"max.poll.interval.ms": "6000"})
    async with KafkaSource.open(kafka, "test", book, real.meter, real.health) as book.member:
        await book.poll_until(lambda: len(book.records) == 1)
        await trio.sleep(7)
        await book.poll_until(lambda: book.events[-2:] == [("lost", (0,)), ("assigned", (0,))])
        await book.poll_until(lambda: len(book.records) == 2)
    assert book.offsets() == [0, 0], "nothing was committed, so it is read again"
    assert real.meter.counted(measures.KAFKA_ERRORS, "_MAX_POLL_EXCEEDED") == 1


async def test_what_retention_took_is_told_and_passed_over(real: KafkaWorld) -> None:
    """Between two lives, and while reading is paused."""
    assert isinstance(real.broker, ApacheKafka)
    topic, first, second = await real.make_topic(), Notebook(), Notebook()
    first.commit_on_revoke = Commit(2, 0)
    await real.produce(topic, [sent(number) for number in range(10)])
    async with real.open(topic, first) as first.member:
        await first.poll_until(lambda: len(first.records) == 10)
    await trio.to_thread.run_sync(real.broker.delete_records, topic, 5)
    with capture_logs() as lines:
        async with real.open(topic, second) as second.member:
            await second.poll_until(lambda: len(second.records) == 5)
            assert second.starts == {0: StartPosition(5, 5, committed=False)}
            await second.member.pause()
            await real.produce(topic, [sent(number) for number in range(10, 30)])
            await trio.to_thread.run_sync(real.broker.delete_records, topic, 20)
            await second.member.resume()
            await second.poll_until(lambda: len(second.records) == 15)
    assert second.offsets() == [*range(5, 10), *range(20, 30)]
    assert [(line["lost_offsets"], line["log_level"]) for line in lines if "lost_offsets" in line] == [
        (3, "error"),
        (10, "error"),
    ]
    assert real.meter.counted(measures.RECORDS_LOST, topic, "0") == 13


async def test_open_transactions_hold_the_end_back(real: KafkaWorld) -> None:
    """Their records are older than the wall clock, and still to come; the markers they leave are not waited for."""
    topic, book = await real.make_topic(), Notebook()
    writer = Producer({"bootstrap.servers": real.broker.bootstrap, "transactional.id": topic, "log_level": 0})
    await trio.to_thread.run_sync(writer.init_transactions, 20)
    writer.begin_transaction()
    writer.produce(topic, sent(0).value)
    await trio.to_thread.run_sync(writer.flush, 10)
    async with real.open(topic, book) as book.member:
        await book.poll_until(lambda: bool(book.starts))
        await book.poll_for(4)
        assert not book.records and not book.known_until()
        await trio.to_thread.run_sync(writer.commit_transaction, 20)
        await book.poll_until(lambda: len(book.records) == 1)
        await book.poll_until(lambda: book.known_until() > 0)
        assert book.polls[-1].lags == {0: 0}


async def test_the_lag_is_known_while_reading_is_paused(real: KafkaWorld) -> None:
    topic, book = await real.make_topic(), Notebook()
    async with real.open(topic, book) as book.member:
        await book.poll_until(lambda: bool(book.starts))
        await book.member.pause()
        await real.produce(topic, [sent(0), sent(1)])
        await book.poll_until(lambda: book.polls[-1].lags == {0: 2})
        assert not book.records


async def test_a_cancelled_daemon_still_leaves_the_group_and_commits(real: KafkaWorld) -> None:
    topic, first, second = await real.make_topic(), Notebook(), Notebook()
    await real.produce(topic, [sent(0), sent(1)])
    with trio.CancelScope() as scope:
        async with real.open(topic, first) as first.member:
            await first.poll_until(lambda: len(first.records) == 2)
            scope.cancel()
            await trio.sleep_forever()
    assert first.events[-1] == ("revoked", (0,))
    async with real.open(topic, second) as second.member:
        await second.poll_until(lambda: second.starts == {0: StartPosition(2, 0, committed=True)})


async def test_a_poll_can_be_cancelled_while_the_broker_hangs(real: KafkaWorld) -> None:
    """Law 9: also in the middle of a rebalance, where it looks for where to begin."""
    topic, book = await real.make_topic(), Notebook()
    member = KafkaSource.open(real.kafka(topic), "test", book, real.meter, real.health, close_secs=1)
    try:
        async with member as book.member:
            await book.poll_until(lambda: bool(book.starts))
            real.broker.freeze()
            began = trio.current_time()
            with trio.move_on_after(1):
                await book.poll_for(30)
        assert trio.current_time() - began < 5
    finally:
        real.broker.thaw()
