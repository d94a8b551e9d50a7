"""What becomes of a batch after the client's complaint, as far as no broker is needed to tell."""

from __future__ import annotations

from confluent_kafka import KafkaError

from tss.core.delivery import Again, Refused
from tss.edges.kafka_outputs import Source
from tss.edges.kafka_recall import Recall
from tss.edges.kafka_transactions import Doubt, Transactions


def test_law_1_what_may_be_in_the_topic_is_not_sent_in_halves_before_the_topic_was_asked() -> None:
    recall = Recall({}, "kept", Source("group", "spans"))
    transactions = Transactions({"transactional.id": "a"}, "kept", lambda _: [], recall)
    refusal = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
    assert isinstance(transactions._outcome(refusal), Refused)
    transactions._doubt = Doubt(0, {0: 0})
    assert isinstance(transactions._outcome(refusal), Again)
