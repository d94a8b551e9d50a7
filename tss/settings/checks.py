"""What several keys must agree on, and what is derived from them once they do."""

import socket
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import attrs
from attrs import frozen

from tss.settings.faults import shown
from tss.settings.memory import buffer_bytes, memory_limit_bytes
from tss.settings.model import (
    DATADOG_API,
    DatadogExporter,
    FileExporter,
    Kafka,
    OtlpExporter,
    Settings,
    SpanCompression,
    SpanMetrics,
    camel,
)


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
    yield from _ports(settings)
    yield from _datadog(settings)
    yield from _exporters(settings)
    yield from _dead_letter(settings)


def _time(settings: Settings) -> Iterator[Disagreement]:
    app = settings.app
    rising = (
        ("app.rootQuietSecs", app.root_quiet_secs),
        ("app.inactivityTimeoutSecs", app.inactivity_timeout_secs),
        ("app.maxTraceDurationSecs", app.max_trace_duration_secs),
    )
    for (lower, value), (upper, limit) in pairwise(rising):
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


def _pair(one: str, one_value: str, other: str, other_value: str) -> Iterator[Disagreement]:
    if one_value and not other_value:
        yield Disagreement((other, one), "nothing", f"a value, since {one} is set")
    if other_value and not one_value:
        yield Disagreement((one, other), "nothing", f"a value, since {other} is set")


_EVERYWHERE = ("0.0.0.0", "::")


def _ports(settings: Settings) -> Iterator[Disagreement]:
    seen = settings.observability
    addresses = (seen.metrics_addr, seen.health_addr)
    same_address = addresses[0] == addresses[1] or any(address in _EVERYWHERE for address in addresses)
    if not (seen.enable_prometheus and seen.enable_health_check and same_address):
        return
    if seen.metrics_port == seen.health_port != 0:
        yield Disagreement(
            ("observability.healthPort", "observability.metricsPort"),
            str(seen.health_port),
            "another port than observability.metricsPort on the same address",
        )


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
        match exporter:
            case FileExporter():
                yield from _once(paths, exporter.path, f"{at}.path")
            case OtlpExporter():
                yield from _one_authorization(exporter, at)
            case DatadogExporter() if not exporter.via:
                keys = (f"{at}.agentUrl", f"{at}.apiKey", "datadog.agentUrl", "datadog.apiKey")
                yield Disagreement(keys, "nothing", "agentUrl or apiKey, here or in the section datadog")
            case DatadogExporter():
                yield from _way_to_datadog(exporter, at)


def _once(taken: dict[str, str], value: str, key: str) -> Iterator[Disagreement]:
    if value in taken:
        yield Disagreement((key, taken[value]), shown(value), f"another than {taken[value]}")
    taken.setdefault(value, key)


def _one_authorization(exporter: OtlpExporter, at: str) -> Iterator[Disagreement]:
    if exporter.bearer_token and any(name.lower() == "authorization" for name in exporter.headers):
        keys = (f"{at}.bearerToken", f"{at}.headers")
        yield Disagreement(keys, "a token beside an Authorization header", "one of the two")


def _dead_letter(settings: Settings) -> Iterator[Disagreement]:
    dead, keys = settings.dead_letter, ("deadLetter.topic", "deadLetter.type", "kafka.inputTopic")
    if dead.type == "topic" and not dead.topic:
        yield Disagreement(keys, "nothing", "a topic, since deadLetter.type is topic")
    if dead.type == "topic" and dead.topic == settings.kafka.input_topic:
        yield Disagreement(keys, shown(dead.topic), "another topic than kafka.inputTopic: it would be read again")


def security_protocol(kafka: Kafka) -> str:
    if kafka.security_protocol:
        return kafka.security_protocol
    if kafka.sasl_username:
        return "sasl_ssl"
    return "ssl" if kafka.ssl_ca_location or kafka.ssl_certificate_location else "plaintext"


def without_effect(settings: Settings) -> list[str]:
    """Keys that were changed and change nothing: what they belong to is off, or not built yet."""
    idle: list[tuple[str, object, tuple[str, ...]]] = [
        ("redis", settings.redis, ("password", "pool_size", "connection_timeout_secs")),
        ("datadog", settings.datadog, _idle_datadog(settings)),
        ("app", settings.app, ("park_after_secs",)),
    ]
    compression = tuple(field.name for field in attrs.fields(SpanCompression) if field.name != "enabled")
    idle.append(("spanCompression", settings.span_compression, compression))
    idle.append(("spanMetrics", settings.span_metrics, _idle_span_metrics(settings.span_metrics)))
    unused = {"file": ("topic",), "topic": ("path",), "log": ("path", "topic")}[settings.dead_letter.type]
    idle.append(("deadLetter", settings.dead_letter, unused))
    protocol = security_protocol(settings.kafka)
    if not protocol.startswith("sasl_"):
        idle.append(("kafka", settings.kafka, ("sasl_mechanism",)))
    return [
        f"{section}.{camel(name)}"
        for section, values, names in idle
        for name in names
        if getattr(values, name) != getattr(type(values)(), name)
    ]


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
    kafka = attrs.evolve(settings.kafka, security_protocol=security_protocol(settings.kafka))
    datadog = attrs.evolve(settings.datadog, via=settings.datadog.chosen_via, site=settings.datadog.chosen_site)
    return attrs.evolve(settings, app=app, kafka=kafka, datadog=datadog)
