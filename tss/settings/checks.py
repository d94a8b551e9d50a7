"""What several keys must agree on, and what is derived from them once they do."""

import re
import socket
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import attrs
from attrs import frozen

from tss.settings.faults import did_you_mean, nearest, shown
from tss.settings.memory import buffer_bytes, memory_limit_bytes
from tss.settings.model import (
    DATADOG_API,
    App,
    DatadogExporter,
    Exporter,
    FileExporter,
    Kafka,
    KafkaExporter,
    OtlpExporter,
    ParquetExporter,
    Redis,
    Rekey,
    Settings,
    SpanCompression,
    SpanMetrics,
    camel,
    fields,
)
from tss.settings.redis_url import parse

_PARQUET_BYTES = 64 * 1024 * 1024  # of OTLP; some 10 MB on the disk, which is a good size of file for readers


@frozen
class Disagreement:
    """A fault between keys; the first of them is the one to be told. Void when any of them has a fault of its own."""

    keys: tuple[str, ...]
    found: str
    allowed: str
    hint: str = ""


def disagreements(settings: Settings) -> Iterator[Disagreement]:
    yield from _time(settings)
    yield from _kafka(settings)
    yield from _redis(settings.redis)
    yield from _ports(settings)
    yield from _datadog(settings)
    yield from _exporters(settings)
    yield from _dead_letter(settings)
    yield from _kafka_exporter(settings)
    yield from _rekey(settings)


def _time(settings: Settings) -> Iterator[Disagreement]:
    app = settings.app
    rising = (
        ("app.rootQuietSecs", app.root_quiet_secs),
        ("app.inactivityTimeoutSecs", app.inactivity_timeout_secs),
        ("app.maxTraceDurationSecs", app.max_trace_duration_secs),
    )
    force = settings.force_sampling
    durations = (
        ("forceSampling.defaultDurationSecs", force.default_duration_secs),
        ("forceSampling.maxDurationSecs", force.max_duration_secs),
    )
    for (lower, value), (upper, limit) in (*pairwise(rising), durations):
        if value > limit:
            yield Disagreement((lower, upper), f"{value:g}", f"at most {upper}, which is {limit:g}")


def _kafka(settings: Settings) -> Iterator[Disagreement]:
    kafka = settings.kafka
    yield from _pair("kafka.saslUsername", kafka.sasl_username, "kafka.saslPassword", kafka.sasl_password)
    yield from _pair(
        "kafka.sslCertificateLocation", kafka.ssl_certificate_location, "kafka.sslKeyLocation", kafka.ssl_key_location
    )
    protocol = security_protocol(kafka)
    keys = ("kafka.securityProtocol", "kafka.saslUsername")
    if kafka.sasl_username and not protocol.startswith("sasl_"):
        yield Disagreement(keys, shown(protocol), "sasl_ssl or sasl_plaintext, since kafka.saslUsername is set")
    for name in ("ssl_ca_location", "ssl_certificate_location"):
        if getattr(kafka, name) and not protocol.endswith("ssl"):
            found, allowed = shown(protocol), f"ssl or sasl_ssl, since kafka.{camel(name)} is set"
            yield Disagreement(("kafka.securityProtocol", f"kafka.{camel(name)}"), found, allowed)
    if protocol.startswith("sasl_") and not kafka.sasl_username and not kafka.sasl_password:
        yield Disagreement(keys[::-1], "nothing", f"a user, since kafka.securityProtocol is {protocol}")
    yield from _membership(kafka, settings.app.instance_id or socket.gethostname())
    if kafka.scaler_group == kafka.consumer_group:
        allowed = "another group than kafka.consumerGroup: what is not done with would be skipped"
        yield Disagreement(("kafka.scalerGroup", "kafka.consumerGroup"), shown(kafka.scaler_group), allowed)


# What librdkafka refuses to be told where the brokers decide, beside what has a key of its own.
_OF_THE_CLASSIC_PROTOCOL = ("heartbeat.interval.ms", "group.protocol.type")
# A pod of a Deployment (the letters and digits are those that Kubernetes draws from), a container without a name.
_PASSING_NAME = re.compile(r".+-[bcdfghjklmnpqrstvwxz2456789]{6,10}-[bcdfghjklmnpqrstvwxz2456789]{5}|[0-9a-f]{12}")
_MEMBER_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")  # as brokers and Java's clients want it


def _membership(kafka: Kafka, name: str) -> Iterator[Disagreement]:
    if kafka.group_protocol == "consumer":
        for each in _OF_THE_CLASSIC_PROTOCOL:
            if each in kafka.properties:
                keys = (f"kafka.properties.{each}", "kafka.groupProtocol")
                yield Disagreement(keys, each, "no such property, since kafka.groupProtocol is consumer")
    if not kafka.static_membership:
        return
    keys = ("app.instanceId", "kafka.staticMembership")
    if not _MEMBER_NAME.fullmatch(name):
        allowed = "letters, digits, dots, dashes and underscores, since kafka.staticMembership is true"
        yield Disagreement(keys, shown(name), allowed)
    elif _PASSING_NAME.fullmatch(name):
        # Nobody with this name would come back, so each restart would leave its partitions unread for a session.
        allowed = "a name that the replica still has after a restart, since kafka.staticMembership is true"
        hint = "use a StatefulSet and its pods' names, or set app.instanceId, another for each replica"
        yield Disagreement(keys, shown(name), allowed, hint)


def _redis(redis: Redis) -> Iterator[Disagreement]:
    certificate, key = redis.ssl_certificate_location, redis.ssl_key_location
    yield from _pair("redis.sslCertificateLocation", certificate, "redis.sslKeyLocation", key)
    if redis.ssl_ca_location and not redis.ssl_verify:
        keys = ("redis.sslVerify", "redis.sslCaLocation")
        yield Disagreement(
            keys, "false", "true, since redis.sslCaLocation is set: what to trust, and to trust anything"
        )
    if not redis.url:
        return
    address = parse(redis.url)
    if redis.cluster and redis.sentinel_master:
        keys = ("redis.sentinelMaster", "redis.cluster")
        yield Disagreement(
            keys, shown(redis.sentinel_master), "nothing, since redis.cluster is true: it fails over by itself"
        )
    if redis.cluster and address.database:
        yield Disagreement(
            ("redis.url", "redis.cluster"),
            f"database {address.database}",
            "database 0, since a Redis Cluster has no other",
        )
    if len(address.hosts) > 1 and not (redis.cluster or redis.sentinel_master):
        allowed = "one host; or set redis.cluster, or redis.sentinelMaster where they are Sentinels"
        yield Disagreement(("redis.url",), f"{len(address.hosts)} hosts", allowed)
    for name in ("ssl_ca_location", "ssl_certificate_location"):
        if getattr(redis, name) and not address.tls:
            yield Disagreement(
                ("redis.url", f"redis.{camel(name)}"), "redis://", f"rediss://, since redis.{camel(name)} is set"
            )


def _pair(one: str, one_value: str, other: str, other_value: str) -> Iterator[Disagreement]:
    if one_value and not other_value:
        yield Disagreement((other, one), "nothing", f"a value, since {one} is set")
    if other_value and not one_value:
        yield Disagreement((one, other), "nothing", f"a value, since {other} is set")


_EVERYWHERE = ("0.0.0.0", "::")


def _ports(settings: Settings) -> Iterator[Disagreement]:
    seen, force = settings.observability, settings.force_sampling
    taken = [
        ("observability.metricsPort", seen.enable_prometheus, seen.metrics_addr, seen.metrics_port),
        ("observability.healthPort", seen.enable_health_check, seen.health_addr, seen.health_port),
        ("forceSampling.adminPort", bool(force.admin_token), force.admin_addr, force.admin_port),
    ]
    for number, (key, is_used, address, port) in enumerate(taken):
        for other, other_is_used, other_address, other_port in taken[:number]:
            same = address == other_address or address in _EVERYWHERE or other_address in _EVERYWHERE
            if is_used and other_is_used and same and port == other_port != 0:
                yield Disagreement((key, other), str(port), f"another port than {other} on the same address")


def _datadog(settings: Settings) -> Iterator[Disagreement]:
    """One site; and without exporters the section is the one destination."""
    datadog = settings.datadog
    from_endpoint = attrs.evolve(datadog, site="").chosen_site
    if datadog.site and datadog.api_endpoint != DATADOG_API and datadog.site != from_endpoint:
        allowed = "https://api.SITE with the site of datadog.site, or leave one of the two out"
        yield Disagreement(("datadog.apiEndpoint", "datadog.site"), shown(datadog.api_endpoint), allowed)
    if settings.exporters:
        return
    if not datadog.chosen_via:
        yield Disagreement(
            ("exporters", "datadog.via", "datadog.apiKey", "datadog.agentUrl"),
            "no destination for kept traces",
            "exporters, datadog.apiKey or datadog.agentUrl",
            "set datadog.apiKey, or datadog.agentUrl to an agent such as http://127.0.0.1:8126, or list exporters",
        )
    else:
        yield from _way_to_datadog(DatadogExporter.of(datadog), "datadog")


def _way_to_datadog(exporter: DatadogExporter, at: str) -> Iterator[Disagreement]:
    """What each way cannot do without."""

    def lacks(name: str, allowed: str, *others: str) -> Disagreement:
        keys = (f"{at}.{name}", f"datadog.{name}", *others)
        return Disagreement(tuple(dict.fromkeys(keys)), "nothing", f"{allowed}, since via is {exporter.via}")

    if exporter.via == "agent":
        if not exporter.agent_url:
            yield lacks("agentUrl", "an agent's address")
        return
    if not exporter.api_key:
        yield lacks("apiKey", "an API key")
    if not exporter.site and not exporter.intake_url:
        yield lacks("site", "a site", "datadog.apiEndpoint")


def _exporters(settings: Settings) -> Iterator[Disagreement]:
    names: dict[str, str] = {}
    paths = {settings.dead_letter.path: "deadLetter.path"} if settings.dead_letter.type == "file" else {}
    for place, exporter in enumerate(settings.exporters):
        at = f"exporters[{place}]"
        yield from _once(names, exporter.name, f"{at}.name")
        yield from _known_policies(exporter, at, settings.policies)
        match exporter:
            case FileExporter():
                yield from _once(paths, exporter.path, f"{at}.path")
                yield from _nothing_put_away(exporter, at)
            case ParquetExporter():
                yield from _once(paths, exporter.path, f"{at}.path")
            case OtlpExporter():
                yield from _one_authorization(exporter, at)
                yield from _client_certificate(exporter, at)
            case DatadogExporter() if not exporter.via:
                keys = (f"{at}.agentUrl", f"{at}.apiKey", "datadog.agentUrl", "datadog.apiKey")
                yield Disagreement(keys, "nothing", "agentUrl or apiKey, here or in the section datadog")
            case DatadogExporter():
                yield from _way_to_datadog(exporter, at)


def _known_policies(exporter: Exporter, at: str, policies: Sequence[str]) -> Iterator[Disagreement]:
    unknown = [name for name in exporter.match.get("policies", ()) if name not in policies]
    if unknown:
        keys, found = (f"{at}.match.policies", "sampling", "forceSampling"), ", ".join(map(shown, unknown))
        yield Disagreement(keys, found, f"one of {', '.join(policies)}", did_you_mean(nearest(unknown[0], policies)))


def _once(taken: dict[str, str], value: str, key: str) -> Iterator[Disagreement]:
    if value in taken:
        yield Disagreement((key, taken[value]), shown(value), f"another than {taken[value]}")
    taken.setdefault(value, key)


def _one_authorization(exporter: OtlpExporter, at: str) -> Iterator[Disagreement]:
    if exporter.bearer_token and any(name.lower() == "authorization" for name in exporter.headers):
        keys = (f"{at}.bearerToken", f"{at}.headers")
        yield Disagreement(keys, "a token beside an Authorization header", "one of the two")


def _nothing_put_away(exporter: FileExporter, at: str) -> Iterator[Disagreement]:
    if exporter.rotate_bytes or exporter.rotate_secs:
        return
    for name in ("max_files", "max_age_secs"):
        if getattr(exporter, name):
            keys = (f"{at}.{camel(name)}", f"{at}.rotateBytes", f"{at}.rotateSecs")
            yield Disagreement(keys, "files to delete, while none is put away", "rotateBytes or rotateSecs beside it")


def _client_certificate(exporter: OtlpExporter, at: str) -> Iterator[Disagreement]:
    certificate, key = f"{at}.sslCertificateLocation", f"{at}.sslKeyLocation"
    yield from _pair(certificate, exporter.ssl_certificate_location, key, exporter.ssl_key_location)
    if exporter.ssl_key_password and not exporter.ssl_key_location:
        yield Disagreement((f"{at}.sslKeyPassword", key), "a password without a key", "sslKeyLocation beside it")
    if exporter.ssl_ca_location and not exporter.ssl_verify:
        keys = (f"{at}.sslVerify", f"{at}.sslCaLocation")
        yield Disagreement(keys, "false", "true, since sslCaLocation is set: what to trust, and to trust anything")
    for name in ("ssl_certificate_location", "ssl_ca_location"):
        if getattr(exporter, name) and exporter.endpoint.startswith("http:"):
            keys = (f"{at}.endpoint", f"{at}.{camel(name)}")
            yield Disagreement(keys, "an http address", f"an https address, since {camel(name)} is set")


def _dead_letter(settings: Settings) -> Iterator[Disagreement]:
    dead, keys = settings.dead_letter, ("deadLetter.topic", "deadLetter.type", "kafka.inputTopic")
    if dead.type == "topic" and not dead.topic:
        yield Disagreement(keys, "nothing", "a topic, since deadLetter.type is topic")
    if dead.type == "topic" and dead.topic == settings.kafka.input_topic:
        yield Disagreement(keys, shown(dead.topic), "another topic than kafka.inputTopic: it would be read again")


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


def _kafka_exporter(settings: Settings) -> Iterator[Disagreement]:
    """The offsets are in the transaction, so there is one, on the cluster of the input topic."""
    first = ""
    for place, exporter in enumerate(settings.exporters):
        at = f"exporters[{place}]"
        if not isinstance(exporter, KafkaExporter):
            continue
        if first:
            yield Disagreement((f"{at}.type", first), "kafka", f"one exporter of type kafka, which {first} is already")
        first = f"{at}.type"
        yield from _committing(settings.kafka, at)
        others = {settings.kafka.input_topic: "kafka.inputTopic"}
        if settings.dead_letter.type == "topic":
            others.setdefault(settings.dead_letter.topic, "deadLetter.topic")
        yield from _once(others, exporter.topic, f"{at}.topic")
        for name in sorted(_KEPT_BY_US & exporter.properties.keys()):
            hint = "see transactionTimeoutSecs" if "timeout" in name else ""
            yield Disagreement((f"{at}.properties.{name}",), "a property that exactly once rests on", "others", hint)


def _committing(kafka: Kafka, at: str) -> Iterator[Disagreement]:
    if not kafka.enable_auto_commit:
        keys = ("kafka.enableAutoCommit", f"{at}.type")
        hint = "for a rehearsal, use an exporter of type file"
        yield Disagreement(keys, "false", "true, since offsets are committed with what is written to a topic", hint)
    yield from _reading_what_is_committed(kafka, f"{at}.type", "for an exporter of type kafka")


def _reading_what_is_committed(kafka: Kafka, key: str, why: str) -> Iterator[Disagreement]:
    if kafka.properties.get("isolation.level", "").lower() == "read_uncommitted":
        keys = ("kafka.properties", key)
        yield Disagreement(keys, "isolation.level read_uncommitted", f"read_committed, {why}")


def _rekey(settings: Settings) -> Iterator[Disagreement]:
    """The internal topic is nobody else's, its records are committed as one with the offsets, and in time."""
    kafka, app = settings.kafka, settings.app
    if not kafka.rekey.enabled:
        return
    if not kafka.enable_auto_commit:
        keys = ("kafka.enableAutoCommit", "kafka.rekey.enabled")
        yield Disagreement(keys, "false", "true, since offsets are committed with what kafka.rekey writes")
    yield from _reading_what_is_committed(kafka, "kafka.rekey.enabled", "for kafka.rekey")
    others = {kafka.input_topic: "kafka.inputTopic"}
    if settings.dead_letter.type == "topic":
        others.setdefault(settings.dead_letter.topic, "deadLetter.topic")
    for place, exporter in enumerate(settings.exporters):
        if isinstance(exporter, KafkaExporter):
            others.setdefault(exporter.topic, f"exporters[{place}].topic")
    yield from _once(others, rekey_topic(kafka), "kafka.rekey.topic")
    if kafka.rekey.max_ahead_secs > app.root_quiet_secs:  # or a trace is decided before all of it can be there
        keys = ("kafka.rekey.maxAheadSecs", "app.rootQuietSecs")
        allowed = f"at most app.rootQuietSecs, which is {app.root_quiet_secs:g}"
        yield Disagreement(keys, f"{kafka.rekey.max_ahead_secs:g}", allowed)


_AHEAD_SECS = 5  # some polls of a busy partition, and far less than the quiet that ends a trace


def rekey_topic(kafka: Kafka) -> str:
    """The topic between the stages."""
    return kafka.rekey.topic or f"{kafka.input_topic}.by-trace"


def security_protocol(kafka: Kafka) -> str:
    if kafka.security_protocol:
        return kafka.security_protocol
    if kafka.sasl_username:
        return "sasl_ssl"
    return "ssl" if kafka.ssl_ca_location or kafka.ssl_certificate_location else "plaintext"


def without_effect(settings: Settings) -> list[str]:
    """Keys that were changed and change nothing: what they belong to is off, or not built yet."""
    idle: list[tuple[str, object, tuple[str, ...]]] = [
        ("datadog", settings.datadog, _idle_datadog(settings)),
    ]
    if not settings.redis.url:
        idle.append(
            ("redis", settings.redis, tuple(field.name for field in attrs.fields(Redis) if field.name != "url"))
        )
        idle.append(("app", settings.app, ("park_after_secs",)))
    compression = tuple(field.name for field in attrs.fields(SpanCompression) if field.name != "enabled")
    if not settings.span_compression.enabled:
        idle.append(("spanCompression", settings.span_compression, compression))
    if not settings.force_sampling.admin_token:
        force = ("admin_port", "admin_addr", "default_duration_secs", "max_duration_secs", "max_rules", "poll_secs")
        idle.append(("forceSampling", settings.force_sampling, force))
    if not settings.kafka.rekey.enabled:
        rekey = tuple(field.name for field in fields(Rekey) if field.name not in {"enabled", "topic"})
        idle.append(("kafka.rekey", settings.kafka.rekey, rekey))
    idle.append(("spanMetrics", settings.span_metrics, _idle_span_metrics(settings.span_metrics)))
    unused = {"file": ("topic",), "topic": ("path",), "log": ("path", "topic")}[settings.dead_letter.type]
    idle.append(("deadLetter", settings.dead_letter, unused))
    idle.append(("kafka", settings.kafka, _idle_membership(settings.kafka)))
    protocol = security_protocol(settings.kafka)
    if not protocol.startswith("sasl_"):
        idle.append(("kafka", settings.kafka, ("sasl_mechanism",)))
    return [
        f"{section}.{camel(name)}"
        for section, values, names in idle
        for name in names
        if getattr(values, name) != getattr(type(values)(), name)
    ]


def _idle_membership(kafka: Kafka) -> tuple[str, ...]:
    by_the_brokers = (
        ("partition_assignment_strategy", "session_timeout_ms") if kafka.group_protocol == "consumer" else ()
    )
    return by_the_brokers if kafka.enable_auto_commit else (*by_the_brokers, "scaler_group")


def _idle_span_metrics(metrics: SpanMetrics) -> tuple[str, ...]:
    if not metrics.enabled:
        return tuple(field.name for field in attrs.fields(SpanMetrics) if field.name != "enabled")
    return () if metrics.otlp_endpoint else ("otlp_headers", "otlp_interval_secs")


_AGENT_KEYS = ("agent_url", "trace_api")
_INTAKE_KEYS = ("api_endpoint", "intake_url", "api_key", "compression")  # the site is there in any case: it is derived


def _idle_datadog(settings: Settings) -> tuple[str, ...]:
    """The keys of the ways to Datadog that no exporter takes."""
    vias = {each.via for each in settings.effective_exporters if isinstance(each, DatadogExporter)}
    idle = (() if "agent" in vias else _AGENT_KEYS) + (() if vias & {"intake", "otlp"} else _INTAKE_KEYS)
    return (*idle, "application_key")


def derive(settings: Settings, root: Path = Path("/")) -> Settings:
    """Fill in what was left to be derived. `root` is where /proc and /sys are, for tests."""
    app = attrs.evolve(
        settings.app,
        instance_id=settings.app.instance_id or socket.gethostname(),
        max_buffer_bytes=settings.app.max_buffer_bytes or buffer_bytes(memory_limit_bytes(root)),
    )
    rekey = settings.kafka.rekey
    if rekey.enabled:
        ahead_secs = rekey.max_ahead_secs or min(_AHEAD_SECS, app.root_quiet_secs / 2)
        rekey = attrs.evolve(rekey, topic=rekey_topic(settings.kafka), max_ahead_secs=ahead_secs)
    kafka = attrs.evolve(settings.kafka, security_protocol=security_protocol(settings.kafka), rekey=rekey)
    datadog = attrs.evolve(settings.datadog, via=settings.datadog.chosen_via, site=settings.datadog.chosen_site)
    exporters = tuple(_parquet(each, app) if isinstance(each, ParquetExporter) else each for each in settings.exporters)
    return attrs.evolve(settings, app=app, kafka=kafka, datadog=datadog, exporters=exporters)


def _parquet(exporter: ParquetExporter, app: App) -> ParquetExporter:
    # Reading pauses when what is closed takes an eighth of the buffer, and a batch is held twice: gathered, and written.
    limit = min(_PARQUET_BYTES, app.max_buffer_bytes // 32)
    return attrs.evolve(exporter, batch_bytes=exporter.batch_bytes or limit)
