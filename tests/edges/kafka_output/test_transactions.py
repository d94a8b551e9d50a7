"""What becomes of a batch after the client's complaint, as far as no broker is needed to tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, Producer

from tss.core.delivery import Accepted, Again, Outcome, Undeliverable
from tss.edges.kafka_output.entry import Entry
from tss.edges.kafka_output.output_records import ConsumedTopic
from tss.edges.kafka_output.readback import Readback
from tss.edges.kafka_output.transactions import InDoubt, Transaction, TransactionalProducer


def test_law_1_what_may_be_in_the_topic_is_not_sent_in_halves_before_the_topic_was_asked() -> None:
    readback = Readback({}, "kept", ConsumedTopic("group", "spans"))
    transactions = TransactionalProducer({"transactional.id": "a"}, "kept", readback)
    refusal = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
    assert isinstance(transactions._outcome(refusal), Undeliverable)
    transactions._in_doubt = InDoubt(0, {0: 0})
    assert isinstance(transactions._outcome(refusal), Again)


class Answered(TransactionalProducer):
    """Without a broker: all is taken."""

    def _ready(self) -> Any:
        return None

    def _send(self, producer: Producer, entries: Sequence[Entry], transaction: Transaction) -> KafkaError | None:
        return None

    def _commit(self, producer: Producer, transaction: Transaction) -> Outcome:
        return Accepted()


def test_law_5_what_is_kept_of_the_last_transaction_is_counted_and_is_only_what_was_written() -> None:
    readback = Readback({}, "kept", ConsumedTopic("group", "spans"))
    transactions = Answered({"transactional.id": "a"}, "kept", readback)
    entries = [Entry(bytes([number]) * 16, {}, None, [(bytes(1_000), (("tenant", b"a"),))]) for number in range(10)]
    assert transactions.run(Transaction(entries, {}, 0, b"member")) == Accepted()
    assert 10_000 < transactions.held_bytes < 12_000
    assert all(isinstance(entry, Entry) for entry in transactions._before)
    assert transactions.run(Transaction(entries[:1], {}, 0, b"member")) == Accepted()
    assert 1_000 < transactions.held_bytes < 1_200
