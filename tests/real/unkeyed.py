"""Traffic as exporters send it that do not key: each record has spans of several traces, and lies on any partition."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from random import Random
from typing import Any, Self

import attrs
from confluent_kafka import OFFSET_END, Consumer, Message, TopicPartition

from demo import traffic
from tests.real import output
from tests.real.brokers import Broker
from tests.real.daemon import Daemon, Group, until
from tests.real.load import Load, SpanId


class UnkeyedLoad(Load):
    """The same traces as `Load`, their records put together by up to six."""

    def _run(self) -> None:
        chance = Random(7)
        gathered: list[traffic.Message] = []
        room = 1
        for message, _ in traffic.in_order(self._begun()):
            gathered.append(message)
            if len(gathered) >= room:
                self._send(gathered)
                gathered, room = [], chance.randint(1, 6)
        self._send(gathered)

    def _send(self, messages: list[traffic.Message]) -> None:
        if not messages:
            return
        self._wait(messages[-1].at_secs)
        value = b"".join(message.value for message in messages)
        stamp_ms = max(message.timestamp_ms for message in messages)
        headers: list[tuple[str, str | bytes | None]] = [("tenant", b"a"), ("empty", None)]
        self._producer.produce(
            self._topic, value, timestamp=stamp_ms, headers=headers, on_delivery=self._delivered
        )  # no key: librdkafka sticks to one partition for a batch, and takes any other for the next
        self._producer.poll(0)


@attrs.define
class Watch:
    """Sees a transaction that is under way in a topic, by where it ends for whom."""

    ends: tuple[Consumer, Consumer]
    topic: str

    @classmethod
    @contextmanager
    def on(cls, broker: Broker, topic: str) -> Iterator[Self]:
        base: dict[str, Any] = {"bootstrap.servers": broker.bootstrap, "group.id": "watch", "log_level": 0}
        readers = [Consumer(base | {"isolation.level": f"read_{which}"}) for which in ("committed", "uncommitted")]
        try:
            yield cls((readers[0], readers[1]), topic)
        finally:
            for reader in readers:
                reader.close()

    def wait(self, secs: float) -> bool:
        """Until one is under way; whether there was one in this time."""
        deadline = time.monotonic() + secs
        partitions = [*self.ends[0].list_topics(self.topic, timeout=10).topics[self.topic].partitions]
        asked = [TopicPartition(self.topic, id, OFFSET_END) for id in partitions]
        while time.monotonic() < deadline:
            stable, last = ([each.offset for each in end.offsets_for_times(asked, timeout=10)] for end in self.ends)
            if any(one < other for one, other in zip(stable, last, strict=True)):
                return True
        return False


def rekey_group(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a test, as `Group.watch` wants them for the first stage."""
    kafka = config["kafka"]
    return {"kafka": kafka | {"consumerGroup": f"{kafka['consumerGroup']}.rekey"}}


def wait_until_split(group: Group, daemon: Daemon) -> None:
    """Until the first stage has committed all of the input."""
    group.wait_until_done(60, daemon.tail)


def check_topic(broker: Broker, topic: str, load: Load) -> list[Message]:
    """For a reader of what is committed every span is in the topic, once, under its trace's id."""
    messages = output.committed(broker.bootstrap, topic)
    counts: Counter[SpanId] = output.counts(messages)
    sent = load.places()
    lost, strange = sent.keys() - counts.keys(), counts.keys() - sent.keys()
    twice = {span for span, count in counts.items() if count > 1}
    assert not lost and not strange and not twice, f"lost {len(lost)}, strange {len(strange)}, twice {len(twice)}"
    partitions: dict[bytes, int | None] = {}
    for message in messages:
        key = message.key()
        assert isinstance(key, bytes)
        assert {trace.hex().encode() for trace, _ in output.spans_of(message)} == {key}
        assert partitions.setdefault(key, message.partition()) == message.partition(), "one trace, two partitions"
    return messages


def wait_until_kept(daemon: Daemon, load: Load, counts: Any) -> None:
    """Until every span that must be kept has come."""
    until(lambda: load.kept() <= counts().keys(), 40, daemon.tail)
