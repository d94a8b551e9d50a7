"""`deadLetter`: where records and traces go that nobody can take."""

from attrs import frozen

from tss.settings.keys import key
from tss.settings.kinds.kafka import topic_or_empty
from tss.settings.kinds.texts import choice, filled


@frozen(kw_only=True)
class DeadLetter:
    """Where records that cannot be parsed go, and traces that a destination refuses for good."""

    type: str = key("file", choice("file", "topic", "log"), "Put them in a file, in a Kafka topic, or only log them.")
    path: str = key(
        "tss-dead-letter.jsonl", filled, "The file, for type file; the log, where the default cannot be written."
    )
    topic: str = key("", topic_or_empty, "The topic, required for type topic.")
