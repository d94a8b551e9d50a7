"""Keys that have no effect, because the feature that they belong to is off."""

import attrs

from tss.settings.keys import camel, fields
from tss.settings.model import Settings
from tss.settings.sections.exporters import DatadogExporter
from tss.settings.sections.kafka import Kafka, Rekey
from tss.settings.sections.redis import Redis
from tss.settings.sections.sampling import Sampling
from tss.settings.sections.span_compression import SpanCompression
from tss.settings.sections.span_metrics import SpanMetricsSettings


def without_effect(settings: Settings) -> list[str]:
    """The keys that differ from their defaults and have no effect."""
    idle: list[tuple[str, object, tuple[str, ...]]] = [
        ("datadog", settings.datadog, _idle_datadog(settings)),
    ]
    if not settings.redis.url:
        idle.append(
            ("redis", settings.redis, tuple(field.name for field in attrs.fields(Redis) if field.name != "url"))
        )
        idle.append(("app", settings.app, ("park_after_secs",)))
    else:
        idle.append(("app", settings.app, ("state_dir",)))
    compression = tuple(field.name for field in attrs.fields(SpanCompression) if field.name != "enabled")
    if not settings.span_compression.enabled:
        idle.append(("spanCompression", settings.span_compression, compression))
    if not settings.force_sampling.admin_token:
        force = ("admin_port", "admin_addr", "default_duration_secs", "max_duration_secs", "max_rules", "poll_secs")
        idle.append(("forceSampling", settings.force_sampling, force))
    if not settings.kafka.rekey.enabled:
        rekey = tuple(field.name for field in fields(Rekey) if field.name not in {"enabled", "topic"})
        idle.append(("kafka.rekey", settings.kafka.rekey, rekey))
    idle.append(("sampling", settings.sampling, _idle_sampling(settings.sampling)))
    if settings.sampling.otel_tail_sampling is not None:  # it has waits of its own
        idle.append(("app", settings.app, ("root_quiet_secs", "inactivity_timeout_secs", "max_trace_duration_secs")))
    idle.append(("spanMetrics", settings.span_metrics, _idle_span_metrics(settings.span_metrics)))
    unused = {"file": ("topic",), "topic": ("path",), "log": ("path", "topic")}[settings.dead_letter.type]
    idle.append(("deadLetter", settings.dead_letter, unused))
    idle.append(("kafka", settings.kafka, _idle_membership(settings.kafka)))
    protocol = settings.kafka.chosen_security_protocol
    if not protocol.startswith("sasl_"):
        idle.append(("kafka", settings.kafka, ("sasl_mechanism",)))
    return [
        f"{section}.{camel(name)}"
        for section, values, names in idle
        for name in names
        if getattr(values, name) != getattr(type(values)(), name)
    ]


def _idle_sampling(sampling: Sampling) -> tuple[str, ...]:
    otel = ("otel_version", "otel_gates") if sampling.otel_tail_sampling is None else ("combine",)
    errors = () if sampling.always_sample_errors else ("error_sample_rate",)
    slow = () if sampling.sample_latency else ("latency_threshold_ms", "latency_sample_rate")
    return (*otel, *errors, *slow)


def _idle_membership(kafka: Kafka) -> tuple[str, ...]:
    set_by_brokers = (
        ("partition_assignment_strategy", "session_timeout_ms") if kafka.group_protocol == "consumer" else ()
    )
    return set_by_brokers if kafka.enable_auto_commit else (*set_by_brokers, "scaler_group")


def _idle_span_metrics(metrics: SpanMetricsSettings) -> tuple[str, ...]:
    if not metrics.enabled:
        return tuple(field.name for field in attrs.fields(SpanMetricsSettings) if field.name != "enabled")
    return () if metrics.otlp_endpoint else ("otlp_headers", "otlp_interval_secs")


_AGENT_KEYS = ("agent_url", "trace_api")
_INTAKE_KEYS = (
    "api_endpoint",
    "intake_url",
    "api_key",
    "compression",
)  # not the site, which always has a derived value


def _idle_datadog(settings: Settings) -> tuple[str, ...]:
    """The keys that only matter to a `via` that no exporter has."""
    vias = {each.via for each in settings.effective_exporters if isinstance(each, DatadogExporter)}
    idle = (() if "agent" in vias else _AGENT_KEYS) + (() if vias & {"intake", "otlp"} else _INTAKE_KEYS)
    return (*idle, "application_key")
