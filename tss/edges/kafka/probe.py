"""One look at the brokers, for `tss check --connect`: topics, partitions, keys. Joins no group and commits nothing."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping

import attrs
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from tss.core.conditions.program import ASKS_NOTHING
from tss.core.errors import CannotConnect
from tss.core.otlp import Encoding
from tss.edges.kafka.records import MessageReader
from tss.edges.kafka_client.client_log import logger
from tss.edges.kafka_client.config import admin_config, client_config
from tss.edges.kafka_client.errors import TOPIC_MISSING, advice, cause_of, is_fatal, said
from tss.settings import Kafka

CLIENT_ID = "tss-check"
ASK_SECS = 6.0  # one TLS handshake and one login take less than a second each
READ_SECS = 6.0
SAMPLE_RECORDS = 200  # enough to find one in a hundred that is not keyed, in seven looks out of eight
SAMPLE_PARTITIONS = 20  # as many are looked at, or fewer
ABSENT = "it does not exist"
_PLACE = re.compile(
    r"^(?:[a-z_]+://)?\S+/(?:bootstrap|[0-9]+): "
)  # 127.0.0.1:9092/bootstrap: ..., sasl_ssl://kafka:9092/1: ...
_STATE = re.compile(r" \((?:after )?[0-9]+ms in state \w+\)")
_TAIL = -2000  # librdkafka's RD_KAFKA_OFFSET_TAIL_BASE: this minus n begins at the n-th record from the end


@attrs.frozen
class Keys:
    """How the newest records of a topic are keyed."""

    records: int = 0  # of those that were read, how many have spans
    unkeyed: int = 0  # with several traces, or with another key than the trace id
    unreadable: int = 0  # without any span that could be read
    split: int = 0  # traces that were seen on two partitions


def partitions(kafka: Kafka, topics: Collection[str]) -> Mapping[str, int | str]:
    """For each topic the number of its partitions, or the reason why it is not known, such as that it does not exist.

    Takes ASK_SECS at most. Raises CannotConnect where no broker answers, or where all refuse us.
    """
    heard: list[KafkaError] = []
    config = admin_config(kafka, CLIENT_ID) | {"error_cb": heard.append}
    found: dict[str, int | str] = {}
    try:
        client = AdminClient(config)
        asked = client.describe_topics(TopicCollection([*topics]), request_timeout=ASK_SECS)
        while not all(answer.done() for answer in asked.values()) and not any(map(is_fatal, heard)):
            client.poll(0.1)  # or nothing would call error_cb
    except KafkaException as error:
        raise _refusal(cause_of(error)) from error
    for topic, answer in asked.items():
        try:
            found[topic] = len(answer.result(0).partitions)
        except TimeoutError as error:  # a fatal error has ended the wait
            raise _refusal(next(filter(is_fatal, heard))) from error
        except KafkaException as error:
            cause = cause_of(error)
            if cause.name() in TOPIC_MISSING:
                found[topic] = ABSENT
            elif cause.name() == "TOPIC_AUTHORIZATION_FAILED":
                found[topic] = "this user may not describe it; check the ACLs of the topic"
            else:
                raise _refusal(next((each for each in heard if is_fatal(each)), _clearest(heard, cause))) from error
    return found


def _clearest(heard: list[KafkaError], cause: KafkaError) -> KafkaError:
    """Of the errors that the client reported the first with a reason: a timeout does not say why."""
    return next((each for each in heard if each.name() != "_ALL_BROKERS_DOWN"), cause)


def _refusal(error: KafkaError) -> CannotConnect:
    """The reason alone: whoever asks names the brokers."""
    check = advice(error) if is_fatal(error) else "check kafka.brokers, and that the brokers run"
    return CannotConnect(f"{_without_place(said(error))}; {check}")


def _without_place(reason: str) -> str:
    """librdkafka's reason without its own name for the broker, and without its state."""
    return _STATE.sub("", _PLACE.sub("", reason)).replace("ipv4#", "").replace("ipv6#", "")


def keys(kafka: Kafka, topic: str, count: int) -> Keys:
    """Reads the newest records of the topic's first partitions, SAMPLE_RECORDS in all, in READ_SECS at most.

    ``count`` is the number of partitions. Raises CannotConnect if the client refuses the settings.
    """
    own = {"auto.offset.reset": "earliest", "logger": logger(), "statistics.interval.ms": 0}
    config = {**client_config(kafka, CLIENT_ID), **own}
    config.pop("group.instance.id", None)  # or a replica that has this name would be put out
    ids = range(min(count, SAMPLE_PARTITIONS))
    each = -(-SAMPLE_RECORDS // len(ids))
    try:
        client = Consumer(config)
    except KafkaException as error:
        raise _refusal(cause_of(error)) from error
    try:
        client.assign([TopicPartition(topic, id, _TAIL - each) for id in ids])
        return _read(kafka, topic, client)
    finally:
        client.close()


def _read(kafka: Kafka, topic: str, client: Consumer) -> Keys:
    reader = MessageReader(topic, Encoding(kafka.encoding), ASKS_NOTHING)
    places: dict[bytes, set[int]] = {}
    records = unkeyed = unreadable = 0
    deadline, quiet_at = time.monotonic() + READ_SECS, time.monotonic() + READ_SECS
    while records + unreadable < SAMPLE_RECORDS and time.monotonic() < min(deadline, quiet_at):
        for message in client.consume(SAMPLE_RECORDS, timeout=0.5):
            if message.error() is not None:
                continue
            quiet_at = time.monotonic() + 1.5
            id = message.partition() or 0
            found = reader.read(
                [message], {id: 0}, frozenset()
            )  # alone, since of each call the first record's key is looked at
            records, unkeyed = records + found.sampled, unkeyed + found.unkeyed
            unreadable += not found.sampled
            for number in range(len(found.records)):
                for trace_id, _ in found.records.pieces(number):
                    places.setdefault(trace_id, set()).add(id)
    return Keys(records, unkeyed, unreadable, sum(len(ids) > 1 for ids in places.values()))
