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
        yield Conflict(
            keys, shown(dead.topic), "a topic other than kafka.inputTopic: the daemon would read its own dead letters"
        )


# Exactly-once delivery depends on these, and the client would accept other values silently.
_EXACTLY_ONCE = frozenset(
    {
        "transactional.id",
        "enable.idempotence",
        "acks",
        "transaction.timeout.ms",
        "message.timeout.ms",
    }
)


def _kafka_exporter(settings: Settings) -> Iterator[Conflict]:
    """One exporter at most: the offsets are in its transaction, in the cluster of the input topic."""
    first = ""
    for place, exporter in enumerate(settings.exporters):
        at = f"exporters[{place}]"
        if not isinstance(exporter, KafkaExporter):
            continue
        if first:
            yield Conflict((f"{at}.type", first), "kafka", f"one exporter of type kafka; {first} is another")
        first = f"{at}.type"
        yield from _committing(settings.kafka, at)
        others = {settings.kafka.input_topic: "kafka.inputTopic"}
        if settings.dead_letter.type == "topic":
            others.setdefault(settings.dead_letter.topic, "deadLetter.topic")
        yield from once(others, exporter.topic, f"{at}.topic")
        for name in sorted(_EXACTLY_ONCE & exporter.properties.keys()):
            hint = "use transactionTimeoutSecs" if "timeout" in name else "remove it"
            yield Conflict(
                (f"{at}.properties.{name}",),
                "a property that the daemon sets for exactly-once delivery",
                "other properties",
                hint,
            )


def _committing(kafka: Kafka, at: str) -> Iterator[Conflict]:
    if not kafka.enable_auto_commit:
        keys = ("kafka.enableAutoCommit", f"{at}.type")
        hint = "for a rehearsal, use an exporter of type file"
        yield Conflict(keys, "false", "true, since an exporter of type kafka commits offsets in its transactions", hint)
    yield from _read_committed(kafka, f"{at}.type", "for an exporter of type kafka")


def _read_committed(kafka: Kafka, key: str, why: str) -> Iterator[Conflict]:
    if kafka.properties.get("isolation.level", "").lower() == "read_uncommitted":
        keys = ("kafka.properties", key)
        yield Conflict(keys, "isolation.level read_uncommitted", f"read_committed, {why}")


def _rekey(settings: Settings) -> Iterator[Conflict]:
    """The internal topic has no other use, its transactions contain the offsets, and no partition is read too far ahead."""
    kafka = settings.kafka
    if not kafka.rekey.enabled:
        return
    if not kafka.enable_auto_commit:
        keys = ("kafka.enableAutoCommit", "kafka.rekey.enabled")
        yield Conflict(keys, "false", "true, since kafka.rekey commits offsets in its transactions")
    yield from _read_committed(kafka, "kafka.rekey.enabled", "for kafka.rekey")
    others = {kafka.input_topic: "kafka.inputTopic"}
    if settings.dead_letter.type == "topic":
        others.setdefault(settings.dead_letter.topic, "deadLetter.topic")
    for place, exporter in enumerate(settings.exporters):
        if isinstance(exporter, KafkaExporter):
            others.setdefault(exporter.topic, f"exporters[{place}].topic")
    yield from once(others, kafka.rekey_topic, "kafka.rekey.topic")
    if (
        kafka.rekey.max_ahead_secs > settings.shortest_wait_secs
    ):  # otherwise a trace could be decided before all its spans are there
        wait = "app.rootQuietSecs" if settings.sampling.plan is None else "sampling.otelTailSampling"
        keys = ("kafka.rekey.maxAheadSecs", wait)
        allowed = f"at most the shortest wait of {wait}, which is {settings.shortest_wait_secs:g}"
        yield Conflict(keys, f"{kafka.rekey.max_ahead_secs:g}", allowed)
