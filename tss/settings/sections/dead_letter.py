"""`deadLetter`: where unreadable records and refused traces go."""

from attrs import frozen

from tss.settings.keys import key
from tss.settings.kinds.kafka import topic_or_empty
from tss.settings.kinds.texts import choice, filled


@frozen(kw_only=True)
class DeadLetterSettings:
    """Where the daemon puts records that cannot be parsed, and traces that a destination refuses permanently."""

    type: str = key(
        "file", choice("file", "topic", "log"), "Write dead letters to a file, to a Kafka topic, or only to the log."
    )
    path: str = key(
        "tss-dead-letter.jsonl",
        filled,
        "File for type file. If the default file cannot be written, dead letters go to the log.",
    )
    topic: str = key("", topic_or_empty, "Topic for type topic; required there.")
