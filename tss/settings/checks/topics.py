"""Topics that the daemon writes to: dead letters, an exporter of type kafka, `kafka.rekey`."""

from collections.abc import Iterator

from tss.settings.checks.conflict import Conflict, once
from tss.settings.errors import shown
from tss.settings.model import Settings
from tss.settings.sections.exporters import KafkaExporter
from tss.settings.sections.kafka import Kafka


def conflicts(settings: Settings) -> Iterator[Conflict]:
    yield from _dead_letter(settings)
    yield from _kafka_exporter(settings)
    yield from _rekey(settings)


def _dead_letter(settings: Settings) -> Iterator[Conflict]:
    dead, keys = settings.dead_letter, ("deadLetter.topic", "deadLetter.type", "kafka.inputTopic")
    if dead.type == "topic" and not dead.topic:
        yield Conflict(keys, "nothing", "a topic, since deadLetter.type is topic")
    if dead.type == "topic" and dead.topic == settings.kafka.input_topic:
        yield Conflict(keys, shown(dead.topic), "another topic than kafka.inputTopic: it would be read again")


# What exactly once rests on; the client would take another value without a word.
_KEPT_BY_US = frozenset(
    {
        "transactional.id",
        "enable.idempotence",
        "acks",
        "transaction.timeout.ms",
        "message.timeout.ms",
    }
)


def _kafka_exporter(settings: Settings) -> Iterator[Conflict]:
    """The offsets are in the transaction, so there is one, on the cluster of the input topic."""
    first = ""
    for place, exporter in enumerate(settings.exporters):
        at = f"exporters[{place}]"
        if not isinstance(exporter, KafkaExporter):
            continue
        if first:
            yield Conflict((f"{at}.type", first), "kafka", f"one exporter of type kafka, which {first} is already")
        first = f"{at}.type"
        yield from _committing(settings.kafka, at)
        others = {settings.kafka.input_topic: "kafka.inputTopic"}
        if settings.dead_letter.type == "topic":
            others.setdefault(settings.dead_letter.topic, "deadLetter.topic")
        yield from once(others, exporter.topic, f"{at}.topic")
        for name in sorted(_KEPT_BY_US & exporter.properties.keys()):
            hint = "see transactionTimeoutSecs" if "timeout" in name else ""
            yield Conflict((f"{at}.properties.{name}",), "a property that exactly once rests on", "others", hint)


def _committing(kafka: Kafka, at: str) -> Iterator[Conflict]:
    if not kafka.enable_auto_commit:
        keys = ("kafka.enableAutoCommit", f"{at}.type")
        hint = "for a rehearsal, use an exporter of type file"
        yield Conflict(keys, "false", "true, since offsets are committed with what is written to a topic", hint)
    yield from _reading_what_is_committed(kafka, f"{at}.type", "for an exporter of type kafka")


def _reading_what_is_committed(kafka: Kafka, key: str, why: str) -> Iterator[Conflict]:
    if kafka.properties.get("isolation.level", "").lower() == "read_uncommitted":
        keys = ("kafka.properties", key)
        yield Conflict(keys, "isolation.level read_uncommitted", f"read_committed, {why}")


def _rekey(settings: Settings) -> Iterator[Conflict]:
    """The internal topic is nobody else's, its records are committed as one with the offsets, and in time."""
    kafka, app = settings.kafka, settings.app
    if not kafka.rekey.enabled:
        return
    if not kafka.enable_auto_commit:
        keys = ("kafka.enableAutoCommit", "kafka.rekey.enabled")
        yield Conflict(keys, "false", "true, since offsets are committed with what kafka.rekey writes")
    yield from _reading_what_is_committed(kafka, "kafka.rekey.enabled", "for kafka.rekey")
    others = {kafka.input_topic: "kafka.inputTopic"}
    if settings.dead_letter.type == "topic":
        others.setdefault(settings.dead_letter.topic, "deadLetter.topic")
    for place, exporter in enumerate(settings.exporters):
        if isinstance(exporter, KafkaExporter):
            others.setdefault(exporter.topic, f"exporters[{place}].topic")
    yield from once(others, kafka.rekey_topic, "kafka.rekey.topic")
    if kafka.rekey.max_ahead_secs > app.root_quiet_secs:  # or a trace is decided before all of it can be there
        keys = ("kafka.rekey.maxAheadSecs", "app.rootQuietSecs")
        allowed = f"at most app.rootQuietSecs, which is {app.root_quiet_secs:g}"
        yield Conflict(keys, f"{kafka.rekey.max_ahead_secs:g}", allowed)
