"""Brokers, topics and librdkafka properties."""

import math
import re

import attrs

from tss.settings.errors import InvalidSetting, InvalidValue, masked, shape, shown
from tss.settings.kinds.kind import FILLED, TEXT, Kind, list_of, mapping_of
from tss.settings.kinds.texts import read_text, text

_TOPIC = r"[A-Za-z0-9._-]{1,249}"
topic = text("a topic's name: letters, digits, dot, dash, underscore", _TOPIC)
topic_or_empty = text("a topic's name, or empty", rf"({_TOPIC})?")

_BROKER = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})")
_BROKERS_ALLOWED = "host:port, several separated by commas"


def _read_brokers(raw: object) -> str:
    """One text with commas, as librdkafka needs it; from a text or a YAML list."""
    entries: list[object] = raw if isinstance(raw, list) else [*read_text(raw, _BROKERS_ALLOWED).split(",")]
    errors = []
    for place, entry in enumerate(entries):
        fits = _BROKER.fullmatch(entry.strip()) if isinstance(entry, str) else None
        if not fits or not 0 < int(fits[1]) < 65536:
            errors.append(InvalidSetting(f"[{place}]" if len(entries) > 1 else "", shown(entry), _BROKERS_ALLOWED))
    if errors or not entries:
        raise InvalidValue(*errors or [InvalidSetting("", shown(raw), _BROKERS_ALLOWED)])
    return ",".join(str(entry).strip() for entry in entries)


brokers = Kind(_BROKERS_ALLOWED, _read_brokers, literal=True, schema={"anyOf": [TEXT, list_of(FILLED, least=1)]})


# The daemon sets these, or has a key for them. With two places for one value it would be unclear which one counts.
OWNED_PROPERTIES = {
    "enable.auto.commit": "offsets are committed as traces finish; use kafka.enableAutoCommit",
    "enable.auto.offset.store": "only the daemon knows which offsets can be committed",
    "statistics.interval.ms": "the daemon's metrics need its own interval",
    "enable.partition.eof": "the daemon needs it to know when it has read a partition to its end",
    "auto.offset.reset": "use kafka.autoOffsetReset",
    "group.id": "use kafka.consumerGroup",
    "bootstrap.servers": "use kafka.brokers",
    "metadata.broker.list": "use kafka.brokers",
    "session.timeout.ms": "use kafka.sessionTimeoutMs",
    "partition.assignment.strategy": "use kafka.partitionAssignmentStrategy",
    "group.protocol": "use kafka.groupProtocol",
    "group.instance.id": "use kafka.staticMembership and app.instanceId",
    "security.protocol": "use kafka.securityProtocol",
    "sasl.mechanism": "use kafka.saslMechanism",
    "sasl.mechanisms": "use kafka.saslMechanism",
    "sasl.username": "use kafka.saslUsername",
    "sasl.password": "use kafka.saslPassword",
    "ssl.ca.location": "use kafka.sslCaLocation",
    "ssl.certificate.location": "use kafka.sslCertificateLocation",
    "ssl.key.location": "use kafka.sslKeyLocation",
    "ssl.key.password": "use kafka.sslKeyPassword",
    "enable.ssl.certificate.verification": "use kafka.sslVerify",
}


def is_secret_property(name: str) -> bool:
    """Whether a librdkafka property is a secret: a password, a key or certificate as PEM text, an OAuth secret."""
    return bool(re.search(r"password|secret|\.pem$|oauthbearer\.config|token$", name))


def _read_property(name: str, raw: object) -> tuple[str, str]:
    if name in OWNED_PROPERTIES:
        raise InvalidValue(
            InvalidSetting("", "a property of the daemon's own", "other librdkafka properties", OWNED_PROPERTIES[name])
        )
    if isinstance(raw, bool):
        return name, str(raw).lower()
    if isinstance(raw, int) or (isinstance(raw, float) and math.isfinite(raw)):
        return name, str(raw)
    if not isinstance(raw, str):  # any text, since PEM texts have line breaks
        raise InvalidValue(InvalidSetting("", shape(raw), "text, a number, true or false"))
    return name, raw


properties = attrs.evolve(
    mapping_of("a mapping of librdkafka properties", _read_property, {"type": ["string", "number", "boolean"]}),
    show=masked,
)
