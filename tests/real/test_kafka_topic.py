"""The output topic as a destination, at real brokers: its contract, its fences, and what it remembers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import count

import attrs
import pytest
import trio
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin._resource import ResourceType

from tests.contracts.destination import World, check_destination
from tests.contracts.source import Notebook, sent
from tests.core.spans import trace_id
from tests.edges.traces import span_ids, trace
from tests.real import output
from tests.real.brokers import STRANGER, STRANGER_PASSWORD, ApacheKafka, Broker, free_ports
from tests.real.kafka_world import KafkaWorld
from tss.core.delivery import Accepted, Again, Misconfigured, Undeliverable
from tss.core.errors import WrongSetting
from tss.core.startposition import StartPosition
from tss.edges.kafka.source import KafkaSource
from tss.edges.kafka_output import transactions as kafka_transactions
from tss.edges.kafka_output.output_topic import KafkaTopic, open_topic
from tss.edges.kafka_output.transactions import InDoubt
from tss.settings import KafkaExporter

_names = count(1)


@attrs.define
class Place:
    """A topic for kept traces, beside the one that they come from, and the group that reads that."""

    world: KafkaWorld
    source: str
    target: str
    settings: dict[str, object] = attrs.field(factory=dict)  # of the kafka section

    @classmethod
    async def make(cls, broker: Broker, **config: str) -> Place:
        world = KafkaWorld(broker)
        target = f"kept-{next(_names)}"
        await trio.to_thread.run_sync(partial(broker.create_topic, target, 3, **config))
        return cls(world, await world.make_topic(), target, {"session_timeout_ms": 30_000})

    @asynccontextmanager
    async def topic(self, instance: str = "a", **settings: object) -> AsyncIterator[KafkaTopic]:
        known: dict[str, object] = {"name": "topic", "topic": self.target, "transaction_timeout_secs": 3}
        exporter = KafkaExporter(**known | settings)  # type: ignore[arg-type]
        kafka = self.world.kafka(self.source, **self.settings)
        async with open_topic(exporter, kafka, instance, self.world.meter) as opened:
            yield opened

    @asynccontextmanager
    async def member(self, topic: KafkaTopic, instance: str = "a") -> AsyncIterator[Notebook]:
        """In the group, and polled until the end of the block."""
        book = Notebook(commits_starts=True)
        kafka = self.world.kafka(self.source, **self.settings)
        world = self.world
        async with (
            KafkaSource.open(kafka, instance, book, world.meter, world.health, outbox=topic) as book.member,
            trio.open_nursery() as nursery,
        ):
            with trio.fail_after(40):
                await book.poll_until(lambda: bool(book.starts))
            nursery.start_soon(self._poll, book)
            yield book
            nursery.cancel_scope.cancel()

    async def _poll(self, book: Notebook) -> None:
        while True:
            await book.poll()

    @asynccontextmanager
    async def joined(self, instance: str = "a", **settings: object) -> AsyncIterator[KafkaTopic]:
        async with self.topic(instance, **settings) as topic, self.member(topic, instance):
            yield topic

    def there(self) -> list[tuple[bytes, bytes]]:
        """Every span, as often as it is there."""
        found = output.counts(output.committed(self.world.broker.bootstrap, self.target))
        return [*found.elements()]


def kept(place: Place) -> set[tuple[bytes, bytes]]:
    return set(place.there())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for a broker that hangs."""
    monkeypatch.setattr(kafka_transactions, "CALL_SECS", 1.5)
    monkeypatch.setattr(kafka_transactions, "COMMIT_SECS", 3.0)


@pytest.mark.usefixtures("quick")
async def test_contract(apache: Broker) -> None:
    place = await Place.make(apache)
    async with place.joined() as topic:
        world = World(
            topic,
            partial(kept, place),
            go_away=apache.freeze,
            come_back=apache.thaw,
            hang=apache.freeze,
            reads_spans=False,  # bytes in, bytes out
        )
        try:
            await check_destination(world)
        finally:
            apache.thaw()


async def test_contract_at_the_embedded_broker(tansu: Broker) -> None:
    place = await Place.make(tansu)
    async with place.joined() as topic:
        await check_destination(World(topic, partial(kept, place), reads_spans=False))


async def test_records_are_the_collectors_and_say_why(apache: Broker) -> None:
    place = await Place.make(apache)
    async with place.joined() as topic:
        sending = [trace(number, rate=0.5) for number in range(20)]
        assert await topic.send(sending) == Accepted()
    found = {message.key(): message for message in output.committed(apache.bootstrap, place.target)}
    assert found.keys() == {each.trace_id.hex().encode() for each in sending}
    assert {message.value() for message in found.values()} == {each.payload for each in sending}
    headers = dict(found[trace_id(3).hex().encode()].headers() or ())
    assert headers["tss-decision"] == b'{"policy":"errors","reason":"root_quiet","rate":0.5}'
    assert len({message.partition() for message in found.values()}) == 3


# -- the fences


async def test_without_a_membership_nothing_is_sent(apache: Broker) -> None:
    place = await Place.make(apache)
    async with place.topic() as topic:
        outcome = await topic.send([trace(1)])
    assert isinstance(outcome, Again) and outcome.reason == "not_a_member"
    assert place.there() == []


async def test_whom_the_group_does_not_know_is_not_vouched_for(apache: Broker) -> None:
    """Without a member's id the brokers would take the offsets unseen, and fence nobody."""
    place = await Place.make(apache)
    kafka = place.world.kafka(place.source, brokers=f"127.0.0.1:{free_ports(1)[0]}")
    async with (
        place.topic() as topic,
        KafkaSource.open(kafka, "a", Notebook(), place.world.meter, place.world.health, outbox=topic) as member,
    ):
        topic.is_member(b"of long ago")
        await member.poll()  # nobody answers
        assert topic._membership == b""


async def test_what_is_of_an_assignment_that_has_ended_is_refused_by_the_group(apache: Broker) -> None:
    """The one who was put out does not know it yet: it stood still, and goes on with a transaction."""
    place = await Place.make(apache)
    async with place.topic("a") as a, place.topic("b") as b:
        async with place.member(a, "a"):
            membership = a._membership
            assert await a.send([trace(1)]) == Accepted()
        async with place.member(b, "b"):
            a.is_member(membership)
            outcome = await a.send([trace(2)])
            assert isinstance(outcome, Again) and outcome.reason == "group_moved"
            assert await b.send([trace(2)]) == Accepted()
    assert sorted(place.there()) == sorted(span_ids([trace(1), trace(2)]))


async def test_a_partition_that_is_anothers_is_left_to_it(apache: Broker) -> None:
    place = await Place.make(apache)
    async with place.joined() as topic:
        gone, ours = trace(1), trace(2)
        gone.home.gone = True
        assert await topic.send([gone, ours]) == Accepted()
        assert (gone.is_held(), ours.is_held()) == (False, True)
        assert await topic.send([gone]) == Accepted()
    assert sorted(place.there()) == sorted(span_ids([ours]))


async def test_what_is_left_of_a_topic_that_was_deleted_goes_out_and_commits_nothing(apache: Broker) -> None:
    """Its offset would replace what stands for the topic that was made again."""
    place = await Place.make(apache)
    async with place.joined() as topic:
        left, ours = trace(1), trace(2)
        left.home.replaced = True
        assert [*topic._offsets([left])[0]] == [] and [*topic._offsets([ours])[0]] == [ours.home.id]
        assert await topic.send([left]) == Accepted()
    assert sorted(place.there()) == sorted(span_ids([left]))


async def test_one_name_for_two_fences_the_first(apache: Broker) -> None:
    """And it comes back by itself: nothing is lost by it, or there twice."""
    place = await Place.make(apache)
    async with place.topic() as first, place.member(first):
        assert await first.send([trace(1)]) == Accepted()
        async with place.topic() as second:
            second.is_member(first._membership)
            assert await second.send([trace(2)]) == Accepted()
            outcome = await first.send([trace(3)])
            assert isinstance(outcome, Again) and outcome.reason == "fenced" and "app.instanceId" in outcome.detail
            outcome = await first.send([trace(3)])
            assert outcome == Accepted(), outcome
    assert sorted(place.there()) == sorted(span_ids([trace(number) for number in (1, 2, 3)]))


# -- what it remembers


def of(recalled: dict[int, StartPosition]) -> dict[bytes, list[int]]:
    return {id: sorted(known.offsets) for id, known in recalled[0].output_traces.items()}


async def read_back(topic: KafkaTopic, offset: int, since_ms: int | None) -> dict[bytes, list[int]]:
    start = StartPosition(offset, offset, committed=True, since_ms=since_ms)
    await trio.to_thread.run_sync(topic.prepare)  # as the source does
    return of(await trio.to_thread.run_sync(topic.read_back, {0: start}, lambda: None))


async def test_it_tells_what_it_has(apache: Broker) -> None:
    place = await Place.make(apache)
    now = time.time_ns() // 1_000_000
    async with place.joined() as topic:
        assert await read_back(topic, 0, now) == {}
        assert await topic.send([trace(1, pieces=1), trace(2, pieces=3)]) == Accepted()
        assert await read_back(topic, 0, now) == {trace_id(1): [0], trace_id(2): [0, 1, 2]}
        assert await read_back(topic, 2, now) == {trace_id(2): [0, 1, 2]}, "what is not to be read again is not told"
        assert await read_back(topic, 3, now) == {}
        assert await read_back(topic, 0, None) == {}, "an offset that somebody set by hand"
        assert await read_back(topic, 0, now + 3_600_000) == {}


async def test_the_one_that_takes_over_begins_with_what_it_has(apache: Broker) -> None:
    """All the way: the offset, and since when to look, come out of the transaction itself."""
    place = await Place.make(apache)
    await place.world.produce(place.source, [sent(0)])
    async with place.joined("a") as topic:
        assert await topic.send([trace(1, pieces=1)]) == Accepted()
    async with place.topic("b") as topic, place.member(topic, "b") as book:
        start = book.starts[0]
    assert (start.offset, start.committed, of({0: start})) == (0, True, {trace_id(1): [0]})


def under_way(place: Place, topic: KafkaTopic, offset: int) -> Producer:
    """A transaction of a replica that died in it, all but its end."""
    producer = Producer(
        {"bootstrap.servers": place.world.broker.bootstrap, "transactional.id": "dead", "log_level": 0,
         "transaction.timeout.ms": 3000, "socket.timeout.ms": 3000}
    )  # fmt: skip
    producer.init_transactions(10)
    producer.begin_transaction()
    producer.produce(place.target, b"", b"key")
    producer.send_offsets_to_transaction([TopicPartition(place.source, 0, offset)], topic._membership, 10)
    return producer


@pytest.mark.parametrize("commits", [True, False])
async def test_whoever_takes_over_waits_for_the_end_of_a_transaction(apache: Broker, commits: bool) -> None:
    """Here it ends, or its time is over: not before that is its offset known, nor what the topic has."""
    place = await Place.make(apache)
    await place.world.produce(place.source, [sent(number) for number in range(5)])
    async with place.joined("a") as topic:
        assert await topic.send([trace(1, pieces=1)]) == Accepted()
        producer = await trio.to_thread.run_sync(under_way, place, topic, 4)
    began = trio.current_time()

    async def end() -> None:
        await trio.sleep(1)
        await trio.to_thread.run_sync(producer.commit_transaction, 10.0)

    async with place.topic("b") as topic, trio.open_nursery() as nursery:
        if commits:
            nursery.start_soon(end)
        async with place.member(topic, "b") as book:
            start, took = book.starts[0], trio.current_time() - began
            nursery.cancel_scope.cancel()
    assert took > 1
    assert start.offset == (4 if commits else 0)
    # Its offset stands without ours beside it, as if somebody had set it by hand.
    assert of({0: start}) == ({} if commits else {trace_id(1): [0]})


async def test_a_former_self_need_not_be_waited_for(apache: Broker) -> None:
    """A replica that comes back under its name ends what it left under way by itself."""
    place = await Place.make(apache)
    async with place.joined("a", transaction_timeout_secs=60) as topic:
        producer = topic._transactions._ready()
        producer.begin_transaction()
        producer.produce(place.target, b"", b"key")
        producer.flush(5)
        since = topic.clock_ms()
        topic._transactions._producer = None
        began = trio.current_time()
        assert await read_back(topic, 0, since) == {}
        assert trio.current_time() - began < 5
    assert place.there() == []


@pytest.mark.parametrize("was_there", [True, False])
async def test_after_a_commit_without_an_answer_the_topic_is_asked(apache: Broker, was_there: bool) -> None:
    place = await Place.make(apache)
    async with place.joined() as topic:
        transactions = topic._transactions
        if was_there:
            assert await topic.send([trace(1), trace(2)]) == Accepted()
        transactions._in_doubt = InDoubt(topic.clock_ms(), {0: 0})
        transactions._discard()
        assert await topic.send([trace(1), trace(2), trace(3)]) == Accepted()
        assert transactions._in_doubt is None
    assert sorted(place.there()) == sorted(span_ids([trace(number) for number in (1, 2, 3)]))


# -- what it refuses


async def test_a_topic_that_does_not_exist_is_a_setting(apache: Broker) -> None:
    place = await Place.make(apache)
    place.target = "no-such-topic"
    async with place.joined() as topic:
        outcome = await topic.send([trace(1)])
        assert isinstance(outcome, Misconfigured) and "no-such-topic" in outcome.detail, outcome
        await trio.to_thread.run_sync(apache.create_topic, "no-such-topic")
        assert await topic.send([trace(1)]) == Accepted()


async def test_what_no_record_can_hold_is_refused_and_the_rest_goes_through(apache: Broker) -> None:
    place = await Place.make(apache, **{"max.message.bytes": "3000"})
    big, small = trace(1, pieces=1, spans=200), trace(2)

    async def sent_alone(topic: KafkaTopic) -> Sequence[type]:
        outcomes = [await topic.send([each]) for each in (big, small)]
        return [type(outcome) for outcome in outcomes]

    async with place.joined(compression="none") as topic:  # told by the broker
        assert isinstance(await topic.send([big, small]), Undeliverable)
        assert await sent_alone(topic) == [Undeliverable, Accepted]
    async with place.joined(properties={"message.max.bytes": "2000"}) as topic:  # known before
        assert isinstance(await topic.send([big]), Undeliverable)
        assert await topic.send([trace(3, pieces=12, spans=4)]) == Accepted()
    assert sorted(place.there()) == sorted(span_ids([small, trace(3, pieces=12, spans=4)]))


@pytest.mark.parametrize("kind", [ResourceType.TOPIC, ResourceType.TRANSACTIONAL_ID])
async def test_what_an_acl_denies_is_a_setting(apache: Broker, kind: ResourceType) -> None:
    assert isinstance(apache, ApacheKafka)
    place = await Place.make(apache)
    instance = f"denied-{place.target}"
    place.settings |= {
        "brokers": f"127.0.0.1:{apache.sasl_port}",
        "security_protocol": "sasl_plaintext",
        "sasl_username": STRANGER,
        "sasl_password": STRANGER_PASSWORD,
    }
    group = place.world.kafka(place.source).consumer_group
    name = place.target if kind is ResourceType.TOPIC else f"{group}-{instance}"
    await trio.to_thread.run_sync(apache.deny, STRANGER, kind, name)
    async with place.joined(instance) as topic:
        outcome = await topic.send([trace(1)])
    assert isinstance(outcome, Misconfigured) and "authorization" in outcome.reason, outcome


async def test_properties_that_the_client_refuses_end_it(apache: Broker) -> None:
    place = await Place.make(apache)
    with pytest.raises(WrongSetting, match=r"no\.such\.property"):
        async with place.topic(properties={"no.such.property": "1"}):
            pass


# -- measured


async def test_what_it_costs(apache: Broker) -> None:
    """Prints; the bounds are far off, and only there so that a collapse is seen."""
    place = await Place.make(apache)
    async with place.joined() as topic:
        await topic.send([trace(0)])
        sizes: dict[int, float] = {}
        for size in (1, 100, 500):
            batches = [[trace(number + 1000 * batch, pieces=1) for number in range(size)] for batch in range(20)]
            began = time.perf_counter()
            for batch in batches:
                assert await topic.send(batch) == Accepted()
            sizes[size] = (time.perf_counter() - began) / 20 * 1000
        began = time.perf_counter()
        known = await read_back(topic, 0, topic.clock_ms() - 60_000)
        took = time.perf_counter() - began
        records = topic._readback.records
    member = Consumer({"bootstrap.servers": apache.bootstrap, "group.id": "cost", "log_level": 0})
    member.subscribe([place.source])
    member.consume(1, 1)
    began = time.perf_counter()
    for _ in range(1000):
        member.memberid()
        member.consumer_group_metadata()
    asked_us = (time.perf_counter() - began) * 1000
    member.close()
    print(
        f"\na transaction of {', '.join(f'{size}: {ms:.1f} ms' for size, ms in sizes.items())}; read back {records} records "
        f"in {took:.2f} s, {records / topic._readback.secs:.0f}/s, {len(known)} traces; membership {asked_us:.0f} us"
    )
    assert sizes[500] < 2000 and took < 20
