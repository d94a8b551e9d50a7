"""Dead letters in a Kafka topic, one record a letter."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tss.core.deadletter import DeadLetter
from tss.edges.dead_letters.errors import NotKept
from tss.edges.kafka_client.client_log import logger
from tss.edges.kafka_client.errors import TOPIC_MISSING, said

DELIVERY_SECS = 3.0  # for one try

# A producer warns of each property that only a consumer has.
_CONSUMERS = (
    "group.", "partition.assignment.", "session.timeout.", "heartbeat.", "coordinator.", "max.poll.", "enable.auto.",
    "auto.", "queued.min.", "queued.max.", "fetch.", "max.partition.", "offset.store.", "isolation.",
    "enable.partition.", "check.crcs", "consume.", "statistics.",
)  # fmt: skip
# Errors that are about one record, and not about the topic.
_OF_A_LETTER = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD, KafkaError.RECORD_LIST_TOO_LARGE})
_PRODUCER: Mapping[str, object] = {
    "enable.idempotence": True,
    "acks": "all",
    "delivery.timeout.ms": round(DELIVERY_SECS * 1000),
    # librdkafka's 30 s are longer than a try, so that a missing topic would look like brokers that do not answer.
    "topic.metadata.propagation.max.ms": 1000,
    "linger.ms": 5,
    # A whole trace may be larger than any record. Only the broker knows its limit, which is for the compressed size.
    "message.max.bytes": 128 * 1024 * 1024,
    "compression.type": "zstd",
}


class DeadLetterTopic:
    """Blocking: call it from one thread at a time.

    A record has the key, the value and the headers of the original record, and headers that say why it is here.
    """

    name = "topic"

    def __init__(self, topic: str, connection: Mapping[str, object]) -> None:
        """``connection``: librdkafka's properties that name the brokers, and how to connect to them."""
        self._topic = topic
        known = {name: value for name, value in connection.items() if not name.startswith(_CONSUMERS)}
        self._config = {**known, **_PRODUCER, "error_cb": self._hear, "logger": logger()}
        self._producer: Producer | None = None
        self._heard = ""  # the client's last error about the brokers

    def _hear(self, error: KafkaError) -> None:
        self._heard = f" ({error})"

    def keep(self, letters: Sequence[DeadLetter]) -> None:
        """The brokers have all letters when this returns. Raises NotKept with those that they do not have."""
        producer = self._producer or Producer(self._config)
        self._producer, self._heard = producer, ""
        pending = dict(enumerate(letters))
        troubles: list[KafkaError] = []
        for number, letter in enumerate(letters):
            self._produce(producer, letter, partial(_note, pending, troubles, number), troubles)
        deadline = time.monotonic() + DELIVERY_SECS * 1.2  # librdkafka should have given up by then
        while pending and len(troubles) < len(pending) and time.monotonic() < deadline:
            producer.poll(0.1)
        if pending:
            detail = _told(troubles[0]) if troubles else f"no answer within {DELIVERY_SECS:g} s"
            left = [*pending.values()]
            # Nothing of this try may still be sent later; and a producer with a gap in its sequence is useless.
            producer.purge()
            producer.poll(0)
            self._producer = None
            for_good = len(troubles) >= len(left) and all(each.code() in _OF_A_LETTER for each in troubles)
            raise NotKept(left, f"topic {self._topic}: {detail}{self._heard}", for_good=for_good)

    def _produce(
        self,
        producer: Producer,
        letter: DeadLetter,
        on_delivery: Callable[[KafkaError | None, Message], None],
        troubles: list[KafkaError],
    ) -> None:
        headers: list[tuple[str, str | bytes | None]] = [*letter.headers, *_reasons(letter)]
        try:
            producer.produce(
                self._topic, value=letter.payload, key=letter.key, headers=headers, on_delivery=on_delivery
            )
        except KafkaException as error:
            troubles.append(error.args[0])
        except BufferError:
            troubles.append(KafkaError(KafkaError._QUEUE_FULL))  # noqa: SLF001  # confluent-kafka's public constant

    def close(self) -> None:
        """Let the producer go: `keep` leaves nothing in it."""
        self._producer = None


def _told(error: KafkaError) -> str:
    """The error for an operator, with what to check."""
    if error.name() in TOPIC_MISSING:
        return "it does not exist: create it, or check deadLetter.topic"
    if error.name() == "TOPIC_AUTHORIZATION_FAILED":
        return f"{said(error)}: allow the daemon's user to write to it (ACL Write)"
    return said(error)


def _note(
    pending: dict[int, DeadLetter], troubles: list[KafkaError], number: int, error: KafkaError | None, _message: Message
) -> None:
    if error is None:
        pending.pop(number, None)
    else:
        troubles.append(error)


def _reasons(letter: DeadLetter) -> list[tuple[str, bytes]]:
    source = {
        "topic": letter.topic, "partition": letter.partition, "offset": letter.offset, "timestamp": letter.timestamp_ms,
        "trace_id": letter.trace_id, "destination": letter.destination,
    }  # fmt: skip
    known = {key: value for key, value in source.items() if value is not None and value != ""}
    return [
        ("tss-reason", letter.reason.encode()),
        ("tss-detail", letter.detail.encode("utf-8", "backslashreplace")),
        ("tss-source", json.dumps(known, separators=(",", ":")).encode("ascii")),
    ]
